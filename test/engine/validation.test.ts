/** Bad input fails before anything runs and before anything is written; and what the options default to. */
import { describe, expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as TestClock from "effect/TestClock"
import {
  counting,
  during,
  identifiersOf,
  ids,
  key,
  makeStore,
  type Options,
  operation,
  singleProcess,
  startProcess,
  untyped
} from "../support/engineProcess.js"

/** The error of a call that must not have run nor asked the store anything. */
const refusalOf = (ofOperation: unknown, ofKey: unknown, options: Options = {}) =>
  Effect.gen(function* () {
    const { process } = yield* singleProcess()
    const body = counting(Effect.succeed("paid"))
    const error = yield* Effect.flip(process.run(untyped(body.effect, ofOperation, ofKey, options)))
    expect(body.runs()).toBe(0)
    expect(process.faults.calls()).toEqual([])
    return error
  })

const invalid = (...issues: ReadonlyArray<string>) => ({
  _tag: "IdempotencyValidationError",
  issues: issues.map((issue) => expect.stringContaining(issue))
})

const atMostOnce = { guarantee: "at-most-once" }

const cases: ReadonlyArray<readonly [what: string, operation: unknown, key: unknown, options: Options, issue: string]> =
  [
    ["an empty key", operation, "", {}, "the key is empty"],
    ["a key of white space", operation, " \t ", {}, "the key is empty"],
    ["an empty key in an Option", operation, Option.some(""), {}, "the key is empty"],
    ["a key of 256 characters", operation, "k".repeat(256), {}, "256 characters"],
    ["a key with a colon", operation, "a:b", {}, "a colon"],
    ["a key with a control character", operation, "a\u0000b", {}, "a control character"],
    ["a key with a line feed inside", operation, "a\nb", {}, "a control character"],
    ["a key with a lone surrogate", operation, "a\ud800b", {}, "a lone surrogate"],
    ["a key that is a number", operation, 7, {}, "the key is not a string"],
    ["a key that is an object", operation, {}, {}, "the key is not a string"],
    ["an empty operation", "", key, {}, "the operation is empty"],
    ["an operation of 101 characters", "o".repeat(101), key, {}, "101 characters"],
    ["an operation with a colon", "a:b", key, {}, "a colon"],
    ["an operation with a control character", "a\u0007", key, {}, "a control character"],
    ["an operation that is none", undefined, key, {}, "the operation is empty"],
    ["an empty operation, without a key", "", null, {}, "the operation is empty"],
    ["an empty scope", operation, key, { scope: "" }, "the scope is empty"],
    ["a scope with a colon", operation, key, { scope: "a:b" }, "a colon"],
    ["a scope of 256 characters", operation, key, { scope: "s".repeat(256) }, "256 characters"],
    ["a lease below 3 × storageTimeout", operation, key, { lease: "2999 millis" }, "the lease"],
    ["a lease of nothing", operation, key, { lease: 0 }, "the lease"],
    ["a lease that is no duration", operation, key, { lease: "soon" }, "the lease"],
    ["a lease that is NaN", operation, key, { lease: Number.NaN }, "the lease"],
    ["an infinite lease", operation, key, { lease: Number.POSITIVE_INFINITY }, "the lease"],
    ["a waitTimeout that is no duration", operation, key, { waitTimeout: "soon" }, "the waitTimeout"],
    ["a timeToLive that is no duration", operation, key, { timeToLive: "soon" }, "time to live"],
    ["a fingerprint that is a Map", operation, key, { fingerprint: new Map([[1, 2]]) }, "the fingerprint"],
    ["a fingerprint with NaN", operation, key, { fingerprint: { amount: Number.NaN } }, "the fingerprint"],
    ["a fingerprint with a lone surrogate", operation, key, { fingerprint: ["\udc00"] }, "the fingerprint"],
    ["a fingerprint with a bigint", operation, key, { fingerprint: 1n }, "the fingerprint"],
    ["a fingerprint that is a function", operation, key, { fingerprint: () => 1 }, "the fingerprint"],
    ["an unknown guarantee", operation, key, { guarantee: "twice" }, "guarantee"],
    ["an unknown inFlight", operation, key, { inFlight: "queue" }, "inFlight"],
    ["an unknown onStorageFailure", operation, key, { onStorageFailure: "panic" }, "onStorageFailure"],
    ["an unknown strategy", operation, key, { strategy: "pessimistic" }, "strategy"],
    ["at-most-once with an absent key", operation, null, atMostOnce, "at-most-once needs a key"],
    ["at-most-once with None", operation, Option.none(), atMostOnce, "at-most-once needs a key"],
    ["at-most-once and proceed", operation, key, { ...atMostOnce, onStorageFailure: "proceed" }, "onStorageFailure"],
    ["at-most-once and optimistic", operation, key, { ...atMostOnce, strategy: "optimistic" }, "strategy"]
  ]

describe("bad input: IdempotencyValidationError, nothing runs, nothing is written", () => {
  for (const [what, ofOperation, ofKey, options, issue] of cases) {
    it.scoped(what, () =>
      Effect.map(refusalOf(ofOperation, ofKey, options), (error) => {
        expect(error).toMatchObject(invalid(issue))
      })
    )
  }

  it.scoped("everything that is wrong is named at once", () =>
    Effect.gen(function* () {
      const error = yield* refusalOf("a:b", "", { lease: 1, fingerprint: Number.NaN, scope: "" })
      expect(error).toMatchObject(
        invalid("the lease", "the fingerprint", "the operation holds a colon", "the key is empty", "the scope is empty")
      )
    })
  )

  it.scoped("no message holds the key, the scope or the fingerprint", () =>
    Effect.gen(function* () {
      const error = yield* refusalOf(operation, "secret:key", { scope: "secret:scope", fingerprint: ["secret\ud800"] })
      expect(String(error)).not.toContain("secret")
    })
  )

  it.scoped("the bound of the lease is three times the engine's own storageTimeout", () =>
    Effect.gen(function* () {
      const store = yield* makeStore()
      const process = yield* startProcess(store, { storageTimeout: "3 seconds" })
      const call = (lease: string) => process.run(untyped(Effect.succeed("paid"), operation, key, { lease }))
      expect(yield* Effect.flip(call("8999 millis"))).toMatchObject(invalid("at least 9000 ms"))
      expect(yield* call("9 seconds")).toMatchObject({ _tag: "Executed" })
      const slow = yield* startProcess(store, { storageTimeout: "11 seconds" })
      // The default of 30 seconds is longer then.
      const byDefault = slow.run(untyped(Effect.succeed("paid"), operation, "order-2"))
      expect(yield* byDefault).toMatchObject({ _tag: "Executed" })
    })
  )
})

describe("time to live outside the domain service's bounds: IdempotencyInvalidTtlError", () => {
  for (const timeToLive of ["59999 millis", "86400001 millis", Number.POSITIVE_INFINITY, 0, -1]) {
    it.scoped(`${timeToLive}`, () =>
      Effect.map(refusalOf(operation, key, { timeToLive }), (error) => {
        expect(error).toMatchObject({ _tag: "IdempotencyInvalidTtlError", operation })
        expect(error).toHaveProperty("min", Duration.seconds(60))
        expect(error).toHaveProperty("max", Duration.hours(24))
      })
    )
  }

  it.scoped("even without a key", () =>
    Effect.map(refusalOf(operation, null, { timeToLive: "1 second" }), (error) => {
      expect(error).toMatchObject({ _tag: "IdempotencyInvalidTtlError" })
    })
  )

  it.scoped("both bounds are within", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      for (const timeToLive of ["60 seconds", "24 hours"]) {
        const call = untyped(Effect.succeed("paid"), operation, timeToLive, { timeToLive })
        expect(yield* process.run(call)).toMatchObject({ _tag: "Executed" })
      }
    })
  )
})

