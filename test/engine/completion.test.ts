/** Rule 8: an effect that succeeded is never run again because of its record. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/TestClock"
import { IdempotencyStorageError } from "../../src/IdempotencyError.js"
import { withIdempotency } from "../../src/withIdempotency.js"
import {
  counting,
  during,
  ended,
  gated,
  key,
  makeStore,
  nothing,
  operation,
  singleProcess,
  startProcess,
  untyped,
  within
} from "../support/engineProcess.js"
import { refused, unavailable } from "../support/faultyRepository.js"

const cyclic = (): unknown => {
  const object: { self?: unknown } = {}
  object.self = object
  return object
}

const Even = Schema.Number.pipe(Schema.filter((number) => number % 2 === 0))

const Dying = Schema.transform(Schema.String, Schema.String, {
  strict: true,
  decode: (text) => text,
  encode: () => {
    throw new Error("broken codec")
  }
})

describe("a result that cannot be recorded is completed as unavailable", () => {
  const results: ReadonlyArray<
    readonly [what: string, value: unknown, options?: { readonly [name: string]: unknown }]
  > = [
    ["NaN", Number.NaN],
    ["infinity in an object", { amounts: [1, Number.POSITIVE_INFINITY] }],
    ["undefined in an array", [1, undefined]],
    ["a bigint", { amount: 1n }],
    ["a function", () => "paid"],
    ["an object that holds itself", cyclic()],
    ["what the schema does not encode", 3, { success: Even }],
    ["what the schema dies of", "paid", { success: Dying }],
    ["what the schema encodes to no JSON", Number.NaN, { success: Schema.Number }],
    ["a result beyond maxResultBytes", "x".repeat(1000)]
  ]
  for (const [what, value, options] of results) {
    it.scoped(`${what}: this caller gets its value, later ones IdempotencyResultUnavailableError`, () =>
      Effect.gen(function* () {
        const { process } = yield* singleProcess({ maxResultBytes: 100 })
        const body = counting(Effect.succeed(value))
        const call = process.run(untyped(body.effect, operation, key, options))
        expect(yield* call).toStrictEqual(expect.objectContaining({ _tag: "Executed", value, attempt: 1 }))
        expect(yield* Effect.flip(call)).toMatchObject({ _tag: "IdempotencyResultUnavailableError" })
        expect(body.runs()).toBe(1)
        expect(process.underWay()).toEqual(nothing)
      })
    )
  }

  it.scoped("null, and what was null before JSON, is not such a result", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const value = { a: null, b: [null, { c: null }], text: "null" }
      const call = process.run(untyped(Effect.succeed(value), operation, key))
      yield* call
      expect(yield* call).toMatchObject({ _tag: "Replayed", value })
    })
  )

  it.scoped("maxResultBytes counts the bytes of the encoded result, the quotes included", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess({ maxResultBytes: 10 })
      const fits = process.run(untyped(Effect.succeed("éééé"), operation, key))
      yield* fits
      expect(yield* fits).toMatchObject({ _tag: "Replayed", value: "éééé" })
      const exceeds = process.run(untyped(Effect.succeed("ééééx"), operation, "order-2"))
      yield* exceeds
      expect(yield* Effect.flip(exceeds)).toMatchObject({ _tag: "IdempotencyResultUnavailableError" })
    })
  )

  it.scoped("a recorded failure beyond maxResultBytes: this caller gets its failure, later ones the error", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess({ maxResultBytes: 10 })
      const body = counting(Effect.fail("a reason of more than ten bytes"))
      const call = process.run(withIdempotency(body.effect, operation, key, { error: Schema.String }))
      expect(yield* Effect.flip(call)).toBe("a reason of more than ten bytes")
      expect(yield* Effect.flip(call)).toMatchObject({ _tag: "IdempotencyResultUnavailableError" })
      expect(body.runs()).toBe(1)
    })
  )

  it.scoped("a store that refuses the result but answers: the same", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.plan("complete", refused("Rejected"), 5)
      const body = counting(Effect.succeed("paid"))
      const call = process.run(untyped(body.effect, operation, key, { onStorageFailure: "fail" }))
      expect(yield* within("2 seconds")(call)).toMatchObject({ _tag: "Executed", value: "paid", attempt: 1 })
      expect(yield* Effect.flip(call)).toMatchObject({ _tag: "IdempotencyResultUnavailableError" })
      expect(body.runs()).toBe(1)
    })
  )
})

describe("a store that refuses the result, and the renewal of its lease alone", () => {
  it.scoped("has it later: nothing is given up", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const error = new IdempotencyStorageError({ operation, method: "renew", reason: "Rejected", applied: "no" })
      yield* process.faults.plan("complete", refused("Rejected"), 4)
      yield* process.faults.planFor("renew", () => Effect.succeed([{ _tag: "Failed", error }]), 1)
      const call = process.run(untyped(Effect.succeed("paid"), operation, key))
      expect(yield* within("2 seconds")(call)).toMatchObject({ _tag: "Unprotected", value: "paid" })
      yield* TestClock.adjust("1 minute")
      expect(yield* call).toMatchObject({ _tag: "Replayed", value: "paid" })
      const [claimed] = process.faults.calls("claim")
      expect(process.faults.calls("renew")[0]?.tokens).toEqual(claimed?.tokens)
    })
  )
})

describe("a store that refuses the result for good, and does not answer a renewal meanwhile", () => {
  it.scoped("is told that there was one before the lease ends, and nothing runs again", () =>
    Effect.gen(function* () {
      const store = yield* makeStore()
      const { claims } = store.repository
      const picky: typeof claims = {
        ...claims,
        complete: (of, request) =>
          request.outcome._tag === "Unavailable"
            ? claims.complete(of, request)
            : refused("Rejected")(claims.complete(of, request), "complete")
      }
      const process = yield* startProcess({ ...store, repository: { ...store.repository, claims: picky } })
      yield* process.faults.plan("renew", unavailable, 1)
      const body = counting(Effect.succeed("too long for the store"))
      const call = process.run(untyped(body.effect, operation, key))
      expect(yield* during("2 seconds")(call)).toMatchObject({ exit: Exit.succeed({ _tag: "Unprotected" }) })
      yield* TestClock.adjust("10 minutes")
      expect(yield* store.stateOf()).toBe("Completed")
      expect(yield* Effect.flip(call)).toMatchObject({ _tag: "IdempotencyResultUnavailableError" })
      expect(body.runs()).toBe(1)
      expect(process.underWay()).toEqual(nothing)
    })
  )
})

describe("a store that takes nothing for a while is given the result later", () => {
  for (const times of [3, 4, 5, 6, 7, 8]) {
    it.scoped(`it refuses ${times} writes`, () =>
      Effect.gen(function* () {
        const { process, store } = yield* singleProcess()
        const body = yield* gated("paid")
        const call = process.run(untyped(body.effect, operation, key))
        const owner = yield* Effect.fork(call)
        yield* body.started
        let left = times
        yield* process.faults.plan(["complete", "renew"], (write, verb) =>
          left-- > 0 ? refused("Rejected")(write, verb) : write
        )
        yield* body.open
        yield* TestClock.adjust("5 seconds")
        expect(yield* ended(owner)).toMatchObject({ value: "paid" })
        expect(yield* store.stateOf()).toBe("Completed")
        expect(yield* call).toMatchObject({ _tag: "Replayed", value: "paid" })
        expect(body.runs()).toBe(1)
      })
    )
  }
})
