/** The reaper deletes expired rows, all of them and no others, a batch at a time. */
import * as SqlClient from "@effect/sql/SqlClient"
import { describe, expect, it, layer } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { makeStatements } from "../../src/internal/sql/statements.js"
import { dialectOf } from "../../src/internal/sql/table.js"
import { SqlIdempotencyRepository, type SqlReaperOptions } from "../../src/sql.js"
import { Mariadb, mysqlClient, Postgres, pgClient, pgClientOf, SqliteFile, sqliteClient } from "../support/databases.js"
import { makeManualClock } from "../support/manualClock.js"
import { tcpProxy } from "../support/tcpProxy.js"
import {
  claimBy,
  completeBy,
  eventually,
  freshIds,
  insertBy,
  logged,
  minute,
  numberOf,
  repositoryOf,
  rowsOf,
  sqlOf
} from "./fixtures.js"

const reaping = (options: SqlReaperOptions) => Layer.build(SqlIdempotencyRepository.layerReaper(options))

/** A table of the test's own. */
const tableOf = (() => {
  let count = 0
  return Effect.suspend(() => {
    const table = `records_${count++}`
    return Effect.as(SqlIdempotencyRepository.migrationWith({ table }), table)
  })
})()

/** So many completed rows, every other one long expired, or all of them. */
const fill = (table: string, rows: number, expiredOf: (index: number) => boolean = () => true) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const values = Array.from(
      { length: rows },
      (_, index) =>
        `('op', '', 'row-${index}', 1, 'Completed', 't', 1, 1, ${expiredOf(index) ? 1000 + index : 9e12}, 'Unavailable')`
    )
    yield* rowsOf(
      sql,
      `INSERT INTO ${table} (operation, scope, idempotency_key, version, state, token, attempt, created_at, expires_at, outcome) VALUES ${values.join(", ")}`
    )
  })

const expired = (sql: SqlClient.SqlClient, table: string) =>
  numberOf(sql, `SELECT count(*) AS n FROM ${table} WHERE expires_at < 1000000`)

/** How many expired rows there are, each time that there are fewer, until there are none. */
const watched = (sql: SqlClient.SqlClient, table: string) =>
  Effect.gen(function* () {
    const counts: Array<number> = []
    counts.push(yield* expired(sql, table))
    const fiber = yield* expired(sql, table).pipe(
      Effect.tap((count) => {
        if (count !== counts.at(-1)) counts.push(count)
      }),
      Effect.zipLeft(Effect.sleep("1 millis")),
      Effect.repeat({ until: (count) => count === 0 }),
      Effect.fork
    )
    return Effect.as(Fiber.join(fiber), counts)
  })

