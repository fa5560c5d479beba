/** The layers of the store: its table, its names, its connections, and the clients that it works over. */

import * as Migrator from "@effect/sql/Migrator"
import * as SqlClient from "@effect/sql/SqlClient"
import { PgClient } from "@effect/sql-pg"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { describe, expect, it, layer } from "@effect/vitest"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as String from "effect/String"
import { withIdempotency } from "../../src/index.js"
import { layerSql, SqlIdempotencyRepository, withIdempotentTransaction } from "../../src/sql.js"
import { Mariadb, mysqlClient, Postgres, pgClient, pgClientOf, SqliteFile, sqliteClient } from "../support/databases.js"
import { claimBy, completeBy, eventually, freshIds, numberOf, repositoryOf, rowsOf } from "./fixtures.js"

const lives = (table?: string) =>
  Effect.gen(function* () {
    const { claims } = yield* repositoryOf({ table, operationTimeout: "20 seconds" })
    const key = freshIds()
    expect(yield* claims.claim(key, claimBy("t"))).toMatchObject({ _tag: "Claimed", attempt: 1 })
    expect(yield* claims.complete(key, completeBy("t"))).toMatchObject({ _tag: "Done" })
    expect(yield* claims.claim(key, claimBy("u"))).toMatchObject({ _tag: "Settled" })
  })

const migrations = <E>(name: "postgres" | "sqlite" | "mysql", client: Layer.Layer<SqlClient.SqlClient, E>) =>
  layer(client, { excludeTestServices: true, timeout: 60_000 })(`the table on ${name}`, (it) => {
    it.scoped("is made by a migration, which does no harm to what is there", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* SqlIdempotencyRepository.migration
        yield* lives()
        yield* SqlIdempotencyRepository.migration
        yield* lives()
        expect(yield* numberOf(sql, "SELECT count(*) AS n FROM idempotency_records")).toBe(2)
      })
    )

    it.scoped("is made by the migrator of the client, once", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const migrate = Migrator.make({})({
          loader: Migrator.fromRecord({
            "0001_orders": Effect.flatMap(SqlClient.SqlClient, (client) => client`CREATE TABLE orders (id INTEGER)`),
            "0002_idempotency": SqlIdempotencyRepository.migrationWith({ table: "migrated" })
          })
        })
        expect(yield* migrate).toEqual([
          [1, "orders"],
          [2, "idempotency"]
        ])
        expect(yield* migrate).toEqual([])
        expect(yield* numberOf(sql, "SELECT count(*) AS n FROM orders")).toBe(0)
        yield* lives("migrated")
      })
    )

    it.scoped("is made by the statements that are told", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        for (const statement of SqlIdempotencyRepository.ddl(name, "Order")) {
          yield* sql.unsafe(statement).unprepared
        }
        yield* SqlIdempotencyRepository.migrationWith({ table: "Order" })
        yield* lives("Order")
      })
    )

    it.scoped("may have the longest name there is, and be in a schema", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const schema = name === "sqlite" ? "main" : name === "mysql" ? "test" : "s".repeat(48)
        if (name === "postgres") yield* rowsOf(sql, `CREATE SCHEMA ${schema}`)
        const table = `${schema}.${"T".repeat(48)}`
        yield* SqlIdempotencyRepository.migrationWith({ table })
        yield* SqlIdempotencyRepository.migrationWith({ table })
        yield* lives(table)
        const { claims } = yield* repositoryOf({ table, operationTimeout: "20 seconds" })
        const key = freshIds()
        yield* claims.claim(key, claimBy("t"))
        // One who waits is told.
        yield* claims.changes(key)
        expect(yield* claims.complete(key, completeBy("t"))).toMatchObject({ _tag: "Done" })
      })
    )

    it.effect("has an index by which expired rows are found", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* SqlIdempotencyRepository.migration
        const indexes = {
          postgres: "SELECT indexname AS name FROM pg_indexes WHERE tablename = 'idempotency_records'",
          sqlite: "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'idempotency_records'",
          mysql: "SELECT INDEX_NAME AS name FROM information_schema.STATISTICS WHERE TABLE_NAME = 'idempotency_records'"
        }
        const names = (yield* rowsOf(sql, indexes[name])).map((row) => row["name"])
        expect(names).toContain("idempotency_records_expiry")
      })
    )
  })

