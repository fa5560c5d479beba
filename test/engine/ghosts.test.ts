/** Rules 5 and 6: claims given up with unknown fate, and claims whose reply comes late. */
import { describe, expect, it } from "@effect/vitest"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as TestClock from "effect/TestClock"
import { withIdempotency } from "../../src/withIdempotency.js"
import {
  counting,
  during,
  ids,
  key,
  nothing,
  operation,
  singleProcess,
  untyped,
  within
} from "../support/engineProcess.js"
import {
  arrivingAfter,
  type Fault,
  hanging,
  refused,
  replySwallowed,
  unavailable
} from "../support/faultyRepository.js"
import { withPauses } from "../support/pausingClock.js"

const fail = { onStorageFailure: "fail" } as const

/** The connection is cut before the request has arrived, which takes effect all the same. */
const cutAndArrivingAfter =
  (delay: Duration.DurationInput): Fault =>
  (call, verb) =>
    Effect.zipRight(Effect.forkDaemon(Effect.delay(call, delay)), refused("Unavailable", "unknown")(call, verb))

describe("ghosts", () => {
  it.scoped("a claim given up with unknown fate is released in the background", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* process.faults.plan("claim", replySwallowed)
      const body = counting(Effect.succeed("paid"))
      const call = process.run(withIdempotency(body.effect, operation, key, fail))
      expect(yield* within("1100 millis")(Effect.flip(call))).toMatchObject({ applied: "unknown", reason: "Timeout" })
      expect(yield* store.stateOf()).toBe("Released")
      yield* process.faults.heal
      yield* TestClock.adjust("5 seconds")
      expect(process.underWay()).toEqual(nothing)
      expect(yield* during("1100 millis")(call)).toMatchObject({ exit: Exit.succeed("paid"), took: 0 })
      expect(body.runs()).toBe(1)
    })
  )

  it.scoped("the release is tried until the store acknowledges it", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* process.faults.plan("claim", replySwallowed)
      yield* process.faults.plan("release", unavailable, 5)
      const call = process.run(withIdempotency(Effect.succeed("paid"), operation, key, fail))
      yield* within("1100 millis")(Effect.flip(call))
      expect(yield* store.stateOf()).toBe("Processing")
      yield* TestClock.adjust("10 seconds")
      expect(yield* store.stateOf()).toBe("Released")
      expect(process.faults.calls("release")).toHaveLength(6)
    })
  )

  it.scoped("the release is tried until the lease has passed, and no longer", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.plan("all", hanging)
      const call = process.run(withIdempotency(Effect.succeed("paid"), operation, key, { ...fail, lease: "5 seconds" }))
      yield* within("2 seconds")(Effect.flip(call))
      expect(process.underWay().background).toBe(1)
      yield* TestClock.adjust("8 seconds")
      expect(process.underWay()).toEqual(nothing)
    })
  )

  it.scoped("a claim that arrives after the caller gave up is released too", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* process.faults.plan("claim", arrivingAfter("1500 millis"))
      const call = process.run(withIdempotency(Effect.succeed("paid"), operation, key, fail))
      yield* within("1100 millis")(Effect.flip(call))
      yield* TestClock.adjust("5 seconds")
      expect(yield* store.stateOf()).toBe("Released")
    })
  )

  for (const [how, fault] of [
    ["whose time was up", arrivingAfter("600 millis")],
    ["whose connection was cut", cutAndArrivingAfter("600 millis")]
  ] as const) {
    for (const [reply, error] of [
      [{ _tag: "InFlight", remaining: 500 }, "IdempotencyInFlightError"],
      [{ _tag: "Mismatch" }, "IdempotencyFingerprintMismatchError"],
      [{ _tag: "Unknown", attempt: 1 }, "IdempotencyOutcomeUnknownError"],
      [{ _tag: "Corrupted", cause: "not a state" }, "IdempotencyResultUnavailableError"]
    ] as const) {
      it.scoped(`a claim ${how}, and that arrives after its next attempt was ${reply._tag}, is released too`, () =>
        Effect.gen(function* () {
          const { process, store } = yield* singleProcess()
          yield* process.faults.plan("claim", fault, 1)
          yield* process.faults.planFor("claim", () => Effect.succeed(reply), 1)
          const options = { guarantee: "at-most-once", inFlight: "fail" } as const
          const call = process.run(withIdempotency(Effect.succeed("paid"), operation, key, options))
          expect(yield* within("500 millis")(Effect.flip(call))).toMatchObject({ _tag: error })
          yield* TestClock.adjust("5 seconds")
          expect(yield* store.stateOf()).toBe("Released")
        })
      )
    }
  }

  it.scoped("a claim that surely took no effect is not released", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.plan("claim", unavailable)
      const call = process.run(withIdempotency(Effect.succeed("paid"), operation, key, fail))
      yield* within("1100 millis")(Effect.flip(call))
      yield* TestClock.adjust("5 seconds")
      expect(process.faults.calls("release")).toHaveLength(0)
    })
  )

  it.scoped("a degraded run whose ghost holds the key records its result under the same token", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.plan("claim", replySwallowed, 3)
      const call = process.run(untyped(Effect.succeed("paid"), operation, key))
      expect(yield* within("1100 millis")(call)).toMatchObject({ _tag: "Unprotected", value: "paid" })
      expect(yield* call).toMatchObject({ _tag: "Replayed", value: "paid" })
    })
  )

  it.scoped("a degraded run that fails leaves no ghost", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* process.faults.plan("claim", replySwallowed, 3)
      const call = process.run(withIdempotency(Effect.fail("refused"), operation, key))
      expect(yield* within("1100 millis")(Effect.flip(call))).toBe("refused")
      expect(yield* store.stateOf()).toBe("Released")
    })
  )

  it.scoped("a degraded run that could not be recorded either leaves no ghost once the store answers", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* process.faults.plan("claim", replySwallowed)
      yield* process.faults.plan(["complete", "release"], unavailable)
      const call = process.run(untyped(Effect.succeed("paid"), operation, key))
      expect(yield* within("3 seconds")(call)).toMatchObject({ _tag: "Unprotected", value: "paid" })
      expect(yield* store.stateOf()).toBe("Processing")
      yield* process.faults.heal
      yield* TestClock.adjust("5 seconds")
      // Released, or completed: the next caller must not wait for the lease of nobody.
      expect(yield* store.stateOf()).not.toBe("Processing")
      expect(process.underWay()).toEqual(nothing)
    })
  )

  it.scoped("a claim whose token was released meanwhile is made again with another token", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* process.faults.plan(
        "claim",
        (call, verb) =>
          Effect.zipRight(
            Effect.zipRight(call, Effect.orDie(store.repository.reset(ids, { force: true }))),
            refused("Unavailable", "unknown")(call, verb)
          ),
        1
      )
      const call = process.run(untyped(Effect.succeed("paid"), operation, key))
      expect(yield* within("1100 millis")(call)).toMatchObject({ _tag: "Executed", value: "paid", attempt: 2 })
      expect(new Set(process.faults.calls("claim").map(({ tokens }) => tokens[0])).size).toBe(2)
    })
  )

  it.scoped("an optimistic caller claims nothing, so it leaves no ghost", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* process.faults.plan("all", hanging)
      yield* within("5 seconds")(
        process.run(withIdempotency(Effect.succeed("paid"), operation, key, { strategy: "optimistic" }))
      )
      yield* TestClock.adjust("5 seconds")
      expect(process.faults.calls("claim")).toHaveLength(0)
      expect(process.faults.calls("release")).toHaveLength(0)
      expect(yield* store.stateOf()).toBe("Absent")
    })
  )
})

