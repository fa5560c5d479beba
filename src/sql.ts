/**
 * The SQL store: Postgres, SQLite, MySQL and MariaDB through `@effect/sql`.
 *
 * @since 0.1.0
 */
export * from "./sql/layerSql.js"
export * from "./sql/SqlIdempotencyRepository.js"
export * from "./sql/withIdempotentTransaction.js"
