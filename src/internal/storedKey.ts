import * as Either from "effect/Either"
import { IdempotencyIdentifiers } from "../IdempotencyIdentifiers.js"

/** Braces would let a client choose a cluster slot; `%` is what escapes them. The start of a part gives the start of this. */
export const escape = (part: string): string => (/[%{}]/.test(part) ? part.replace(/[%{}]/g, percentEncoded) : part)
const percentEncoded = (character: string): string => `%${character.charCodeAt(0).toString(16).toUpperCase()}`

/** Identifiers that were checked, whatever they are called. */
export interface Identity {
  readonly operation: string
  readonly idempotencyKey: string
  readonly scope?: string | undefined
}

/** `operation:key`, or `operation:scope:key`; no part holds a colon, so that no two identities share one. */
export const storedKey = ({ idempotencyKey, operation, scope }: Identity): string =>
  scope === undefined
    ? `${escape(operation)}:${escape(idempotencyKey)}`
    : `${escape(operation)}:${escape(scope)}:${escape(idempotencyKey)}`

const unescape = (part: string): string =>
  part.replace(/%([0-9A-F]{2})/g, (_, code: string) => String.fromCharCode(Number.parseInt(code, 16)))

/** The identity of a stored key, if there is one. */
export const identifiersOf = (stored: string): IdempotencyIdentifiers | undefined => {
  const [operation = "", second = "", third, ...more] = stored.split(":").map(unescape)
  if (more.length > 0) return undefined
  const identifiers = IdempotencyIdentifiers.from(
    third === undefined ? { operation, idempotencyKey: second } : { operation, scope: second, idempotencyKey: third }
  )
  // Another way to write the same key is another key.
  return Either.isRight(identifiers) && storedKey(identifiers.right) === stored ? identifiers.right : undefined
}
