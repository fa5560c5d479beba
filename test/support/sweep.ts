/** A protected call that something happens to at its n-th step, and whether all is as the protocol's tables say. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Predicate from "effect/Predicate"
import type { IdempotencyOutcome } from "../../src/IdempotencyOutcome.js"
import type { Driver, State } from "../../src/internal/protocol.js"
import type { RepositoryFaultPolicy } from "../../src/testing/FaultInjectingRepository.js"
import { key, operation, untyped } from "./engineProcess.js"
import {
  type Body,
  describeState,
  lease,
  makeBody,
  nameOf,
  type Policy,
  paid,
  type Scenario
} from "./sweepScenarios.js"
import { inSweepWorld, type SweepEngine, type SweepWorld, storageTimeout } from "./sweepWorld.js"

/** `timeout` is measured in milliseconds, the others in steps. */
export type Event = "interrupt" | "close" | "timeout"

export interface Mode {
  readonly yieldsAtEveryStep: boolean
  /** Milliseconds to the store, and back. */
  readonly latency: number
}

export const modes: ReadonlyArray<Mode> = [
  { yieldsAtEveryStep: true, latency: 0 },
  { yieldsAtEveryStep: false, latency: 0 },
  { yieldsAtEveryStep: true, latency: 2 },
  { yieldsAtEveryStep: false, latency: 2 }
]

export interface Sweep {
  readonly scenario: Scenario
  readonly policy: Policy
  readonly mode: Mode
  readonly event: Event
  /** A store with a fault in it, that the sweep has to find. */
  readonly mutate?: (driver: Driver) => Driver
}

type CallExit = Exit.Exit<IdempotencyOutcome<unknown>, unknown>

/** An exit in a few words. */
const describeExit = (exit: CallExit): string => {
  if (Exit.isSuccess(exit)) return `${exit.value._tag} ${JSON.stringify(exit.value.value)}`
  const [defect] = Array.from(Cause.defects(exit.cause))
  if (defect !== undefined) return `defect ${String(defect)}`
  if (Cause.isInterrupted(exit.cause)) return "interrupted"
  const failure = Cause.squash(exit.cause)
  return Predicate.hasProperty(failure, "_tag") ? String(failure._tag) : `failure ${String(failure)}`
}

/** How the call of the sweep went. */
interface Played {
  readonly steps: number
  readonly millis: number
  readonly problems: ReadonlyArray<string>
}

const call = (engine: SweepEngine, body: Body, { scenario, policy }: Sweep, options: Partial<Policy> = {}) =>
  Effect.provide(
    untyped(body.effect, operation, key, { lease, ...policy, ...scenario.options, ...options }),
    engine.context
  )

const withLatency =
  (faults: RepositoryFaultPolicy | undefined, latency: number): RepositoryFaultPolicy =>
  (asked) => {
    const fault = faults?.(asked) ?? "none"
    return fault === "none" && latency > 0 ? { requestDelay: latency, replyDelay: latency } : fault
  }

/** What a call that found the key free may leave, by how its body went. */
const leftBy = (body: Body, { scenario, policy }: Sweep): ReadonlyArray<string> => {
  const isOptimistic = policy.strategy === "optimistic"
  const free = isOptimistic ? "Absent" : "Released"
  switch (body.went()) {
    case "not started":
      return ["Absent", free]
    case "success":
      return [`Success "paid"`, `Success "other"`]
    case "failure":
      if (scenario.options?.["isOutcomeUnknown"] !== undefined) return ["Unknown, held"]
      return scenario.options?.["error"] === undefined ? [free] : [`Failure "declined"`]
    case "defect":
    case "interrupted":
      return policy.guarantee === "at-most-once" ? ["Unknown, held"] : [free]
  }
}

const expectedStates = (sweep: Sweep, own: Body, other: Body | undefined): ReadonlyArray<string> => {
  const { event, policy, scenario } = sweep
  switch (scenario.theirs) {
    case "completed":
    case "completes":
      return [`Success "theirs"`]
    case "failed":
      return [`Failure "declined"`]
    case "lapses":
      if (policy.guarantee === "at-most-once") return ["Processing of theirs", "Unknown, lapsed"]
      if (own.runs() === 0 || policy.strategy === "optimistic") return ["Processing of theirs", "Released"]
      return leftBy(own, sweep)
    case undefined:
  }
  const bodies = other === undefined ? [own] : [own, other]
  const went = bodies.map((body) => body.went())
  const outage = scenario.isOutage === true && event === "close" ? ["Processing", "Absent", "Released"] : []
  // A degraded call holds nothing that could be released, and its result has one chance to be recorded.
  const degraded = scenario.degrades === undefined ? [] : ["Absent"]
  if (went.includes("success"))
    return [`Success "paid"`, `Success "other"`, ...outage, ...(scenario.degrades === "unrecorded" ? degraded : [])]
  const started = bodies.filter((body) => body.runs() > 0)
  const left = (started.length === 0 ? bodies : started).flatMap((body) => leftBy(body, sweep))
  return [...left, ...degraded, ...outage]
}

