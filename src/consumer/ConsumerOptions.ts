/**
 * How messages are processed.
 *
 * @since 0.1.0
 */
import type { DurationInput } from "effect/Duration"
import type * as Schema from "effect/Schema"
import type { Idempotency } from "../Idempotency.js"
import type { IdempotencyStorageError } from "../IdempotencyError.js"
import type { IdempotencyTransactions } from "../IdempotencyTransactions.js"
import type { FingerprintInput } from "../Jsonable.js"
import type { IdempotencyFailures, IdempotencyKeyInput } from "../withIdempotency.js"
import type { MessagePoisonedError } from "./MessagePoisonedError.js"

/**
 * What each option adds to the error channel: what it adds to that of `withIdempotency`, and `MessagePoisonedError` for
 * `maxAttempts`.
 *
 * @since 0.1.0
 * @category models
 */
export interface ConsumerFailures<
  Guarantee,
  OnStorageFailure,
  TimeToLive,
  Fingerprint,
  Unknown,
  MaxAttempts,
  Transactional
> extends IdempotencyFailures<Guarantee, OnStorageFailure, "claim", TimeToLive, Fingerprint, Unknown> {
  readonly maxAttempts: [MaxAttempts] extends [undefined] ? never : MessagePoisonedError
  readonly transactional: true extends Transactional ? IdempotencyStorageError : never
}

/**
 * What a consumer asks for: the engine, and for `transactional` a store's transactions.
 *
 * @since 0.1.0
 * @category models
 */
export interface ConsumerServices<Transactional> {
  readonly always: Idempotency
  readonly transactional: true extends Transactional ? IdempotencyTransactions : never
}

/**
 * How messages are processed, whether one or many. Every member is optional.
 *
 * @since 0.1.0
 * @category models
 */
export interface ConsumerPolicy<
  Success extends Schema.Schema.Any | undefined,
  Error extends Schema.Schema.All | undefined,
  Guarantee,
  OnStorageFailure,
  TimeToLive,
  E,
  Unknown,
  MaxAttempts,
  Transactional
> {
  /** The codec of the handler's result. Without it the result must be JSON by type; `void` is. */
  readonly success?: Success | undefined
  /** Failures that it encodes are recorded: a duplicate fails with them, too. All others let the message be retried. */
  readonly error?: (Transactional extends true ? never : Error) | undefined
  /**
   * True for a failure that says nothing about what happened (a gateway's timeout): later deliveries fail with
   * `IdempotencyOutcomeUnknownError`. Asked before `error`.
   */
  readonly isOutcomeUnknown?: (Transactional extends true ? never : (error: E) => Unknown) | undefined
  /**
   * What becomes of a message without an id (`null`, `undefined`, `None`, or blank): `refuse` it with
   * `IdempotencyValidationError` (the default), or `run` its handler unprotected, each time it is delivered.
   */
  readonly onMissingId?: (Guarantee extends "at-most-once" ? "refuse" : "refuse" | "run") | undefined
  /**
   * How often a message is tried, at least 1; unbounded by default. The delivery after fails with
   * `MessagePoisonedError`, as do all later ones, and the handler does not run. What counts is that a delivery came to
   * own the message: also one that was interrupted, or whose process ended, before its handler began; not one that ran
   * because the store failed. The count lasts for `timeToLive` after the last attempt.
   */
  readonly maxAttempts?: MaxAttempts | undefined
  /**
   * How long it is remembered that a message was processed, within the bounds of `IdempotencyDomainService`; its
   * default if absent. Should exceed the time in which the broker may deliver again.
   */
  readonly timeToLive?: TimeToLive | undefined
  /** How long a consumer that stopped answering blocks its messages: 30 seconds by default, renewed while it runs. */
  readonly lease?: (Transactional extends true ? never : DurationInput) | undefined
  /**
   * What becomes of a message that is being processed elsewhere: `fail` with `IdempotencyInFlightError` (the default),
   * so that the broker delivers it again after `retryAfter`, or `wait` for its result, within the broker's patience.
   */
  readonly inFlight?: "wait" | "fail" | undefined
  /** How long it waits before it fails with `IdempotencyInFlightError`: 30 seconds by default. */
  readonly waitTimeout?: DurationInput | undefined
  /** Whether a message that may have been processed is processed again. `at-least-once` by default. */
  readonly guarantee?: (Transactional extends true ? never : Guarantee) | undefined
  /** Without the store: process all the same (`proceed`, by default), or refuse with `IdempotencyStorageError`. */
  readonly onStorageFailure?:
    | (Transactional extends true ? never : Guarantee extends "at-most-once" ? "fail" : OnStorageFailure)
    | undefined
  /**
   * An inbox: the handler runs in a transaction of the SQL store's database, opened for it or the caller's, and the rows
   * that it writes there are committed together with the message's record: effectively once. Asks for
   * `IdempotencyTransactions`, which the layers of the SQL store provide. Failures roll back and are not recorded, and
   * the database's are refused (`IdempotencyStorageError`): `error`, `isOutcomeUnknown`, `lease`, `guarantee` and
   * `onStorageFailure` have no meaning then. With `maxAttempts` each attempt is counted in a statement of its own, which
   * a caller's open transaction rules out (`IdempotencyValidationError`).
   */
  readonly transactional?: Transactional | undefined
}

