/**
 * The main job: any effect, once per idempotency key.
 *
 * @since 0.1.0
 */
import type { DurationInput } from "effect/Duration"
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import type { Option } from "effect/Option"
import type * as Schema from "effect/Schema"
import type { Idempotency } from "./Idempotency.js"
import type {
  IdempotencyFingerprintMismatchError,
  IdempotencyInFlightError,
  IdempotencyInvalidTtlError,
  IdempotencyOutcomeUnknownError,
  IdempotencyResultUnavailableError,
  IdempotencyStorageError,
  IdempotencyValidationError
} from "./IdempotencyError.js"
import type { IdempotencyOutcome } from "./IdempotencyOutcome.js"
import type { IdempotentExecution } from "./IdempotentExecution.js"
import { execute } from "./internal/execute.js"
import type { AnyOptions } from "./internal/plan.js"
import { valueAlone, whichWay } from "./internal/results.js"
import type { FingerprintInput, Recordable } from "./Jsonable.js"

/**
 * A key: 1–255 characters after trimming, no `:`, no control characters. Absent (`null`, `undefined`, `None`): the
 * effect runs unprotected, as the caller asked for. An empty string is not absent: it is refused.
 *
 * @since 0.1.0
 * @category models
 */
export type IdempotencyKeyInput = string | null | undefined | Option<string>

/**
 * At-most-once promises nothing without a key.
 *
 * @since 0.1.0
 * @category models
 */
export type IdempotencyKeyFor<Guarantee> = "at-most-once" extends Guarantee ? string : IdempotencyKeyInput

/**
 * What each option adds to the error channel. An option that is `undefined` adds what an absent one does.
 *
 * @since 0.1.0
 * @category models
 */
export interface IdempotencyFailures<Guarantee, OnStorageFailure, Strategy, TimeToLive, Fingerprint, Unknown> {
  readonly always: IdempotencyValidationError | IdempotencyResultUnavailableError
  readonly strategy: [Strategy] extends ["optimistic"] ? never : IdempotencyInFlightError
  readonly onStorageFailure: "fail" extends OnStorageFailure ? IdempotencyStorageError : never
  readonly guarantee: "at-most-once" extends Guarantee
    ? IdempotencyStorageError | IdempotencyOutcomeUnknownError
    : never
  readonly isOutcomeUnknown: [Unknown] extends [never] ? never : IdempotencyOutcomeUnknownError
  readonly timeToLive: [TimeToLive] extends [undefined] ? never : IdempotencyInvalidTtlError
  readonly fingerprint: [Fingerprint] extends [undefined] ? never : IdempotencyFingerprintMismatchError
}

type AnyEffect = Effect.Effect<unknown, unknown, unknown>

type Row = keyof IdempotencyFailures<unknown, unknown, unknown, unknown, unknown, unknown>

/**
 * How an effect is protected. Every member is optional.
 *
 * @since 0.1.0
 * @category models
 */
export interface IdempotencyOptions<
  Success extends Schema.Schema.Any | undefined,
  Error extends Schema.Schema.All | undefined,
  Guarantee,
  OnStorageFailure,
  Strategy,
  TimeToLive,
  Fingerprint,
  E,
  Unknown
> {
  /** The codec of the result. Without it the result must be JSON by type. */
  readonly success?: Success | undefined
  /** Failures that it encodes are recorded, and replayed as failures; all others release the key. */
  readonly error?: Error | undefined
  /**
   * True for a failure that says nothing about what happened (a gateway's timeout): the key is then held, and later
   * callers fail with `IdempotencyOutcomeUnknownError`. Asked before `error`.
   */
  readonly isOutcomeUnknown?: ((error: E) => Unknown) | undefined
  /**
   * What the key stands for (the request): JSON, hashed in its RFC 8785 form, or bytes. A later caller with another one
   * fails with `IdempotencyFingerprintMismatchError`. What has no canonical form is an `IdempotencyValidationError`.
   */
  readonly fingerprint?: Fingerprint | undefined
  /** Tenant or principal: part of the identity, under the rules of a key. */
  readonly scope?: string | undefined
  /** How long the result is kept, within the bounds of `IdempotencyDomainService`; its default if absent. */
  readonly timeToLive?: TimeToLive | undefined
  /** `optimistic`: look up, run, record if nobody else has; concurrent callers may all run. `claim` by default. */
  readonly strategy?: Strategy | undefined
  /** Whether a run that may have happened is run again. `at-least-once` by default. */
  readonly guarantee?: (Strategy extends "optimistic" ? "at-least-once" : Guarantee) | undefined
  /** Without the store: run all the same (`proceed`, by default), or refuse with `IdempotencyStorageError`. */
  readonly onStorageFailure?: (Guarantee extends "at-most-once" ? "fail" : OnStorageFailure) | undefined
  /**
   * How long an owner that stopped answering blocks the key: 30 seconds by default, at least three times the engine's
   * `storageTimeout`. Renewed while the effect runs, so not a limit on how long it may run.
   */
  readonly lease?: (Strategy extends "optimistic" ? never : DurationInput) | undefined
  /** What a concurrent caller does: `wait` for the result (by default), or `fail` with `IdempotencyInFlightError`. */
  readonly inFlight?: (Strategy extends "optimistic" ? never : "wait" | "fail") | undefined
  /** How long a concurrent caller waits before it fails with `IdempotencyInFlightError`: 30 seconds by default. */
  readonly waitTimeout?: (Strategy extends "optimistic" ? never : DurationInput) | undefined
}

