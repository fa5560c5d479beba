/**
 * Transactions of a database that holds records: where the effect's writes and its record are committed together.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type {
  IdempotencyFingerprintMismatchError,
  IdempotencyInFlightError,
  IdempotencyResultUnavailableError,
  IdempotencyStorageError
} from "./IdempotencyError.js"
import type { IdempotencyIdentifiers } from "./IdempotencyIdentifiers.js"
import type * as Protocol from "./internal/protocol.js"

/**
 * Runs an effect in a transaction together with its record. Provided by the layers of the SQL store; what
 * `withIdempotentTransaction` and a transactional consumer ask for.
 *
 * @since 0.1.0
 * @category services
 */
export class IdempotencyTransactions extends Context.Tag("effect-idempotency/IdempotencyTransactions")<
  IdempotencyTransactions,
  {
    /**
     * Inserts the record, runs the body, writes its outcome and commits, in a transaction that it opens or in the one
     * that the caller has open; or gives the record that is there. The body is told its attempt. Whatever the body fails
     * with rolls back.
     */
    readonly run: <A, E, R>(
      request: IdempotencyTransactions.Request,
      body: (attempt: number) => Effect.Effect<IdempotencyTransactions.Ran<A>, E, R>
    ) => Effect.Effect<IdempotencyTransactions.Result<A>, E | IdempotencyTransactions.Failure, R>
    /** Whether the caller has a transaction open. */
    readonly isOpen: Effect.Effect<boolean>
  }
>() {}

/**
 * @since 0.1.0
 */
export declare namespace IdempotencyTransactions {
  /**
   * How strictly a transaction that is opened is kept apart from others; else as the database is set up.
   *
   * @since 0.1.0
   * @category models
   */
  type Isolation = "read committed" | "repeatable read" | "serializable"

  /**
   * One execution. Durations in milliseconds.
   *
   * @since 0.1.0
   * @category models
   */
  interface Request {
    readonly identifiers: IdempotencyIdentifiers
    readonly fingerprint: string | undefined
    /** How long the record is kept. */
    readonly retention: number
    readonly inFlight: "wait" | "fail"
    readonly waitTimeout: number
    /** How long a statement of the store's own may take, waiting for others apart. */
    readonly storageTimeout: number
    readonly isolation: Isolation | undefined
    /**
     * Whether the attempt is committed before the transaction that it opens, so that it counts also if that rolls back
     * or its process ends. Should the process end, the key stays in flight for at most three times `storageTimeout` and
     * 5 seconds. Without meaning in a transaction that the caller has open.
     */
    readonly countsAttempt: boolean
  }

  /**
   * What a body ended with: its value, and what is recorded of it.
   *
   * @since 0.1.0
   * @category models
   */
  interface Ran<A> {
    readonly value: A
    readonly outcome: Protocol.Outcome
  }

  /**
   * The body ran, and its record is committed or will be with the caller's transaction; or what is recorded already.
   *
   * @since 0.1.0
   * @category models
   */
  type Result<A> =
    | { readonly _tag: "Executed"; readonly value: A; readonly attempt: number }
    | { readonly _tag: "Recorded"; readonly record: Protocol.Completed }

  /**
   * What `run` can fail with besides the body's failures.
   *
   * @since 0.1.0
   * @category models
   */
  type Failure =
    | IdempotencyFingerprintMismatchError
    | IdempotencyInFlightError
    | IdempotencyResultUnavailableError
    | IdempotencyStorageError
}
