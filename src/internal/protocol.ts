/**
 * The states of one key, and the store's operations on it with their replies: the vocabulary of every store.
 * Durations are whole milliseconds; instants are epoch milliseconds by the store's clock. Results are JSON text.
 */
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { IdempotencyStorageError } from "../IdempotencyError.js"
import type { IdempotencyIdentifiers } from "../IdempotencyIdentifiers.js"

/** Whether a run that may have happened is run again. */
export type Guarantee = "at-least-once" | "at-most-once"

/** How an execution ended. The empty text is the result `undefined`. */
export type Outcome =
  | { readonly _tag: "Success"; readonly encoded: string }
  | { readonly _tag: "Failure"; readonly encoded: string }
  | { readonly _tag: "Unavailable" }

/** A finished step of an execution that has not ended. */
export interface Step {
  readonly name: string
  readonly encoded: string
}

/** At most so many steps per key, and so many characters in their names and results together. */
export const maxSteps = 100
export const maxStepsLength = 262_144

/** The last instant that a date can hold. */
export const latestInstant = 8.64e15

/** Whether a date can be made of it: what is stored may be anything. */
export const isInstant = (millis: number): boolean => Math.abs(millis) <= latestInstant

interface Owned {
  readonly token: string
  readonly attempt: number
  readonly fingerprint: string | undefined
  readonly createdAt: number
  readonly expiresAt: number
}

/** What Processing, Unknown and Released remember of the claim, beside its owner. */
interface Claimed extends Owned {
  readonly steps: ReadonlyArray<Step>
  readonly retention: number
}

/** An owner runs the effect, or has stopped answering: lapsed once `leaseUntil` has come. */
export interface Processing extends Claimed {
  readonly _tag: "Processing"
  readonly leaseUntil: number
  readonly guarantee: Guarantee
  readonly unknownRetention: number
}

/** A run may have happened: its owner lapsed under at-most-once, or said so itself. */
export interface Unknown extends Claimed {
  readonly _tag: "Unknown"
  readonly reason: "lapsed" | "held"
  readonly guarantee: Guarantee
  readonly unknownRetention: number
}

/** The effect ran and its outcome is recorded. It never changes while the record lives. */
export interface Completed extends Owned {
  readonly _tag: "Completed"
  readonly outcome: Outcome
}

/** Free to be claimed; remembers the attempt, so that it never falls, and the last token, which is refused. */
export interface Released extends Claimed {
  readonly _tag: "Released"
}

/** What a store holds for a key. */
export type State = Processing | Unknown | Completed | Released

/** The stored bytes are not a state of this library: an answer of every operation, which then changes nothing. */
export interface Corrupted {
  readonly _tag: "Corrupted"
  readonly cause: string
}

export interface ClaimRequest {
  readonly token: string
  readonly fingerprint: string | undefined
  readonly guarantee: Guarantee
  readonly lease: number
  readonly retention: number
  readonly unknownRetention: number
}

export type ClaimReply =
  | { readonly _tag: "Claimed"; readonly attempt: number; readonly steps: ReadonlyArray<Step> }
  | { readonly _tag: "AlreadyMine"; readonly attempt: number; readonly steps: ReadonlyArray<Step> }
  | { readonly _tag: "InFlight"; readonly remaining: number }
  | { readonly _tag: "Unknown"; readonly attempt: number }
  | { readonly _tag: "Settled"; readonly record: Completed }
  | { readonly _tag: "Mismatch" }
  | { readonly _tag: "Refused" }
  | Corrupted

export interface RenewRequest {
  readonly token: string
  readonly lease: number
}

export type RenewReply =
  | { readonly _tag: "Renewed" }
  | { readonly _tag: "Gone" }
  | { readonly _tag: "Lost"; readonly record: Completed | undefined }
  /** This lease alone could not be renewed; the others of the call were. */
  | { readonly _tag: "Failed"; readonly error: IdempotencyStorageError }
  | Corrupted