/**
 * What a fingerprint must be, apart from what its type is inferred from: a union would not be inferred through it.
 *
 * @since 0.1.0
 * @category models
 */
export interface CanonicalFingerprint<Fingerprint> {
  readonly fingerprint?: FingerprintInput<NoInfer<Fingerprint>> | undefined
}

/**
 * What a protected effect succeeds with: the type of the `success` schema, else what the effect succeeds with.
 *
 * @since 0.1.0
 * @category models
 */
export type IdempotencyResult<Success extends Schema.Schema.Any | undefined, A> = [Success] extends [undefined]
  ? A
  : Schema.Schema.Type<Success>

/**
 * Runs an effect once per idempotency key: the first caller claims the key, runs the effect under a lease that renews
 * itself, and records its result; every later caller with that key gets the recorded result, and a concurrent one
 * waits for it. One recorded result per key; how often the effect's body runs depends on the store and on what fails.
 *
 * Identity is operation × scope × key. `operation` has 1–100 characters after trimming, and no `:`.
 *
 * Fails with what the effect fails with, and, as the options say, with
 * `IdempotencyValidationError` (bad input: nothing ran), `IdempotencyResultUnavailableError` (it ran, but its result
 * cannot be given), `IdempotencyInFlightError` (another caller is running it, beyond `waitTimeout`),
 * `IdempotencyStorageError` (refused, as the store fails), `IdempotencyOutcomeUnknownError` (a run may have happened and
 * must not be repeated), `IdempotencyInvalidTtlError` and `IdempotencyFingerprintMismatchError`.
 *
 * @example
 * ```ts
 * import * as Effect from "effect/Effect"
 * import { layerMemory, withIdempotency } from "effect-idempotency"
 *
 * const charge = Effect.succeed({ receipt: "r-1", amount: 100 })
 *
 * const program = charge.pipe(
 *   withIdempotency("payment.charge", "order-1", { fingerprint: { amount: 100 } }),
 *   Effect.provide(layerMemory)
 * )
 * ```
 *
 * @since 0.1.0
 * @category combinators
 */
export const withIdempotency: {
  <
    A,
    E,
    R,
    Success extends Schema.Schema.Any | undefined = never,
    Error extends Schema.Schema.All | undefined = never,
    const Guarantee extends "at-least-once" | "at-most-once" | undefined = "at-least-once",
    const OnStorageFailure extends "proceed" | "fail" | undefined = "proceed",
    const Strategy extends "claim" | "optimistic" | undefined = "claim",
    TimeToLive extends DurationInput | undefined = never,
    Fingerprint = never,
    Unknown extends boolean = never
  >(
    self: Effect.Effect<A, E, R> & Recordable<Success, A>,
    operation: string,
    key: IdempotencyKeyFor<Guarantee>,
    options?: IdempotencyOptions<
      Success,
      Error,
      Guarantee,
      OnStorageFailure,
      Strategy,
      TimeToLive,
      Fingerprint,
      E,
      Unknown
    > &
      CanonicalFingerprint<Fingerprint>
  ): Effect.Effect<
    IdempotencyResult<Success, A>,
    | E
    | Schema.Schema.Type<Error>
    | IdempotencyFailures<Guarantee, OnStorageFailure, Strategy, TimeToLive, Fingerprint, Unknown>[Row],
    Exclude<R, IdempotentExecution> | Idempotency | Schema.Schema.Context<Success> | Schema.Schema.Context<Error>
  >
  <
    Success extends Schema.Schema.Any | undefined = never,
    Error extends Schema.Schema.All | undefined = never,
    const Guarantee extends "at-least-once" | "at-most-once" | undefined = "at-least-once",
    const OnStorageFailure extends "proceed" | "fail" | undefined = "proceed",
    const Strategy extends "claim" | "optimistic" | undefined = "claim",
    TimeToLive extends DurationInput | undefined = never,
    Fingerprint = never,
    Unknown extends boolean = never,
    EIn = unknown
  >(
    operation: string,
    key: IdempotencyKeyFor<Guarantee>,
    options?: IdempotencyOptions<
      Success,
      Error,
      Guarantee,
      OnStorageFailure,
      Strategy,
      TimeToLive,
      Fingerprint,
      EIn,
      Unknown
    > &
      CanonicalFingerprint<Fingerprint>
  ): <A, E, R>(
    self: Effect.Effect<A, E, R> & Effect.Effect<unknown, EIn, unknown> & Recordable<Success, A>
  ) => Effect.Effect<
    IdempotencyResult<Success, A>,
    | E
    | Schema.Schema.Type<Error>
    | IdempotencyFailures<Guarantee, OnStorageFailure, Strategy, TimeToLive, Fingerprint, Unknown>[Row],
    Exclude<R, IdempotentExecution> | Idempotency | Schema.Schema.Context<Success> | Schema.Schema.Context<Error>
  >
} = dual(
  (args) => Effect.isEffect(args[0]),
  (self: AnyEffect, operation: string, key: IdempotencyKeyInput, options: AnyOptions = {}) =>
    execute(self, operation, key, options, valueAlone)
)