/**
 * How one message is processed.
 *
 * @since 0.1.0
 * @category models
 */
export interface ConsumerOptions<
  Success extends Schema.Schema.Any | undefined,
  Error extends Schema.Schema.All | undefined,
  Guarantee,
  OnStorageFailure,
  TimeToLive,
  Fingerprint,
  E,
  Unknown,
  MaxAttempts,
  Transactional
> extends ConsumerPolicy<
    Success,
    Error,
    Guarantee,
    OnStorageFailure,
    TimeToLive,
    E,
    Unknown,
    MaxAttempts,
    Transactional
  > {
  /**
   * What the id stands for (the payload): JSON, or bytes. A message with that id and another payload fails with
   * `IdempotencyFingerprintMismatchError`, and its handler does not run.
   */
  readonly fingerprint?: Fingerprint | undefined
  /** The tenant that ids are unique within: part of the identity, under the rules of a key. */
  readonly scope?: string | undefined
}

/**
 * How each of many messages is processed. Only `id` is required.
 *
 * @since 0.1.0
 * @category models
 */
export interface MessagesOptions<
  Message,
  Success extends Schema.Schema.Any | undefined,
  Error extends Schema.Schema.All | undefined,
  Guarantee,
  OnStorageFailure,
  TimeToLive,
  Fingerprint,
  E,
  Unknown,
  MaxAttempts,
  Transactional
> extends ConsumerPolicy<
    Success,
    Error,
    Guarantee,
    OnStorageFailure,
    TimeToLive,
    E,
    Unknown,
    MaxAttempts,
    Transactional
  > {
  /** The id of a message: any string that is the same whenever the message is delivered. */
  readonly id: (message: Message) => IdempotencyKeyInput
  /**
   * How many handlers run at a time, at least 1: by default 10 for `processBatch`, and 1 for `deduplicate`. With 1,
   * messages are processed in their order; with more, one whose claim takes longer is overtaken.
   */
  readonly concurrency?: number | "unbounded" | undefined
  /** What a message's id stands for, as in {@link ConsumerOptions}. */
  readonly fingerprint?: ((message: Message) => Fingerprint) | undefined
  /** The tenant of all messages, or of each one. */
  readonly scope?: string | ((message: Message) => string | undefined) | undefined
}

/**
 * What the fingerprints of messages must be, apart from what their type is inferred from.
 *
 * @since 0.1.0
 * @category models
 */
export interface CanonicalFingerprints<Fingerprint> {
  readonly fingerprint?: ((message: never) => FingerprintInput<NoInfer<Fingerprint>>) | undefined
}