const suite = <E>(name: string, client: Layer.Layer<SqlClient.SqlClient, E>) =>
  layer(client, { excludeTestServices: true, timeout: 60_000 })(name, (it) => {
    it.scoped("only what has expired goes, in whatever state: what has lapsed is kept", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const table = yield* tableOf
        const { claims } = yield* repositoryOf({ table, operationTimeout: "20 seconds" })
        const make = Effect.gen(function* () {
          const keys = Array.from({ length: 8 }, freshIds)
          const [lapsed, once, running, held, unknown, released, completed, inserted] = keys
          if (!lapsed || !once || !running || !held || !unknown || !released || !completed || !inserted) {
            return yield* Effect.dieMessage("no keys")
          }
          yield* claims.claim(lapsed, claimBy("t", { lease: 1 }))
          yield* claims.claim(once, claimBy("t", { lease: 1, guarantee: "at-most-once" }))
          yield* claims.claim(running, claimBy("t"))
          yield* claims.claim(held, claimBy("t"))
          yield* claims.hold(held, { token: "t" })
          yield* claims.claim(unknown, claimBy("t", { lease: 1, guarantee: "at-most-once" }))
          yield* Effect.sleep("5 millis")
          yield* claims.claim(unknown, claimBy("u"))
          yield* claims.claim(released, claimBy("t"))
          yield* claims.saveStep(released, { token: "t", name: "one", encoded: "1" })
          yield* claims.release(released, { token: "t" })
          yield* claims.complete(completed, completeBy("t"))
          yield* (yield* repositoryOf({ table })).driver.insert(
            [{ identifiers: inserted, request: { ...insertBy("t"), expiresAt: Date.now() + minute } }],
            { allOrNothing: false }
          )
          return keys
        })
        const [kept, doomed] = [yield* make, yield* make]
        yield* Effect.forEach(doomed, ({ idempotencyKey }) =>
          rowsOf(sql, `UPDATE ${table} SET expires_at = 5 WHERE idempotency_key = '${idempotencyKey}'`)
        )
        const before = yield* claims.read(kept)
        expect(before.map((state) => state?._tag)).toEqual([
          "Processing",
          "Processing",
          "Processing",
          "Unknown",
          "Unknown",
          "Released",
          "Completed",
          "Completed"
        ])
        yield* reaping({ table, interval: "10 millis" })
        yield* eventually(numberOf(sql, `SELECT count(*) AS n FROM ${table}`), (count) => count <= kept.length)
        // It has looked again, and again.
        yield* Effect.sleep("100 millis")
        expect(yield* claims.read(kept)).toEqual(before)
      })
    )

    it.scoped("a row goes once it has expired, and not before", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const table = yield* tableOf
        const { claims } = yield* repositoryOf({ table, operationTimeout: "20 seconds" })
        const key = freshIds()
        yield* claims.complete(key, { ...completeBy("t"), retention: 400 })
        const start = performance.now()
        yield* reaping({ table, interval: "10 millis" })
        yield* eventually(numberOf(sql, `SELECT count(*) AS n FROM ${table}`), (count) => count === 0)
        expect(performance.now() - start).toBeGreaterThan(300)
      })
    )

    it.scoped(
      "a statement deletes as many as the batch, the oldest first, whatever the planner knows of the table",
      () =>
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const table = yield* tableOf
          const statement = makeStatements({ dialect: yield* dialectOf(sql), table, channel: "", lockTimeout: 250 })
          yield* fill(table, 90)
          for (const left of [80, 70, 60]) {
            yield* rowsOf(sql, statement.reap(10))
            expect(yield* expired(sql, table)).toBe(left)
            expect(yield* numberOf(sql, `SELECT min(expires_at) AS n FROM ${table}`)).toBe(1000 + 90 - left)
          }
        })
    )

    it.scoped("a backlog goes batch after batch, without the interval between", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const table = yield* tableOf
        yield* fill(table, 500, (index) => index % 2 === 0)
        const counting = yield* watched(sql, table)
        yield* reaping({ table, batchSize: 50, interval: "1 hour" })
        const counts = yield* counting
        expect(counts[0]).toBe(250)
        for (const count of counts) expect(count % 50).toBe(0)
        expect(counts.length).toBeGreaterThan(2)
        expect(yield* numberOf(sql, `SELECT count(*) AS n FROM ${table}`)).toBe(250)
      })
    )

    it.scoped("it does not stop at a failure: it says so, and goes on once the table is there", () =>
      logged((messages) =>
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const table = yield* tableOf
          yield* reaping({ table, interval: "10 millis" })
          yield* rowsOf(sql, `DROP TABLE ${table}`)
          yield* eventually(
            Effect.sync(() => messages.length),
            (count) => count > 0
          )
          expect(messages[0]).toMatch(/^WARN idempotency: expired rows could not be deleted/)
          expect(messages.join()).toContain(table)
          yield* SqlIdempotencyRepository.migrationWith({ table })
          yield* fill(table, 20)
          yield* eventually(expired(sql, table), (count) => count === 0)
        })
      )
    )

    it.scoped("it may be there before its table is", () =>
      logged((messages) =>
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const table = "records_to_come"
          yield* reaping({ table, interval: "10 millis" })
          yield* eventually(
            Effect.sync(() => messages.length),
            (count) => count > 0
          )
          yield* SqlIdempotencyRepository.migrationWith({ table })
          yield* fill(table, 20)
          yield* eventually(expired(sql, table), (count) => count === 0)
        })
      )
    )

    it.scoped("it ends with its scope", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const table = yield* tableOf
        yield* Effect.scoped(Effect.zipRight(reaping({ table, interval: "10 millis" }), Effect.sleep("50 millis")))
        // A statement that was sent by then may still be under way: no client of MariaDB recalls it.
        yield* Effect.sleep("250 millis")
        yield* fill(table, 20)
        yield* Effect.sleep("150 millis")
        expect(yield* expired(sql, table)).toBe(20)
      })
    )
  })

suite("Postgres", pgClient.pipe(Layer.provide(Postgres.layer)))
suite("SQLite", sqliteClient.pipe(Layer.provide(SqliteFile.layer)))
suite("MariaDB", mysqlClient.pipe(Layer.provide(Mariadb.layer)))

