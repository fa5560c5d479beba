/** `optimistic`: look up, run, and complete on Absent; on collision, the winner's result. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/TestClock"
import { IdempotentExecution } from "../../src/IdempotentExecution.js"
import { withIdempotencyOutcome } from "../../src/withIdempotency.js"
import {
  counting,
  during,
  ended,
  key,
  lasting,
  operation,
  singleProcess,
  twoProcesses,
  untyped,
  within
} from "../support/engineProcess.js"
import { refused, replyLost, unavailable } from "../support/faultyRepository.js"

const optimistic = { strategy: "optimistic" } as const

describe("optimistic", () => {
  it.scoped("looks up, runs, records; the next caller gets a replay", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const body = counting(Effect.succeed("paid"))
      const call = process.run(withIdempotencyOutcome(body.effect, operation, key, optimistic))
      expect(yield* call).toEqual({ _tag: "Executed", value: "paid", attempt: 1 })
      expect(yield* call).toMatchObject({ _tag: "Replayed", value: "paid" })
      expect(body.runs()).toBe(1)
      expect(process.faults.calls().map(({ verb }) => verb)).toEqual(["read", "complete", "read"])
    })
  )

  it.scoped("concurrent callers all run, and all but the first get the winner's result", () =>
    Effect.gen(function* () {
      const { one, two } = yield* twoProcesses()
      const call = (process: typeof one, value: string, seconds: number) =>
        process.run(untyped(lasting(value, `${seconds} seconds`).effect, operation, key, optimistic))
      const calls = [call(one, "a", 3), call(one, "b", 1), call(two, "c", 2)]
      const { exit, took } = yield* during("4 seconds")(Effect.all(calls, { concurrency: "unbounded" }))
      expect(exit).toMatchObject(
        Exit.succeed([
          { _tag: "Replayed", value: "b" },
          { _tag: "Executed", value: "b" },
          { _tag: "Replayed", value: "b" }
        ])
      )
      expect(took).toBe(3000)
      expect((yield* one.count("recordCollision")) + (yield* two.count("recordCollision"))).toBe(2)
    })
  )

  it.scoped("a collision with a claim that has not settled leaves the caller its own value, and is counted", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* store.claim("theirs")
      const call = process.run(untyped(Effect.succeed("mine"), operation, key, optimistic))
      expect(yield* call).toMatchObject({ _tag: "Executed", value: "mine" })
      expect(yield* process.count("recordCollision")).toBe(1)
      expect(yield* store.stateOf()).toBe("Processing")
    })
  )

  it.scoped("a winner whose result is unavailable leaves the caller its own value", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      const call = process.run(untyped(lasting("mine", "1 second").effect, operation, key, optimistic))
      const caller = yield* Effect.fork(call)
      yield* TestClock.adjust("500 millis")
      yield* store.claim("theirs")
      yield* store.complete("theirs", { outcome: { _tag: "Unavailable" } })
      yield* TestClock.adjust("1 second")
      expect(yield* ended(caller)).toMatchObject({ _tag: "Executed", value: "mine" })
    })
  )

  it.scoped("another fingerprint: mismatch, at the look-up, and at the completion", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const call = (value: unknown, fingerprint: number, of = key) =>
        process.run(
          untyped(lasting(value, `${fingerprint} seconds`).effect, operation, of, { ...optimistic, fingerprint })
        )
      yield* within("2 seconds")(call("a", 1))
      expect(yield* Effect.flip(call("b", 2))).toMatchObject({ _tag: "IdempotencyFingerprintMismatchError" })
      const both = Effect.all([Effect.exit(call("a", 1, "order-2")), Effect.flip(call("b", 2, "order-2"))], {
        concurrency: "unbounded"
      })
      const [first, second] = yield* within("3 seconds")(both)
      expect(first).toMatchObject(Exit.succeed({ _tag: "Executed", value: "a" }))
      expect(second).toMatchObject({ _tag: "IdempotencyFingerprintMismatchError" })
      expect(yield* process.count("recordMismatch")).toBe(2)
    })
  )

  it.scoped("failures: recorded with an error schema, else nothing is written", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      const body = counting(Effect.fail("refused"))
      const call = (options: object) =>
        Effect.flip(process.run(untyped(body.effect, operation, key, { ...optimistic, ...options })))
      yield* call({})
      expect(yield* store.stateOf()).toBe("Absent")
      yield* call({ error: Schema.String })
      expect(yield* call({ error: Schema.String })).toBe("refused")
      expect(body.runs()).toBe(2)
    })
  )

  it.scoped("a failure of unknown outcome is held all the same", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      const options = { ...optimistic, isOutcomeUnknown: () => true }
      yield* Effect.flip(process.run(untyped(Effect.fail("timeout"), operation, key, options)))
      expect(yield* store.stateOf()).toBe("Unknown")
      const next = process.run(untyped(Effect.succeed("paid"), operation, key, { isOutcomeUnknown: () => true }))
      expect(yield* Effect.flip(next)).toMatchObject({ _tag: "IdempotencyOutcomeUnknownError" })
    })
  )

  it.scoped("defects and interruptions write nothing", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      for (const body of [Effect.die("broken"), Effect.interrupt]) {
        yield* Effect.exit(process.run(untyped(body, operation, key, optimistic)))
      }
      expect(yield* store.stateOf()).toBe("Absent")
      expect(process.underWay()).toEqual({ owners: 0, flights: 0, leases: 0, background: 0 })
    })
  )

  it.scoped("the look-up fails: proceed runs unprotected, and still records", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.plan("read", unavailable, 4)
      const call = process.run(untyped(Effect.succeed("paid"), operation, key, optimistic))
      expect(yield* within("1 second")(call)).toMatchObject({ _tag: "Unprotected", value: "paid" })
      expect(yield* call).toMatchObject({ _tag: "Replayed", value: "paid" })
      expect(yield* process.count("recordDegraded")).toBe(1)
    })
  )

  it.scoped(
    "the completion fails: proceed gets its value, fail IdempotencyStorageError; it goes on in the background",
    () =>
      Effect.gen(function* () {
        const { process } = yield* singleProcess({ breakerThreshold: 1000 })
        yield* process.faults.plan("complete", unavailable)
        const proceed = process.run(untyped(Effect.succeed("a"), operation, "a", optimistic))
        expect(yield* within("1 second")(proceed)).toMatchObject({ _tag: "Unprotected", value: "a" })
        const options = { ...optimistic, onStorageFailure: "fail" }
        const fail = process.run(untyped(Effect.succeed("b"), operation, "b", options))
        expect(yield* within("1 second")(Effect.flip(fail))).toMatchObject({
          _tag: "IdempotencyStorageError",
          method: "complete"
        })
        yield* process.faults.heal
        yield* TestClock.adjust("2 seconds")
        expect(yield* proceed).toMatchObject({ _tag: "Replayed", value: "a" })
        expect(yield* fail).toMatchObject({ _tag: "Replayed", value: "b" })
      })
  )

  it.scoped("the completion's reply is lost: recorded once", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.plan("complete", replyLost, 1)
      const call = process.run(untyped(Effect.succeed("paid"), operation, key, optimistic))
      expect(yield* within("1 second")(call)).toMatchObject({ _tag: "Executed", value: "paid" })
      expect(yield* process.count("recordCollision")).toBe(0)
    })
  )

  it.scoped("a result that the store refuses is recorded as unavailable", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.plan("complete", refused("Rejected"), 5)
      const call = process.run(untyped(Effect.succeed("paid"), operation, key, optimistic))
      expect(yield* within("1 second")(call)).toMatchObject({ _tag: "Executed", value: "paid" })
      expect(yield* Effect.flip(call)).toMatchObject({ _tag: "IdempotencyResultUnavailableError" })
    })
  )

  it.scoped("the effect has its IdempotentExecution, with attempt 1", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const body = Effect.map(IdempotentExecution, ({ attempt, idempotencyKey }) => [attempt, idempotencyKey])
      const call = process.run(withIdempotencyOutcome(body, operation, key, optimistic))
      expect(yield* call).toMatchObject({ value: [1, key] })
    })
  )
})
