/** "What each failure leads to": runs of the body, and what the next caller gets, while the store keeps its records. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import { withIdempotency } from "../../src/withIdempotency.js"
import {
  counting,
  during,
  ended,
  ids,
  key,
  lasting,
  makeStore,
  operation,
  settleDown,
  singleProcess,
  startProcess,
  twoProcesses,
  untyped,
  within
} from "../support/engineProcess.js"
import { hanging, replyLost, unavailable } from "../support/faultyRepository.js"
import { withPauses } from "../support/pausingClock.js"

const atMostOnce = { guarantee: "at-most-once" } as const

/** A body that tells its runs apart. */
const counted = () => {
  let runs = 0
  return Effect.sync(() => `run ${++runs}`)
}

describe("crash before the claim took effect", () => {
  for (const guarantee of ["at-least-once", "at-most-once"]) {
    it.scoped(`${guarantee}: the retry runs it, and gets its result`, () =>
      Effect.gen(function* () {
        const { one, two } = yield* twoProcesses()
        const body = counting(Effect.succeed("paid"))
        const call = untyped(body.effect, operation, key, { guarantee })
        yield* one.faults.plan("all", hanging)
        const crashing = yield* Effect.fork(one.run(call))
        yield* settleDown
        expect(one.faults.calls("claim")).toHaveLength(1)
        yield* Fiber.interruptFork(crashing)
        expect(yield* two.run(call)).toMatchObject({ _tag: "Executed", value: "paid", attempt: 1 })
        yield* TestClock.adjust("1 minute")
        expect(yield* two.run(call)).toMatchObject({ _tag: "Replayed", value: "paid" })
        expect(body.runs()).toBe(1)
      })
    )
  }
})

describe("crash after the claim, before or during the body", () => {
  it.scoped("at-least-once: it runs again after the lease, on attempt 2, and the next caller gets its result", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* store.claim("crashed", { lease: 10_000 })
      const body = counting(Effect.succeed("paid"))
      const { exit, took } = yield* during("20 seconds")(process.run(untyped(body.effect, operation, key)))
      expect(exit).toMatchObject(Exit.succeed({ _tag: "Executed", value: "paid", attempt: 2 }))
      expect(took).toBeGreaterThanOrEqual(10_000)
      expect(took).toBeLessThanOrEqual(10_500)
      expect(body.runs()).toBe(1)
      expect(yield* process.count("recordTakeover")).toBe(1)
    })
  )

  it.scoped("at-most-once: it does not run again, until resolve tells what happened", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* store.claim("crashed", { ...atMostOnce, lease: 10_000 })
      const body = counting(Effect.succeed("paid"))
      const call = process.run(withIdempotency(body.effect, operation, key, atMostOnce))
      const { exit, took } = yield* during("20 seconds")(Effect.flip(call))
      expect(exit).toMatchObject(Exit.succeed({ _tag: "IdempotencyOutcomeUnknownError", attempt: 1 }))
      expect(took).toBeLessThanOrEqual(10_500)
      // Far beyond the retention of results.
      yield* TestClock.adjust("3 hours")
      expect(yield* Effect.flip(call)).toMatchObject({ _tag: "IdempotencyOutcomeUnknownError", attempt: 1 })
      expect(yield* store.repository.resolve(ids, { _tag: "Success", result: "found paid" })).toBe(true)
      expect(yield* call).toBe("found paid")
      expect(body.runs()).toBe(0)
    })
  )

  it.scoped("at-most-once: reset lets it run again, on the next attempt", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* store.claim("crashed", { ...atMostOnce, lease: 10_000 })
      yield* TestClock.adjust("11 seconds")
      const body = counting(Effect.succeed("paid"))
      const call = process.run(untyped(body.effect, operation, key, atMostOnce))
      expect(yield* Effect.flip(call)).toMatchObject({ _tag: "IdempotencyOutcomeUnknownError" })
      expect(yield* store.repository.reset(ids)).toBe(true)
      expect(yield* call).toMatchObject({ _tag: "Executed", attempt: 2, value: "paid" })
      expect(body.runs()).toBe(1)
    })
  )

  it.scoped("the guarantee of the first claim governs, whatever later callers ask for", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* store.claim("crashed", { ...atMostOnce, lease: 10_000 })
      yield* TestClock.adjust("11 seconds")
      const body = counting(Effect.succeed("paid"))
      const error = yield* Effect.flip(process.run(withIdempotency(body.effect, operation, key)))
      // This caller's type knows no unknown outcome.
      expect(error).toMatchObject({ _tag: "IdempotencyResultUnavailableError" })
      expect(body.runs()).toBe(0)
    })
  )
})