migrations("postgres", pgClient.pipe(Layer.provide(Postgres.layer)))
migrations("sqlite", sqliteClient.pipe(Layer.provide(SqliteFile.layer)))
migrations("mysql", mysqlClient.pipe(Layer.provide(Mariadb.layer)))

describe("names", () => {
  it.scopedLive.each([
    "",
    ".",
    "a.",
    ".a",
    "a.b.c",
    "records; DROP TABLE users",
    'records"',
    "records`",
    "re cords",
    "records--",
    "1records",
    "réglages",
    "таблица",
    "ｒecords",
    "records\u0000",
    "records\n",
    "a-b",
    "a$b",
    "t".repeat(49),
    `${"s".repeat(49)}.t`
  ])("%j is none", (table) =>
    Effect.gen(function* () {
      const refused = { _tag: "IdempotencyValidationError" }
      expect(yield* Effect.flip(repositoryOf({ table }))).toMatchObject(refused)
      expect(yield* Effect.flip(repositoryOf({ table, startup: "log" }))).toMatchObject(refused)
      expect(yield* Effect.flip(SqlIdempotencyRepository.migrationWith({ table }))).toMatchObject(refused)
      expect(yield* Effect.flip(Layer.build(SqlIdempotencyRepository.layerReaper({ table })))).toMatchObject(refused)
      const sql = yield* SqlClient.SqlClient
      expect(yield* rowsOf(sql, "SELECT name FROM sqlite_master")).toEqual([])
    }).pipe(Effect.provide(sqliteClient), Effect.provide(SqliteFile.layer))
  )

  it.scopedLive("a database of another kind is refused", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const other: SqlClient.SqlClient = Object.assign(
        (...args: Parameters<SqlClient.SqlClient>) => sql(...args),
        sql,
        { onDialectOrElse: ({ orElse }: { readonly orElse: () => string }) => orElse() }
      )
      const errors = [
        yield* Effect.flip(repositoryOf()).pipe(Effect.provideService(SqlClient.SqlClient, other)),
        yield* Effect.flip(SqlIdempotencyRepository.migration).pipe(Effect.provideService(SqlClient.SqlClient, other))
      ]
      for (const error of errors) expect(error).toMatchObject({ _tag: "IdempotencyValidationError" })
    }).pipe(Effect.provide(sqliteClient), Effect.provide(SqliteFile.layer))
  )
})

describe("layerConfig", () => {
  it.scopedLive("reads the table, and what else there is to say", () =>
    Effect.gen(function* () {
      const configured = SqlIdempotencyRepository.layerConfig({
        table: Config.string("TABLE"),
        startup: Config.literal("log", "fail")("STARTUP").pipe(Config.withDefault("fail" as const)),
        operationTimeout: Config.duration("TIMEOUT").pipe(Config.withDefault("20 seconds" as const))
      })
      const build = (entries: Record<string, string>) =>
        Layer.build(configured).pipe(
          Effect.provide(Layer.setConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(entries)))))
        )
      yield* SqlIdempotencyRepository.migrationWith({ table: "configured" })
      yield* build({ TABLE: "configured" })
      expect(yield* Effect.flip(build({}))).toMatchObject({ _op: "MissingData" })
      expect(yield* Effect.flip(build({ TABLE: "a b" }))).toMatchObject({ _tag: "IdempotencyValidationError" })
      expect(yield* Effect.flip(build({ TABLE: "absent" }))).toMatchObject({ _tag: "IdempotencyStorageError" })
      yield* build({ TABLE: "absent", STARTUP: "log" })
    }).pipe(Effect.provide(sqliteClient), Effect.provide(SqliteFile.layer))
  )
})

/** What `@effect/sql` is told by whoever names columns in snake case and fields in camel case. */
const renamed = { transformQueryNames: String.camelToSnake, transformResultNames: String.snakeToCamel }

