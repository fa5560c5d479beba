/** What callers asked of one key, when, and what they were told. */
import * as Effect from "effect/Effect"
import type { IdempotencyStorageError } from "../../src/IdempotencyError.js"
import type { IdempotencyIdentifiers } from "../../src/IdempotencyIdentifiers.js"
import type * as Protocol from "../../src/internal/protocol.js"
import * as transition from "../../src/internal/transition.js"

/** One call of a verb on a key. */
export type Call =
  | { readonly verb: "claim"; readonly request: Protocol.ClaimRequest }
  | { readonly verb: "renew"; readonly request: Protocol.RenewRequest }
  | { readonly verb: "complete"; readonly request: Protocol.CompleteRequest }
  | { readonly verb: "release"; readonly request: { readonly token: string } }
  | { readonly verb: "hold"; readonly request: { readonly token: string } }
  | { readonly verb: "saveStep"; readonly request: Protocol.SaveStepRequest }
  | { readonly verb: "resolve"; readonly request: Protocol.ResolveRequest }
  | { readonly verb: "reset"; readonly request: { readonly force: boolean } }
  | { readonly verb: "read" }

/** An answer, and when it came. */
export interface Returned {
  readonly at: number
  readonly reply: unknown
}

/** A call by somebody. Instants are milliseconds of the callers' common clock, which never goes back. */
export interface Operation {
  readonly by: string
  readonly call: Call
  readonly invoked: number
  /** Without an answer it may take effect at any later time, or never. */
  readonly returned: Returned | undefined
}

export interface Interval {
  readonly lo: number
  readonly hi: number
}

/** The store's clock as the callers know it. */
export interface StoreClock {
  /** What to add to the callers' clock. */
  readonly offset: Interval
  /**
   * When the store asks it: as the operation takes effect, as one that does one thing at a time; or at any time of the
   * call, as one whose changes are seen a while after they were decided.
   */
  readonly asked: "at the effect" | "during the call"
  /** For how many milliseconds the store may still find what has expired. */
  readonly lingering: number
  /** By how many milliseconds the instants that one operation sets may be apart, where they should be of one time. */
  readonly apart: number
}

/** All that was asked of one key, which was absent before. */
export interface History {
  readonly operations: ReadonlyArray<Operation>
  readonly clock: StoreClock
}

/** What the protocol says about a call. */
export const apply = (call: Call, state: Protocol.State | undefined, now: number): transition.Transition<unknown> => {
  switch (call.verb) {
    case "claim":
      return transition.claim(state, call.request, now)
    case "renew":
      return transition.renew(state, call.request, now)
    case "complete":
      return transition.complete(state, call.request, now)
    case "release":
      return transition.release(state, call.request, now)
    case "hold":
      return transition.hold(state, call.request, now)
    case "saveStep":
      return transition.saveStep(state, call.request, now)
    case "resolve":
      return transition.resolve(state, call.request, now)
    case "reset":
      return transition.reset(state, call.request, now)
    case "read": {
      const live = transition.live(state, now)
      return { state: live, reply: live }
    }
  }
}

/** The call, made to a store. */
export const send = (
  driver: Protocol.Driver,
  identifiers: IdempotencyIdentifiers,
  call: Call
): Effect.Effect<unknown, IdempotencyStorageError> => {
  switch (call.verb) {
    case "claim":
      return driver.claim(identifiers, call.request)
    case "renew":
      return Effect.map(driver.renew([{ identifiers, request: call.request }]), ([reply]) => reply)
    case "complete":
      return driver.complete(identifiers, call.request)
    case "release":
      return driver.release(identifiers, call.request)
    case "hold":
      return driver.hold(identifiers, call.request)
    case "saveStep":
      return driver.saveStep(identifiers, call.request)
    case "resolve":
      return driver.resolve(identifiers, call.request)
    case "reset":
      return driver.reset(identifiers, call.request)
    case "read":
      return Effect.map(driver.read([identifiers]), ([state]) => state)
  }
}