describe("crash after the effect, before complete", () => {
  it.scoped("at-least-once: 2 runs, and everybody gets the second's result", () =>
    Effect.gen(function* () {
      const { one, two } = yield* twoProcesses()
      const call = untyped(counted(), operation, key)
      // The process dies with its completion on the way: nothing of it ever reaches the store again.
      yield* one.faults.plan(["complete", "renew", "release"], hanging)
      yield* within("2 seconds")(one.run(call))
      expect(yield* within("40 seconds")(two.run(call))).toMatchObject({ _tag: "Executed", value: "run 2", attempt: 2 })
      expect(yield* two.run(call)).toMatchObject({ _tag: "Replayed", value: "run 2" })
    })
  )

  it.scoped("at-most-once: 1 run, and IdempotencyOutcomeUnknownError", () =>
    Effect.gen(function* () {
      const { one, two } = yield* twoProcesses()
      const body = counting(Effect.succeed("paid"))
      yield* one.faults.plan(["complete", "renew", "release", "hold"], hanging)
      const lost = one.run(withIdempotency(body.effect, operation, key, atMostOnce))
      const { exit: first } = yield* during("2 seconds")(Effect.flip(lost))
      expect(first).toMatchObject(Exit.succeed({ _tag: "IdempotencyStorageError", method: "complete" }))
      const next = two.run(withIdempotency(body.effect, operation, key, { ...atMostOnce, waitTimeout: "1 minute" }))
      const { exit } = yield* during("40 seconds")(Effect.flip(next))
      expect(exit).toMatchObject(Exit.succeed({ _tag: "IdempotencyOutcomeUnknownError", attempt: 1 }))
      expect(body.runs()).toBe(1)
    })
  )
})

describe("crash after complete", () => {
  for (const guarantee of ["at-least-once", "at-most-once"]) {
    it.scoped(`${guarantee}: the next caller gets a replay`, () =>
      Effect.gen(function* () {
        const store = yield* makeStore()
        const one = yield* startProcess(store)
        const body = counting(Effect.succeed("paid"))
        yield* one.run(untyped(body.effect, operation, key, { guarantee }))
        yield* one.stop
        const two = yield* startProcess(store)
        const outcome = yield* two.run(untyped(body.effect, operation, key, { guarantee }))
        expect(outcome).toMatchObject({ _tag: "Replayed", value: "paid" })
        expect(body.runs()).toBe(1)
      })
    )
  }
})

describe("reply of claim or complete lost", () => {
  for (const guarantee of ["at-least-once", "at-most-once"]) {
    for (const verb of ["claim", "complete"] as const) {
      for (const times of [1, 3]) {
        it.scoped(`${guarantee}, ${verb}, ${times} time(s): 1 run, then a replay`, () =>
          Effect.gen(function* () {
            const { process } = yield* singleProcess()
            yield* process.faults.plan(verb, replyLost, times)
            const body = counting(Effect.succeed("paid"))
            const call = process.run(untyped(body.effect, operation, key, { guarantee }))
            expect(yield* within("1100 millis")(call)).toMatchObject({ _tag: "Executed", value: "paid", attempt: 1 })
            expect(yield* call).toMatchObject({ _tag: "Replayed", value: "paid" })
            expect(body.runs()).toBe(1)
            // The retries are the same execution.
            expect(
              new Set(
                process.faults
                  .calls(verb)
                  .slice(0, times + 1)
                  .map(({ tokens }) => tokens[0])
              ).size
            ).toBe(1)
          })
        )
      }
    }
  }
})

