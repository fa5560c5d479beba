/** Orders on Postgres: each has one business row and one record, if transactions do what they are for. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import { Idempotency, IdempotencyDomainService, IdempotencyKey, IdempotencyMetrics } from "../../src/index.js"
import { SqlIdempotencyRepository, withIdempotentTransaction } from "../../src/sql.js"
import { Postgres, pgClientOf } from "./databases.js"

export const operation = "order.place"

export const tables = Effect.gen(function* () {
  const { url } = yield* Postgres
  yield* Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* SqlIdempotencyRepository.migration
    yield* sql`CREATE TABLE IF NOT EXISTS business (id TEXT NOT NULL, note TEXT NOT NULL)`
  }).pipe(Effect.provide(pgClientOf(url)))
})

/** Each as in a process of its own: a client and an engine. */
export const engine = (url: string, storageTimeout = 1000) =>
  Layer.build(
    Layer.fresh(
      Idempotency.layerWith({ storageTimeout }).pipe(
        Layer.provideMerge(SqlIdempotencyRepository.layer),
        Layer.provideMerge(pgClientOf(url)),
        Layer.provide([IdempotencyDomainService.layer, IdempotencyMetrics.layerNoop])
      )
    )
  )

/** How long a call of {@link place} waits for another. */
export const waitTimeout = 2000

/** Runs the effect between its business row and its record. */
export const place = (key: string, during: Effect.Effect<void>) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const note = yield* IdempotencyKey.random
    yield* sql`INSERT INTO business (id, note) VALUES (${key}, ${note})`
    yield* during
    return note
  }).pipe(withIdempotentTransaction(operation, key, { waitTimeout }))

export const keysOf = (count: number): Effect.Effect<ReadonlyArray<string>> =>
  Effect.all(Array.from({ length: count }, () => IdempotencyKey.random))

/** What is in the database: each key has one business row, whose note is in the record's result. */
export const expectOneRowEach = (keys: ReadonlyArray<string>, notes: ReadonlyMap<string, ReadonlySet<string>>) =>
  Effect.gen(function* () {
    const server = yield* Postgres
    const rows = yield* server.query("SELECT id, note FROM business WHERE id = ANY($1)", keys)
    const records = yield* server.query(
      "SELECT idempotency_key AS id, state, result FROM idempotency_records WHERE idempotency_key = ANY($1)",
      keys
    )
    expect(rows.map(({ id }) => id).sort()).toEqual([...keys].sort())
    expect(records.map(({ id, state }) => `${id} ${state}`).sort()).toEqual(
      keys.map((key) => `${key} Completed`).sort()
    )
    const results = new Map(records.map(({ id, result }) => [id, String(result)] as const))
    for (const { id, note } of rows) {
      expect(results.get(id)).toContain(`"${note}"`)
      expect([...(notes.get(String(id)) ?? [])]).toEqual([note])
    }
  })

/** Notes of the runs whose results were given, by key. */
export const makeNotes = () => {
  const notes = new Map<string, Set<string>>()
  return { notes, add: (key: string, note: string) => notes.set(key, (notes.get(key) ?? new Set()).add(note)) }
}

/** Sessions of clients that are there, beside the one that asks. */
export const sessions = Effect.flatMap(Postgres, ({ query }) =>
  query("SELECT pid, state FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()")
)

export const until = <A, E, R>(effect: Effect.Effect<A, E, R>, is: (value: A) => boolean) =>
  Effect.repeat(effect, { until: is, schedule: Schedule.spaced("25 millis") }).pipe(Effect.timeout("20 seconds"))
