import type { IdempotencyIdentifiers } from "../IdempotencyIdentifiers.js"

/** Braces would let a client choose a cluster slot; `%` is what escapes them. */
const escape = (part: string): string => (/[%{}]/.test(part) ? part.replace(/[%{}]/g, percentEncoded) : part)
const percentEncoded = (character: string): string => `%${character.charCodeAt(0).toString(16).toUpperCase()}`

/** `operation:key`, or `operation:scope:key`; no part holds a colon, so that no two identities share one. */
export const storedKey = ({ idempotencyKey, operation, scope }: IdempotencyIdentifiers): string =>
  scope === undefined
    ? `${escape(operation)}:${escape(idempotencyKey)}`
    : `${escape(operation)}:${escape(scope)}:${escape(idempotencyKey)}`