describe("an owner that pauses for longer than its lease", () => {
  for (const guarantee of ["at-least-once", "at-most-once"]) {
    it.scoped(`${guarantee}, nobody came: 1 run, and the late completion wins`, () =>
      withPauses((pause) =>
        Effect.gen(function* () {
          const { one, two } = yield* twoProcesses()
          const body = counting(Effect.as(pause("60 seconds"), "paid"))
          const call = untyped(body.effect, operation, key, { guarantee })
          expect(yield* one.run(call)).toMatchObject({ _tag: "Executed", value: "paid", attempt: 1 })
          expect(yield* two.run(call)).toMatchObject({ _tag: "Replayed", value: "paid" })
          expect(body.runs()).toBe(1)
        })
      )
    )
  }
})

describe("pause or outage past the lease", () => {
  it.scoped("at-least-once, nobody took over: 1 run, and the late completion wins", () =>
    Effect.gen(function* () {
      const { one, two } = yield* twoProcesses()
      yield* one.faults.plan("renew", unavailable)
      const body = lasting("paid", "60 seconds")
      expect(yield* within("61 seconds")(one.run(withIdempotency(body.effect, operation, key)))).toBe("paid")
      expect(yield* two.run(untyped(body.effect, operation, key))).toMatchObject({ _tag: "Replayed", value: "paid" })
      expect(body.runs()).toBe(1)
    })
  )

  it.scoped("under fail: the run is stopped, IdempotencyStorageError, and the next caller runs again", () =>
    Effect.gen(function* () {
      const { one, two } = yield* twoProcesses()
      yield* one.faults.plan("renew", unavailable)
      const body = lasting("paid", "60 seconds")
      const call = untyped(body.effect, operation, key, { onStorageFailure: "fail" })
      const { exit } = yield* during("61 seconds")(Effect.flip(one.run(call)))
      expect(exit).toMatchObject(Exit.succeed({ _tag: "IdempotencyStorageError", method: "renew" }))
      expect(yield* within("61 seconds")(two.run(call))).toMatchObject({ _tag: "Executed", attempt: 2 })
      expect(body.runs()).toBe(2)
    })
  )

  it.scoped("at-most-once: the run is stopped and held, IdempotencyOutcomeUnknownError for everybody", () =>
    Effect.gen(function* () {
      const { one, two } = yield* twoProcesses()
      yield* one.faults.plan("renew", unavailable)
      const body = lasting("paid", "60 seconds")
      const call = untyped(body.effect, operation, key, atMostOnce)
      const { exit } = yield* during("61 seconds")(Effect.flip(one.run(call)))
      expect(exit).toMatchObject(Exit.succeed({ _tag: "IdempotencyOutcomeUnknownError", attempt: 1 }))
      expect(yield* Effect.flip(two.run(call))).toMatchObject({ _tag: "IdempotencyOutcomeUnknownError", attempt: 1 })
      expect(body.runs()).toBe(1)
    })
  )

  it.scoped("at-least-once, taken over: 2 runs, and the late owner gets the winner's result too", () =>
    Effect.gen(function* () {
      const { one, two } = yield* twoProcesses()
      yield* one.faults.plan("renew", unavailable)
      const late = lasting("late", "60 seconds")
      const lateCall = yield* Effect.fork(one.run(withIdempotency(late.effect, operation, key)))
      yield* TestClock.adjust("35 seconds")
      const winner = counting(Effect.succeed("winner"))
      expect(yield* two.run(untyped(winner.effect, operation, key))).toMatchObject({ _tag: "Executed", attempt: 2 })
      yield* TestClock.adjust("30 seconds")
      expect(yield* ended(lateCall)).toBe("winner")
      expect([late.runs(), winner.runs()]).toEqual([1, 1])
      expect(yield* one.count("recordCollision")).toBe(1)
    })
  )

  it.scoped(
    "at-most-once: not taken over, others get IdempotencyOutcomeUnknownError, the late completion still wins",
    () =>
      withPauses((pause) =>
        Effect.gen(function* () {
          const { one, two } = yield* twoProcesses()
          const meanwhile = counting(Effect.succeed("mine"))
          const other = two.run(untyped(meanwhile.effect, operation, key, atMostOnce))
          const body = Effect.zipRight(pause("60 seconds"), Effect.flip(other))
          expect(yield* one.run(untyped(body, operation, key, atMostOnce))).toMatchObject({
            _tag: "Executed",
            value: { _tag: "IdempotencyOutcomeUnknownError", attempt: 1 }
          })
          expect(yield* other).toMatchObject({ _tag: "Replayed", value: { _tag: "IdempotencyOutcomeUnknownError" } })
          expect(meanwhile.runs()).toBe(0)
        })
      )
  )
})

