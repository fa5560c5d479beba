/**
 * Records in a SQL database, through the `@effect/sql` client of the caller's: Postgres, SQLite, MySQL or MariaDB.
 *
 * A record is one row of one table, judged by the database's clock. A claim on Postgres is one statement; every other
 * change reads the row and writes what follows only if nobody has changed it since. Statements of the store never join a
 * transaction that their caller has open: `withIdempotentTransaction` does.
 *
 * @since 0.1.0
 */
import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Config from "effect/Config"
import type * as ConfigError from "effect/ConfigError"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { IdempotencyStorageError, IdempotencyValidationError } from "../IdempotencyError.js"
import type { IdempotencyRepository } from "../IdempotencyRepository.js"
import type { IdempotencyTransactions } from "../IdempotencyTransactions.js"
import { makeSql } from "../internal/sql/make.js"
import { makeReaper } from "../internal/sql/reaper.js"
import { ddl, defaultTable, dialectOf, validTable } from "../internal/sql/table.js"

/**
 * What every layer of the store can be told.
 *
 * @since 0.1.0
 * @category models
 */
export interface SqlIdempotencyRepositoryOptions {
  /**
   * The table; `idempotency_records` by default. Letters, digits and underscores, 48 at most and no digit first, with or
   * without a schema before it (`payments.idempotency_records`); else `IdempotencyValidationError`.
   */
  readonly table?: string | undefined
  /**
   * What becomes of a database that cannot be reached, or a table that is missing or has other columns, when the layer
   * is built: `fail` (the default), the layer with `IdempotencyStorageError`; or `log`, and each operation fails until
   * it can be used.
   */
  readonly startup?: "log" | "fail" | undefined
  /** How long an operation on records, or of an operator, may take; 1 second by default. */
  readonly operationTimeout?: Duration.DurationInput | undefined
}

/**
 * How expired rows are deleted.
 *
 * @since 0.1.0
 * @category models
 */
export interface SqlReaperOptions {
  /** The table; `idempotency_records` by default. */
  readonly table?: string | undefined
  /** How many rows one statement deletes at most: 1 to 10,000, 1,000 by default. */
  readonly batchSize?: number | undefined
  /** How long to wait once there is nothing left to delete; 1 minute by default. */
  readonly interval?: Duration.DurationInput | undefined
}

type Services = IdempotencyRepository | IdempotencyTransactions
type Failure = IdempotencyStorageError | IdempotencyValidationError

const layerWith = (options: SqlIdempotencyRepositoryOptions): Layer.Layer<Services, Failure, SqlClient.SqlClient> =>
  Layer.scopedContext(makeSql(options))

const layerConfig = (
  config: Config.Config.Wrap<SqlIdempotencyRepositoryOptions>
): Layer.Layer<Services, ConfigError.ConfigError | Failure, SqlClient.SqlClient> =>
  Layer.unwrapEffect(Effect.map(Config.unwrap(config), layerWith))

const migrationWith = ({
  table = defaultTable
}: {
  readonly table?: string | undefined
}): Effect.Effect<void, SqlError | IdempotencyValidationError, SqlClient.SqlClient> =>
  Effect.gen(function* () {
    const client = yield* SqlClient.SqlClient
    const dialect = yield* dialectOf(client)
    const name = yield* validTable(table)
    for (const statement of ddl(dialect, name)) yield* client.unsafe(statement).unprepared
  })

const layerReaper = (
  options: SqlReaperOptions = {}
): Layer.Layer<never, IdempotencyValidationError, SqlClient.SqlClient> => Layer.scopedDiscard(makeReaper(options))

/**
 * The layers of the SQL store, and the table that it needs.
 *
 * @example
 * ```ts
 * import * as SqlClient from "@effect/sql/SqlClient"
 * import * as Layer from "effect/Layer"
 * import { SqlIdempotencyRepository } from "effect-idempotency/sql"
 *
 * // For the migrator of `@effect/sql`, beside your own migrations:
 * const migrations = { "0001_idempotency": SqlIdempotencyRepository.migration }
 *
 * // On the client of your own tables:
 * const store = SqlIdempotencyRepository.layer.pipe(Layer.provideMerge(SqlIdempotencyRepository.layerReaper()))
 *
 * const elsewhere = SqlIdempotencyRepository.layerWith({ table: "payments.idempotency_records", startup: "log" })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const SqlIdempotencyRepository: {
  /**
   * On the table `idempotency_records`. `IdempotencyStorageError` if the database cannot be used when the layer is
   * built: `Misconfigured` if the table is missing or is another's.
   *
   * @since 0.1.0
   * @category layers
   */
  readonly layer: Layer.Layer<Services, Failure, SqlClient.SqlClient>
  /**
   * `layer` with other options. `IdempotencyValidationError` for a table's name that is none.
   *
   * @since 0.1.0
   * @category layers
   */
  readonly layerWith: typeof layerWith
  /**
   * {@link layerWith} from `Config`.
   *
   * @example
   * ```ts
   * import * as Config from "effect/Config"
   * import { SqlIdempotencyRepository } from "effect-idempotency/sql"
   *
   * const repository = SqlIdempotencyRepository.layerConfig({ table: Config.string("IDEMPOTENCY_TABLE") })
   * ```
   *
   * @since 0.1.0
   * @category layers
   */
  readonly layerConfig: typeof layerConfig
  /**
   * Makes the table `idempotency_records` and its index where they are not there yet: a migration for the migrator of
   * `@effect/sql`, or to be run as it is.
   *
   * @since 0.1.0
   * @category migrations
   */
  readonly migration: Effect.Effect<void, SqlError | IdempotencyValidationError, SqlClient.SqlClient>
  /**
   * The same for another table; `IdempotencyValidationError` for a name that is none.
   *
   * @example
   * ```ts
   * import { SqlIdempotencyRepository } from "effect-idempotency/sql"
   *
   * const table = "payments.idempotency_records"
   * const migrations = { "0001_idempotency": SqlIdempotencyRepository.migrationWith({ table }) }
   * ```
   *
   * @since 0.1.0
   * @category migrations
   */
  readonly migrationWith: typeof migrationWith
  /**
   * The statements of the migration, for tools of another kind: `postgres`, `sqlite` or `mysql`.
   *
   * @example
   * ```ts
   * import { SqlIdempotencyRepository } from "effect-idempotency/sql"
   *
   * const script = SqlIdempotencyRepository.ddl("postgres").join(";\n")
   * ```
   *
   * @since 0.1.0
   * @category migrations
   */
  readonly ddl: (dialect: "postgres" | "sqlite" | "mysql", table?: string) => ReadonlyArray<string>
  /**
   * Deletes expired rows in the background, in batches, for as long as the layer lives. Safe in many processes at once.
   * Expired records are never given to anybody, reaped or not. `IdempotencyValidationError` for options out of bounds.
   *
   * @since 0.1.0
   * @category layers
   */
  readonly layerReaper: typeof layerReaper
} = {
  layer: layerWith({}),
  layerWith,
  layerConfig,
  migration: migrationWith({}),
  migrationWith,
  ddl: (dialect, table = defaultTable) => ddl(dialect, table),
  layerReaper
}