export interface CompleteRequest {
  readonly token: string
  readonly outcome: Outcome
  readonly fingerprint: string | undefined
  readonly retention: number
}

export type CompleteReply =
  | {
      readonly _tag: "Done"
      readonly attempt: number
      readonly createdAt: number
      readonly expiresAt: number
      /** What was to be stored, where it is not the request's outcome; of a completion that is sent again, the first was. */
      readonly outcome?: Outcome | undefined
    }
  | { readonly _tag: "Superseded"; readonly record: Completed | undefined }
  | { readonly _tag: "Mismatch" }
  | Corrupted

export type ReleaseReply = { readonly _tag: "Released" } | { readonly _tag: "NotHeld" } | Corrupted
export type HoldReply = { readonly _tag: "Held" } | { readonly _tag: "NotHeld" } | Corrupted

export interface SaveStepRequest extends Step {
  readonly token: string
}

export type SaveStepReply =
  | { readonly _tag: "Saved" }
  | { readonly _tag: "TooLarge" }
  | { readonly _tag: "NotHeld" }
  | Corrupted

export interface ResolveRequest {
  readonly token: string
  readonly outcome: Outcome
}

export type ResolveReply =
  | { readonly _tag: "Resolved" }
  | { readonly _tag: "InFlight"; readonly remaining: number }
  | { readonly _tag: "NotUnknown" }
  | Corrupted

export type ResetReply =
  | { readonly _tag: "Reset" }
  | { readonly _tag: "InFlight"; readonly remaining: number }
  | { readonly _tag: "Absent" }

/** A record that a user made: `createdAt` and `expiresAt` are kept as they are; it is stored for `retention`. */
export interface InsertRequest {
  readonly token: string
  readonly outcome: Outcome
  readonly fingerprint: string | undefined
  readonly attempt: number
  readonly createdAt: number
  readonly expiresAt: number
  readonly retention: number
}

export type InsertReply = { readonly _tag: "Inserted" } | { readonly _tag: "Collision" } | Corrupted

/** A request about one key. */
export interface For<Request> {
  readonly identifiers: IdempotencyIdentifiers
  readonly request: Request
}

/** A state without what may be long: its result, its steps. */
export type Overview =
  | Omit<Processing, "steps">
  | Omit<Unknown, "steps">
  | Omit<Released, "steps">
  | (Omit<Completed, "outcome"> & { readonly outcome: Outcome["_tag"] })

/** What a list tells of one key. */
export interface Entry {
  readonly identifiers: IdempotencyIdentifiers
  readonly state: Overview | Corrupted
}

/** The states that a list can be asked for. */
export const listedStates = ["Processing", "Unknown", "Completed", "Released", "Corrupted"] as const

/** Which keys, and where to go on. */
export interface ListRequest {
  /** Only those of this operation. */
  readonly operation: string | undefined
  /** Only those that begin with this. */
  readonly keyPrefix: string | undefined
  /** Only those in this state, as it is stored: a lapsed owner is still `Processing`. */
  readonly state: (typeof listedStates)[number] | undefined
  /** The cursor of the page before. */
  readonly cursor: string | undefined
  /** About how many; at most 1,000. */
  readonly limit: number
}

/** Part of a list. There is more as long as there is a cursor, even if the page is empty. */
export interface Page {
  readonly entries: ReadonlyArray<Entry>
  readonly cursor: string | undefined
  /** The instant of the page by the store's clock, which its leases and expiries are about. */
  readonly now: number
}

/** The cursor is not one of this store's. */
export type ListReply = ({ readonly _tag: "Page" } & Page) | { readonly _tag: "BadCursor" }

type Verb<Request, Reply> = (
  identifiers: IdempotencyIdentifiers,
  request: Request
) => Effect.Effect<Reply, IdempotencyStorageError>

/** What a caller does about failures of the store, and how many milliseconds its engine waits for the store at most. */
export interface Terms {
  readonly onStorageFailure: "proceed" | "fail"
  readonly storageTimeout: number
}

