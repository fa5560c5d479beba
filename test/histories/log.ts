/** What worker processes note of their calls, and the histories that follow from it. */
import { readFileSync } from "node:fs"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type { Call, History, Operation, Returned, StoreClock } from "./history.js"
import { type Caller, type Size, type Step, stepsOf } from "./plan.js"

const named = {
  /** Of the worker; one more than it has is who reads all keys at the end. */
  caller: Schema.Number,
  /** Which of the caller's steps. */
  step: Schema.Number,
  /** Milliseconds of the clock that all processes of the machine share, and that never goes back. */
  at: Schema.Number
}

const Noted = Schema.Union(
  Schema.TaggedStruct("Called", named),
  Schema.TaggedStruct("Answered", { ...named, reply: Schema.optional(Schema.Unknown) }),
  /** By the store's word; no answer in time is none at all. */
  Schema.TaggedStruct("Failed", { ...named, applied: Schema.Literal("no", "unknown") })
)

export type Noted = typeof Noted.Type

const decode = Schema.decodeUnknownSync(Schema.parseJson(Noted))

/** Milliseconds since some start, the same in every process. */
export const monotonicMillis = (): number => Number(process.hrtime.bigint() / 1000n) / 1000

/** What a worker process is told to do. */
export interface WorkerTask {
  readonly seed: number
  readonly size: Size
  readonly worker: number
  readonly life: number
  readonly store: "redis" | "postgres"
  readonly url: string
  /** Of this run alone: its keys are absent before. */
  readonly operation: string
  /** The file of its notes. */
  readonly log: string
}

/** A line is written before the call is sent: the last one of a killed process may be cut, and then nothing was sent. */
const notedIn = (file: string): ReadonlyArray<Noted> =>
  readFileSync(file, "utf8")
    .split("\n")
    .slice(0, -1)
    .map((line) => decode(line))

/** The steps of a plan by their numbers. */
const makeSteps = (seed: number, size: Size, who: Caller): ((index: number) => Step | undefined) => {
  const generator = stepsOf(seed, size, who)
  const steps: Array<Step> = []
  return (index) => {
    while (steps.length <= index) steps.push(generator.next().value)
    return steps[index]
  }
}

const finalRead = (key: number): Pick<Step, "call" | "key"> => ({ key, call: { verb: "read" } })

/** A claim that did not get at the row in time is told to come back, whatever the row holds. */
const isNoWord = (store: WorkerTask["store"], { verb }: Call, reply: unknown): boolean =>
  store === "postgres" && verb === "claim" && Predicate.hasProperty(reply, "remaining") && reply.remaining === 1000

/** What a worker asked of each key; what certainly was not applied is left out. */
const operationsOf = (task: WorkerTask): ReadonlyArray<{ readonly key: number; readonly operation: Operation }> => {
  const { life, log, seed, size, store, worker } = task
  const noted = notedIn(log)
  const nameOf = ({ caller, step }: Noted) => `${caller} ${step}`
  const ends = new Map(noted.flatMap((line) => (line._tag === "Called" ? [] : [[nameOf(line), line] as const])))
  const steps = Array.from({ length: size.callers }, (_, caller) => makeSteps(seed, size, { worker, life, caller }))
  return noted.flatMap((called) => {
    if (called._tag !== "Called") return []
    const step = called.caller === size.callers ? finalRead(called.step) : steps[called.caller]?.(called.step)
    if (step === undefined) return []
    const { call, key } = step
    const end = ends.get(nameOf(called))
    if (end?._tag === "Failed" && end.applied === "no") return []
    if (end?._tag === "Answered" && isNoWord(store, call, end.reply)) return []
    const returned: Returned | undefined = end?._tag === "Answered" ? { at: end.at, reply: end.reply } : undefined
    const by = `worker ${worker}${life > 0 ? ` (life ${life})` : ""} caller ${called.caller} step ${called.step}`
    return [{ key, operation: { by, call, invoked: called.at, returned } }]
  })
}

/** The histories of all keys from the logs of all workers. */
export const historiesOf = (tasks: ReadonlyArray<WorkerTask>, clock: StoreClock): ReadonlyArray<History> => {
  const all = tasks.flatMap(operationsOf)
  return Array.from({ length: tasks[0]?.size.keys ?? 0 }, (_, wanted) => ({
    operations: all.flatMap(({ key, operation }) => (key === wanted ? [operation] : [])),
    clock
  }))
}
