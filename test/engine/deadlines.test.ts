/** Rules 2 and 3: the deadlines of storage operations, and what their failures are sorted into. */
import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schedule from "effect/Schedule"
import * as TestClock from "effect/TestClock"
import { withIdempotency } from "../../src/withIdempotency.js"
import { counting, during, key, lasting, operation, singleProcess, untyped, within } from "../support/engineProcess.js"
import { answeringAfter, hanging, refused, replySwallowed, unavailable } from "../support/faultyRepository.js"

const minute = during("1 minute")

describe("deadlines", () => {
  it.scoped("a store that never answers costs a proceed call at most 2.5 × storageTimeout", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess({ storageTimeout: "2 seconds" })
      yield* process.faults.plan("all", hanging)
      const { exit, took } = yield* minute(process.run(untyped(Effect.succeed("paid"), operation, key)))
      expect(exit).toMatchObject(
        Exit.succeed({ _tag: "Unprotected", value: "paid", reason: { method: "claim", reason: "Timeout" } })
      )
      expect(took).toBeLessThanOrEqual(5000)
    })
  )

  it.scoped("the time of the effect itself is not limited", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.plan("all", hanging)
      const body = lasting("paid", "50 seconds")
      const { exit, took } = yield* minute(process.run(withIdempotency(body.effect, operation, key)))
      expect(exit).toEqual(Exit.succeed("paid"))
      expect(took).toBeLessThanOrEqual(52_500)
    })
  )

  for (const options of [
    { onStorageFailure: "fail" },
    { guarantee: "at-most-once" },
    { onStorageFailure: "fail", strategy: "optimistic" }
  ]) {
    it.scoped(`${JSON.stringify(options)}: within storageTimeout it fails with IdempotencyStorageError`, () =>
      Effect.gen(function* () {
        const { process } = yield* singleProcess({ storageTimeout: "2 seconds" })
        yield* process.faults.plan("all", hanging)
        const body = counting(Effect.succeed("paid"))
        const { exit, took } = yield* minute(Effect.flip(process.run(untyped(body.effect, operation, key, options))))
        expect(exit).toMatchObject(Exit.succeed({ _tag: "IdempotencyStorageError", reason: "Timeout" }))
        expect(took).toBeLessThanOrEqual(2001)
        expect(body.runs()).toBe(0)
      })
    )
  }

  it.scoped("what is given up is counted as a failure of the store, with the time that it had", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess({ storageTimeout: "3 seconds", retry: Schedule.stop })
      yield* process.faults.plan("claim", hanging)
      yield* minute(Effect.flip(process.run(untyped(Effect.void, operation, key, { onStorageFailure: "fail" }))))
      const counted = (yield* process.metrics.calls).filter(({ method }) => /Error|Latency/.test(method))
      const second = Duration.seconds(1)
      expect(counted).toMatchObject([
        { method: "recordLatency", operation, of: "claim", duration: second },
        { method: "recordError", operation, errorType: "Timeout" }
      ])
    })
  )

  it.scoped("an optimistic proceed call keeps to 2.5 × storageTimeout too", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess({ storageTimeout: "2 seconds" })
      yield* process.faults.plan("all", hanging)
      const call = process.run(untyped(Effect.succeed("paid"), operation, key, { strategy: "optimistic" }))
      const { exit, took } = yield* minute(call)
      expect(exit).toMatchObject(Exit.succeed({ _tag: "Unprotected", value: "paid" }))
      expect(took).toBeLessThanOrEqual(5000)
    })
  )

  it.scoped("each attempt has a third of storageTimeout: a slow one is given up and made again", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess({ storageTimeout: "3 seconds", retry: Schedule.recurs(3) })
      yield* process.faults.plan("claim", answeringAfter("1200 millis"), 1)
      const { exit, took } = yield* minute(process.run(untyped(Effect.succeed("paid"), operation, key)))
      expect(exit).toMatchObject(Exit.succeed({ _tag: "Executed", attempt: 1 }))
      expect(took).toBe(1000)
      expect(process.faults.calls("claim").map(({ at }) => at)).toEqual([0, 1000])
    })
  )

  it.scoped("an answer just within an attempt's third is taken", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess({ storageTimeout: "3 seconds" })
      yield* process.faults.plan(["claim", "complete"], answeringAfter("990 millis"))
      const { exit, took } = yield* minute(process.run(untyped(Effect.succeed("paid"), operation, key)))
      expect(exit).toMatchObject(Exit.succeed({ _tag: "Executed", attempt: 1 }))
      expect(took).toBe(1980)
      expect(process.faults.calls("claim")).toHaveLength(1)
    })
  )

  it.scoped("concurrent fail callers of one key do not wait for each other's deadlines in turn", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess({ breakerThreshold: 1000 })
      yield* process.faults.plan("all", hanging)
      const call = process.run(withIdempotency(Effect.succeed("paid"), operation, key, { onStorageFailure: "fail" }))
      const { took } = yield* minute(
        Effect.all(
          Array.from({ length: 10 }, () => Effect.flip(call)),
          { concurrency: "unbounded" }
        )
      )
      expect(took).toBeLessThanOrEqual(2500)
    })
  )

  it.scoped("a proceed caller behind a fail caller of its key keeps to 2.5 × storageTimeout", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess({ breakerThreshold: 1000 })
      yield* process.faults.plan("all", hanging)
      const first = process.run(untyped(Effect.succeed("paid"), operation, key, { onStorageFailure: "fail" }))
      const second = process.run(untyped(Effect.succeed("paid"), operation, key))
      const { exit, took } = yield* minute(Effect.all([Effect.flip(first), second], { concurrency: "unbounded" }))
      expect(exit).toMatchObject(Exit.succeed([{ _tag: "IdempotencyStorageError" }, { _tag: "Unprotected" }]))
      expect(took).toBeLessThanOrEqual(2500)
    })
  )
})

