/** Rule 7: what an owner makes of each answer to its renewals. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as TestClock from "effect/TestClock"
import { IdempotencyStorageError } from "../../src/IdempotencyError.js"
import { during, ended, ids, key, lasting, operation, singleProcess, untyped } from "../support/engineProcess.js"
import { unavailable } from "../support/faultyRepository.js"

const failed = {
  _tag: "Failed",
  error: new IdempotencyStorageError({ operation, method: "renew", reason: "Rejected", applied: "no" })
} as const

const lostWithoutRecord = () => Effect.succeed([{ _tag: "Lost", record: undefined }] as const)

const fail = { onStorageFailure: "fail" } as const
const atMostOnce = { guarantee: "at-most-once" } as const

describe("a renewal", () => {
  it.scoped("that failed for this lease alone is none: after a whole lease its owner is stopped, and no sooner", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      // An hour later than the clock's beginning, so that instants are not taken for durations.
      yield* TestClock.adjust("1 hour")
      yield* process.faults.planFor("renew", () => Effect.succeed([failed]))
      const call = Effect.flip(process.run(untyped(Effect.never, operation, key, fail)))
      const { exit, took } = yield* during("1 minute")(call)
      expect(exit).toMatchObject(Exit.succeed({ _tag: "IdempotencyStorageError", reason: "Rejected" }))
      expect(took).toBeGreaterThanOrEqual(30_000)
      expect(took).toBeLessThanOrEqual(33_000)
    })
  )

  it.scoped("that has no answer for this lease is asked for again", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.planFor("renew", () => Effect.succeed([]), 2)
      const { exit } = yield* during("2 minutes")(
        process.run(untyped(lasting("paid", "1 minute").effect, operation, key, fail))
      )
      expect(exit).toMatchObject(Exit.succeed({ _tag: "Executed", value: "paid", attempt: 1 }))
      expect(process.faults.calls("renew").length).toBeGreaterThan(2)
    })
  )

  it.scoped("that found the lease lapsed claims it again, which counts as a renewal", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.planFor("renew", lostWithoutRecord, 1)
      const owner = yield* Effect.fork(
        process.run(untyped(lasting("paid", "45 seconds").effect, operation, key, atMostOnce))
      )
      yield* TestClock.adjust("11 seconds")
      // For less than a lease since the claim that came after the renewal.
      yield* process.faults.plan("renew", unavailable)
      yield* TestClock.adjust("27 seconds")
      yield* process.faults.heal
      yield* TestClock.adjust("10 seconds")
      expect(yield* ended(owner)).toMatchObject({ _tag: "Executed", value: "paid", attempt: 1 })
      expect(yield* process.count("recordLeaseLost")).toBe(0)
    })
  )

  it.scoped("that found the lease lost to one who has released it claims it anew, and its owner goes on", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      const owner = yield* Effect.fork(
        process.run(untyped(lasting("paid", "45 seconds").effect, operation, key, atMostOnce))
      )
      yield* TestClock.adjust("1 second")
      yield* store.repository.reset(ids, { force: true })
      yield* store.claim("theirs")
      yield* store.repository.claims.release(ids, { token: "theirs" })
      yield* TestClock.adjust("1 minute")
      expect(yield* ended(owner)).toMatchObject({ _tag: "Executed", value: "paid" })
      expect(yield* process.count("recordLeaseLost")).toBe(0)
    })
  )

  it.scoped("that found it lapsed, where the steps of the claim cannot be read for now, is no loss", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.planFor("renew", lostWithoutRecord, 1)
      const owner = yield* Effect.fork(
        process.run(untyped(lasting("paid", "45 seconds").effect, operation, key, atMostOnce))
      )
      yield* TestClock.adjust("1 second")
      const unread = { _tag: "Corrupted", cause: "the cipher is away" } as const
      yield* process.faults.planFor("claim", (claim) => Effect.as(claim, unread), 1)
      yield* TestClock.adjust("1 minute")
      expect(yield* ended(owner)).toMatchObject({ _tag: "Executed", value: "paid" })
    })
  )

  it.scoped("that found the lease lost, where it may be its own all the same: held, and not run again", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* process.faults.planFor("renew", lostWithoutRecord, 1)
      const owner = yield* Effect.fork(process.run(untyped(Effect.never, operation, key, atMostOnce)))
      yield* TestClock.adjust("1 second")
      yield* process.faults.planFor("claim", () => Effect.succeed({ _tag: "InFlight", remaining: 1000 }), 1)
      yield* TestClock.adjust("15 seconds")
      yield* Effect.flip(ended(owner))
      expect(yield* store.stateOf()).toBe("Unknown")
    })
  )

  it.scoped("that found the lease lost, where a claim finds what another has recorded: that is replayed", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* process.faults.planFor("renew", lostWithoutRecord, 1)
      const owner = yield* Effect.fork(process.run(untyped(Effect.never, operation, key, atMostOnce)))
      yield* TestClock.adjust("1 second")
      yield* store.repository.reset(ids, { force: true })
      yield* store.claim("theirs")
      yield* store.complete("theirs")
      yield* TestClock.adjust("11 seconds")
      expect(yield* ended(owner)).toMatchObject({ _tag: "Replayed", value: "theirs" })
    })
  )
})
