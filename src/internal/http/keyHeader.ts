/**
 * The `Idempotency-Key` header: an Item of RFC 9651 whose bare item is a String
 * (draft-ietf-httpapi-idempotency-key-header-07, section 2.1). Parameters say nothing about the key and are ignored.
 */
import * as Either from "effect/Either"
import { parseItem, serializeString } from "structured-headers"

/** What a request's header says. `detail` never repeats what the client sent. */
export type KeyHeader =
  | { readonly _tag: "Missing" }
  | { readonly _tag: "Key"; readonly key: string }
  | { readonly _tag: "Invalid"; readonly detail: string }

/** `strict` takes a structured-field string alone, `lenient` a bare value too: `"k"` and `k` are one key. */
export type KeyHeaderFormat = "lenient" | "strict"

const maxLength = 255

const missing: KeyHeader = { _tag: "Missing" }

const invalid = (detail: string): KeyHeader => ({ _tag: "Invalid", detail })

const isPrintableAscii = (text: string): boolean => /^[\x20-\x7e]*$/.test(text)

/** What is wrong with a key, whichever way it was written. */
const issueOf = (key: string): string | undefined => {
  if (key === "") return "The key is empty."
  if (!isPrintableAscii(key)) return "The key holds a character that is not printable ASCII."
  return key.length > maxLength ? `The key has more than ${maxLength} characters.` : undefined
}

const checked = (key: string): KeyHeader => {
  const issue = issueOf(key)
  return issue === undefined ? { _tag: "Key", key } : invalid(issue)
}

const malformed = invalid("The value is not one structured-field string (RFC 9651).")

const ofString = (value: string): KeyHeader => {
  const item = Either.try(() => parseItem(value)[0])
  return Either.isRight(item) && typeof item.right === "string" ? checked(item.right) : malformed
}

/**
 * A bare value stands for itself. A comma would make it a list, and is what two header lines are joined by; a quote is
 * half a string; and a semicolon would begin parameters: `a;1` and `a;2` must neither become one key nor depend on how
 * the client quotes them.
 */
const ofBare = (value: string): KeyHeader => {
  if (value.includes(",")) return invalid("The value is a list, or the header was sent more than once.")
  return /[";]/.test(value)
    ? invalid('The value holds a " or a ;, which only a structured-field string may hold.')
    : checked(value)
}

/**
 * Reads the header's value, all lines of it joined by commas (RFC 9110, section 5.3), as servers hand it out.
 * Two lines of which neither is a value by itself (`"a` and `b"`) cannot be told from the one that they make.
 */
export const parseKeyHeader = (value: string | undefined, format: KeyHeaderFormat): KeyHeader => {
  if (value === undefined) return missing
  const trimmed = value.replace(/^[ \t]+/, "").replace(/(?<![ \t])[ \t]+$/, "")
  if (trimmed === "") return invalid("The value is empty.")
  if (!isPrintableAscii(trimmed)) return invalid("The value holds a character that is not printable ASCII.")
  return format === "strict" || trimmed.startsWith('"') ? ofString(trimmed) : ofBare(trimmed)
}

/** The header's value for a key, as a structured-field string, or why there is none. */
export const formatKeyHeader = (key: string): Either.Either<string, string> => {
  const issue = issueOf(key)
  return issue === undefined ? Either.right(serializeString(key)) : Either.left(issue)
}
