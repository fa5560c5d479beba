/** Whether what an operator has looked at is still what is stored. */
import { hashParts } from "./hash.js"
import type { Corrupted, State } from "./protocol.js"

/**
 * What an attempt can turn to under the same token. A lease that was renewed is the same lease, and a lapse under
 * at-most-once the same lapse once a claim has written it down.
 */
const conditionOf = (state: State, now: number): ReadonlyArray<string> => {
  switch (state._tag) {
    case "Processing":
      if (now < state.leaseUntil) return [state._tag, "running"]
      return [state.guarantee === "at-most-once" ? "Unknown" : state._tag, "lapsed"]
    case "Unknown":
      return [state._tag, state.reason]
    case "Completed":
    case "Released":
      return [state._tag]
  }
}

/**
 * A text of 43 characters that is the same as long as the same attempt is in the same state; it tells nobody the token.
 * Of what cannot be read no more is known than that: why may be told differently each time.
 */
export const seenOf = (state: State | Pick<Corrupted, "_tag">, now: number): string =>
  state._tag === "Corrupted"
    ? hashParts(state._tag)
    : hashParts(...conditionOf(state, now), String(state.attempt), state.token)