describe("two reapers, each with its own client", () => {
  const suite = <S, E>(
    name: string,
    server: Layer.Layer<S>,
    client: Layer.Layer<SqlClient.SqlClient, E, S>,
    batchSize: number
  ) =>
    it.scopedLive(
      `delete all of it together, and get in nobody's way: ${name}`,
      () =>
        logged((messages) =>
          Effect.gen(function* () {
            const context = yield* Layer.build(server)
            const own = Layer.fresh(client).pipe(Layer.provide(Layer.succeedContext(context)))
            const [first, second] = [yield* Layer.build(own), yield* Layer.build(own)]
            yield* Effect.gen(function* () {
              const sql = yield* SqlClient.SqlClient
              const table = yield* tableOf
              yield* fill(table, 2000, (index) => index % 2 === 0)
              const reap = reaping({ table, batchSize, interval: "10 millis" })
              yield* Effect.all([Effect.provide(reap, first), Effect.provide(reap, second)], { concurrency: 2 })
              const { claims } = yield* repositoryOf({ table, operationTimeout: "20 seconds" })
              while ((yield* expired(sql, table)) > 0) {
                expect(yield* claims.claim(freshIds(), claimBy("t"))).toMatchObject({ _tag: "Claimed" })
                yield* Effect.sleep("1 millis")
              }
              expect(yield* numberOf(sql, `SELECT count(*) AS n FROM ${table} WHERE operation = 'op'`)).toBe(1000)
              expect(messages).toEqual([])
            }).pipe(Effect.provide(first))
          })
        ),
      60_000
    )
  suite("Postgres", Postgres.layer, pgClient, 20)
  suite("SQLite", SqliteFile.layer, sqliteClient, 20)
  suite("MariaDB", Mariadb.layer, mysqlClient, 20)
})

describe("a server that is away", () => {
  it.scopedLive(
    "is asked again when it is back",
    () =>
      logged((messages) =>
        Effect.gen(function* () {
          const server = yield* Postgres
          const sql = yield* SqlClient.SqlClient
          const table = yield* tableOf
          yield* reaping({ table, interval: "10 millis" })
          yield* server.restart
          yield* eventually(Effect.ignore(rowsOf(sql, "SELECT 1")), () => messages.length > 0)
          expect(messages[0]).toMatch(/^WARN idempotency: expired rows could not be deleted/)
          yield* Effect.retry(fill(table, 20), { times: 20 })
          yield* eventually(expired(sql, table), (count) => count === 0)
        })
      ).pipe(Effect.provide(pgClient), Effect.provide(Postgres.layer)),
    60_000
  )

  it.scopedLive("in silence is given up after half a minute", () =>
    logged((messages) =>
      Effect.gen(function* () {
        const server = yield* Postgres
        const proxy = yield* tcpProxy(server.port)
        const sql = yield* sqlOf(pgClientOf(`postgres://postgres@127.0.0.1:${proxy.port}/postgres`))
        const table = yield* tableOf.pipe(Effect.provideService(SqlClient.SqlClient, sql))
        yield* proxy.blackHole
        const { clock } = makeManualClock()
        // A hundred times as fast.
        const hasty = { ...clock, sleep: (time: Duration.Duration) => Clock.make().sleep(Duration.times(time, 0.01)) }
        yield* reaping({ table }).pipe(Effect.provideService(SqlClient.SqlClient, sql), Effect.withClock(hasty))
        yield* Effect.sleep("200 millis")
        expect(messages).toEqual([])
        yield* Effect.sleep("400 millis")
        expect(messages).toEqual([expect.stringMatching(/expired rows could not be deleted.*timed out/s)])
        yield* proxy.mend
        // The client recalls what was not answered, and may hit a statement that came after it: others fill the table.
        const direct = yield* sqlOf(pgClientOf(server.url))
        yield* fill(table, 20).pipe(Effect.provideService(SqlClient.SqlClient, direct))
        yield* eventually(expired(direct, table), (count) => count === 0)
      })
    ).pipe(Effect.provide(Postgres.layer))
  )
})

describe("what is asked of it", () => {
  const issuesOf = (options: SqlReaperOptions) =>
    SqlIdempotencyRepository.layerReaper(options).pipe(
      Layer.build,
      Effect.scoped,
      Effect.flip,
      Effect.map(({ _tag, issues }) => [_tag, issues.length]),
      Effect.provide(sqliteClient),
      Effect.provide(SqliteFile.layer)
    )
  const refused = ["IdempotencyValidationError", 1]

  it.effect.each([
    ...[0, -1, 1.5, 10_001, Number.NaN, Number.POSITIVE_INFINITY].map((batchSize) => ({ batchSize })),
    ...(["0 millis", "9 millis", "25 days", Number.NaN, Number.POSITIVE_INFINITY] as const).map((interval) => ({
      interval
    })),
    { table: "records; DROP TABLE users" },
    { table: "" }
  ])("is refused out of bounds: %o", (options) =>
    Effect.map(issuesOf(options), (issues) => expect(issues).toEqual(refused))
  )

  it.scopedLive.each([
    { batchSize: 1, interval: "10 millis" as const },
    { batchSize: 10_000, interval: "24 days" as const }
  ])("is taken at the bounds: %o", (options) =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const table = yield* tableOf
      yield* fill(table, 5)
      yield* reaping({ table, ...options })
      yield* eventually(expired(sql, table), (count) => count === 0)
    }).pipe(Effect.provide(sqliteClient), Effect.provide(SqliteFile.layer))
  )
})
