/**
 * Everything the library can fail with, as tagged errors.
 *
 * Each error names the operation it concerns. The key is a field where one is known, but no message holds a
 * key, a scope or a result, so that messages can be logged.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"

const about = (operation: string): string => (operation === "" ? "" : ` (operation "${operation}")`)

/** Where there is a cause, it says more; its own words are not the library's, and may hold anything. */
const seeing = (cause: unknown): string => (cause === undefined ? "" : "see `cause`, and ")

/**
 * A bad operation, key, scope, fingerprint, record, option or configuration. Nothing ran and nothing was written.
 * `issues` says what is wrong, one sentence each.
 *
 * @since 0.1.0
 * @category errors
 */
export class IdempotencyValidationError extends Schema.TaggedError<IdempotencyValidationError>(
  "effect-idempotency/IdempotencyValidationError"
)("IdempotencyValidationError", {
  operation: Schema.String,
  issues: Schema.Array(Schema.String)
}) {
  override get message(): string {
    return `Invalid input${about(this.operation)}: ${this.issues.join("; ")}. Nothing ran: correct it, as no retry helps`
  }
}

/**
 * A time to live outside the bounds of `IdempotencyDomainService`. Nothing ran.
 *
 * @since 0.1.0
 * @category errors
 */
export class IdempotencyInvalidTtlError extends Schema.TaggedError<IdempotencyInvalidTtlError>(
  "effect-idempotency/IdempotencyInvalidTtlError"
)("IdempotencyInvalidTtlError", {
  operation: Schema.String,
  timeToLive: Schema.Duration,
  min: Schema.Duration,
  max: Schema.Duration
}) {
  override get message(): string {
    const [given, min, max] = [this.timeToLive, this.min, this.max].map((bound) => Duration.format(bound))
    return `The time to live ${given} is not between ${min} and ${max}${about(this.operation)}: choose one within, or widen the bounds of IdempotencyDomainService`
  }
}

/**
 * `save` or `saveMany` met records that exist, or keys that are claimed. `keys` names every one of them.
 *
 * @since 0.1.0
 * @category errors
 */
export class IdempotencyKeyCollisionError extends Schema.TaggedError<IdempotencyKeyCollisionError>(
  "effect-idempotency/IdempotencyKeyCollisionError"
)("IdempotencyKeyCollisionError", {
  operation: Schema.String,
  keys: Schema.NonEmptyArray(Schema.String)
}) {
  override get message(): string {
    return `${this.keys.length} key(s) have a record or an owner already${about(this.operation)}, which is never replaced: get the records of \`keys\`, or leave them out`
  }
}

/**
 * A record past its time was to be saved or validated.
 *
 * @since 0.1.0
 * @category errors
 */
export class IdempotencyRecordExpiredError extends Schema.TaggedError<IdempotencyRecordExpiredError>(
  "effect-idempotency/IdempotencyRecordExpiredError"
)("IdempotencyRecordExpiredError", {
  operation: Schema.String,
  idempotencyKey: Schema.String
}) {
  override get message(): string {
    return `The record has expired${about(this.operation)} and cannot be used: create a new one`
  }
}

/**
 * The store could not be reached (`Unavailable`), did not answer in time (`Timeout`), refused (`Rejected`) or is set
 * up wrongly (`Misconfigured`). `applied` says whether the operation may have taken effect all the same.
 *
 * @since 0.1.0
 * @category errors
 */
export class IdempotencyStorageError extends Schema.TaggedError<IdempotencyStorageError>(
  "effect-idempotency/IdempotencyStorageError"
)("IdempotencyStorageError", {
  operation: Schema.String,
  method: Schema.String,
  reason: Schema.Literal("Unavailable", "Timeout", "Rejected", "Misconfigured"),
  applied: Schema.Literal("no", "unknown"),
  cause: Schema.optional(Schema.Defect)
}) {
  override get message(): string {
    const changed = this.applied === "no" ? "nothing was changed" : "it may have taken effect"
    const next =
      this.reason === "Misconfigured"
        ? "correct how the store is set up (address, credentials, permissions, table, eviction), as no retry helps"
        : "try again, with the same key"
    return `The idempotency store failed in "${this.method}": ${this.reason}${about(this.operation)}; ${changed}: ${seeing(this.cause)}${next}`
  }
}

/**
 * Another owner is running this key (`Running`), or has taken it over from this caller (`TakenOver`). Trying again
 * after `retryAfter` is safe.
 *
 * @since 0.1.0
 * @category errors
 */