describe("late claim replies", () => {
  it.scoped("the process pauses past the lease before it reads the reply: it claims again before it runs", () =>
    withPauses((pause) =>
      Effect.gen(function* () {
        const { process } = yield* singleProcess()
        yield* process.faults.plan("claim", (call) => Effect.zipLeft(call, pause("31 seconds")), 1)
        const body = counting(Effect.succeed("paid"))
        const outcome = yield* process.run(untyped(body.effect, operation, key))
        expect(outcome).toMatchObject({ _tag: "Executed", value: "paid", attempt: 1 })
        expect(process.faults.calls("claim")).toHaveLength(2)
        expect(body.runs()).toBe(1)
      })
    )
  )

  it.scoped("the store refuses the claim that is made again: the first is released", () =>
    withPauses((pause) =>
      Effect.gen(function* () {
        const { process, store } = yield* singleProcess()
        yield* process.faults.plan("claim", (call) => Effect.zipLeft(call, pause("31 seconds")), 1)
        yield* process.faults.plan("claim", unavailable)
        const body = counting(Effect.succeed("paid"))
        const call = process.run(withIdempotency(body.effect, operation, key, fail))
        expect(yield* within("1100 millis")(Effect.flip(call))).toMatchObject({ applied: "no" })
        yield* TestClock.adjust("1 second")
        expect(process.faults.calls("release")).toHaveLength(1)
        expect(yield* store.stateOf()).toBe("Released")
        expect(body.runs()).toBe(0)
      })
    )
  )

  it.scoped("a pause shorter than the lease costs nothing", () =>
    withPauses((pause) =>
      Effect.gen(function* () {
        const { process } = yield* singleProcess()
        yield* process.faults.plan("claim", (call) => Effect.zipLeft(call, pause("29 seconds")), 1)
        expect(yield* process.run(withIdempotency(Effect.succeed("paid"), operation, key))).toBe("paid")
        expect(process.faults.calls("claim")).toHaveLength(1)
      })
    )
  )

  it.scoped("somebody else took over during the pause: the body does not run, and their result is replayed", () =>
    withPauses((pause) =>
      Effect.gen(function* () {
        const { process, store } = yield* singleProcess()
        const takenOver = Effect.zipRight(store.claim("theirs"), store.complete("theirs"))
        yield* process.faults.plan(
          "claim",
          (call) => Effect.zipLeft(call, pause("31 seconds").pipe(Effect.zipRight(takenOver))),
          1
        )
        const mine = counting(Effect.succeed("mine"))
        expect(yield* process.run(withIdempotency(mine.effect, operation, key))).toBe("theirs")
        expect(mine.runs()).toBe(0)
      })
    )
  )

  it.scoped("at-most-once: the key that was called lapsed during the pause is still this caller's", () =>
    withPauses((pause) =>
      Effect.gen(function* () {
        const { process, store } = yield* singleProcess()
        const lapsed = store.claim("theirs", { guarantee: "at-most-once" })
        yield* process.faults.plan(
          "claim",
          (call) => Effect.zipLeft(call, pause("31 seconds").pipe(Effect.zipRight(lapsed))),
          1
        )
        const mine = counting(Effect.succeed("mine"))
        const call = withIdempotency(mine.effect, operation, key, { guarantee: "at-most-once" })
        expect(yield* process.run(call)).toBe("mine")
        expect(mine.runs()).toBe(1)
        expect(yield* lapsed).toMatchObject({ _tag: "Settled" })
      })
    )
  )
})
