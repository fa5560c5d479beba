/** Results to JSON text and back. Codecs are compiled once per schema. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import * as eager from "./eager.js"
import { endedWithin } from "./sleep.js"
import { decodeJson } from "./storedRecord.js"

/** Fails where the value cannot be told from its JSON, or the JSON does not decode. Both begin when they are asked. */
export interface Codec {
  readonly encode: (value: unknown) => Effect.Effect<string, unknown, unknown>
  readonly decode: (encoded: string) => Effect.Effect<unknown, unknown, unknown>
}

export type AnySchema = Schema.Schema<unknown, unknown, unknown>

export interface Codecs {
  /** The schema's codec; without a schema, JSON as it is. */
  readonly of: (schema: AnySchema | undefined) => Codec
}

const hasToJson = (value: object): value is { readonly toJSON: () => unknown } =>
  "toJSON" in value && typeof value.toJSON === "function"

/** Whether JSON put `null` where the value has something else, as it does for what it does not know. */
const isLostToNull = (value: unknown, json: unknown): boolean => {
  if (json === null) return value !== null
  if (typeof json !== "object" || typeof value !== "object" || value === null) return false
  const shown = hasToJson(value) ? value.toJSON() : value
  if (typeof shown !== "object" || shown === null) return false
  return Object.entries(json).some(([name, member]) => isLostToNull(Reflect.get(shown, name), member))
}

const stringify = (value: unknown): Exit.Exit<string, Error> => {
  if (value === undefined) return Exit.succeed("")
  try {
    const text: string | undefined = JSON.stringify(value)
    return text === undefined || (text.includes("null") && isLostToNull(value, JSON.parse(text)))
      ? Exit.fail(new TypeError("JSON would change this result"))
      : Exit.succeed(text)
  } catch (cause) {
    return Exit.fail(new TypeError("this result has no JSON form", { cause }))
  }
}

const parse = (encoded: string): Exit.Exit<unknown, unknown> => {
  try {
    return Exit.succeed(decodeJson(encoded))
  } catch (cause) {
    return Exit.fail(cause)
  }
}

const plain: Codec = { encode: stringify, decode: parse }

const isKnown = <A, R>(coding: Effect.Effect<A, unknown, R>): coding is Either.Either<A, unknown> =>
  Either.isEither(coding)

const exitOf = <A>(either: Either.Either<A, unknown>): Exit.Exit<A, unknown> =>
  Either.isRight(either) ? Exit.succeed(either.right) : Exit.fail(either.left)

/** An encoding of which nothing is heard for so many milliseconds is given up: no caller interrupts it. */
const longestEncoding = 30_000

const tooLong = (): Error => new Error(`a schema has not encoded a value in ${longestEncoding} ms`)

const bounded = <A, R>(encoding: Effect.Effect<A, unknown, R>): Effect.Effect<A, unknown, R> =>
  eager.hasEnded(encoding) ? encoding : endedWithin<unknown>(longestEncoding, tooLong)(encoding)

/** What a schema does at once has ended. A transformation that throws fails like one that fails. */
const coded = <A, R>(coding: () => Effect.Effect<A, unknown, R>): Effect.Effect<A, unknown, R> => {
  const begun = eager.suspend(coding)
  return isKnown(begun) ? exitOf(begun) : Effect.catchAllDefect(begun, Effect.fail)
}

export const makeCodecs = (): Codecs => {
  const compiled = new WeakMap<AnySchema, Codec>()
  const compile = (schema: AnySchema): Codec => {
    const encode = Schema.encode(schema)
    const decode: (json: unknown) => Effect.Effect<unknown, unknown, unknown> = Schema.decodeUnknown(schema)
    return {
      encode: (value) => eager.flatMap(bounded(coded(() => encode(value))), stringify),
      decode: (encoded) => eager.flatMap(parse(encoded), (json) => coded(() => decode(json)))
    }
  }
  return {
    of: (schema) => {
      if (schema === undefined) return plain
      const known = compiled.get(schema)
      if (known !== undefined) return known
      const codec = compile(schema)
      compiled.set(schema, codec)
      return codec
    }
  }
}
