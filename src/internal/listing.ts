/** What the stores' lists share. */
import * as Either from "effect/Either"
import * as Encoding from "effect/Encoding"
import type { IdempotencyIdentifiers } from "../IdempotencyIdentifiers.js"
import type { Corrupted, Entry, ListRequest, Overview, State } from "./protocol.js"

/** The most that a page may be asked to hold. */
export const longestPage = 1_000

export const overview = (state: State): Overview => {
  if (state._tag === "Completed") return { ...state, outcome: state.outcome._tag }
  const { steps: _, ...rest } = state
  return rest
}

/** Whether a key is asked for, by its identity alone. */
export const isAskedFor = (
  { keyPrefix, operation }: Pick<ListRequest, "keyPrefix" | "operation">,
  identifiers: IdempotencyIdentifiers
): boolean =>
  (operation === undefined || identifiers.operation === operation) &&
  (keyPrefix === undefined || identifiers.idempotencyKey.startsWith(keyPrefix))

/** The entry of a key, if it is asked for and still lives. */
export const entryOf = (
  request: ListRequest,
  identifiers: IdempotencyIdentifiers,
  state: Overview | Corrupted,
  now: number
): Entry | undefined =>
  isAskedFor(request, identifiers) &&
  (request.state === undefined || state._tag === request.state) &&
  (state._tag === "Corrupted" || now < state.expiresAt)
    ? { identifiers, state }
    : undefined

const isTexts = (value: unknown): value is ReadonlyArray<string> =>
  Array.isArray(value) && value.every((part) => typeof part === "string")

/** Where a list goes on, as a text that is safe in an address: some texts, by which a store finds its place again. */
export const encodeCursor = (store: string, ...place: ReadonlyArray<string>): string =>
  Encoding.encodeBase64Url(JSON.stringify([store, ...place]))

/** The place of a cursor, if it is one of this store. */
export const decodeCursor = (store: string, cursor: string): ReadonlyArray<string> | undefined => {
  const decoded = Either.getOrUndefined(Encoding.decodeBase64UrlString(cursor))
  if (decoded === undefined) return undefined
  try {
    const texts: unknown = JSON.parse(decoded)
    return isTexts(texts) && texts[0] === store ? texts.slice(1) : undefined
  } catch {
    return undefined
  }
}
