/** What comes back from a record: results as they were, through the codecs of whoever asks. Rule 14. */
import { describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import { withIdempotency, withIdempotencyOutcome } from "../../src/withIdempotency.js"
import { counting, ids, key, operation, singleProcess, startProcess, untyped } from "../support/engineProcess.js"

describe("results without a schema", () => {
  const values: ReadonlyArray<readonly [what: string, value: unknown]> = [
    ["undefined", undefined],
    ["null", null],
    ["an empty text", ""],
    ["false", false],
    ["0", 0],
    ["a text that looks like JSON", '{"a":1}'],
    ["the text null", "null"],
    ["an empty array", []],
    ["nested data", { a: [1, { b: null }], c: "ä🎉", d: { e: 0.1 } }],
    ["a lone surrogate", "a\ud800b"],
    ["line separators", "a\u2028b\u0000c"],
    ["a property named __proto__", JSON.parse('{"__proto__":{"a":1}}')]
  ]
  for (const [what, value] of values) {
    it.scoped(`${what} replays as the same`, () =>
      Effect.gen(function* () {
        const { process } = yield* singleProcess()
        const body = counting(Effect.succeed(value))
        const call = process.run(untyped(body.effect, operation, key))
        yield* call
        const replayed = yield* call
        expect(replayed._tag).toBe("Replayed")
        expect(replayed.value).toStrictEqual(value)
        expect(body.runs()).toBe(1)
      })
    )
  }

  it.scoped("void replays as undefined", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const call = process.run(withIdempotency(Effect.void, operation, key))
      expect(yield* call).toBeUndefined()
      expect(yield* call).toBeUndefined()
    })
  )

  it.scoped("a property that is undefined is left out", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const call = process.run(untyped(Effect.succeed({ a: 1, b: undefined }), operation, key))
      yield* call
      expect((yield* call).value).toStrictEqual({ a: 1 })
    })
  )

  it.scoped("the executing caller gets its own value, later ones copies of the record", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const value = { id: "paid" }
      const call = process.run(withIdempotency(Effect.succeed(value), operation, key))
      expect(yield* call).toBe(value)
      const [one, two] = [yield* call, yield* call]
      expect(one).toEqual(value)
      expect(one).not.toBe(value)
      expect(two).not.toBe(one)
    })
  )

  it.scoped("a class instance is warned of, once per operation", () =>
    Effect.gen(function* () {
      class Receipt {
        constructor(readonly id: string) {}
      }
      const logged: Array<string> = []
      const logger = Logger.make<unknown, void>(({ message }) => void logged.push(String(message)))
      const { process } = yield* singleProcess()
      const call = (of: string, ofKey: string) =>
        process.run(withIdempotency(Effect.succeed(new Receipt("1")), of, ofKey))
      yield* Effect.gen(function* () {
        for (const ofKey of ["a", "b", "c"]) yield* call(operation, ofKey)
        yield* call("payment.refund", "a")
        expect(yield* call(operation, "a")).toStrictEqual({ id: "1" })
        yield* process.run(untyped(Effect.succeed(Object.create(null)), "other", "a"))
        yield* process.run(untyped(Effect.succeed([1]), "other", "b"))
      }).pipe(Effect.provide(Logger.add(logger)))
      expect(logged).toEqual([expect.stringContaining(`"${operation}"`), expect.stringContaining('"payment.refund"')])
    })
  )
})

class Receipt extends Schema.Class<Receipt>("Receipt")({ id: Schema.String, at: Schema.Date }) {
  get year(): number {
    return this.at.getUTCFullYear()
  }
}

class Currency extends Context.Tag("test/Currency")<Currency, { readonly rate: number }>() {}

/** Euros outside, cents inside; the rate comes from a service. */
const Converted = Schema.transformOrFail(Schema.Number, Schema.Number, {
  strict: true,
  decode: (stored) => Effect.map(Currency, ({ rate }) => stored / rate),
  encode: (value) => Effect.map(Currency, ({ rate }) => value * rate)
})