/** What a caller gets that comes after all leases have lapsed. */
const expectedLater = (state: State | undefined, { policy, scenario }: Sweep): string => {
  const isTold = policy.guarantee === "at-most-once" || scenario.options?.["isOutcomeUnknown"] !== undefined
  const unknown = isTold ? "IdempotencyOutcomeUnknownError" : "IdempotencyResultUnavailableError"
  switch (state?._tag) {
    case "Completed":
      if (state.outcome._tag === "Unavailable") return "IdempotencyResultUnavailableError"
      return state.outcome._tag === "Success"
        ? `Replayed ${state.outcome.encoded}`
        : `failure ${JSON.parse(state.outcome.encoded)}`
    case "Unknown":
      return unknown
    case "Processing":
      return state.guarantee === "at-most-once" ? unknown : `Executed "later"`
    default:
      return `Executed "later"`
  }
}

const isUnderWay = (engine: SweepEngine): boolean => Object.values(engine.underWay()).some((count) => count > 0)

const quiet = 60_000

const givenIn = ({ policy, scenario: { gives } }: Sweep): string => (typeof gives === "string" ? gives : gives(policy))

/** A step whose effect had ended when it happened is recorded with the key, and one that is recorded does not run again. */
const stepProblems = (
  own: Body,
  later: Body,
  { policy }: Sweep,
  state: State | undefined,
  happenedAt = Number.POSITIVE_INFINITY
): ReadonlyArray<string> => {
  const { endedAt, hasReturned } = own.step
  const isRecorded = state !== undefined && "steps" in state && state.steps.length > 0
  const hasEnded = hasReturned() || (endedAt() ?? Number.POSITIVE_INFINITY) < happenedAt
  return [
    ...(policy.strategy === "claim" && hasEnded && !isRecorded ? ["the step has ended, and is not recorded"] : []),
    ...(isRecorded && later.step.runs() > 0 ? ["the step is recorded, and ran again"] : [])
  ]
}

