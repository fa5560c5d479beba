import { describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { type AnySchema, makeCodecs } from "../../src/internal/codecs.js"

/** What results need is there where they are made: here, nothing. */
const nothing = Context.unsafeMake<unknown>(new Map())

const codecs = makeCodecs()
const of = (schema: AnySchema | undefined) => {
  const { decode, encode } = codecs.of(schema)
  return {
    encode: (value: unknown) => Effect.provide(encode(value), nothing),
    decode: (text: string) => Effect.provide(decode(text), nothing)
  }
}
const plain = of(undefined)

/** The text that is recorded, and what comes back; or why it is not recorded. */
const throughJson = (value: unknown, codec = plain) =>
  Effect.match(
    Effect.flatMap(codec.encode(value), (text) => Effect.map(codec.decode(text), (back) => ({ text, back }))),
    { onFailure: String, onSuccess: (both) => both }
  )

const changed = "TypeError: JSON would change this result"

describe("a result without a schema", () => {
  it.effect("is its JSON", () =>
    Effect.gen(function* () {
      expect(yield* throughJson(undefined)).toEqual({ text: "", back: undefined })
      for (const value of [null, "null", { a: null, b: [null, { c: null }] }, [], "", 0, false]) {
        expect(yield* throughJson(value)).toEqual({ text: JSON.stringify(value), back: value })
      }
    })
  )

  it.effect("is not recorded where JSON has null for something else", () =>
    Effect.gen(function* () {
      for (const lost of [Number.NaN, Number.NEGATIVE_INFINITY]) {
        for (const value of [lost, [lost], { a: { b: [null, lost] } }, { toJSON: () => ({ a: lost }) }]) {
          expect(yield* throughJson(value)).toBe(changed)
        }
      }
      for (const value of [[undefined], [() => 1], [Symbol.iterator], () => 1, Symbol.iterator]) {
        expect(yield* throughJson(value)).toBe(changed)
      }
    })
  )

  it.effect("is what its toJSON makes of it, null included", () =>
    Effect.gen(function* () {
      const cases: ReadonlyArray<readonly [value: unknown, back: unknown]> = [
        [{ a: { toJSON: () => ({ b: null }) } }, { a: { b: null } }],
        [
          { a: { toJSON: () => [null] }, b: null },
          { a: [null], b: null }
        ],
        [
          { toJSON: 1, a: null },
          { toJSON: 1, a: null }
        ]
      ]
      for (const [value, back] of cases) expect(yield* throughJson(value)).toMatchObject({ back })
    })
  )

  it.effect("is looked at no further where its toJSON answers otherwise the second time", () =>
    Effect.gen(function* () {
      const fickle = (...answers: Array<unknown>) => ({ toJSON: () => answers.shift() })
      for (const second of [null, 1, undefined]) {
        expect(yield* throughJson({ a: null, b: fickle({ c: null }, second) })).toMatchObject({
          back: { a: null, b: { c: null } }
        })
      }
    })
  )

  it.effect("fails with the cause where it has no JSON", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(plain.encode(1n))
      expect(error).toMatchObject({ message: "this result has no JSON form", cause: expect.any(TypeError) })
    })
  )

  it.effect("fails where what is recorded is no JSON", () =>
    Effect.map(Effect.flip(plain.decode("{")), (error) => expect(error).toBeInstanceOf(SyntaxError))
  )
})

describe("a result with a schema", () => {
  it("has one codec for all its calls", () => {
    const schema: AnySchema = Schema.Unknown
    expect(codecs.of(schema)).toBe(codecs.of(schema))
    expect(codecs.of(Schema.Unknown.annotations({}))).not.toBe(codecs.of(schema))
  })

  it.effect("goes through it both ways", () =>
    Effect.gen(function* () {
      const at = new Date(0)
      expect(yield* throughJson(at, of(Schema.make(Schema.Date.ast)))).toEqual({
        text: '"1970-01-01T00:00:00.000Z"',
        back: at
      })
    })
  )

  it.effect("fails, and does not die, where a transformation throws", () =>
    Effect.gen(function* () {
      const refuse = () => {
        throw new Error("no")
      }
      const schema = Schema.transform(Schema.Unknown, Schema.Unknown, { strict: true, decode: refuse, encode: refuse })
      expect(yield* Effect.flip(of(schema).encode(1))).toMatchObject({ message: "no" })
      expect(yield* Effect.flip(of(schema).decode("1"))).toMatchObject({ message: "no" })
    })
  )
})