/**
 * What a store implements: atomic verbs, one round trip each, safe to send twice, on the store's own clock.
 * Bulk verbs take one round trip per node, answer in the order of their input, and keep each member's fate its own.
 */
export interface Driver {
  /** A short name for logs, as `redis`. */
  readonly name: string
  readonly claim: Verb<ClaimRequest, ClaimReply>
  readonly renew: (
    leases: ReadonlyArray<For<RenewRequest>>
  ) => Effect.Effect<ReadonlyArray<RenewReply>, IdempotencyStorageError>
  /**
   * The part of the store that holds a key, where parts can be away each by itself (the nodes of a cluster): each has a
   * circuit breaker of its own, and leases are renewed one by one. The name may change, as keys move; it is told in
   * logs. Not given by a store that is away as a whole.
   */
  readonly partOf?: ((identifiers: IdempotencyIdentifiers) => string) | undefined
  readonly complete: Verb<CompleteRequest, CompleteReply>
  readonly release: Verb<{ readonly token: string }, ReleaseReply>
  readonly hold: Verb<{ readonly token: string }, HoldReply>
  readonly saveStep: Verb<SaveStepRequest, SaveStepReply>
  readonly resolve: Verb<ResolveRequest, ResolveReply>
  readonly reset: Verb<{ readonly force: boolean }, ResetReply>
  /** What is stored; `undefined` where nothing is, or it has expired. */
  readonly read: (
    identifiers: ReadonlyArray<IdempotencyIdentifiers>
  ) => Effect.Effect<ReadonlyArray<State | Corrupted | undefined>, IdempotencyStorageError>
  /** The same, past any copies. Not given by a store whose `read` is answered from none. */
  readonly readStored?: Driver["read"] | undefined
  /** A settled record that is known without asking the store, which may be away. Not given by a store without copies. */
  readonly readCopy?: ((identifiers: IdempotencyIdentifiers) => Effect.Effect<Completed | undefined>) | undefined
  /**
   * Inserts each record where nothing is in the way; with `allOrNothing`, none unless all can be: then the reply tells
   * for each whether it was in the way. Only called with `allOrNothing` where `atomicTogether` says so.
   */
  readonly insert: (
    records: ReadonlyArray<For<InsertRequest>>,
    options: { readonly allOrNothing: boolean }
  ) => Effect.Effect<ReadonlyArray<InsertReply>, IdempotencyStorageError>
  /** Whether these keys can be changed in one atomic step (in a cluster: they share a slot). */
  readonly atomicTogether: (identifiers: ReadonlyArray<IdempotencyIdentifiers>) => boolean
  /** Removes settled records; whether each was there. */
  readonly remove: (
    identifiers: ReadonlyArray<IdempotencyIdentifiers>
  ) => Effect.Effect<ReadonlyArray<boolean>, IdempotencyStorageError>
  /**
   * Subscribes, for the scope, to changes of a key. The inner effect ends at the next change since the subscription or
   * since it last ended. Only a hint: it may end without a change, or never.
   */
  readonly changes: (identifiers: IdempotencyIdentifiers) => Effect.Effect<Effect.Effect<void>, never, Scope.Scope>
  /** Why whoever asks cannot claim from where it is, or on these terms, if so. Asked before a claim; nothing is sent. */
  readonly objection?: ((terms: Terms) => Effect.Effect<string | undefined>) | undefined
  /**
   * For operators: the keys that live, in an order of the store's own, a page at a time. A key that is there from the first
   * page to the last is on one of them, or on several; one that comes or goes meanwhile may be on none. The work of a
   * page is bounded, so that it may hold fewer than it could, or none. Not every store can.
   */
  readonly list?: ((request: ListRequest) => Effect.Effect<ListReply, IdempotencyStorageError>) | undefined
}

/** What is stored, past any copies. */
export const readStored = (
  driver: Pick<Driver, "read" | "readStored">,
  identifiers: ReadonlyArray<IdempotencyIdentifiers>
): ReturnType<Driver["read"]> =>
  driver.readStored === undefined ? driver.read(identifiers) : driver.readStored(identifiers)
