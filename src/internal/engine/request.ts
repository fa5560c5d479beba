/** What the engine is asked, and what it answers: `begin`, then `settle` or `abandon`. */
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import {
  IdempotencyFingerprintMismatchError,
  IdempotencyInFlightError,
  type IdempotencyOutcomeUnknownError,
  type IdempotencyResultUnavailableError,
  type IdempotencyStorageError
} from "../../IdempotencyError.js"
import type { IdempotencyIdentifiers } from "../../IdempotencyIdentifiers.js"
import type { AnyFiber } from "../call.js"
import type { ClaimRequest, Guarantee, Outcome, Step } from "../protocol.js"
import type { Trace } from "../tracing.js"
import type { Flight, Recorded } from "./flights.js"
import type { Loss } from "./leases.js"
import type { Settings } from "./settings.js"

/** One protected execution. Durations in milliseconds; validated by who makes it. */
export interface ExecutionRequest {
  readonly identifiers: IdempotencyIdentifiers
  readonly fingerprint: string | undefined
  readonly timeToLive: number
  readonly lease: number
  readonly inFlight: "wait" | "fail"
  readonly waitTimeout: number
  readonly guarantee: Guarantee
  readonly onStorageFailure: "proceed" | "fail"
  readonly strategy: "claim" | "optimistic"
  /** The execution that this one is asked for within, if any. */
  readonly parent: Flight | undefined
  /** Why a key that is held is reported: after a loss it was taken over from this caller. */
  readonly blockedBy: "Running" | "TakenOver"
  /** Its span, where it is traced. */
  readonly trace: Trace | undefined
}

/** On whose behalf the store is called. */
export interface Asker {
  readonly identifiers: IdempotencyIdentifiers
  readonly trace: Trace | undefined
}

/** On nobody's: such calls have no spans. */
export const untraced = (identifiers: IdempotencyIdentifiers): Asker => ({ identifiers, trace: undefined })

/** Storage trouble is passed on to this caller, never degraded. */
export const isStrict = (request: Pick<ExecutionRequest, "guarantee" | "onStorageFailure">): boolean =>
  request.guarantee === "at-most-once" || request.onStorageFailure === "fail"

/** Another owner holds the key of a caller whose effect has run, or may have. */
export const takenOver = ({ identifiers, lease }: ExecutionRequest): IdempotencyInFlightError =>
  new IdempotencyInFlightError({
    operation: identifiers.operation,
    idempotencyKey: identifiers.idempotencyKey,
    reason: "TakenOver",
    retryAfter: Duration.millis(lease)
  })

export const mismatched = ({ identifiers }: ExecutionRequest): IdempotencyFingerprintMismatchError =>
  new IdempotencyFingerprintMismatchError({
    operation: identifiers.operation,
    idempotencyKey: identifiers.idempotencyKey
  })

/** How an owner came to run, and what it therefore holds. */
export interface Grant {
  readonly request: ExecutionRequest
  readonly token: string
  readonly attempt: number
  readonly steps: ReadonlyArray<Step>
  readonly flight: Flight | undefined
  /** When the claim was sent, if one was granted. */
  readonly claimedAt: number | undefined
  /** Why the effect runs without protection, if it does. */
  readonly unprotected: IdempotencyStorageError | undefined
  /** A claim of this token may have taken effect without an answer. */
  readonly isGhost: boolean
}

export type BeginError =
  | IdempotencyFingerprintMismatchError
  | IdempotencyInFlightError
  | IdempotencyOutcomeUnknownError
  | IdempotencyResultUnavailableError
  | IdempotencyStorageError

/** Runs an effect with the interruptibility of the caller. */
export type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/** The fiber that the engine is called from, where interruption is off, and how to give it back for a wait. */
export interface Caller {
  readonly fiber: AnyFiber
  readonly restore: Restore
}

export type Begun =
  /** The effect is to be run, and the ownership ended by `settle` or `abandon`. */
  | { readonly _tag: "Own"; readonly ownership: Ownership }
  /** It has run: this is what was recorded. */
  | { readonly _tag: "Replay"; readonly record: Recorded }
  /** It was run just now, in this process, and could not be recorded. */
  | { readonly _tag: "Shared"; readonly outcome: Outcome; readonly reason: IdempotencyStorageError }

export type Beginning = Effect.Effect<Begun, BeginError>

/** What became of an outcome. */
export type Settlement =
  | { readonly _tag: "Recorded"; readonly attempt: number }
  /** Another owner's outcome was recorded, and is the key's result. */
  | { readonly _tag: "Replaced"; readonly record: Recorded }
  /** The caller keeps its own outcome; later ones may not get it. */
  | { readonly _tag: "Kept" }
  /** The same, because the store failed. */
  | { readonly _tag: "Unprotected"; readonly reason: IdempotencyStorageError }

export type SettleError = IdempotencyFingerprintMismatchError | IdempotencyInFlightError | IdempotencyStorageError

/** The right to run the effect of a key, until `settle` or `abandon`: the first call of either counts. */
export interface Ownership {
  readonly attempt: number
  readonly steps: ReadonlyArray<Step>
  readonly flight: Flight | undefined
  /** Until when the key is held if nothing renews it. */
  readonly leaseUntil: () => number
  /** Records a step; `undefined` where nothing is claimed. */
  readonly saveStep: ((step: Step) => Effect.Effect<"Saved" | "TooLarge" | "Lost", IdempotencyStorageError>) | undefined
  /** What stops the effect when the key is lost or the engine shuts down. At once, if that has happened. */
  readonly onInterrupt: (interrupt: Effect.Effect<void>) => Effect.Effect<void>
  /** Why the effect was stopped by the engine, if it was. */
  readonly loss: () => Loss | undefined
  /** Has begun, and may have ended. */
  readonly settle: (outcome: Outcome, caller: Caller) => Effect.Effect<Settlement, SettleError>
  readonly abandon: (how: "release" | "hold") => Effect.Effect<void>
}

/** What a request sends when it claims. */
export const claimRequest = (request: ExecutionRequest, token: string, settings: Settings): ClaimRequest => ({
  token,
  fingerprint: request.fingerprint,
  guarantee: request.guarantee,
  lease: request.lease,
  retention: request.timeToLive,
  unknownRetention: settings.unknownRetention
})
