/**
 * An effect whose writes and whose record are committed together.
 *
 * @since 0.1.0
 */
import type { DurationInput } from "effect/Duration"
import * as Effect from "effect/Effect"
import { dual } from "effect/Function"
import type * as Schema from "effect/Schema"
import type { Idempotency } from "../Idempotency.js"
import type {
  IdempotencyFingerprintMismatchError,
  IdempotencyInFlightError,
  IdempotencyInvalidTtlError,
  IdempotencyResultUnavailableError,
  IdempotencyStorageError,
  IdempotencyValidationError
} from "../IdempotencyError.js"
import type { IdempotencyTransactions } from "../IdempotencyTransactions.js"
import type { IdempotentExecution } from "../IdempotentExecution.js"
import { type AnyTransactionOptions, executeTransaction } from "../internal/executeTransaction.js"
import { valueAlone } from "../internal/results.js"
import type { Recordable } from "../Jsonable.js"
import type { CanonicalFingerprint, IdempotencyResult } from "../withIdempotency.js"

/**
 * How an effect is protected. Every member is optional.
 *
 * @since 0.1.0
 * @category models
 */
export interface IdempotentTransactionOptions<Success extends Schema.Schema.Any | undefined, TimeToLive, Fingerprint> {
  /** The codec of the result. Without it the result must be JSON by type. */
  readonly success?: Success | undefined
  /**
   * What the key stands for (the request): JSON, hashed in its RFC 8785 form, or bytes. A later caller with another one
   * fails with `IdempotencyFingerprintMismatchError`.
   */
  readonly fingerprint?: Fingerprint | undefined
  /** Tenant or principal: part of the identity, under the rules of a key. */
  readonly scope?: string | undefined
  /** How long the result is kept, within the bounds of `IdempotencyDomainService`; its default if absent. */
  readonly timeToLive?: TimeToLive | undefined
  /**
   * What a concurrent caller does: `wait` for the first to commit or roll back (by default), or `fail` with
   * `IdempotencyInFlightError` (MySQL: after a second, its shortest lock timeout).
   */
  readonly inFlight?: "wait" | "fail" | undefined
  /** How long a concurrent caller waits before it fails with `IdempotencyInFlightError`: 30 seconds by default. */
  readonly waitTimeout?: DurationInput | undefined
  /**
   * The isolation level of a transaction that is opened here; as the database is set up by default. Without effect in a
   * transaction that is open already, and on SQLite, whose transactions are serializable.
   */
  readonly isolation?: IdempotencyTransactions.Isolation | undefined
}

/**
 * What the options add to the error channel.
 *
 * @since 0.1.0
 * @category models
 */
export interface IdempotentTransactionFailures<TimeToLive, Fingerprint> {
  readonly always:
    | IdempotencyValidationError
    | IdempotencyResultUnavailableError
    | IdempotencyInFlightError
    | IdempotencyStorageError
  readonly timeToLive: [TimeToLive] extends [undefined] ? never : IdempotencyInvalidTtlError
  readonly fingerprint: [Fingerprint] extends [undefined] ? never : IdempotencyFingerprintMismatchError
}

type Row = keyof IdempotentTransactionFailures<unknown, unknown>

/**
 * Runs an effect in a database transaction together with its record, so that either both are committed or neither is:
 * effectively once, for effects whose writes all go to that database. It opens the transaction, or joins the one that
 * the caller has open (the record then commits, or is rolled back, with it). Statements of `@effect/sql` within the
 * effect take part by themselves.
 *
 * A concurrent duplicate waits until the first has committed, and replays its result; after a rollback it runs itself.
 * Failures roll back and are never recorded. A transaction that is opened here is tried again when it lost a conflict
 * (Postgres 40001 and 40P01, MySQL 1213, `SQLITE_BUSY`), so that the effect may run more than once though it commits
 * once; and a COMMIT whose answer was lost is looked up. In a caller's transaction that is the caller's to do.
 *
 * Fails with what the effect fails with, and with `IdempotencyValidationError` (bad input: nothing ran),
 * `IdempotencyInFlightError` (a duplicate is running beyond `waitTimeout`, or in this very transaction),
 * `IdempotencyStorageError` (the database failed; `applied: "unknown"` if it may have been committed all the same),
 * `IdempotencyResultUnavailableError` (it was committed, but its result cannot be given),
 * `IdempotencyInvalidTtlError` and `IdempotencyFingerprintMismatchError`.
 *
 * @example
 * ```ts
 * import * as SqlClient from "@effect/sql/SqlClient"
 * import * as Effect from "effect/Effect"
 * import { layerSql, withIdempotentTransaction } from "effect-idempotency/sql"
 *
 * const transfer = Effect.gen(function* () {
 *   const sql = yield* SqlClient.SqlClient
 *   yield* sql`INSERT INTO transfers (id, amount) VALUES ('t-1', 100)`
 *   return { id: "t-1" }
 * })
 *
 * const program = transfer.pipe(
 *   withIdempotentTransaction("transfer", "order-1"),
 *   Effect.provide(layerSql())
 * )
 * ```
 *
 * @since 0.1.0
 * @category combinators
 */
export const withIdempotentTransaction: {
  <
    A,
    E,
    R,
    Success extends Schema.Schema.Any | undefined = never,
    TimeToLive extends DurationInput | undefined = never,
    Fingerprint = never
  >(
    self: Effect.Effect<A, E, R> & Recordable<Success, A>,
    operation: string,
    key: string,
    options?: IdempotentTransactionOptions<Success, TimeToLive, Fingerprint> & CanonicalFingerprint<Fingerprint>
  ): Effect.Effect<
    IdempotencyResult<Success, A>,
    E | IdempotentTransactionFailures<TimeToLive, Fingerprint>[Row],
    Exclude<R, IdempotentExecution> | Idempotency | IdempotencyTransactions | Schema.Schema.Context<Success>
  >
  <
    Success extends Schema.Schema.Any | undefined = never,
    TimeToLive extends DurationInput | undefined = never,
    Fingerprint = never
  >(
    operation: string,
    key: string,
    options?: IdempotentTransactionOptions<Success, TimeToLive, Fingerprint> & CanonicalFingerprint<Fingerprint>
  ): <A, E, R>(
    self: Effect.Effect<A, E, R> & Recordable<Success, A>
  ) => Effect.Effect<
    IdempotencyResult<Success, A>,
    E | IdempotentTransactionFailures<TimeToLive, Fingerprint>[Row],
    Exclude<R, IdempotentExecution> | Idempotency | IdempotencyTransactions | Schema.Schema.Context<Success>
  >
} = dual(
  (args) => Effect.isEffect(args[0]),
  (
    self: Effect.Effect<unknown, unknown, unknown>,
    operation: string,
    key: string,
    options: AnyTransactionOptions = {}
  ) => executeTransaction(self, operation, key, options, valueAlone)
)
