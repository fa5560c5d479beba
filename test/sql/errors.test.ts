/** Failures as the clients of the databases report them, each provoked on a real one. */

import { writeFileSync } from "node:fs"
import * as SqlClient from "@effect/sql/SqlClient"
import { SqlError } from "@effect/sql/SqlError"
import { MysqlClient } from "@effect/sql-mysql2"
import { PgClient } from "@effect/sql-pg"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import { isBusy, isConflict, isDuplicate, isLockTimeout, sort, storageError } from "../../src/internal/sql/errors.js"
import { Mariadb, mysqlClient, Postgres, pgClient, pgClientOf, SqliteFile, sqliteClient } from "../support/databases.js"
import { rowsOf, sqlOf } from "./fixtures.js"

const fateOf = (error: unknown): string => {
  const { applied, reason } = sort(error)
  const flags = { isBusy, isConflict, isDuplicate, isLockTimeout }
  const named = Object.entries(flags).flatMap(([name, is]) => (is(error) ? [name] : []))
  return [reason, applied, ...named].join(", ")
}

/** What a statement fails with. */
const failing = (sql: SqlClient.SqlClient, text: string) =>
  Effect.map(Effect.flip(sql.unsafe(text).unprepared), (error) => [text, fateOf(error)] as const)

/** Outside the transaction that is open, which is another connection's. */
const apart = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.mapInputContext(effect, (context: Context.Context<never>) =>
    Context.omit(SqlClient.TransactionConnection)(context)
  )

/** What a statement fails with while a transaction of another connection has done something. */
const failingWhile = (
  other: SqlClient.SqlClient,
  done: string,
  sql: SqlClient.SqlClient,
  ...texts: ReadonlyArray<string>
) =>
  other
    .withTransaction(
      Effect.zipRight(
        rowsOf(other, done),
        Effect.flip(
          apart(sql.withTransaction(Effect.forEach(texts, (text) => sql.unsafe(text).unprepared, { discard: true })))
        )
      )
    )
    .pipe(Effect.map(fateOf))

/** Two transactions that each want what the other has: what the loser is told. */
const deadlock = (first: SqlClient.SqlClient, second: SqlClient.SqlClient) => {
  const take = (sql: SqlClient.SqlClient, ...order: ReadonlyArray<number>) =>
    sql.withTransaction(
      Effect.forEach(
        order,
        (id) => Effect.delay(rowsOf(sql, `UPDATE things SET n = n + 1 WHERE id = ${id}`), "100 millis"),
        {
          discard: true
        }
      )
    )
  return Effect.map(
    Effect.all([Effect.either(take(first, 1, 2)), Effect.either(take(second, 2, 1))], { concurrency: 2 }),
    (results) => results.flatMap((result) => (result._tag === "Left" ? [fateOf(result.left)] : []))
  )
}

const tables = (sql: SqlClient.SqlClient) =>
  Effect.forEach(
    [
      "CREATE TABLE things (id INTEGER NOT NULL PRIMARY KEY, n INTEGER NOT NULL, name VARCHAR(5))",
      "INSERT INTO things (id, n) VALUES (1, 0), (2, 0)"
    ],
    (text) => rowsOf(sql, text)
  )