describe("good input", () => {
  it.scoped("operation, key and scope are trimmed", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* process.run(untyped(Effect.succeed("paid"), ` ${operation}\n`, `\t${key} `, { scope: " tenant " }))
      expect(yield* store.stateOf(identifiersOf({ scope: "tenant" }))).toBe("Completed")
    })
  )

  it.scoped("the longest operation, key and scope; characters beyond the BMP", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const call = untyped(Effect.succeed("paid"), "o".repeat(100), "k".repeat(255), { scope: "s".repeat(255) })
      expect(yield* process.run(call)).toMatchObject({ _tag: "Executed" })
      expect(yield* process.run(untyped(Effect.succeed("paid"), operation, "🎉%{}"))).toMatchObject({
        _tag: "Executed"
      })
    })
  )

  it.scoped("a key in an Option is that key", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.run(untyped(Effect.succeed("paid"), operation, Option.some(key)))
      expect(yield* process.run(untyped(Effect.succeed("x"), operation, key))).toMatchObject({ _tag: "Replayed" })
    })
  )

  it.scoped("fingerprints: any order of properties, bytes by their contents", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const call = (of: string, fingerprint: unknown) =>
        process.run(untyped(Effect.succeed("paid"), operation, of, { fingerprint }))
      yield* call(key, { a: 1, b: { c: [1, 2], d: null } })
      expect(yield* call(key, { b: { d: null, c: [1, 2] }, a: 1 })).toMatchObject({ _tag: "Replayed" })
      const mismatch = { _tag: "IdempotencyFingerprintMismatchError", idempotencyKey: key, operation }
      expect(yield* Effect.flip(call(key, { a: 1, b: { c: [2, 1], d: null } }))).toMatchObject(mismatch)
      yield* call("bytes", new Uint8Array([1, 2, 3]))
      expect(yield* call("bytes", Buffer.from([1, 2, 3]))).toMatchObject({ _tag: "Replayed" })
      expect(yield* Effect.flip(call("bytes", new Uint8Array([1, 2])))).toMatchObject({ _tag: mismatch._tag })
    })
  )
})

