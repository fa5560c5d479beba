/** Rule 8: a completion without an answer goes on in the background, until the lease ends. */
import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/TestClock"
import { withIdempotency, withIdempotencyOutcome } from "../../src/withIdempotency.js"
import {
  counting,
  during,
  ended,
  identifiersOf,
  ids,
  key,
  nothing,
  operation,
  singleProcess,
  twoProcesses,
  untyped,
  within
} from "../support/engineProcess.js"
import { hanging, refused, replyLost, unavailable } from "../support/faultyRepository.js"

const encodedBy = (encode: (text: string) => Effect.Effect<string>) =>
  Schema.transformOrFail(Schema.String, Schema.String, { strict: true, decode: Effect.succeed, encode })

describe("a completion without an answer goes on in the background", () => {
  for (const fault of [unavailable, hanging]) {
    const how = fault === hanging ? "hanging" : "refusing"

    it.scoped(`proceed: the caller waits storageTimeout, then gets its value, counted as degraded (${how})`, () =>
      Effect.gen(function* () {
        const { process, store } = yield* singleProcess()
        yield* process.faults.plan("complete", fault)
        const body = counting(Effect.succeed("paid"))
        const call = process.run(untyped(body.effect, operation, key))
        const { exit, took } = yield* during("1100 millis")(call)
        expect(exit).toMatchObject(Exit.succeed({ _tag: "Unprotected", value: "paid", reason: { method: "complete" } }))
        expect(took).toBeLessThanOrEqual(1001)
        expect(yield* process.count("recordDegraded")).toBe(1)
        expect(yield* store.stateOf()).toBe("Processing")
        yield* process.faults.heal
        yield* TestClock.adjust("2 seconds")
        expect(yield* store.stateOf()).toBe("Completed")
        expect(yield* call).toMatchObject({ _tag: "Replayed", value: "paid" })
        expect(body.runs()).toBe(1)
        expect(process.underWay()).toEqual(nothing)
      })
    )

    for (const options of [{ onStorageFailure: "fail" }, { guarantee: "at-most-once" }]) {
      it.scoped(
        `${JSON.stringify(options)}: IdempotencyStorageError of complete, and the result all the same (${how})`,
        () =>
          Effect.gen(function* () {
            const { process } = yield* singleProcess()
            yield* process.faults.plan("complete", fault)
            const body = counting(Effect.succeed("paid"))
            const call = process.run(untyped(body.effect, operation, key, options))
            const { exit, took } = yield* during("1100 millis")(Effect.flip(call))
            expect(exit).toMatchObject(Exit.succeed({ _tag: "IdempotencyStorageError", method: "complete" }))
            expect(took).toBeLessThanOrEqual(1001)
            yield* process.faults.heal
            yield* TestClock.adjust("2 seconds")
            expect(yield* call).toMatchObject({ _tag: "Replayed", value: "paid" })
            expect(body.runs()).toBe(1)
          })
      )
    }
  }

  it.scoped("a completion that took effect without an answer is recorded once", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.plan("complete", replyLost)
      const body = counting(Effect.succeed("paid"))
      const call = process.run(untyped(body.effect, operation, key))
      expect(yield* within("1100 millis")(call)).toMatchObject({ _tag: "Unprotected", value: "paid" })
      yield* process.faults.heal
      yield* TestClock.adjust("2 seconds")
      expect(yield* call).toMatchObject({ _tag: "Replayed", value: "paid" })
      expect(body.runs()).toBe(1)
    })
  )

  it.scoped("the key is renewed meanwhile: nobody takes over while it goes on", () =>
    Effect.gen(function* () {
      const { one, store, two } = yield* twoProcesses()
      yield* one.faults.plan("complete", unavailable)
      const body = counting(Effect.delay(Effect.succeed("paid"), "25 seconds"))
      const owner = yield* Effect.fork(one.run(untyped(body.effect, operation, key)))
      yield* TestClock.adjust("26 seconds")
      expect(yield* ended(owner)).toMatchObject({ _tag: "Unprotected" })
      const other = yield* Effect.fork(
        two.run(untyped(Effect.succeed("other"), operation, key, { waitTimeout: "5 minutes" }))
      )
      yield* TestClock.adjust("20 seconds")
      expect(yield* store.stateOf()).toBe("Processing")
      yield* one.faults.heal
      yield* TestClock.adjust("2 seconds")
      expect(yield* ended(other)).toMatchObject({ _tag: "Replayed", value: "paid" })
      expect(body.runs()).toBe(1)
    })
  )

  it.scoped("it ends with the lease: after that the key is free to be taken over", () =>
    Effect.gen(function* () {
      const { one, two } = yield* twoProcesses()
      yield* one.faults.plan(["complete", "renew"], unavailable)
      yield* within("1100 millis")(one.run(untyped(Effect.succeed("paid"), operation, key, { lease: "10 seconds" })))
      yield* TestClock.adjust("12 seconds")
      expect(one.underWay()).toEqual(nothing)
      const other = two.run(untyped(Effect.succeed("other"), operation, key))
      expect(yield* within("10 seconds")(other)).toMatchObject({ _tag: "Executed", value: "other", attempt: 2 })
    })
  )

  it.scoped("a lease that is renewed meanwhile goes on, but not for ever", () =>
    Effect.gen(function* () {
      const { one, two } = yield* twoProcesses()
      yield* one.faults.plan("complete", unavailable)
      yield* within("1100 millis")(one.run(untyped(Effect.succeed("paid"), operation, key, { lease: "10 seconds" })))
      yield* TestClock.adjust("95 seconds")
      const other = two.run(untyped(Effect.succeed("other"), operation, key, { inFlight: "fail" }))
      expect(yield* Effect.flip(other)).toMatchObject({ _tag: "IdempotencyInFlightError" })
      yield* TestClock.adjust("20 seconds")
      expect(one.underWay()).toEqual(nothing)
      expect(yield* other).toMatchObject({ _tag: "Executed", value: "other", attempt: 2 })
    })
  )

  it.scoped("somebody else's result was recorded meanwhile: theirs stays", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* process.faults.plan(["complete", "renew"], unavailable)
      const call = process.run(untyped(Effect.succeed("paid"), operation, key))
      yield* within("1100 millis")(call)
      yield* store.loseEverything
      yield* store.claim("theirs")
      yield* store.complete("theirs")
      yield* process.faults.heal
      yield* TestClock.adjust("2 seconds")
      expect(yield* call).toMatchObject({ _tag: "Replayed", value: "theirs" })
      expect(process.underWay()).toEqual(nothing)
    })
  )

  it.scoped("what goes on in the background is bounded in number; beyond it, a lease lapses", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess({ maxBackgroundCompletions: 2, breakerThreshold: 1000 })
      yield* process.faults.plan("complete", unavailable)
      for (const which of ["a", "b", "c"]) {
        expect(
          yield* within("1100 millis")(process.run(untyped(Effect.succeed(which), operation, which)))
        ).toMatchObject({
          _tag: "Unprotected",
          value: which
        })
      }
      expect(process.underWay()).toEqual({ owners: 0, flights: 2, leases: 2, background: 2 })
      yield* process.faults.heal
      yield* TestClock.adjust("2 seconds")
      expect(process.underWay()).toEqual(nothing)
      const states = yield* Effect.forEach(["a", "b", "c"], (which) => store.stateOf(identifiersOf({ key: which })))
      expect(states).toEqual(["Completed", "Completed", "Processing"])
    })
  )

  it.scoped("callers of this process meanwhile: proceed shares the value, fail gets the storage error", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.plan("complete", unavailable)
      const body = counting(Effect.succeed("paid"))
      yield* within("1100 millis")(process.run(withIdempotency(body.effect, operation, key)))
      expect(yield* process.run(untyped(body.effect, operation, key))).toMatchObject({
        _tag: "Unprotected",
        value: "paid"
      })
      const strict = withIdempotencyOutcome(body.effect, operation, key, { onStorageFailure: "fail" })
      expect(yield* Effect.flip(process.run(strict))).toMatchObject({ _tag: "IdempotencyStorageError" })
      expect(body.runs()).toBe(1)
    })
  )

  it.scoped("a caller with another fingerprint meanwhile: mismatch, not this request's value", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.plan("complete", unavailable)
      const body = counting(Effect.succeed("paid"))
      const call = (fingerprint: number) => process.run(untyped(body.effect, operation, key, { fingerprint }))
      expect(yield* within("1100 millis")(call(1))).toMatchObject({ _tag: "Unprotected", value: "paid" })
      expect(yield* Effect.flip(call(2))).toMatchObject({ _tag: "IdempotencyFingerprintMismatchError" })
      expect(body.runs()).toBe(1)
    })
  )

  it.scoped("a store that dies at the completion is a defect of the caller; nothing is left in flight", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.plan("complete", () => Effect.die("broken driver"), 1)
      const exit = yield* Effect.exit(process.run(withIdempotency(Effect.succeed("paid"), operation, key)))
      expect(Exit.isFailure(exit) && Cause.squash(exit.cause)).toBe("broken driver")
      yield* TestClock.adjust("1 second")
      expect(process.underWay()).toEqual(nothing)
    })
  )

  it.scoped("a store that dies while it goes on in the background leaves nothing in flight either", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* process.faults.plan("complete", unavailable)
      const call = within("1100 millis")(process.run(untyped(Effect.succeed("paid"), operation, key)))
      expect(yield* call).toMatchObject({ _tag: "Unprotected", value: "paid" })
      yield* process.faults.heal
      yield* process.faults.plan("complete", () => Effect.die("broken driver"))
      yield* TestClock.adjust("2 seconds")
      expect(process.underWay()).toEqual(nothing)
      yield* TestClock.adjust("30 seconds")
      expect((yield* store.claim("next"))._tag).toBe("Claimed")
    })
  )

  it.scoped("a schema that encodes for ever is given up in the end; the effect is not run again", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      const Endless = encodedBy(() => Effect.never)
      const body = counting(Effect.succeed("paid"))
      const call = process.run(untyped(body.effect, operation, key, { success: Endless }))
      expect(yield* within("40 seconds")(call)).toMatchObject({ _tag: "Executed", value: "paid" })
      expect(yield* store.stateOf()).toBe("Completed")
      const again = Effect.flip(process.run(untyped(body.effect, operation, key, { success: Endless })))
      expect(yield* again).toMatchObject({ _tag: "IdempotencyResultUnavailableError" })
      expect(body.runs()).toBe(1)
    })
  )

  it.scoped("an encoding that takes its time is not cut short by an interruption: the result is recorded", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      const Slow = encodedBy((text) => Effect.delay(Effect.succeed(text), "5 seconds"))
      const call = () => process.run(untyped(Effect.succeed("paid"), operation, key, { success: Slow }))
      const first = yield* Effect.fork(call())
      yield* TestClock.adjust("1 second")
      yield* Fiber.interruptFork(first)
      yield* TestClock.adjust("5 seconds")
      expect(yield* store.stateOf()).toBe("Completed")
      expect(yield* call()).toMatchObject({ _tag: "Replayed", value: "paid" })
    })
  )

  it.scoped("a record that was corrupted meanwhile leaves the caller its value", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.planFor("complete", () => Effect.succeed({ _tag: "Corrupted", cause: "not a state" }), 1)
      const call = process.run(untyped(Effect.succeed("paid"), operation, key))
      expect(yield* call).toMatchObject({ _tag: "Executed", value: "paid" })
      expect(process.underWay()).toEqual(nothing)
    })
  )

  it.scoped("taken over meanwhile by an owner that has not settled: it ends there", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* process.faults.plan(["complete", "renew"], unavailable)
      yield* within("1100 millis")(process.run(untyped(Effect.succeed("paid"), operation, key)))
      yield* store.repository.reset(ids, { force: true })
      yield* store.claim("theirs", { lease: 300_000 })
      yield* process.faults.heal
      yield* TestClock.adjust("2 seconds")
      expect(process.underWay()).toEqual(nothing)
      expect(yield* store.stateOf()).toBe("Processing")
    })
  )

  it.scoped("a store that refuses the result, and has another owner's: the caller keeps its value", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* process.faults.plan("complete", refused("Rejected"), 4)
      const body = Effect.delay(Effect.succeed("mine"), "1 second")
      const caller = yield* Effect.fork(process.run(untyped(body, operation, key)))
      yield* TestClock.adjust("500 millis")
      yield* store.repository.reset(ids, { force: true })
      yield* store.claim("theirs")
      yield* store.complete("theirs")
      yield* TestClock.adjust("5 seconds")
      const outcome = yield* ended(caller)
      expect(["mine", "theirs"]).toContain(outcome.value)
      expect(process.underWay()).toEqual(nothing)
      expect(yield* process.run(untyped(body, operation, key))).toMatchObject({ _tag: "Replayed", value: "theirs" })
    })
  )
})