const playIn = (world: SweepWorld, sweep: Sweep, at: number): Played => {
  const { event, mode, policy, scenario } = sweep
  const { time } = world
  const problems: Array<string> = []
  const engine = world.openEngine()
  world.mark()
  scenario.prepare?.(world, policy)

  const body = makeBody(scenario.ending)
  const other = scenario.other === undefined ? undefined : makeBody({ ...paid, effect: Effect.succeed("other") })
  let otherFiber: Fiber.RuntimeFiber<IdempotencyOutcome<unknown>, unknown> | undefined
  const startOther = () => {
    if (other !== undefined) otherFiber = world.fork(call(engine, other, sweep))
  }
  const begun = time.now()
  if (scenario.other === "leads") {
    startOther()
    time.run(begun + 5 + 2 * mode.latency)
  }
  if (scenario.other === "follows") time.after({ pausedUntil: 0 }, 5 + 2 * mode.latency, startOther)

  /** When it happened to a call that had not ended. */
  let happenedAt: number | undefined
  let exit: CallExit | undefined
  let closing: Fiber.RuntimeFiber<void> | undefined
  // The first step is the caller's.
  let swept: Fiber.RuntimeFiber<unknown, unknown> | undefined
  world.onStep((fiber, step) => {
    swept ??= fiber
    if (step !== at || event === "timeout") return
    if (exit === undefined) happenedAt = time.now()
    if (event === "close") closing = engine.close()
    else swept.unsafeInterruptAsFork(FiberId.none)
  })
  const start = time.now()
  const protectedCall = call(engine, body, sweep)
  let endedAt = 0
  let steps = 0
  const caller = world.fork(
    event === "timeout"
      ? Effect.timeoutFail(protectedCall, { duration: at, onTimeout: () => ({ _tag: "timed out" }) })
      : protectedCall
  )
  caller.addObserver((ended) => {
    exit = ended
    endedAt = time.now()
    steps = world.steps()
  })
  time.run(start + quiet)
  world.onStep(undefined)

  if (exit === undefined) {
    return { steps: 0, millis: 0, problems: ["the caller still waits"] }
  }
  const got = describeExit(exit)
  if (event === "timeout" && start + at <= endedAt) happenedAt = start + at
  const tookAfterEvent = happenedAt === undefined ? 0 : endedAt - happenedAt

  const state = world.stateOf()
  const described = describeState(state)
  const expected = expectedStates(sweep, body, other)
  if (!expected.includes(described)) {
    problems.push(`the state is ${described}, and should be ${expected.join(" or ")}; the body: ${body.went()}`)
  }
  const disturbed = event === "timeout" ? "timed out" : "interrupted"
  const given = givenIn(sweep)
  if (got !== given && (happenedAt === undefined || got !== disturbed))
    problems.push(`the caller got: ${got}, not ${given}; it happened at ${happenedAt}`)
  if (event !== "close" && tookAfterEvent > 2.5 * storageTimeout) problems.push(`it took ${tookAfterEvent} ms to stop`)
  if (body.runs() > 1) problems.push(`the body ran ${body.runs()} times`)
  if (policy.strategy === "claim" && other !== undefined && body.went() === "success" && other.runs() > 0) {
    problems.push("both bodies ran, though one of them succeeded first")
  }
  const otherExit = otherFiber?.unsafePoll()
  if (otherExit === null) problems.push("the other caller still waits")
  else if (otherExit !== undefined) {
    const gotBeside = describeExit(otherExit)
    const isFine = event === "close" || gotBeside !== "interrupted"
    if (gotBeside.startsWith("defect") || !isFine) problems.push(`the other caller got: ${gotBeside}`)
  }
  if (closing !== undefined && closing.unsafePoll() === null) problems.push("the engine does not close")

  if (isUnderWay(engine)) problems.push(`under way: ${JSON.stringify(engine.underWay())}`)
  if (world.leftOver().length > 0) problems.push(`left over: ${world.leftOver().join(", ")}`)

  const next = event === "close" ? world.openEngine() : engine
  const later = makeBody({ ...scenario.ending, effect: Effect.succeed("later"), after: 0 })
  const asked = world.fork(call(next, later, sweep, { strategy: "claim" }))
  time.run(time.now() + quiet)
  const answer = asked.unsafePoll()
  const answered = answer === null ? "nothing" : describeExit(answer)
  const due = expectedLater(state, sweep)
  // Where claims are refused for ever, a later caller is too, or degrades.
  if (scenario.degrades !== "recorded" && answered !== due)
    problems.push(`over ${described} a later caller got ${answered}, not ${due}`)

  problems.push(...stepProblems(body, later, sweep, state, happenedAt))

  const closed = [engine, next].map((one) => one.close())
  time.run(time.now() + quiet)
  if (closed.some((one) => one.unsafePoll() === null)) problems.push("an engine does not close at the end")
  // Those of the engine that was there at the mark are gone too.
  if (world.leftOver().length > 0) problems.push(`left over at the end: ${world.leftOver().join(", ")}`)
  problems.push(...world.errors.map((error) => `logged: ${error}`))
  return { steps, millis: endedAt - start, problems }
}

const play = (sweep: Sweep, at: number): Played =>
  inSweepWorld(
    {
      yieldsAtEveryStep: sweep.mode.yieldsAtEveryStep,
      faults: withLatency(sweep.scenario.faults, sweep.mode.latency),
      mutate: sweep.mutate
    },
    (world) => playIn(world, sweep, at)
  )

export interface Swept {
  /** At how many it happened. */
  readonly points: number
  readonly problems: ReadonlyArray<string>
}

/** Lets it happen at every `stride`-th step (millisecond) from one of the first on, until the call ends before that. */
export const sweepThrough = (sweep: Sweep, stride = 1, from = 0): Swept => {
  const where = `${sweep.scenario.name} | ${nameOf(sweep.policy)} | ${sweep.event}, ${JSON.stringify(sweep.mode)}`
  const undisturbed = play(sweep, Number.MAX_SAFE_INTEGER)
  const last = sweep.event === "timeout" ? undisturbed.millis : undisturbed.steps
  const problems = undisturbed.problems.map((problem) => `${where}, undisturbed: ${problem}`)
  let points = 0
  for (let at = from; at <= last + stride; at += stride) {
    const played = play(sweep, at)
    problems.push(...played.problems.map((problem) => `${where}, at ${at}: ${problem}`))
    points++
  }
  return { points, problems }
}