describe("results with a success schema", () => {
  it.scoped("a Date replays as a Date", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const at = new Date(1_700_000_000_000)
      const call = process.run(
        withIdempotency(Effect.succeed({ at }), operation, key, { success: Schema.Struct({ at: Schema.Date }) })
      )
      yield* call
      expect(yield* call).toStrictEqual({ at })
    })
  )

  it.scoped("a class instance replays as an instance, a copy of its own", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const receipt = new Receipt({ id: "r-1", at: new Date(0) })
      const call = process.run(withIdempotency(Effect.succeed(receipt), operation, key, { success: Receipt }))
      expect(yield* call).toBe(receipt)
      const replayed = yield* call
      expect(replayed).toBeInstanceOf(Receipt)
      expect(replayed).not.toBe(receipt)
      expect(replayed.year).toBe(1970)
    })
  )

  it.scoped("a schema that needs a service takes it from the caller", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      const call = process
        .run(withIdempotency(Effect.succeed(12), operation, key, { success: Converted }))
        .pipe(Effect.provideService(Currency, { rate: 100 }))
      yield* call
      expect(yield* call).toBe(12)
      const [state] = yield* store.repository.claims.read([ids])
      expect(state).toMatchObject({ outcome: { encoded: "1200" } })
    })
  )

  for (const [name, schema, value] of [
    ["void", Schema.Void, undefined],
    ["undefined", Schema.Undefined, undefined],
    ["null", Schema.Null, null],
    ["an Option", Schema.Option(Schema.Number), undefined]
  ] as const) {
    it.scoped(`${name} replays as the same`, () =>
      Effect.gen(function* () {
        const { process } = yield* singleProcess()
        const decoded =
          name === "an Option" ? yield* Schema.decode(Schema.Option(Schema.Number))({ _tag: "Some", value: 1 }) : value
        const call = process.run(untyped(Effect.succeed(decoded), operation, key, { success: schema }))
        yield* call
        expect((yield* call).value).toEqual(decoded)
      })
    )
  }

  it.scoped("the codec of a schema is compiled once", () =>
    Effect.gen(function* () {
      let compiled = 0
      const Counted = Schema.declare([], {
        decode: () => {
          compiled++
          return (input) => ParseResult.succeed(String(input))
        },
        encode: () => (input) => ParseResult.succeed(input)
      })
      const { process } = yield* singleProcess()
      for (const which of ["a", "b", "c", "a"]) {
        yield* process.run(withIdempotency(Effect.succeed("paid"), operation, which, { success: Counted }))
      }
      expect(compiled).toBeLessThanOrEqual(1)
    })
  )
})

describe("an undecodable recorded result: IdempotencyResultUnavailableError", () => {
  const throwing = Schema.transform(Schema.String, Schema.String, {
    strict: true,
    decode: () => {
      throw new Error("broken codec")
    },
    encode: (text) => text
  })

  for (const [what, success] of [
    ["of another shape", Schema.Struct({ id: Schema.String })],
    ["by a codec that throws", throwing]
  ] as const) {
    it.scoped(what, () =>
      Effect.gen(function* () {
        const { process } = yield* singleProcess()
        yield* process.run(withIdempotency(Effect.succeed("paid"), operation, key))
        const body = counting(Effect.succeed("again"))
        const error = yield* Effect.flip(process.run(untyped(body.effect, operation, key, { success })))
        expect(error).toMatchObject({ _tag: "IdempotencyResultUnavailableError", idempotencyKey: key })
        expect(error).toHaveProperty("cause")
        expect(body.runs()).toBe(0)
        expect(process.underWay()).toEqual({ owners: 0, flights: 0, leases: 0, background: 0 })
      })
    )
  }

  it.scoped("stored text that is no JSON", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* store.claim("theirs")
      yield* store.complete("theirs", { outcome: { _tag: "Success", encoded: "{" } })
      expect(yield* Effect.flip(process.run(withIdempotency(Effect.succeed("x"), operation, key)))).toMatchObject({
        _tag: "IdempotencyResultUnavailableError"
      })
    })
  )

  it.scoped("the next deployment can decode it again: the record is untouched", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* process.run(withIdempotency(Effect.succeed(1), operation, key))
      yield* Effect.flip(process.run(untyped(Effect.succeed("x"), operation, key, { success: Schema.String })))
      const next = yield* startProcess(store)
      expect(yield* next.run(withIdempotencyOutcome(Effect.succeed(2), operation, key))).toMatchObject({
        _tag: "Replayed",
        value: 1
      })
    })
  )
})
