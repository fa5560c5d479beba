/** Databases for tests, each of its own: a real server, or a file, with clients of `@effect/sql`. */
import { join } from "node:path"
import type * as SqlClient from "@effect/sql/SqlClient"
import { MysqlClient } from "@effect/sql-mysql2"
import { PgClient } from "@effect/sql-pg"
import { SqliteClient } from "@effect/sql-sqlite-node"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { type MariadbServer, startMariadb } from "./mariadbServers.js"
import { type PostgresServer, startPostgres } from "./postgresServers.js"
import { directoryFor } from "./servers.js"

/** A Postgres server of the test's own. */
export class Postgres extends Context.Tag("test/Postgres")<Postgres, PostgresServer>() {
  static readonly layer: Layer.Layer<Postgres> = Layer.scoped(Postgres, Effect.orDie(startPostgres()))
}

/** A MariaDB server of the test's own. */
export class Mariadb extends Context.Tag("test/Mariadb")<Mariadb, MariadbServer>() {
  static readonly layer: Layer.Layer<Mariadb> = Layer.scoped(Mariadb, Effect.orDie(startMariadb()))
}

/** The file of a SQLite database of the test's own. */
export class SqliteFile extends Context.Tag("test/SqliteFile")<SqliteFile, string>() {
  static readonly layer: Layer.Layer<SqliteFile> = Layer.scoped(
    SqliteFile,
    Effect.map(directoryFor("sqlite"), (directory) => join(directory, "records.sqlite"))
  )
}

/** A client of a server by its address. */
export const pgClientOf = (url: string, options: { readonly maxConnections?: number } = {}) =>
  Layer.orDie(PgClient.layer({ url: Redacted.make(url), maxConnections: 10, ...options }))

export const pgClient: Layer.Layer<SqlClient.SqlClient | PgClient.PgClient, never, Postgres> = Layer.unwrapEffect(
  Effect.map(Postgres, ({ url }) => pgClientOf(url))
)

export const mysqlClient: Layer.Layer<SqlClient.SqlClient, never, Mariadb> = Layer.unwrapEffect(
  Effect.map(Mariadb, ({ url }) => Layer.orDie(MysqlClient.layer({ url: Redacted.make(url), maxConnections: 10 })))
)

export const sqliteClient: Layer.Layer<SqlClient.SqlClient, never, SqliteFile> = Layer.unwrapEffect(
  Effect.map(SqliteFile, (filename) => Layer.orDie(SqliteClient.layer({ filename })))
)