/**
 * {@link withIdempotency}, which also says which way it went: executed, replayed or unprotected.
 *
 * @example
 * ```ts
 * import * as Effect from "effect/Effect"
 * import { IdempotencyOutcome, layerMemory, withIdempotencyOutcome } from "effect-idempotency"
 *
 * const program = Effect.succeed({ receipt: "r-1" }).pipe(
 *   withIdempotencyOutcome("payment.charge", "order-1"),
 *   Effect.map(
 *     IdempotencyOutcome.$match({
 *       Executed: ({ attempt }) => `ran, attempt ${attempt}`,
 *       Replayed: () => "had run before",
 *       Unprotected: ({ reason }) => (reason === "NoKey" ? "ran without a key" : "ran without the store")
 *     })
 *   ),
 *   Effect.provide(layerMemory)
 * )
 * ```
 *
 * @since 0.1.0
 * @category combinators
 */
export const withIdempotencyOutcome: {
  <
    A,
    E,
    R,
    Success extends Schema.Schema.Any | undefined = never,
    Error extends Schema.Schema.All | undefined = never,
    const Guarantee extends "at-least-once" | "at-most-once" | undefined = "at-least-once",
    const OnStorageFailure extends "proceed" | "fail" | undefined = "proceed",
    const Strategy extends "claim" | "optimistic" | undefined = "claim",
    TimeToLive extends DurationInput | undefined = never,
    Fingerprint = never,
    Unknown extends boolean = never
  >(
    self: Effect.Effect<A, E, R> & Recordable<Success, A>,
    operation: string,
    key: IdempotencyKeyFor<Guarantee>,
    options?: IdempotencyOptions<
      Success,
      Error,
      Guarantee,
      OnStorageFailure,
      Strategy,
      TimeToLive,
      Fingerprint,
      E,
      Unknown
    > &
      CanonicalFingerprint<Fingerprint>
  ): Effect.Effect<
    IdempotencyOutcome<IdempotencyResult<Success, A>>,
    | E
    | Schema.Schema.Type<Error>
    | IdempotencyFailures<Guarantee, OnStorageFailure, Strategy, TimeToLive, Fingerprint, Unknown>[Row],
    Exclude<R, IdempotentExecution> | Idempotency | Schema.Schema.Context<Success> | Schema.Schema.Context<Error>
  >
  <
    Success extends Schema.Schema.Any | undefined = never,
    Error extends Schema.Schema.All | undefined = never,
    const Guarantee extends "at-least-once" | "at-most-once" | undefined = "at-least-once",
    const OnStorageFailure extends "proceed" | "fail" | undefined = "proceed",
    const Strategy extends "claim" | "optimistic" | undefined = "claim",
    TimeToLive extends DurationInput | undefined = never,
    Fingerprint = never,
    Unknown extends boolean = never,
    EIn = unknown
  >(
    operation: string,
    key: IdempotencyKeyFor<Guarantee>,
    options?: IdempotencyOptions<
      Success,
      Error,
      Guarantee,
      OnStorageFailure,
      Strategy,
      TimeToLive,
      Fingerprint,
      EIn,
      Unknown
    > &
      CanonicalFingerprint<Fingerprint>
  ): <A, E, R>(
    self: Effect.Effect<A, E, R> & Effect.Effect<unknown, EIn, unknown> & Recordable<Success, A>
  ) => Effect.Effect<
    IdempotencyOutcome<IdempotencyResult<Success, A>>,
    | E
    | Schema.Schema.Type<Error>
    | IdempotencyFailures<Guarantee, OnStorageFailure, Strategy, TimeToLive, Fingerprint, Unknown>[Row],
    Exclude<R, IdempotentExecution> | Idempotency | Schema.Schema.Context<Success> | Schema.Schema.Context<Error>
  >
} = dual(
  (args) => Effect.isEffect(args[0]),
  (self: AnyEffect, operation: string, key: IdempotencyKeyInput, options: AnyOptions = {}) =>
    execute(self, operation, key, options, whichWay)
)
