/** What a list costs a database, and what it makes of rows that are not the store's. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import { encodeCursor } from "../../src/internal/listing.js"
import { runAnywhere } from "../../src/internal/sql/connections.js"
import { makeList } from "../../src/internal/sql/list.js"
import type { Dialect } from "../../src/internal/sql/table.js"
import { storedKey } from "../../src/internal/storedKey.js"
import { SqlIdempotencyRepository } from "../../src/sql.js"
import { Mariadb, mysqlClient, Postgres, pgClient, pgClientOf, SqliteFile, sqliteClient } from "../support/databases.js"
import { tcpProxy } from "../support/tcpProxy.js"
import {
  claimBy,
  freshIds,
  ids,
  insertBy,
  numberOf,
  outcome,
  repositoryOf,
  repositoryOver,
  rowsOf
} from "./fixtures.js"

type Repository = Effect.Effect.Success<typeof IdempotencyRepository>
type Request = IdempotencyRepository.ListRequest

const pagesOf = (
  { list }: Pick<Repository, "list">,
  request: Request = {}
): Effect.Effect<ReadonlyArray<IdempotencyRepository.Page>, unknown> =>
  Effect.flatMap(list(request), (page) =>
    page.cursor === undefined
      ? Effect.succeed([page])
      : Effect.map(pagesOf({ list }, { ...request, cursor: page.cursor }), (more) => [page, ...more])
  )

const entriesOf = (pages: ReadonlyArray<IdempotencyRepository.Page>) => pages.flatMap(({ entries }) => entries)
const keysOf = (pages: ReadonlyArray<IdempotencyRepository.Page>) =>
  entriesOf(pages)
    .map(({ identifiers }) => storedKey(identifiers))
    .sort()

const columns =
  "operation, scope, idempotency_key, version, state, token, attempt, created_at, expires_at, outcome, result"

/** Many settled rows of one operation, made by the database. */
const series: Readonly<Record<Dialect, (count: number) => string>> = {
  postgres: (count) => `SELECT 'k' || n AS k FROM generate_series(1, ${count}) AS n`,
  sqlite: (count) =>
    `WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < ${count}) SELECT 'k' || n AS k FROM s`,
  mysql: (count) => `SELECT CONCAT('k', seq) AS k FROM seq_1_to_${count}`
}

/** How a database says that it finds rows by the primary key, from a place in it. */
const explained: Readonly<
  Record<Dialect, { readonly explain: string; readonly byKey: RegExp; readonly otherwise: RegExp }>