export class IdempotencyInFlightError extends Schema.TaggedError<IdempotencyInFlightError>(
  "effect-idempotency/IdempotencyInFlightError"
)("IdempotencyInFlightError", {
  operation: Schema.String,
  idempotencyKey: Schema.String,
  reason: Schema.Literal("Running", "TakenOver"),
  retryAfter: Schema.Duration
}) {
  override get message(): string {
    const what = this.reason === "Running" ? "Another call is running" : "Another call has taken over"
    return `${what} under this idempotency key${about(this.operation)}: try again with it in ${Duration.format(this.retryAfter)}`
  }
}

/**
 * The key stands for another request: the fingerprints differ. Nothing ran for this caller, but under `optimistic`,
 * where the difference may be seen only when its result is to be recorded.
 *
 * @since 0.1.0
 * @category errors
 */
export class IdempotencyFingerprintMismatchError extends Schema.TaggedError<IdempotencyFingerprintMismatchError>(
  "effect-idempotency/IdempotencyFingerprintMismatchError"
)("IdempotencyFingerprintMismatchError", {
  operation: Schema.String,
  idempotencyKey: Schema.String
}) {
  override get message(): string {
    return `This idempotency key was used for another request${about(this.operation)}: use a new key for a new request`
  }
}

/**
 * A run may have happened and must not be repeated. `IdempotencyRepository`'s `resolve` records what is known to have
 * happened; `reset` lets the key run again.
 *
 * @since 0.1.0
 * @category errors
 */
export class IdempotencyOutcomeUnknownError extends Schema.TaggedError<IdempotencyOutcomeUnknownError>(
  "effect-idempotency/IdempotencyOutcomeUnknownError"
)("IdempotencyOutcomeUnknownError", {
  operation: Schema.String,
  idempotencyKey: Schema.String,
  attempt: Schema.Int
}) {
  override get message(): string {
    return `Attempt ${this.attempt} may have happened${about(this.operation)}, and is not repeated: find out whether it did, then resolve or reset the key`
  }
}

/**
 * The effect ran, but its result could not be stored, or this caller cannot decode it. It is not run again.
 *
 * @since 0.1.0
 * @category errors
 */
export class IdempotencyResultUnavailableError extends Schema.TaggedError<IdempotencyResultUnavailableError>(
  "effect-idempotency/IdempotencyResultUnavailableError"
)("IdempotencyResultUnavailableError", {
  operation: Schema.String,
  idempotencyKey: Schema.String,
  cause: Schema.optional(Schema.Defect)
}) {
  override get message(): string {
    return `The effect has run, but its recorded result cannot be given${about(this.operation)}, and it is not run again: ${seeing(this.cause)}look the result up elsewhere, or reset the key if it may run again`
  }
}

/**
 * Every error of this library, as one schema: for transport across processes.
 *
 * @since 0.1.0
 * @category errors
 */
export const IdempotencyError: Schema.Union<
  [
    typeof IdempotencyValidationError,
    typeof IdempotencyInvalidTtlError,
    typeof IdempotencyKeyCollisionError,
    typeof IdempotencyRecordExpiredError,
    typeof IdempotencyStorageError,
    typeof IdempotencyInFlightError,
    typeof IdempotencyFingerprintMismatchError,
    typeof IdempotencyOutcomeUnknownError,
    typeof IdempotencyResultUnavailableError
  ]
> = Schema.Union(
  IdempotencyValidationError,
  IdempotencyInvalidTtlError,
  IdempotencyKeyCollisionError,
  IdempotencyRecordExpiredError,
  IdempotencyStorageError,
  IdempotencyInFlightError,
  IdempotencyFingerprintMismatchError,
  IdempotencyOutcomeUnknownError,
  IdempotencyResultUnavailableError
)

/**
 * The union of this library's errors.
 *
 * @since 0.1.0
 * @category errors
 */
export type IdempotencyError = typeof IdempotencyError.Type

/**
 * Whether a failure is one of this library's, so that `Effect.catchIf(isIdempotencyError, …)` leaves exactly the
 * failures of the protected effect.
 *
 * @example
 * ```ts
 * import * as Effect from "effect/Effect"
 * import { isIdempotencyError, withIdempotency } from "effect-idempotency"
 *
 * const program = Effect.succeed("paid").pipe(
 *   withIdempotency("payment.charge", "order-1"),
 *   Effect.catchIf(isIdempotencyError, (error) => Effect.succeed(error.message))
 * )
 * ```
 *
 * @since 0.1.0
 * @category guards
 */
export const isIdempotencyError = <E>(error: E): error is Extract<E, IdempotencyError> => isError(error)

const isError: (error: unknown) => boolean = Schema.is(IdempotencyError)
