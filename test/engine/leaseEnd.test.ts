/** Rule 8: what becomes of a result that the store has not taken when its lease ends, and what its caller is told. */
import { describe, expect, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as TestClock from "effect/TestClock"
import type { Outcome } from "../../src/internal/protocol.js"
import { withIdempotency } from "../../src/withIdempotency.js"
import {
  counting,
  during,
  key,
  makeStore,
  nothing,
  operation,
  singleProcess,
  startProcess,
  untyped,
  within
} from "../support/engineProcess.js"
import { type Fault, hanging, refused, replySwallowed, unavailable } from "../support/faultyRepository.js"

describe("a store that takes no result until the lease has ended, and answers then", () => {
  /** What a later caller gets of a result that fails `before` the lease's end, and once after it. */
  const setup = (before: Fault, after: Fault, isTaken: (outcome: Outcome) => boolean, otherwise: Fault) =>
    Effect.gen(function* () {
      const store = yield* makeStore()
      const { claims } = store.repository
      let late = 0
      const away: typeof claims = {
        ...claims,
        complete: (of, request) =>
          Effect.flatMap(Clock.currentTimeMillis, (now) => {
            const call = claims.complete(of, request)
            if (now < 30_000) return before(call, "complete")
            if (late++ === 0) return after(call, "complete")
            return isTaken(request.outcome) ? call : otherwise(call, "complete")
          })
      }
      const process = yield* startProcess({ ...store, repository: { ...store.repository, claims: away } })
      yield* process.faults.plan("renew", unavailable)
      const body = counting(Effect.succeed("paid"))
      const call = process.run(untyped(body.effect, operation, key))
      expect(yield* during("2 seconds")(call)).toMatchObject({ exit: Exit.succeed({ _tag: "Unprotected" }) })
      yield* TestClock.adjust("5 minutes")
      expect(process.underWay()).toEqual(nothing)
      const later = yield* Effect.either(within("5 seconds")(call))
      expect(body.runs()).toBe(1)
      return later
    })
  const refusedAtFirst = (times: number): Fault => {
    let left = times
    return (call, verb) => (left-- > 0 ? refused("Rejected") : unavailable)(call, verb)
  }
  const anything = () => true
  const unavailableAlone = ({ _tag }: Outcome) => _tag === "Unavailable"
  const replayed = { right: { _tag: "Replayed", value: "paid" } }
  const notThere = { left: { _tag: "IdempotencyResultUnavailableError" } }

  for (const [what, before, after, isTaken, later, otherwise = refused("Rejected")] of [
    ["it never refused the result: it is recorded", unavailable, unavailable, anything, replayed],
    ["it never answered: the result is recorded", hanging, hanging, anything, replayed],
    ["it may have taken the result: it is recorded", unavailable, refused("Rejected", "unknown"), anything, replayed],
    ["it refuses the result only then: it is given up", unavailable, unavailable, unavailableAlone, notThere],
    ["it has refused the result before: it is given up", refused("Rejected"), unavailable, unavailableAlone, notThere],
    ["it refused the result before it went away: it is given up", refusedAtFirst(4), unavailable, anything, notThere],
    [
      "it never answers to the result: it is given up",
      unavailable,
      unavailable,
      unavailableAlone,
      notThere,
      unavailable
    ]
  ] as const) {
    it.scoped(what, () =>
      Effect.gen(function* () {
        expect(yield* setup(before, after, isTaken, otherwise)).toMatchObject(later)
      })
    )
  }
})

describe("a store that refuses a result at first: a strict caller is told how the last attempt failed", () => {
  const strict = { onStorageFailure: "fail" } as const

  it.scoped("it may have taken the next one", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* process.faults.plan("complete", refused("Rejected"), 4)
      yield* process.faults.plan("complete", replySwallowed, 1)
      const call = process.run(withIdempotency(Effect.succeed("paid"), operation, key, strict))
      expect(yield* within("3 seconds")(Effect.flip(call))).toMatchObject({ reason: "Timeout", applied: "unknown" })
      expect(yield* store.stateOf()).toBe("Completed")
    })
  )

  it.scoped("it may have recorded that there was one", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* process.faults.plan("complete", refused("Rejected"), 5)
      yield* process.faults.plan("complete", replySwallowed)
      const call = process.run(withIdempotency(Effect.succeed("paid"), operation, key, strict))
      expect(yield* within("5 seconds")(Effect.flip(call))).toMatchObject({ reason: "Timeout", applied: "unknown" })
      expect(yield* store.stateOf()).toBe("Completed")
    })
  )
})
