/** Rule 10: under `proceed`, a caller whose claim failed runs unprotected, and ends with a completion. */
import { describe, expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/TestClock"
import { IdempotentExecution } from "../../src/IdempotentExecution.js"
import { withIdempotency } from "../../src/withIdempotency.js"
import { withIdempotentStep } from "../../src/withIdempotentStep.js"
import {
  counting,
  during,
  ended,
  ids,
  key,
  lasting,
  nothing,
  operation,
  settleDown,
  singleProcess,
  untyped,
  within
} from "../support/engineProcess.js"
import { unavailable } from "../support/faultyRepository.js"

const second = within("1 second")

describe("degradation", () => {
  it.scoped("the completion stores the result if nobody else did", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.plan("claim", unavailable, 4)
      const body = counting(Effect.succeed("paid"))
      const call = process.run(untyped(body.effect, operation, key))
      expect(yield* second(call)).toMatchObject({
        _tag: "Unprotected",
        value: "paid",
        reason: { _tag: "IdempotencyStorageError", method: "claim", reason: "Unavailable" }
      })
      expect(yield* call).toMatchObject({ _tag: "Replayed", value: "paid" })
      expect(body.runs()).toBe(1)
      expect(yield* process.count("recordDegraded")).toBe(1)
      expect(process.underWay()).toEqual(nothing)
    })
  )

  it.scoped("a settled winner is replayed", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* store.claim("theirs")
      yield* store.complete("theirs")
      yield* process.faults.plan("claim", unavailable, 4)
      const body = counting(Effect.succeed("mine"))
      const call = process.run(untyped(body.effect, operation, key))
      expect(yield* second(call)).toMatchObject({ _tag: "Replayed", value: "theirs" })
      expect(body.runs()).toBe(1)
      expect(yield* process.count("recordCollision")).toBe(1)
    })
  )

  it.scoped("a settled winner of another request leaves the caller its own value, as Unprotected", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* store.claim("theirs", { fingerprint: "another request" })
      yield* store.complete("theirs", { fingerprint: "another request" })
      yield* process.faults.plan("claim", unavailable, 4)
      const call = process.run(untyped(Effect.succeed("mine"), operation, key, { fingerprint: { amount: 100 } }))
      expect(yield* second(call)).toMatchObject({ _tag: "Unprotected", value: "mine" })
    })
  )

  it.scoped("so does a winner whose result is unavailable", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* store.claim("theirs")
      yield* store.complete("theirs", { outcome: { _tag: "Unavailable" } })
      yield* process.faults.plan("claim", unavailable, 4)
      const call = process.run(untyped(Effect.succeed("mine"), operation, key))
      expect(yield* second(call)).toMatchObject({ _tag: "Unprotected", value: "mine" })
    })
  )

  it.scoped("so does an owner that has not settled, and nobody waits for it", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* store.claim("theirs")
      yield* process.faults.plan("claim", unavailable, 4)
      const call = process.run(untyped(Effect.succeed("mine"), operation, key))
      const { exit, took } = yield* during("1 second")(call)
      expect(exit).toMatchObject(Exit.succeed({ _tag: "Unprotected", value: "mine" }))
      expect(took).toBeLessThan(600)
      expect(yield* store.stateOf()).toBe("Processing")
    })
  )

  it.scoped("a failure that is encoded is recorded, too", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.plan("claim", unavailable, 4)
      const body = counting(Effect.fail("refused"))
      const call = Effect.flip(process.run(untyped(body.effect, operation, key, { error: Schema.String })))
      expect(yield* second(call)).toBe("refused")
      expect(yield* call).toBe("refused")
      expect(body.runs()).toBe(1)
    })
  )

  it.scoped("a result that cannot be recorded is recorded as unavailable", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.plan("claim", unavailable, 4)
      const call = process.run(untyped(Effect.succeed(Number.NaN), operation, key))
      expect(yield* second(call)).toMatchObject({ _tag: "Unprotected", value: Number.NaN })
      expect(yield* Effect.flip(call)).toMatchObject({ _tag: "IdempotencyResultUnavailableError" })
    })
  )

  it.scoped("a failure of unknown outcome is held, as far as the store answers", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* process.faults.plan("claim", unavailable, 4)
      const call = process.run(untyped(Effect.fail("timeout"), operation, key, { isOutcomeUnknown: () => true }))
      expect(yield* second(Effect.flip(call))).toBe("timeout")
      expect(yield* store.stateOf()).toBe("Unknown")
    })
  )

  it.scoped("the effect learns that it runs unprotected by its attempt, 0; its steps just run", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.plan("claim", unavailable, 4)
      const body = Effect.flatMap(IdempotentExecution, ({ attempt }) =>
        Effect.as(withIdempotentStep("one")(Effect.succeed("stepped")), attempt)
      )
      const call = process.run(untyped(body as Effect.Effect<unknown, unknown>, operation, key))
      expect(yield* second(call)).toMatchObject({ _tag: "Unprotected", value: 0 })
      expect(process.faults.calls("saveStep")).toHaveLength(0)
    })
  )
})

