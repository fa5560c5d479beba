/** What a database refuses, and where there is none. */

import * as SqlClient from "@effect/sql/SqlClient"
import { MysqlClient } from "@effect/sql-mysql2"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import type { IdempotencyStorageError } from "../../src/IdempotencyError.js"
import { SqlIdempotencyRepository } from "../../src/sql.js"
import { Mariadb, mysqlClient, Postgres, pgClient, pgClientOf, SqliteFile, sqliteClient } from "../support/databases.js"
import { startPostgres } from "../support/postgresServers.js"
import { tcpProxy } from "../support/tcpProxy.js"
import { claimBy, completeBy, freshIds, logged, repositoryOf, repositoryOver, rowsOf, sqlOf } from "./fixtures.js"

const no = { _tag: "IdempotencyStorageError", applied: "no" } as const
const misconfigured = { ...no, reason: "Misconfigured" }
const unavailable = { ...no, reason: "Unavailable" }

/** Without its cause, which is the client's and may be endless. */
const fateOf = ({ applied, reason }: IdempotencyStorageError) => `${reason}, ${applied}`

const databases: ReadonlyArray<readonly [name: string, client: Layer.Layer<SqlClient.SqlClient>]> = [
  ["Postgres", Layer.provideMerge(pgClient, Postgres.layer)],
  ["SQLite", Layer.provideMerge(sqliteClient, SqliteFile.layer)],
  ["MariaDB", Layer.provideMerge(mysqlClient, Mariadb.layer)]
]

describe.each(databases)("%s", (_, client) => {
  it.scopedLive(
    "without its table the layer fails, or logs; it works once the table is there",
    () =>
      logged((messages) =>
        Effect.gen(function* () {
          expect(yield* Effect.flip(repositoryOf())).toMatchObject({ ...misconfigured, method: "probe" })
          expect(messages).toEqual([])
          const { claims } = yield* repositoryOf({ startup: "log", operationTimeout: "20 seconds" })
          expect(messages).toEqual([expect.stringMatching(/^WARN idempotency: the database cannot be used yet/)])
          const key = freshIds()
          expect(yield* Effect.flip(claims.claim(key, claimBy("t")))).toMatchObject({
            ...misconfigured,
            method: "claim"
          })
          expect(yield* Effect.flip(claims.complete(key, completeBy("t")))).toMatchObject(misconfigured)
          expect(yield* Effect.flip(claims.read([key]))).toMatchObject(misconfigured)
          yield* SqlIdempotencyRepository.migration
          expect(yield* claims.claim(key, claimBy("t"))).toMatchObject({ _tag: "Claimed" })
          expect(yield* claims.complete(key, completeBy("t"))).toMatchObject({ _tag: "Done" })
          expect(yield* claims.read([key])).toMatchObject([{ _tag: "Completed" }])
        })
      ).pipe(Effect.provide(client)),
    60_000
  )

  it.scopedLive(
    "a table of other columns is a misconfiguration, found at the start",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* rowsOf(sql, "CREATE TABLE idempotency_records (id INTEGER, version INTEGER)")
        expect(yield* Effect.flip(repositoryOf())).toMatchObject({ ...misconfigured, method: "probe" })
        yield* SqlIdempotencyRepository.migrationWith({ table: "older" })
        yield* rowsOf(sql, "ALTER TABLE older DROP COLUMN awaited")
        expect(yield* Effect.flip(repositoryOf({ table: "older" }))).toMatchObject({
          ...misconfigured,
          method: "probe"
        })
      }).pipe(Effect.provide(client)),
    60_000
  )
})

describe("columns of other types", () => {
  it.scopedLive("are a misconfiguration on Postgres, found at the start", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      for (const [index, alteration] of [
        "version TYPE TEXT",
        "attempt TYPE TEXT",
        "expires_at TYPE TIMESTAMPTZ USING now()",
        "state TYPE BIGINT USING 1",
        "steps TYPE JSONB USING NULL",
        "awaited DROP DEFAULT, ALTER awaited TYPE TEXT"
      ].entries()) {
        const table = `other_types_${index}`
        yield* SqlIdempotencyRepository.migrationWith({ table })
        yield* rowsOf(sql, `DROP INDEX ${table}_expiry`)
        yield* rowsOf(sql, `ALTER TABLE ${table} ALTER ${alteration}`)
        expect(yield* Effect.flip(repositoryOf({ table })), alteration).toMatchObject({
          ...misconfigured,
          method: "probe"
        })
      }
    }).pipe(Effect.provide(pgClient), Effect.provide(Postgres.layer))
  )
})

