/**
 * Everything a program on a SQL database needs.
 *
 * @since 0.1.0
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import * as Layer from "effect/Layer"
import { Idempotency } from "../Idempotency.js"
import type { IdempotencyDomainService } from "../IdempotencyDomainService.js"
import type { IdempotencyStorageError, IdempotencyValidationError } from "../IdempotencyError.js"
import type { IdempotencyMetrics } from "../IdempotencyMetrics.js"
import type { IdempotencyRepository } from "../IdempotencyRepository.js"
import type { IdempotencyTransactions } from "../IdempotencyTransactions.js"
import { policyAndMetrics } from "../internal/policyAndMetrics.js"
import { SqlIdempotencyRepository, type SqlIdempotencyRepositoryOptions } from "./SqlIdempotencyRepository.js"

/**
 * All four services over the SQL store, and its transactions, on the `SqlClient` from beneath; expired rows are deleted
 * in the background. It takes `IdempotencyDomainService` and `IdempotencyMetrics` from beneath if they are provided to
 * it, else the defaults. The table is the migration's to make. Keep the layer in a constant: each call makes another.
 *
 * @example
 * ```ts
 * import * as Effect from "effect/Effect"
 * import { withIdempotency } from "effect-idempotency"
 * import { layerSql } from "effect-idempotency/sql"
 *
 * // To be provided with a layer of @effect/sql-pg, @effect/sql-sqlite-node or @effect/sql-mysql2.
 * const IdempotencyLive = layerSql()
 *
 * const program = Effect.succeed("paid").pipe(
 *   withIdempotency("payment.charge", "order-1"),
 *   Effect.provide(IdempotencyLive)
 * )
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerSql = (
  options: SqlIdempotencyRepositoryOptions = {}
): Layer.Layer<
  Idempotency | IdempotencyRepository | IdempotencyDomainService | IdempotencyMetrics | IdempotencyTransactions,
  IdempotencyStorageError | IdempotencyValidationError,
  SqlClient.SqlClient
> =>
  Idempotency.layer.pipe(
    Layer.provideMerge(SqlIdempotencyRepository.layerWith(options)),
    Layer.provideMerge(policyAndMetrics),
    Layer.provideMerge(SqlIdempotencyRepository.layerReaper({ table: options.table }))
  )