describe("failures are sorted", () => {
  it.scopedLive(
    "of Postgres",
    () =>
      Effect.gen(function* () {
        const server = yield* Postgres
        const [sql, other] = [yield* sqlOf(Layer.fresh(pgClient)), yield* sqlOf(Layer.fresh(pgClient))]
        yield* tables(sql)
        const table = [
          ["SELECT * FROM nowhere", "Misconfigured, no"],
          ["SELECT nothing FROM things", "Misconfigured, no"],
          ["SELECT n = 'x'::text FROM things", "Misconfigured, no"],
          ["SELEKT 1", "Misconfigured, no"],
          ["INSERT INTO nowhere.things VALUES (1)", "Misconfigured, no"],
          ["INSERT INTO things VALUES (1, 1)", "Rejected, no, isDuplicate"],
          ["INSERT INTO things VALUES (3, NULL)", "Rejected, no"],
          ["INSERT INTO things VALUES (3, 1, 'too long')", "Rejected, no"],
          ["SELECT 1 / 0", "Rejected, no"],
          ["SET TRANSACTION READ ONLY; INSERT INTO things VALUES (3, 1)", "Unavailable, no"],
          ["SET LOCAL statement_timeout = 20; SELECT pg_sleep(1)", "Unavailable, no"],
          ["SELECT pg_cancel_backend(pg_backend_pid())", "Unavailable, no"],
          ["SELECT pg_terminate_backend(pg_backend_pid())", "Unavailable, unknown"]
        ]
        expect(yield* Effect.forEach(table, ([text = ""]) => failing(sql, text))).toEqual(table)
        // The pool takes a moment to notice that the connection of the last one is gone.
        yield* Effect.retry(rowsOf(sql, "SELECT 1"), { schedule: Schedule.spaced("20 millis"), times: 100 })

        const lock = "UPDATE things SET n = 1 WHERE id = 1"
        const wait = ["SET LOCAL lock_timeout = 20", lock]
        expect(yield* failingWhile(other, lock, sql, ...wait)).toBe("Timeout, no, isLockTimeout")
        expect(yield* failingWhile(other, lock, sql, "SELECT * FROM things FOR UPDATE NOWAIT")).toBe(
          "Timeout, no, isLockTimeout"
        )
        expect(yield* deadlock(sql, other)).toEqual(["Unavailable, no, isConflict"])
        const conflict = sql.withTransaction(
          Effect.gen(function* () {
            yield* rowsOf(sql, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            yield* rowsOf(sql, "SELECT * FROM things")
            yield* apart(rowsOf(other, "UPDATE things SET n = n + 7 WHERE id = 2"))
            yield* rowsOf(sql, "UPDATE things SET n = 8 WHERE id = 2")
          })
        )
        expect(fateOf(yield* Effect.flip(conflict))).toBe("Unavailable, no, isConflict")

        yield* rowsOf(sql, "CREATE ROLE guest LOGIN")
        const url = (user: string, database = "postgres", port = server.port) =>
          `postgres://${user}@127.0.0.1:${port}/${database}`
        const connecting = (to: string) =>
          Effect.map(Effect.flip(Effect.scoped(Layer.build(PgClient.layer({ url: Redacted.make(to) })))), fateOf)
        expect(yield* connecting(url("stranger"))).toBe("Misconfigured, no")
        expect(yield* connecting(url("postgres", "nowhere"))).toBe("Misconfigured, no")
        expect(yield* connecting(url("postgres", "postgres", 1))).toBe("Unavailable, no")
        const guest = yield* sqlOf(pgClientOf(url("guest")))
        expect(yield* failing(guest, "SELECT * FROM things")).toEqual(["SELECT * FROM things", "Misconfigured, no"])

        yield* Effect.forkScoped(Effect.delay(server.signal("SIGQUIT"), "100 millis"))
        expect(yield* failing(sql, "SELECT pg_sleep(10)")).toEqual(["SELECT pg_sleep(10)", "Unavailable, unknown"])
        yield* Effect.sleep("200 millis")
        expect(yield* failing(other, "SELECT 1")).toEqual(["SELECT 1", "Unavailable, no"])
      }).pipe(Effect.provide(Postgres.layer)),
    60_000
  )

  it.scopedLive("of SQLite", () =>
    Effect.gen(function* () {
      const filename = yield* SqliteFile
      const [sql, other] = [yield* sqlOf(Layer.fresh(sqliteClient)), yield* sqlOf(Layer.fresh(sqliteClient))]
      yield* tables(sql)
      const table = [
        ["INSERT INTO things VALUES (1, 1, '')", "Rejected, no, isDuplicate"],
        ["INSERT INTO things VALUES (3, NULL, '')", "Rejected, no"],
        ["INSERT INTO things VALUES ('x', 1, '')", "Misconfigured, no"]
      ]
      const failingPrepared = (text: string, client = sql) =>
        Effect.map(Effect.flip(client.unsafe(text)), (error) => [text, fateOf(error)] as const)
      expect(yield* Effect.forEach(table, ([text = ""]) => failingPrepared(text))).toEqual(table)
      for (const text of ["SELECT * FROM nowhere", "SELECT nothing FROM things", "SELEKT 1", "SELECT * FROM a.b"]) {
        expect(yield* failingPrepared(text)).toEqual([text, "Misconfigured, no"])
      }
      yield* rowsOf(sql, "PRAGMA busy_timeout = 0")
      const lock = "UPDATE things SET n = n + 1"
      expect(yield* other.withTransaction(Effect.zipRight(rowsOf(other, lock), apart(failingPrepared(lock))))).toEqual([
        lock,
        "Rejected, no, isBusy, isConflict"
      ])
      const stale = sql.withTransaction(
        Effect.gen(function* () {
          yield* rowsOf(sql, "SELECT * FROM things")
          yield* apart(rowsOf(other, lock))
          yield* rowsOf(sql, lock)
        })
      )
      expect(fateOf(yield* Effect.flip(stale))).toBe("Rejected, no, isBusy, isConflict")
      const readonly = yield* sqlOf(SqliteClient.layer({ filename, readonly: true }))
      expect(yield* failingPrepared(lock, readonly)).toEqual([lock, "Misconfigured, no"])
      writeFileSync(`${filename}.text`, "not a database, whatever its name says ".repeat(50))
      const text = yield* sqlOf(SqliteClient.layer({ filename: `${filename}.text`, disableWAL: true }))
      expect(yield* failingPrepared("SELECT 1 FROM things", text)).toEqual([
        "SELECT 1 FROM things",
        "Misconfigured, no"
      ])
      const [pages] = yield* rowsOf(sql, "PRAGMA page_count")
      yield* rowsOf(sql, `PRAGMA max_page_count = ${Number(pages?.["page_count"])}`)
      expect(yield* failingPrepared("CREATE TABLE more (id INTEGER)")).toEqual([
        "CREATE TABLE more (id INTEGER)",
        "Rejected, no"
      ])
    }).pipe(Effect.provide(SqliteFile.layer))
  )

  it.scopedLive(
    "of MariaDB",
    () =>
      Effect.gen(function* () {
        const server = yield* Mariadb
        const [sql, other] = [yield* sqlOf(Layer.fresh(mysqlClient)), yield* sqlOf(Layer.fresh(mysqlClient))]
        yield* tables(sql)
        const table = [
          ["SELECT * FROM nowhere", "Misconfigured, no"],
          ["SELECT nothing FROM things", "Misconfigured, no"],
          ["SELEKT 1", "Misconfigured, no"],
          ["SELECT * FROM nobodys.things", "Misconfigured, no"],
          ["INSERT INTO things VALUES (1, 1, '')", "Rejected, no, isDuplicate"],
          ["INSERT INTO things VALUES (3, NULL, '')", "Rejected, no"],
          ["INSERT INTO things VALUES (3, 1, 'too long')", "Rejected, no"],
          ["INSERT INTO things VALUES ('x', 1, '')", "Rejected, no"],
          ["SIGNAL SQLSTATE '45000'", "Rejected, no"],
          ["START TRANSACTION READ ONLY; INSERT INTO things VALUES (3, 1, '')", "Unavailable, no"],
          ["SET STATEMENT max_statement_time = 0.05 FOR SELECT SLEEP(1) FROM things", "Unavailable, no"],
          ["KILL QUERY CONNECTION_ID()", "Unavailable, no"],
          ["KILL CONNECTION CONNECTION_ID()", "Unavailable, unknown"]
        ]
        expect(yield* Effect.forEach(table, ([text = ""]) => failing(sql, text))).toEqual(table)
        // The pool takes a moment to notice that the connection of the last one is gone.
        yield* Effect.retry(rowsOf(sql, "SELECT 1"), { schedule: Schedule.spaced("20 millis"), times: 100 })

        const lock = "UPDATE things SET n = 1 WHERE id = 1"
        const wait = ["SET SESSION innodb_lock_wait_timeout = 1", lock]
        expect(yield* failingWhile(other, lock, sql, ...wait)).toBe("Timeout, no, isLockTimeout")
        expect(yield* failingWhile(other, lock, sql, "SELECT * FROM things FOR UPDATE NOWAIT")).toBe(
          "Timeout, no, isLockTimeout"
        )
        expect(yield* deadlock(sql, other)).toEqual(["Unavailable, no, isConflict"])

        yield* server.query("CREATE USER guest")
        const connecting = (url: string) =>
          Effect.map(Effect.flip(Effect.scoped(Layer.build(MysqlClient.layer({ url: Redacted.make(url) })))), fateOf)
        const { url } = server
        expect(yield* connecting(url.replace("root@", "root:wrong@"))).toBe("Misconfigured, no")
        expect(yield* connecting(url.replace("root@", "guest@"))).toBe("Misconfigured, no")
        expect(yield* connecting(url.replace("/test", "/nowhere"))).toBe("Misconfigured, no")
        expect(yield* connecting(url.replace(`:${server.port}`, ":1"))).toBe("Unavailable, no")
        yield* server.query("SET GLOBAL max_connections = 10")
        const crowd = yield* sqlOf(MysqlClient.layer({ url: Redacted.make(url), maxConnections: 30 }))
        const refused = yield* Effect.all(
          Array.from({ length: 20 }, () => Effect.either(rowsOf(crowd, "SELECT SLEEP(0.3)"))),
          { concurrency: "unbounded" }
        )
        expect(new Set(refused.flatMap((result) => (result._tag === "Left" ? [fateOf(result.left)] : [])))).toEqual(
          new Set(["Unavailable, no"])
        )
        yield* Effect.forkScoped(Effect.delay(server.signal("SIGKILL"), "100 millis"))
        expect(yield* failing(other, "SELECT SLEEP(10)")).toEqual(["SELECT SLEEP(10)", "Unavailable, unknown"])
      }).pipe(Effect.provide(Mariadb.layer)),
    60_000
  )

  it("of MySQL, which has another number than MariaDB for a statement that took too long", () => {
    const error = (code: string, errno: number) =>
      new SqlError({ cause: Object.assign(new Error("x"), { code, errno, sqlState: "HY000" }) })
    expect(fateOf(error("ER_QUERY_TIMEOUT", 3024))).toBe("Unavailable, no")
    expect(fateOf(error("ER_LOCK_NOWAIT", 3572))).toBe("Timeout, no, isLockTimeout")
  })

  it("whatever else it is, nobody knows what became of it", () => {
    for (const error of [
      "not even an error",
      undefined,
      null,
      new Error("x"),
      new SqlError({ cause: new Error("x") })
    ]) {
      expect(fateOf(error)).toBe("Unavailable, unknown")
    }
    const cause = new SqlError({ cause: new AggregateError([Object.assign(new Error("x"), { code: "ECONNREFUSED" })]) })
    expect(storageError("payment.charge", "claim")(cause)).toMatchObject({
      operation: "payment.charge",
      method: "claim",
      reason: "Unavailable",
      applied: "no",
      cause
    })
  })
})