describe("a server that is away", () => {
  it.scopedLive(
    "refuses connections: at the start, and later until it is back",
    () =>
      logged((messages) =>
        Effect.gen(function* () {
          const server = yield* Postgres
          const proxy = yield* tcpProxy(server.port)
          yield* Effect.provide(SqlIdempotencyRepository.migration, pgClientOf(server.url))
          const sql = yield* sqlOf(pgClientOf(`postgres://postgres@127.0.0.1:${proxy.port}/postgres`))
          const withClient = Effect.provideService(SqlClient.SqlClient, sql)
          yield* server.signal("SIGQUIT")
          yield* Effect.repeat(Effect.either(server.query("SELECT 1")), { until: Either.isLeft })
          const claim = Effect.flip(
            (yield* withClient(repositoryOf({ startup: "log" }))).claims.claim(freshIds(), claimBy("t"))
          )
          expect(messages).toHaveLength(1)
          expect(yield* claim).toMatchObject({ reason: "Unavailable" })
          yield* proxy.cut
          expect(yield* Effect.flip(withClient(repositoryOf()))).toMatchObject({
            method: "probe",
            reason: "Unavailable"
          })
          yield* server.restart
          yield* proxy.mend
          const { claims } = yield* withClient(repositoryOf())
          const key = freshIds()
          expect(yield* claims.claim(key, claimBy("t"))).toMatchObject({ _tag: "Claimed" })
          yield* proxy.cut
          expect(yield* Effect.flip(claims.claim(key, claimBy("t")))).toMatchObject({ reason: "Unavailable" })
          yield* proxy.mend
          expect(yield* claims.claim(key, claimBy("t"))).toMatchObject({ _tag: "AlreadyMine" })
        })
      ).pipe(Effect.provide(Postgres.layer)),
    60_000
  )

  it.scopedLive("is known to have done nothing where the connection is refused", () =>
    Effect.gen(function* () {
      const server = yield* Postgres
      yield* Effect.provide(SqlIdempotencyRepository.migration, pgClientOf(server.url))
      const { claims } = yield* repositoryOver(pgClientOf(server.url))
      // Idle connections are gone as well.
      yield* server.signal("SIGQUIT")
      // The first may still be answered, or broken off.
      const claimed = yield* Effect.repeat(Effect.either(claims.claim(freshIds(), claimBy("t"))), {
        until: (either) => Either.isLeft(either) && either.left.applied === "no",
        times: 1000
      })
      expect(claimed).toMatchObject({ left: unavailable })
    }).pipe(Effect.provide(Postgres.layer))
  )

  it.scopedLive(
    "may be a black hole: the start, an operation, and the end of the layer are bounded",
    () =>
      Effect.gen(function* () {
        const server = yield* Postgres
        const proxy = yield* tcpProxy(server.port)
        yield* Effect.provide(SqlIdempotencyRepository.migration, pgClientOf(server.url))
        const sql = yield* sqlOf(pgClientOf(`postgres://postgres@127.0.0.1:${proxy.port}/postgres`))
        const withClient = Effect.provideService(SqlClient.SqlClient, sql)
        const scope = yield* Scope.make()
        const repository = yield* Scope.extend(withClient(repositoryOf({ operationTimeout: "300 millis" })), scope)
        const key = freshIds()
        yield* repository.claims.claim(key, claimBy("t"))
        yield* Scope.extend(repository.claims.changes(key), scope)
        yield* Effect.sleep("200 millis")
        yield* proxy.blackHole
        const bounded = Effect.timeoutFail({ duration: "10 seconds", onTimeout: () => "not bounded" as const })
        expect(yield* bounded(Effect.flip(repository.get(key)))).toMatchObject({ reason: "Timeout", applied: "no" })
        expect(yield* bounded(Effect.flip(repository.reset(key)))).toMatchObject({
          reason: "Timeout",
          applied: "unknown"
        })
        const ended = yield* Effect.either(bounded(Effect.disconnect(Scope.close(scope, Exit.void))))
        const started = yield* Effect.either(bounded(Effect.disconnect(Effect.flip(withClient(repositoryOf())))))
        yield* proxy.mend
        expect({ ended: ended._tag, started: started._tag }).toEqual({ ended: "Right", started: "Right" })
        expect(started).toMatchObject({ right: { reason: "Timeout" } })
      }).pipe(Effect.provide(Postgres.layer)),
    60_000
  )
})

