import { createHash } from "node:crypto"
import canonicalize from "canonicalize"
import * as Either from "effect/Either"
import type { Json } from "../Jsonable.js"

/** Whether UTF-8 can hold the string: a lone surrogate would become U+FFFD, and two strings one. */
export const isWellFormed = (text: string): boolean => !/\p{Surrogate}/u.test(text)

/**
 * SHA-256 over parts, each preceded by its length, so that no two lists of parts give the same input.
 * Strings that UTF-8 cannot hold are hashed as UTF-16, marked as such.
 */
const digestOf = (parts: ReadonlyArray<string>) => {
  const hash = createHash("sha256")
  for (const part of parts) {
    const wellFormed = isWellFormed(part)
    const bytes = Buffer.from(part, wellFormed ? "utf8" : "utf16le")
    hash.update(`${wellFormed ? "" : "w"}${bytes.length}:`).update(bytes)
  }
  return hash
}

/** 43 characters of base64url. */
export const hashParts = (...parts: ReadonlyArray<string>): string => digestOf(parts).digest("base64url")

/** The first 32 of 64 hexadecimal digits. */
export const hashPartsToHex = (...parts: ReadonlyArray<string>): string => digestOf(parts).digest("hex").slice(0, 32)

/** 43 characters of base64url over the bytes, or over the UTF-8 of the text. */
export const sha256 = (data: string | Uint8Array): string => createHash("sha256").update(data).digest("base64url")

export const sha256Hex = (data: string): string => createHash("sha256").update(data).digest("hex")

const isPlain = (value: object): boolean => {
  const prototype = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}

/**
 * Why JSON of such strings has no form of a value, or `undefined` if it has one. Instances count by their own properties.
 * One set holds the ancestors of all: a copy at each depth would let a deep value of a few kilobytes take seconds.
 */
const whyNotJson = (
  value: unknown,
  isText: (text: string) => boolean,
  ancestors: Set<object> = new Set()
): string | undefined => {
  switch (typeof value) {
    case "string":
      return isText(value) ? undefined : "a string holds a lone surrogate"
    case "number":
      return Number.isFinite(value) ? undefined : "a number is not finite"
    case "boolean":
      return undefined
    case "object": {
      if (value === null) return undefined
      if (ancestors.has(value)) return "an object holds itself"
      if (!Array.isArray(value) && !isPlain(value) && Object.keys(value).length === 0) {
        return `a ${value.constructor?.name ?? "class instance"} has no properties that JSON would keep`
      }
      if (("toJSON" in value && typeof value.toJSON === "function") || ArrayBuffer.isView(value))
        return "an object is not plain JSON"
      ancestors.add(value)
      for (const [key, member] of Object.entries(value)) {
        if (member === undefined && !Array.isArray(value)) continue
        const why = isText(key) ? whyNotJson(member, isText, ancestors) : "a property name holds a lone surrogate"
        if (why !== undefined) return why
      }
      ancestors.delete(value)
      return undefined
    }
    default:
      return `JSON has no ${typeof value}`
  }
}

/** Whether a value is JSON (RFC 8259), which escapes the strings that UTF-8 cannot hold. */
export const isJson = (value: unknown): value is Json => {
  try {
    return whyNotJson(value, () => true) === undefined
  } catch {
    return false
  }
}

/** The canonical JSON text of a value (RFC 8785, of well-formed strings alone), or why there is none. */
export const canonicalJson = (value: unknown): Either.Either<string, string> => {
  try {
    const why = whyNotJson(value, isWellFormed)
    const text = why === undefined ? canonicalize(value) : undefined
    return text === undefined ? Either.left(why ?? "it has no JSON form") : Either.right(text)
  } catch {
    return Either.left("it is nested too deeply, or a property cannot be read")
  }
}