describe("store loses a claim or record", () => {
  for (const guarantee of ["at-least-once", "at-most-once"]) {
    it.scoped(`${guarantee}: a lost record is run again, and the new result recorded`, () =>
      Effect.gen(function* () {
        const { process, store } = yield* singleProcess()
        const call = process.run(untyped(counted(), operation, key, { guarantee }))
        yield* call
        yield* store.loseEverything
        expect(yield* call).toMatchObject({ _tag: "Executed", value: "run 2", attempt: 1 })
        expect(yield* call).toMatchObject({ _tag: "Replayed", value: "run 2" })
      })
    )
  }

  for (const guarantee of ["at-least-once", "at-most-once"]) {
    it.scoped(`${guarantee}: a lost claim that another claimed: 2 runs, and both get the new result`, () =>
      Effect.gen(function* () {
        const { one, store, two } = yield* twoProcesses()
        const body = counted()
        const late = untyped(Effect.zipLeft(body, Effect.sleep("15 seconds")), operation, key, { guarantee })
        const owner = yield* Effect.fork(one.run(late))
        yield* TestClock.adjust("5 seconds")
        yield* store.loseEverything
        const other = two.run(untyped(body, operation, key, { guarantee }))
        expect(yield* other).toMatchObject({ _tag: "Executed", value: "run 2", attempt: 1 })
        yield* TestClock.adjust("15 seconds")
        expect(yield* ended(owner)).toMatchObject({ _tag: "Replayed", value: "run 2" })
        expect(yield* other).toMatchObject({ _tag: "Replayed", value: "run 2" })
      })
    )
  }

  it.scoped("a lost claim that nobody claimed again: the owner carries on, 1 run", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      const body = lasting("paid", "60 seconds")
      const call = process.run(untyped(body.effect, operation, key))
      const owner = yield* Effect.fork(call)
      yield* TestClock.adjust("5 seconds")
      yield* store.loseEverything
      yield* TestClock.adjust("60 seconds")
      expect(yield* ended(owner)).toMatchObject({ _tag: "Executed", value: "paid", attempt: 1 })
      expect(yield* call).toMatchObject({ _tag: "Replayed", value: "paid" })
      expect(body.runs()).toBe(1)
    })
  )
})

describe("store down", () => {
  it.scoped("proceed: every call runs, and gets its own value", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.plan("all", unavailable)
      let runs = 0
      const call = process.run(
        untyped(
          Effect.sync(() => ++runs),
          operation,
          key
        )
      )
      for (const value of [1, 2, 3]) {
        expect(yield* within("3 seconds")(call)).toMatchObject({ _tag: "Unprotected", value })
      }
    })
  )

  for (const options of [{ onStorageFailure: "fail" }, atMostOnce]) {
    it.scoped(`${JSON.stringify(options)}: none runs, IdempotencyStorageError`, () =>
      Effect.gen(function* () {
        const { process } = yield* singleProcess()
        yield* process.faults.plan("all", unavailable)
        const body = counting(Effect.succeed("paid"))
        const call = process.run(untyped(body.effect, operation, key, options))
        expect(yield* within("3 seconds")(Effect.flip(call))).toMatchObject({
          _tag: "IdempotencyStorageError",
          method: "claim",
          reason: "Unavailable",
          applied: "no"
        })
        expect(body.runs()).toBe(0)
      })
    )
  }
})

describe("result cannot be recorded", () => {
  for (const guarantee of ["at-least-once", "at-most-once"]) {
    it.scoped(`${guarantee}: 1 run while the store answers, then IdempotencyResultUnavailableError`, () =>
      Effect.gen(function* () {
        const { process } = yield* singleProcess({ maxResultBytes: 10 })
        const body = counting(Effect.succeed("far more than ten bytes"))
        const call = process.run(untyped(body.effect, operation, key, { guarantee }))
        expect(yield* call).toMatchObject({ _tag: "Executed", value: "far more than ten bytes" })
        expect(yield* Effect.flip(call)).toMatchObject({ _tag: "IdempotencyResultUnavailableError" })
        expect(body.runs()).toBe(1)
      })
    )
  }
})