describe("a server that refuses", () => {
  it.scopedLive(
    "on Postgres: who may not, read-only, too many connections, statements that take too long",
    () =>
      Effect.gen(function* () {
        const server = yield* startPostgres({ max_connections: "12", superuser_reserved_connections: "3" })
        const sql = yield* sqlOf(pgClientOf(server.url, { maxConnections: 2 }))
        yield* Effect.provideService(SqlIdempotencyRepository.migration, SqlClient.SqlClient, sql)
        yield* rowsOf(sql, "CREATE ROLE nobody LOGIN")
        yield* rowsOf(sql, "CREATE ROLE reader LOGIN")
        yield* rowsOf(sql, "GRANT SELECT ON idempotency_records TO reader")
        yield* rowsOf(sql, "CREATE ROLE hasty LOGIN")
        yield* rowsOf(sql, "GRANT ALL ON idempotency_records TO hasty")
        yield* rowsOf(sql, "ALTER ROLE hasty SET statement_timeout = '100ms'")
        const as = (role: string, settings = "") =>
          pgClientOf(`postgres://${role}@127.0.0.1:${server.port}/postgres${settings}`, { maxConnections: 2 })

        expect(yield* Effect.flip(repositoryOver(as("nobody")))).toMatchObject({ ...misconfigured, method: "probe" })
        const reader = yield* repositoryOver(as("reader"))
        expect(yield* Effect.flip(reader.claims.claim(freshIds(), claimBy("t")))).toMatchObject(misconfigured)
        expect(yield* reader.claims.read([freshIds()])).toEqual([undefined])

        const readOnly = yield* repositoryOver(as("postgres", "?options=-c%20default_transaction_read_only%3Don"))
        const key = freshIds()
        expect(yield* Effect.flip(readOnly.claims.claim(key, claimBy("t")))).toMatchObject(unavailable)
        expect(yield* Effect.flip(readOnly.claims.complete(key, completeBy("t")))).toMatchObject(unavailable)
        expect(yield* readOnly.claims.read([key])).toEqual([undefined])

        const hasty = yield* repositoryOver(as("hasty"))
        yield* sql.withTransaction(
          Effect.zipRight(
            rowsOf(sql, "LOCK TABLE idempotency_records"),
            Effect.map(Effect.flip(hasty.claims.read([key])), (error) => expect(error).toMatchObject(unavailable))
          )
        )

        const crowd = yield* Scope.make()
        const late = yield* repositoryOver(as("hasty"))
        yield* Effect.forEach(Array.from({ length: 12 }), () => Effect.either(sqlReserved(as("nobody"), crowd)))
        const failures = yield* Effect.all(
          Array.from({ length: 3 }, () => Effect.either(late.claims.read([key]))),
          { concurrency: "unbounded" }
        )
        const refused = failures.flatMap((result) => (result._tag === "Left" ? [result.left] : []))
        expect(refused.length).toBeGreaterThan(0)
        for (const error of refused) expect(error).toMatchObject(unavailable)
        yield* Scope.close(crowd, Exit.void)
        expect(yield* late.claims.read([key])).toEqual([undefined])
      }),
    60_000
  )

  it.scopedLive("on SQLite: a file that may only be read", () =>
    Effect.gen(function* () {
      const filename = yield* SqliteFile
      yield* SqlIdempotencyRepository.migration
      const { claims } = yield* repositoryOver(SqliteClient.layer({ filename, readonly: true }))
      const key = freshIds()
      expect(yield* Effect.flip(claims.claim(key, claimBy("t")))).toMatchObject(misconfigured)
      expect(yield* claims.read([key])).toEqual([undefined])
    }).pipe(Effect.provide(sqliteClient), Effect.provide(SqliteFile.layer))
  )

  it.scopedLive("on SQLite: a disk that is full", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* SqlIdempotencyRepository.migration
      const { claims } = yield* repositoryOf()
      const [pages] = yield* rowsOf(sql, "PRAGMA page_count")
      yield* rowsOf(sql, `PRAGMA max_page_count = ${Number(pages?.["page_count"]) + 1}`)
      const key = freshIds()
      const large = { ...completeBy("t"), outcome: { _tag: "Success", encoded: `"${"x".repeat(50_000)}"` } } as const
      expect(yield* Effect.flip(claims.complete(key, large))).toMatchObject({ ...no, reason: "Rejected" })
      expect(yield* claims.claim(key, claimBy("t"))).toMatchObject({ _tag: "Claimed" })
    }).pipe(Effect.provide(sqliteClient), Effect.provide(SqliteFile.layer))
  )

  it.scopedLive(
    "on MariaDB: who may not, read-only, statements that take too long",
    () =>
      Effect.gen(function* () {
        const server = yield* Mariadb
        yield* SqlIdempotencyRepository.migration
        yield* server.query("CREATE USER nobody, reader, writer")
        yield* server.query("GRANT CREATE ON test.* TO nobody")
        yield* server.query("GRANT SELECT ON test.idempotency_records TO reader")
        yield* server.query("GRANT ALL ON test.* TO writer")
        const as = (user: string) =>
          MysqlClient.layer({ url: Redacted.make(server.url.replace("root@", `${user}@`)), maxConnections: 2 })
        expect(yield* Effect.flip(repositoryOver(as("nobody")))).toMatchObject({ ...misconfigured, method: "probe" })
        const reader = yield* repositoryOver(as("reader"))
        const key = freshIds()
        expect(yield* reader.claims.read([key])).toEqual([undefined])
        expect(fateOf(yield* Effect.flip(reader.claims.claim(key, claimBy("t"))))).toBe("Misconfigured, no")
        const writer = yield* repositoryOver(as("writer"))
        yield* server.query("SET GLOBAL read_only = ON")
        expect(fateOf(yield* Effect.flip(writer.claims.claim(key, claimBy("t"))))).toBe("Unavailable, no")
        yield* server.query("SET GLOBAL read_only = OFF")
        expect(yield* writer.claims.claim(key, claimBy("t"))).toMatchObject({ _tag: "Claimed" })
        yield* server.query("SET GLOBAL max_statement_time = 0.2")
        const hasty = yield* repositoryOver(as("writer"))
        const sql = yield* SqlClient.SqlClient
        yield* sql.withTransaction(
          Effect.zipRight(
            rowsOf(sql, "SELECT * FROM idempotency_records FOR UPDATE"),
            Effect.map(Effect.flip(hasty.claims.complete(key, completeBy("t"))), (error) =>
              expect(fateOf(error)).toBe("Timeout, no")
            )
          )
        )
      }).pipe(Effect.provide(mysqlClient), Effect.provide(Mariadb.layer)),
    60_000
  )
})

describe("a server that is too old", () => {
  it.scopedLive(
    "on MariaDB: one that cannot be asked for a row without waiting for it",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* SqlIdempotencyRepository.migration
        // No server knows this word, as an old one does not know the other.
        const old: SqlClient.SqlClient = Object.assign(
          (...args: Parameters<SqlClient.SqlClient>) => sql(...args),
          sql,
          {
            unsafe: (text: string, parameters?: ReadonlyArray<unknown>) =>
              sql.unsafe(text.replaceAll("NOWAIT", "AT_ONCE"), parameters)
          }
        )
        const built = Effect.provideService(repositoryOf(), SqlClient.SqlClient, old)
        expect(yield* Effect.flip(built)).toMatchObject({ ...misconfigured, method: "probe" })
      }).pipe(Effect.provide(mysqlClient), Effect.provide(Mariadb.layer)),
    60_000
  )
})

/** A connection that is kept. */
const sqlReserved = <E>(client: Layer.Layer<SqlClient.SqlClient, E>, scope: Scope.Scope) =>
  Scope.extend(Effect.sandbox(Effect.map(Layer.build(Layer.fresh(client)), Context.get(SqlClient.SqlClient))), scope)