describe("a client that renames columns", () => {
  const suite = <S, E>(name: string, server: Layer.Layer<S>, client: Layer.Layer<SqlClient.SqlClient, E, S>) =>
    it.scopedLive(
      `works as any other: ${name}`,
      () =>
        Effect.gen(function* () {
          yield* SqlIdempotencyRepository.migration
          yield* lives()
          const sql = yield* SqlClient.SqlClient
          yield* Effect.gen(function* () {
            const once = withIdempotentTransaction(Effect.succeed("paid"), "pay", "order-1")
            expect([yield* once, yield* once]).toEqual(["paid", "paid"])
            expect(yield* withIdempotency(Effect.succeed("other"), "pay", "order-1")).toBe("paid")
            const { claims } = yield* repositoryOf()
            const key = freshIds()
            yield* claims.claim(key, claimBy("t"))
            const renewals = [{ identifiers: key, request: { token: "t", lease: 1000 } }]
            expect(yield* claims.renew(renewals)).toEqual([{ _tag: "Renewed" }])
            yield* claims.release(key, { token: "t" })
            expect(yield* claims.claim(key, claimBy("u"))).toMatchObject({ attempt: 2 })
          }).pipe(Effect.provide(Layer.fresh(layerSql())))
          yield* rowsOf(sql, "UPDATE idempotency_records SET expires_at = 5")
          yield* Layer.build(SqlIdempotencyRepository.layerReaper({ interval: "10 millis" }))
          yield* eventually(numberOf(sql, "SELECT count(*) AS n FROM idempotency_records"), (count) => count === 0)
        }).pipe(Effect.provide(client), Effect.provide(server)),
      60_000
    )
  suite(
    "Postgres",
    Postgres.layer,
    Layer.unwrapEffect(
      Effect.map(Postgres, ({ url }) => PgClient.layer({ url: Redacted.make(url), maxConnections: 5, ...renamed }))
    )
  )
  suite(
    "SQLite",
    SqliteFile.layer,
    Layer.unwrapEffect(Effect.map(SqliteFile, (filename) => SqliteClient.layer({ filename, ...renamed })))
  )
})

describe("the user's client", () => {
  it.scopedLive("of SQLite waits for others as long as it did before", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* SqlIdempotencyRepository.migration
      const timeout = Effect.map(rowsOf(sql, "PRAGMA busy_timeout"), ([row]) => row?.["timeout"])
      yield* rowsOf(sql, "PRAGMA busy_timeout = 1234")
      yield* lives()
      expect(yield* timeout).toBe(1234)
      // Also when another has the database to itself.
      const other = yield* Layer.build(Layer.fresh(sqliteClient))
      const key = freshIds()
      const { claims } = yield* repositoryOf()
      yield* Context.get(other, SqlClient.SqlClient).withTransaction(
        Effect.gen(function* () {
          yield* rowsOf(Context.get(other, SqlClient.SqlClient), "UPDATE idempotency_records SET version = version")
          expect(yield* claims.claim(key, claimBy("t"))).toMatchObject({ _tag: "InFlight" })
          const error = yield* Effect.flip(
            claims.release(key, { token: "t" }).pipe(Effect.zipRight(claims.complete(key, completeBy("t"))))
          )
          expect(error).toMatchObject({ reason: "Rejected", applied: "unknown" })
        })
      )
      expect(yield* timeout).toBe(1234)
      expect(yield* claims.claim(key, claimBy("t"))).toMatchObject({ _tag: "Claimed" })
    }).pipe(Effect.provide(sqliteClient), Effect.provide(SqliteFile.layer))
  )

  it.scopedLive(
    "of Postgres stays open, and nothing of the store is left on the server",
    () =>
      Effect.gen(function* () {
        const { query, url } = yield* Postgres
        const sessions = Effect.map(
          query(
            "SELECT query FROM pg_stat_activity WHERE application_name = '@effect/sql-pg' AND pid <> pg_backend_pid()"
          ),
          (rows) => rows.map((row) => `${row["query"]}`)
        )
        yield* Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          yield* SqlIdempotencyRepository.migration
          const scope = yield* Scope.make()
          const { claims } = yield* Scope.extend(repositoryOf(), scope)
          yield* Scope.extend(Layer.build(SqlIdempotencyRepository.layerReaper()), scope)
          const key = freshIds()
          yield* claims.claim(key, claimBy("t"))
          yield* Scope.extend(claims.changes(key), scope)
          yield* eventually(sessions, (found) => found.some((text) => text.startsWith("LISTEN")))
          yield* Effect.timeout(Scope.close(scope, Exit.void), "5 seconds")
          yield* eventually(sessions, (found) => !found.some((text) => text.includes("LISTEN")))
          expect(yield* numberOf(sql, "SELECT 1 AS n")).toBe(1)
          expect(yield* numberOf(sql, "SELECT count(*) AS n FROM pg_stat_activity WHERE state LIKE 'idle in%'")).toBe(0)
        }).pipe(Effect.provide(pgClientOf(url)))
        yield* eventually(sessions, (found) => found.length === 0)
      }).pipe(Effect.provide(Postgres.layer)),
    60_000
  )
})
