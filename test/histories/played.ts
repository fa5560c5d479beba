/** A plan played against a driver in this process, in virtual time: the same seed, the same history. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { PCGRandom } from "effect/Utils"
import { IdempotencyIdentifiers } from "../../src/IdempotencyIdentifiers.js"
import type { Driver } from "../../src/internal/protocol.js"
import { makeManualClock } from "../support/manualClock.js"
import { type History, type Operation, send } from "./history.js"
import { type Caller, type Size, type Step, stepsOf } from "./plan.js"

/** A call whose times are settled before it is made. */
interface Scheduled {
  readonly by: string
  readonly step: Step
  readonly invoked: number
  /** `undefined`: it never reaches the store. */
  readonly effect: number | undefined
  /** `undefined`: nobody hears of it. */
  readonly returned: number | undefined
}

const late = 150

/** Most calls are answered; of some the answer is lost, and some come late or never. */
const schedule = (dice: PCGRandom, by: string, step: Step, invoked: number): Scheduled => {
  const way = dice.integer(3000) / 1000
  const back = dice.integer(3000) / 1000
  const call = { by, step, invoked, effect: invoked + way, returned: invoked + way + back }
  const fate = dice.integer(100)
  if (fate < 2) return { ...call, effect: undefined, returned: undefined }
  if (fate < 4) return { ...call, returned: undefined }
  return fate < 6 ? { ...call, effect: call.effect + dice.integer(late), returned: undefined } : call
}

const scheduleOf = (seed: number, size: Size, who: Caller): ReadonlyArray<Scheduled> => {
  const by = `${who.worker}.${who.life}.${who.caller}`
  const dice = new PCGRandom(seed, 1_000_000 + who.worker * size.callers + who.caller)
  const calls: Array<Scheduled> = []
  let now = 0
  for (const step of stepsOf(seed, size, who)) {
    const call = schedule(dice, by, step, now + step.pause)
    now = call.returned ?? call.invoked + step.patience
    if (now >= size.millis) break
    calls.push(call)
  }
  return calls
}

/** Calls of the same millisecond are made side by side. */
const byMillisecond = (calls: ReadonlyArray<Scheduled>): ReadonlyArray<readonly [number, ReadonlyArray<Scheduled>]> => {
  const groups = new Map<number, Array<Scheduled>>()
  const made = calls.flatMap((call) => (call.effect === undefined ? [] : [{ call, effect: call.effect }]))
  for (const { call, effect } of made.sort((a, b) => a.effect - b.effect)) {
    const group = groups.get(Math.floor(effect))
    if (group === undefined) groups.set(Math.floor(effect), [call])
    else group.push(call)
  }
  return [...groups]
}

/** The histories of all keys, of a driver that is made with the time of its store. */
export const played = <R>(
  seed: number,
  size: Size,
  makeDriver: (storeNow: () => number) => Effect.Effect<Driver, never, R>
): Effect.Effect<ReadonlyArray<History>, never, R> =>
  Effect.gen(function* () {
    const { advance, clock } = makeManualClock()
    const identifiers = Array.from({ length: size.keys }, (_, key) =>
      Either.getOrThrow(IdempotencyIdentifiers.from({ operation: "played", idempotencyKey: `${key}` }))
    )
    const calls = Array.from({ length: size.workers }, (_, worker) =>
      Array.from({ length: size.callers }, (_, caller) => scheduleOf(seed, size, { worker, life: 0, caller }))
    ).flat(2)
    const replies = new Map<Scheduled, unknown>()
    let now = 0
    const driver = yield* makeDriver(() => now)
    for (const [millis, group] of byMillisecond(calls)) {
      yield* advance(millis - now)
      now = millis
      yield* Effect.forEach(
        group,
        (call) => {
          const ids = identifiers[call.step.key]
          return ids === undefined
            ? Effect.void
            : Effect.map(Effect.orDie(send(driver, ids, call.step.call)), (reply) => void replies.set(call, reply))
        },
        { concurrency: "unbounded", discard: true }
      ).pipe(Effect.withClock(clock))
    }
    const operationOf = (call: Scheduled): Operation => ({
      by: call.by,
      call: call.step.call,
      invoked: call.invoked,
      returned: call.returned === undefined ? undefined : { at: call.returned, reply: replies.get(call) }
    })
    return identifiers.map(
      (_, key): History => ({
        operations: calls.filter(({ step }) => step.key === key).map(operationOf),
        // Milliseconds are cut off.
        clock: { offset: { lo: -1, hi: 0 }, asked: "at the effect", lingering: 0, apart: 0 }
      })
    )
  })