describe("others during a degraded run", () => {
  it.scoped("inFlight: fail: in flight at once, with a lease from when the run began", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.plan("all", unavailable)
      const run = yield* Effect.fork(process.run(untyped(Effect.never, operation, key)))
      yield* TestClock.adjust("11 seconds")
      const hasty = process.run(withIdempotency(Effect.succeed("mine"), operation, key, { inFlight: "fail" }))
      const error = yield* Effect.flip(hasty)
      if (error._tag !== "IdempotencyInFlightError") return expect.fail(error._tag)
      expect(Duration.toSeconds(error.retryAfter)).toBeGreaterThan(19)
      expect(Duration.toSeconds(error.retryAfter)).toBeLessThanOrEqual(20)
      yield* Fiber.interruptFork(run)
      yield* TestClock.adjust("1 minute")
    })
  )

  it.scoped("another fingerprint than an earlier owner's, which the run did not give, is a mismatch", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      const { claims } = store.repository
      yield* store.claim("theirs", { fingerprint: "an earlier owner's" })
      yield* claims.saveStep(ids, { token: "theirs", name: "one", encoded: "1" })
      yield* claims.release(ids, { token: "theirs" })
      yield* process.faults.plan("claim", unavailable, 4)
      const body = lasting("paid", "10 seconds")
      const run = yield* Effect.fork(process.run(untyped(body.effect, operation, key)))
      yield* TestClock.adjust("2 seconds")
      const other = yield* Effect.fork(
        Effect.flip(process.run(untyped(Effect.void, operation, key, { fingerprint: 2 })))
      )
      yield* TestClock.adjust("10 seconds")
      expect(yield* ended(run)).toMatchObject({ _tag: "Unprotected", value: "paid" })
      expect(yield* ended(other)).toMatchObject({ _tag: "IdempotencyFingerprintMismatchError" })
    })
  )

  it.scoped("another fingerprint is a mismatch, also if the run ends as soon as it begins", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.plan("all", unavailable)
      const call = (fingerprint: number) =>
        process.run(untyped(Effect.succeed("paid"), operation, key, { fingerprint }))
      const run = yield* Effect.fork(call(1))
      const other = yield* Effect.fork(Effect.flip(call(2)))
      yield* TestClock.adjust("2 seconds")
      expect(yield* ended(run)).toMatchObject({ _tag: "Unprotected", value: "paid" })
      expect(yield* ended(other)).toMatchObject({ _tag: "IdempotencyFingerprintMismatchError" })
    })
  )
})

const opened = Effect.gen(function* () {
  const { process, store } = yield* singleProcess({ breakerThreshold: 4 })
  yield* process.faults.plan("all", unavailable)
  yield* second(process.run(untyped(Effect.succeed("first"), operation, "order-0")))
  return { process, store }
})

