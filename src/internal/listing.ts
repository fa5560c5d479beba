/** What the stores' lists share. */
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