describe("defaults", () => {
  it.scoped("timeToLive: the domain service's 30 minutes, from completion", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* during("11 seconds")(
        process.run(untyped(Effect.delay(Effect.succeed("paid"), "10 seconds"), operation, key))
      )
      yield* TestClock.adjust("29 minutes")
      expect(yield* store.stateOf()).toBe("Completed")
      yield* TestClock.adjust("1 minute")
      expect(yield* store.stateOf()).toBe("Absent")
      expect(yield* process.run(untyped(Effect.succeed("again"), operation, key))).toMatchObject({
        _tag: "Executed",
        attempt: 1
      })
    })
  )

  it.scoped("lease: 30 seconds; inFlight: wait; waitTimeout: 30 seconds", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      const owner = yield* Effect.fork(process.run(untyped(Effect.sleep("1 hour"), operation, key)))
      yield* TestClock.adjust("1 second")
      const state = Option.getOrThrow(yield* store.repository.inspect(ids))
      expect(state).toMatchObject({ _tag: "Processing", leaseUntil: 30_000, guarantee: "at-least-once" })
      const { exit, took } = yield* during("40 seconds")(
        Effect.flip(process.run(untyped(Effect.succeed("x"), operation, key)))
      )
      expect(exit).toMatchObject(Exit.succeed({ _tag: "IdempotencyInFlightError" }))
      expect(took).toBe(30_000)
      yield* Fiber.interrupt(owner)
    })
  )

  it.scoped("at-most-once: onStorageFailure is fail, and an unknown outcome is kept for 30 days", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* Effect.exit(process.run(untyped(Effect.die("broken"), operation, key, atMostOnce)))
      const state = Option.getOrThrow(yield* store.repository.inspect(ids))
      expect(state).toMatchObject({ _tag: "Unknown", reason: "held", guarantee: "at-most-once" })
      expect(state.expiresAt).toBe(Duration.toMillis("30 days"))
    })
  )
})