describe("failures of a store are sorted", () => {
  it.scoped("not applied: retried with the same token, then it is the caller's policy", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.plan("claim", unavailable, 2)
      const call = process.run(untyped(Effect.succeed("paid"), operation, key))
      expect(yield* within("1100 millis")(call)).toMatchObject({ _tag: "Executed", attempt: 1 })
      const tokens = process.faults.calls("claim").map((claim) => claim.tokens[0])
      expect(tokens).toHaveLength(3)
      expect(new Set(tokens).size).toBe(1)
    })
  )

  it.scoped("unknown: retried with the same token, and the claim that took effect is found again", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* process.faults.plan("claim", replySwallowed, 1)
      const call = process.run(untyped(Effect.succeed("paid"), operation, key))
      expect(yield* within("1100 millis")(call)).toMatchObject({ _tag: "Executed", attempt: 1 })
      expect(yield* store.stateOf()).toBe("Completed")
    })
  )

  for (const [which, told, ...attempts] of [
    ["the first", "unknown", refused("Unavailable", "unknown"), unavailable],
    ["a later one", "unknown", unavailable, refused("Unavailable", "unknown"), unavailable],
    ["the last, which is under way at the deadline", "unknown", unavailable, unavailable, unavailable, hanging],
    ["none", "no", unavailable]
  ] as const) {
    it.scoped(`the error tells whether any of the attempts may have taken effect: ${which}`, () =>
      Effect.gen(function* () {
        const retry = Schedule.spaced("200 millis")
        const { process } = yield* singleProcess({ breakerThreshold: 1000, retry })
        for (const [index, fault] of attempts.entries()) {
          yield* process.faults.plan("claim", fault, index === attempts.length - 1 ? Number.POSITIVE_INFINITY : 1)
        }
        const call = process.run(withIdempotency(Effect.succeed("paid"), operation, key, { onStorageFailure: "fail" }))
        expect(yield* within("1100 millis")(Effect.flip(call))).toMatchObject({ reason: "Unavailable", applied: told })
      })
    )
  }

  it.scoped("by default an attempt is made again 3 times", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.plan("claim", unavailable)
      const call = process.run(withIdempotency(Effect.succeed("paid"), operation, key, { onStorageFailure: "fail" }))
      yield* within("1100 millis")(Effect.flip(call))
      expect(process.faults.calls("claim")).toHaveLength(4)
    })
  )

  for (const strategy of ["claim", "optimistic"]) {
    it.scoped(`misconfigured, ${strategy}: never retried, never degraded; a defect under proceed`, () =>
      Effect.gen(function* () {
        const { process } = yield* singleProcess()
        yield* process.faults.plan("all", refused("Misconfigured"))
        const body = counting(Effect.succeed("paid"))
        const exit = yield* Effect.exit(process.run(untyped(body.effect, operation, key, { strategy })))
        expect(Exit.isFailure(exit) && Cause.isDie(exit.cause)).toBe(true)
        expect(Exit.isFailure(exit) && Cause.squash(exit.cause)).toMatchObject({ reason: "Misconfigured" })
        expect(body.runs()).toBe(0)
        expect(process.faults.calls()).toHaveLength(1)
      })
    )

    it.scoped(`misconfigured, ${strategy}: IdempotencyStorageError under fail`, () =>
      Effect.gen(function* () {
        const { process } = yield* singleProcess()
        yield* process.faults.plan("all", refused("Misconfigured"))
        const body = counting(Effect.succeed("paid"))
        const call = process.run(untyped(body.effect, operation, key, { strategy, onStorageFailure: "fail" }))
        expect(yield* Effect.flip(call)).toMatchObject({ _tag: "IdempotencyStorageError", reason: "Misconfigured" })
        expect(body.runs()).toBe(0)
        expect(process.faults.calls()).toHaveLength(1)
      })
    )
  }

  it.scoped("misconfigured at the completion: IdempotencyStorageError under fail, and not asked again", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.plan("complete", refused("Misconfigured"))
      const call = withIdempotency(Effect.succeed("paid"), operation, key, { onStorageFailure: "fail" })
      expect(yield* Effect.flip(process.run(call))).toMatchObject({ method: "complete", reason: "Misconfigured" })
      yield* TestClock.adjust("1 minute")
      expect(process.faults.calls("complete").length).toBeLessThanOrEqual(2)
      expect(process.underWay()).toEqual({ owners: 0, flights: 0, leases: 0, background: 0 })
    })
  )

  it.scoped("misconfigured opens no breaker, however often", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess({ breakerThreshold: 2 })
      yield* process.faults.plan("all", refused("Misconfigured"), 20)
      const call = process.run(withIdempotency(Effect.succeed("paid"), operation, key, { onStorageFailure: "fail" }))
      for (let calls = 0; calls < 20; calls++) {
        expect(yield* Effect.flip(call)).toMatchObject({ reason: "Misconfigured" })
      }
      expect(process.faults.calls("claim")).toHaveLength(20)
    })
  )

  for (const strategy of ["claim", "optimistic"] as const) {
    it.scoped(`a corrupted record, ${strategy}: IdempotencyResultUnavailableError, never a run`, () =>
      Effect.gen(function* () {
        const { process } = yield* singleProcess()
        const corrupted = { _tag: "Corrupted", cause: "not a state" } as const
        yield* process.faults.planFor("claim", () => Effect.succeed(corrupted))
        yield* process.faults.planFor("read", () => Effect.succeed([corrupted]))
        const body = counting(Effect.succeed("paid"))
        const call = process.run(untyped(body.effect, operation, key, { strategy }))
        expect(yield* Effect.flip(call)).toMatchObject({ _tag: "IdempotencyResultUnavailableError" })
        expect(body.runs()).toBe(0)
      })
    )
  }

  it.scoped("a store that dies instead of failing is a defect of the caller, and leaves nothing behind", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.plan("claim", () => Effect.die("broken driver"), 1)
      const call = process.run(withIdempotency(Effect.succeed("paid"), operation, key))
      const exit = yield* Effect.exit(call)
      expect(Exit.isFailure(exit) && Cause.squash(exit.cause)).toBe("broken driver")
      expect(yield* call).toBe("paid")
      expect(process.underWay()).toEqual({ owners: 0, flights: 0, leases: 0, background: 0 })
    })
  )
})

describe("claims refused for memory", () => {
  it.scoped("a key that could be claimed is a storage failure: nothing runs", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.plan("claim", refused("Rejected"))
      const body = counting(Effect.succeed("mine"))
      const call = process.run(withIdempotency(body.effect, operation, key, { onStorageFailure: "fail" }))
      expect(yield* within("1100 millis")(Effect.flip(call))).toMatchObject({ reason: "Rejected", applied: "no" })
      expect(body.runs()).toBe(0)
    })
  )
})