describe("breaker", () => {
  it.scoped("open, it answers claims and degraded completions at once, without the store", () =>
    Effect.gen(function* () {
      const { process } = yield* opened
      // But for the probe's reads, whose time may come.
      const asked = () => process.faults.calls().filter(({ verb }) => verb !== "read").length
      const before = asked()
      const { exit, took } = yield* during("100 millis")(process.run(untyped(Effect.succeed("paid"), operation, key)))
      expect(exit).toMatchObject(Exit.succeed({ _tag: "Unprotected", value: "paid", reason: { applied: "no" } }))
      expect(took).toBe(0)
      for (const options of [{ onStorageFailure: "fail" }, { guarantee: "at-most-once" }]) {
        const strict = Effect.flip(process.run(untyped(Effect.succeed("paid"), operation, key, options)))
        expect(yield* during("100 millis")(strict)).toMatchObject({
          exit: Exit.succeed({ _tag: "IdempotencyStorageError", reason: "Unavailable", applied: "no" }),
          took: 0
        })
      }
      expect(asked()).toBe(before)
    })
  )

  it.scoped("open, it tells each caller of its own operation, and that nothing was done", () =>
    Effect.gen(function* () {
      const { process } = yield* opened
      for (const name of ["one", "two", "one"]) {
        const call = process.run(untyped(Effect.succeed("paid"), name, key, { onStorageFailure: "fail" }))
        const error = yield* Effect.flip(call)
        expect(error).toMatchObject({ operation: name, method: "claim", reason: "Unavailable", applied: "no" })
        expect(error).toHaveProperty("cause.message", expect.stringContaining("the store has not answered lately"))
      }
    })
  )

  it.scoped("open, it answers optimistic look-ups and completions at once", () =>
    Effect.gen(function* () {
      const { process } = yield* opened
      const call = process.run(untyped(Effect.succeed("paid"), operation, key, { strategy: "optimistic" }))
      expect(yield* during("100 millis")(call)).toMatchObject({
        exit: Exit.succeed({ _tag: "Unprotected", value: "paid" }),
        took: 0
      })
    })
  )

  it.scoped("does not open before so many attempts in a row went without an answer", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess({ breakerThreshold: 4 })
      yield* process.faults.plan("claim", unavailable, 3)
      expect(yield* second(process.run(untyped(Effect.succeed("a"), operation, "a")))).toMatchObject({
        _tag: "Executed"
      })
      yield* process.faults.plan("claim", unavailable, 3)
      expect(yield* second(process.run(untyped(Effect.succeed("b"), operation, "b")))).toMatchObject({
        _tag: "Executed"
      })
    })
  )

  it.scoped("closes by its probe: calls are protected again, within a probe interval", () =>
    Effect.gen(function* () {
      const { process } = yield* opened
      yield* process.faults.heal
      const early = process.run(untyped(Effect.succeed("early"), operation, "early"))
      expect(yield* early).toMatchObject({ _tag: "Unprotected" })
      yield* TestClock.adjust("1100 millis")
      const call = process.run(untyped(Effect.succeed("paid"), operation, key))
      expect(yield* call).toMatchObject({ _tag: "Executed", value: "paid", attempt: 1 })
    })
  )

  it.scoped("its probe asks for one key", () =>
    Effect.gen(function* () {
      const { process } = yield* opened
      yield* process.faults.heal
      const asked: Array<number> = []
      yield* process.faults.planFor("read", (call) =>
        Effect.tap(call, (states) => Effect.sync(() => asked.push(states.length)))
      )
      yield* TestClock.adjust("1100 millis")
      expect(asked).toEqual([1])
    })
  )

  it.scoped("stays open while the probe fails, and the probe goes on", () =>
    Effect.gen(function* () {
      const { process } = yield* opened
      yield* TestClock.adjust("1 minute")
      const call = process.run(untyped(Effect.succeed("paid"), operation, key))
      expect(yield* during("100 millis")(call)).toMatchObject({ took: 0 })
      expect(process.faults.calls("read").length).toBeGreaterThan(40)
      yield* process.faults.heal
      yield* TestClock.adjust("1100 millis")
      expect(yield* process.run(untyped(Effect.succeed("paid"), operation, "order-2"))).toMatchObject({
        _tag: "Executed"
      })
    })
  )

  it.scoped("a probe that dies does not keep it open for ever", () =>
    Effect.gen(function* () {
      const { process } = yield* opened
      yield* process.faults.heal
      yield* process.faults.plan("read", () => Effect.die("broken driver"), 2)
      yield* TestClock.adjust("10 seconds")
      expect(yield* process.run(untyped(Effect.succeed("paid"), operation, key))).toMatchObject({ _tag: "Executed" })
    })
  )

  it.scoped("opens again when the store goes away again", () =>
    Effect.gen(function* () {
      const { process } = yield* opened
      yield* process.faults.heal
      yield* TestClock.adjust("1100 millis")
      yield* process.faults.plan("all", unavailable)
      yield* second(process.run(untyped(Effect.succeed("a"), operation, "a")))
      const call = process.run(untyped(Effect.succeed("b"), operation, "b"))
      expect(yield* during("100 millis")(call)).toMatchObject({ took: 0 })
    })
  )

  it.scoped("open, it does not touch what an owner does: renewals, steps, completion", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess({ breakerThreshold: 4 })
      const stepping = Effect.zipRight(Effect.sleep("25 seconds"), withIdempotentStep("one")(Effect.succeed("stepped")))
      const body = Effect.zipRight(stepping, Effect.as(Effect.sleep("25 seconds"), "paid"))
      const owner = yield* Effect.fork(
        process.run(untyped(body as Effect.Effect<unknown, unknown>, operation, key, { onStorageFailure: "fail" }))
      )
      yield* settleDown
      yield* process.faults.plan(["claim", "read"], unavailable)
      yield* second(process.run(untyped(Effect.succeed("other"), operation, "order-2")))
      yield* TestClock.adjust("50 seconds")
      expect(yield* ended(owner)).toMatchObject({ _tag: "Executed", value: "paid", attempt: 1 })
      expect(process.faults.calls("saveStep")).toHaveLength(1)
      expect(yield* store.stateOf()).toBe("Completed")
    })
  )

  it.scoped("open, an owner that fails is released all the same", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess({ breakerThreshold: 4 })
      const body = lasting("paid", "10 seconds")
      const owner = yield* Effect.fork(
        Effect.flip(process.run(untyped(Effect.zipRight(body.effect, Effect.fail("refused")), operation, key)))
      )
      yield* settleDown
      yield* process.faults.plan(["claim", "read"], unavailable)
      yield* second(process.run(untyped(Effect.succeed("other"), operation, "order-2")))
      yield* TestClock.adjust("10 seconds")
      expect(yield* ended(owner)).toBe("refused")
      expect(yield* store.stateOf()).toBe("Released")
    })
  )
})
