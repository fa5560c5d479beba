/** Processes that share a database: one body among all of them, and nobody stands still for another. */
import * as SqlClient from "@effect/sql/SqlClient"
import { describe, expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { IdempotencyKey } from "../../src/index.js"
import { SqlIdempotencyRepository } from "../../src/sql.js"
import { Postgres, pgClientOf, SqliteFile, sqliteClient } from "../support/databases.js"
import { type SqlWorkerLine, type SqlWorkerTask, sqlWorker } from "../support/sqlWorkers.js"
import { type Ledger, ledger } from "../support/workers.js"

const processes = 4

const tables = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* SqlIdempotencyRepository.migration
  yield* sql`CREATE TABLE business (id VARCHAR(100) NOT NULL, note VARCHAR(100) NOT NULL)`
})

const task = (
  database: SqlWorkerTask["database"],
  { path }: Ledger,
  rest: Partial<SqlWorkerTask> & Pick<SqlWorkerTask, "keys" | "fibers">
): SqlWorkerTask => ({
  database,
  mode: "claim",
  operation: "payment.charge",
  concurrency: rest.keys.length,
  ledger: path,
  guarantee: "at-least-once",
  bodyMillis: 50,
  lease: 30_000,
  storageTimeout: 5000,
  hangs: false,
  ...rest
})

/** What the workers say, who all go on at once; `during` runs from just before that. */
const together = <E, R>(workerTask: SqlWorkerTask, during: (go: Effect.Effect<void>) => Effect.Effect<void, E, R>) =>
  Effect.gen(function* () {
    const workers = yield* Effect.all(
      Array.from({ length: processes }, () => sqlWorker(workerTask)),
      { concurrency: "unbounded" }
    )
    yield* during(Effect.forEach(workers, ({ go }) => go, { discard: true }))
    return yield* Effect.forEach(workers, ({ rest }) => rest, { concurrency: "unbounded" })
  })

const failures = (lines: ReadonlyArray<SqlWorkerLine>) =>
  lines.flatMap((line) => (line._tag === "Failure" ? [line.error] : []))

const answers = (lines: ReadonlyArray<SqlWorkerLine>, key: string) =>
  lines.flatMap((line) => (line._tag === "Answer" && line.key === key ? [JSON.stringify(line.value)] : []))

/** Everyone had an answer, and it was the one of the only run. */
const expectOneRun = (lines: ReadonlyArray<SqlWorkerLine>, book: Ledger, { fibers, keys }: SqlWorkerTask) => {
  expect(failures(lines)).toEqual([])
  for (const key of keys) {
    const got = answers(lines, key)
    expect(got).toHaveLength(processes * fibers)
    expect(new Set(got).size).toBe(1)
    expect(book.runs(key)).toBe(1)
  }
}

const keysOf = (count: number) =>
  Effect.all(
    Array.from({ length: count }, () => IdempotencyKey.random),
    { concurrency: "unbounded" }
  )

describe("one file of SQLite", () => {
  layer(Layer.provideMerge(sqliteClient, SqliteFile.layer), { excludeTestServices: true, timeout: 30_000 })((it) => {
    it.scoped("claims of 4 processes, while another one writes for a second: nobody is told, or stands still", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* tables
        const book = yield* ledger
        const filename = yield* SqliteFile
        const workerTask = task({ dialect: "sqlite", filename }, book, { keys: yield* keysOf(3), fibers: 50 })
        // A transaction that has written keeps all other writers out.
        const writing = (go: Effect.Effect<void>) =>
          sql.withTransaction(
            sql`INSERT INTO business (id, note) VALUES ('other', 'long')`.pipe(
              Effect.zipRight(go),
              Effect.zipRight(Effect.sleep("1 second"))
            )
          )
        const lines = (yield* together(workerTask, writing)).flat()
        expectOneRun(lines, book, workerTask)
        for (const line of lines) if (line._tag === "End") expect(line.stillness).toBeLessThan(500)
      })
    )

    it.scoped("duplicates in transactions of 4 processes: one row, everyone has its result", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const book = yield* ledger
        const filename = yield* SqliteFile
        const keys = yield* keysOf(2)
        const workerTask = task({ dialect: "sqlite", filename }, book, { mode: "transaction", keys, fibers: 50 })
        const lines = (yield* together(workerTask, (go) => go)).flat()
        expectOneRun(lines, book, workerTask)
        for (const key of keys) {
          const rows = yield* sql<{ note: string }>`SELECT note FROM business WHERE id = ${key}`
          expect(rows).toHaveLength(1)
          expect(answers(lines, key)[0]).toContain(`"${rows[0]?.note}"`)
        }
      })
    )
  })
})

describe("one Postgres", () => {
  layer(Postgres.layer, { excludeTestServices: true, timeout: 60_000 })((it) => {
    it.scoped("100 fibers in each of 4 processes: the body runs once, everyone has the same value", () =>
      Effect.gen(function* () {
        const { url } = yield* Postgres
        yield* Effect.provide(tables, pgClientOf(url))
        const book = yield* ledger
        const workerTask = task({ dialect: "postgres", url }, book, { keys: yield* keysOf(1), fibers: 100 })
        expectOneRun((yield* together(workerTask, (go) => go)).flat(), book, workerTask)
      })
    )
  })
})