> = {
  postgres: {
    explain: "EXPLAIN",
    byKey: /Index (Only )?Scan using \w+_pkey.*Index Cond: .*ROW\((operation|scope)/s,
    otherwise: /Seq Scan|Sort/
  },
  sqlite: {
    explain: "EXPLAIN QUERY PLAN",
    byKey: /SEARCH .*sqlite_autoindex_idempotency_records_1 \(.*operation/,
    otherwise: /SCAN idempotency_records|B-TREE/
  },
  mysql: {
    explain: "EXPLAIN",
    byKey: /"type":"range".*"key":"PRIMARY"/,
    otherwise: /"idempotency_records","type":"(ALL|index)"|filesort/
  }
}

const suite = <E>(name: string, dialect: Dialect, client: Layer.Layer<SqlClient.SqlClient, E>) =>
  layer(client, { excludeTestServices: true, timeout: 60_000 })(`${name}: a list`, (it) => {
    const setup = Effect.gen(function* () {
      yield* SqlIdempotencyRepository.migration
      const sql = yield* SqlClient.SqlClient
      yield* rowsOf(sql, "DELETE FROM idempotency_records")
      const { driver, ...repository } = yield* repositoryOf()
      return { sql, repository, driver }
    })

    const fill = (sql: SqlClient.SqlClient, count: number) =>
      Effect.gen(function* () {
        yield* rowsOf(
          sql,
          `INSERT INTO idempotency_records (${columns}) SELECT 'many', '', k, 1, 'Completed', 't', 1, 0, 4000000000000, 'Success', '1' FROM (${series[dialect](count)}) AS s`
        )
        if (dialect !== "sqlite")
          yield* rowsOf(sql, `ANALYZE ${dialect === "mysql" ? "TABLE " : ""}idempotency_records`)
      })

    it.scoped("of 3,000 keys holds each once, in pages of the length that was asked for", () =>
      Effect.gen(function* () {
        const { driver, repository } = yield* setup
        const keys = Array.from({ length: 3_000 }, (_, n) =>
          ids(freshIds().idempotencyKey, `o${n % 3}`, n % 2 ? "s" : undefined)
        )
        yield* driver.insert(
          keys.map((identifiers) => ({ identifiers, request: insertBy("t") })),
          { allOrNothing: false }
        )
        const expected = keys.map(storedKey).sort()
        const pages = yield* pagesOf(repository, { limit: 100 })
        expect(keysOf(pages)).toEqual(expected)
        expect(pages.slice(0, 30).every(({ entries }) => entries.length === 100)).toBe(true)
        expect(keysOf(yield* pagesOf(repository, { limit: 1_000 }))).toEqual(expected)
        const ones = expected.filter((key) => key.startsWith("o1"))
        expect(keysOf(yield* pagesOf(repository, { limit: 400, operation: "o1" }))).toEqual(ones)
        // A place in another operation is none in this one.
        for (const other of ["o0", "o2"]) {
          const cursor = encodeCursor("sql", other, "s", "z")
          expect(keysOf(yield* pagesOf(repository, { limit: 400, operation: "o1", cursor }))).toEqual(ones)
        }
      })
    )

    it.scoped("looks at so many rows per page, however few it finds, and finds its place by the primary key", () =>
      Effect.gen(function* () {
        const { repository, sql } = yield* setup
        yield* fill(sql, 12_000)
        yield* rowsOf(sql, "UPDATE idempotency_records SET state = 'Foo' WHERE idempotency_key = 'k777'")
        for (const state of ["Unknown", "Corrupted"] as const) {
          const pages = yield* pagesOf(repository, { state })
          expect(entriesOf(pages)).toHaveLength(state === "Unknown" ? 0 : 1)
          expect(pages).toHaveLength(3)
        }
        expect(yield* pagesOf(repository, { keyPrefix: "k%" })).toHaveLength(3)
        expect(yield* pagesOf(repository, { operation: "man" })).toHaveLength(1)

        const statements: Array<readonly [text: string, parameters: ReadonlyArray<unknown>]> = []
        const run = runAnywhere(sql, dialect, 1_000)
        const list = makeList(
          (text, parameters) => {
            statements.push([text, parameters])
            return run(text, parameters)
          },
          dialect,
          "idempotency_records"
        )
        const request = { operation: undefined, keyPrefix: undefined, state: undefined, cursor: undefined, limit: 10 }
        const middle = encodeCursor("sql", "many", "", "k5")
        yield* list({ ...request, cursor: middle })
        yield* list({ ...request, cursor: middle, operation: "many", state: "Unknown", keyPrefix: "k7" })
        expect(statements).toHaveLength(4)
        const { byKey, explain, otherwise } = explained[dialect]
        for (const [text, parameters] of statements) {
          const unread = text.replace("CASE WHEN result IS NULL THEN NULL ELSE '' END AS result, NULL AS steps", "")
          expect(unread).not.toMatch(/steps|result/)
          const plan = JSON.stringify(yield* rowsOf(sql, `${explain} ${text}`, parameters))
          expect(plan).toMatch(byKey)
          expect(plan).not.toMatch(otherwise)
        }
      })
    )

    it.scoped("leaves out what is no identity, and tells of rows that cannot be read", () =>
      Effect.gen(function* () {
        const { driver, repository, sql } = yield* setup
        const change = (key: string, text: string) =>
          rowsOf(sql, `UPDATE idempotency_records SET ${text} WHERE idempotency_key = '${key}'`)
        for (const key of ["a", "b", "c", "d", "e", "f", "sound"]) yield* driver.claim(ids(key), claimBy("t"))
        yield* driver.resolve(ids("a"), { token: "t", outcome })
        yield* driver.complete(ids("settled"), { token: "t", outcome, fingerprint: undefined, retention: 60_000 })
        yield* change("a", "state = 'Foo'")
        yield* change("b", "lease_until = NULL")
        yield* change("settled", "result = NULL")
        yield* change("c", "idempotency_key = ' c'")
        yield* change("d", "operation = 'a:b'")
        yield* change("e", "scope = 'x:y'")
        yield* change("f", "expires_at = 1")
        if (dialect === "sqlite") {
          yield* driver.claim(ids("bytes"), claimBy("t"))
          yield* change("bytes", "idempotency_key = x'00ff'")
        }
        for (const limit of [1, 100]) {
          const told = entriesOf(yield* pagesOf(repository, { limit })).map(({ identifiers, state }) => [
            identifiers.idempotencyKey,
            state._tag
          ])
          expect(told).toEqual([
            ["a", "Corrupted"],
            ["b", "Corrupted"],
            ["settled", "Corrupted"],
            ["sound", "Processing"]
          ])
          expect(keysOf(yield* pagesOf(repository, { limit, state: "Corrupted" }))).toHaveLength(3)
          expect(keysOf(yield* pagesOf(repository, { limit, state: "Processing" }))).toHaveLength(1)
        }
      })
    )

    it.scoped("refuses cursors that are not a place in it", () =>
      Effect.gen(function* () {
        const { repository } = yield* setup
        for (const cursor of [
          encodeCursor("redis", "node", "1"),
          encodeCursor("sql", "a", "b"),
          encodeCursor("sql", "a", "b", "c", "d"),
          encodeCursor("sql", "a", "b", "\0"),
          encodeCursor("sql", "\ud800", "b", "c")
        ]) {
          expect((yield* Effect.flip(repository.list({ cursor })))._tag).toBe("IdempotencyValidationError")
        }
        expect(yield* repository.list({ cursor: encodeCursor("sql", "' OR 1 = 1 --", "%", "$1 ?") })).toMatchObject({
          entries: []
        })
      })
    )

    it.scoped("is not part of the transaction that its caller has open", () =>
      Effect.gen(function* () {
        const { driver, repository, sql } = yield* setup
        yield* driver.claim(ids("k"), claimBy("t"))
        // SQLite has one connection.
        const list = dialect === "sqlite" ? repository.list() : sql.withTransaction(repository.list())
        expect((yield* list).entries).toHaveLength(1)
        expect(yield* numberOf(sql, "SELECT COUNT(*) FROM idempotency_records")).toBe(1)
      })
    )
  })

suite("Postgres", "postgres", pgClient.pipe(Layer.provide(Postgres.layer)))
suite("SQLite", "sqlite", sqliteClient.pipe(Layer.provide(SqliteFile.layer)))
suite("MariaDB", "mysql", mysqlClient.pipe(Layer.provide(Mariadb.layer)))

layer(Postgres.layer, { excludeTestServices: true, timeout: 60_000 })("a list through a slow line", (it) => {
  it.scoped("transfers no results", () =>
    Effect.gen(function* () {
      const { url } = yield* Postgres
      const address = new URL(url)
      const proxy = yield* tcpProxy(Number(address.port))
      address.port = String(proxy.port)
      const direct = pgClientOf(url)
      yield* Effect.provide(SqlIdempotencyRepository.migration, direct)
      const { driver } = yield* repositoryOver(direct)
      const long = { _tag: "Success", encoded: JSON.stringify("x".repeat(1_048_576)) } as const
      yield* driver.insert(
        Array.from({ length: 10 }, () => ({ identifiers: freshIds(), request: { ...insertBy("t"), outcome: long } })),
        { allOrNothing: false }
      )
      const repository = yield* repositoryOver(pgClientOf(address.href))
      yield* repository.list()
      const before = proxy.passed()
      expect((yield* repository.list()).entries).toHaveLength(10)
      expect(proxy.passed() - before).toBeLessThan(20_000)
    })
  )
})
