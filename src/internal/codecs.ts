/** Results to JSON text and back. Codecs are compiled once per schema. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import { decodeJson } from "./storedRecord.js"

/** Fails where the value cannot be told from its JSON, or the JSON does not decode. */
export interface Codec {
  readonly encode: (value: unknown) => Effect.Effect<string, unknown, unknown>
  readonly decode: (encoded: string) => Effect.Effect<unknown, unknown, unknown>
}

export type AnySchema = Schema.Schema<unknown, unknown, unknown>

export interface Codecs {
  /** The schema's codec; without a schema, JSON as it is. */
  readonly of: (schema: AnySchema | undefined) => Codec
}

/** Whether JSON would put `null` where the value has something else. */
const losesToNull = (value: unknown): boolean => {
  if (typeof value === "number") return !Number.isFinite(value)
  if (typeof value !== "object" || value === null) return false
  return Array.isArray(value)
    ? value.some((member) => member === undefined || typeof member === "function" || losesToNull(member))
    : Object.values(value).some(losesToNull)
}

const stringify = (value: unknown): Either.Either<string, Error> => {
  if (value === undefined) return Either.right("")
  try {
    const text: string | undefined = JSON.stringify(value)
    return text === undefined || (text.includes("null") && losesToNull(value))
      ? Either.left(new TypeError("JSON would change this result"))
      : Either.right(text)
  } catch (cause) {
    return Either.left(new TypeError("this result has no JSON form", { cause }))
  }
}

const parse = (encoded: string): Either.Either<unknown, unknown> =>
  Either.try({ try: () => decodeJson(encoded), catch: (cause) => cause })

const plain: Codec = { encode: stringify, decode: parse }

const orDefect = <A, R>(coding: Effect.Effect<A, unknown, R>): Effect.Effect<A, unknown, R> =>
  Effect.catchAllDefect(coding, Effect.fail)

export const makeCodecs = (): Codecs => {
  const compiled = new WeakMap<AnySchema, Codec>()
  const compile = (schema: AnySchema): Codec => {
    const encode = Schema.encode(schema)
    const decode: (json: unknown) => Effect.Effect<unknown, unknown, unknown> = Schema.decodeUnknown(schema)
    return {
      // A transformation that throws fails like one that fails.
      encode: (value) =>
        orDefect(
          Effect.flatMap(
            Effect.suspend(() => encode(value)),
            stringify
          )
        ),
      decode: (encoded) => orDefect(Effect.flatMap(parse(encoded), decode))
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
