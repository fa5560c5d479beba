/** Duplicates that run into each other in transactions, at the levels of isolation where a database refuses some. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { IdempotencyKey, type IdempotencyTransactions } from "../../src/index.js"
import { layerSql, SqlIdempotencyRepository, withIdempotentTransaction } from "../../src/sql.js"
import { Mariadb, mysqlClient, Postgres, pgClient } from "../support/databases.js"

type Isolation = IdempotencyTransactions.Isolation | undefined

const tables = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* SqlIdempotencyRepository.migration
  yield* sql`CREATE TABLE IF NOT EXISTS business (id VARCHAR(100) NOT NULL, note VARCHAR(100) NOT NULL)`
})

/** Reads before it writes, as most effects do: the levels differ in what that leads to. */
const place = (key: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const note = yield* IdempotencyKey.random
    const before = yield* sql<{ id: string }>`SELECT id FROM business WHERE id = ${key}`
    yield* Effect.sleep("20 millis")
    yield* sql`INSERT INTO business (id, note) VALUES (${key}, ${note})`
    return { before: before.length, note }
  })

const suite = <Server, E>(
  name: string,
  server: Layer.Layer<Server>,
  client: Layer.Layer<SqlClient.SqlClient, E, Server>
) => {
  /** Each as in a process of its own: a client and an engine. */
  const engine = Layer.fresh(layerSql()).pipe(
    Layer.provide(Layer.effectDiscard(tables)),
    Layer.provideMerge(Layer.fresh(client))
  )
  layer(server, { excludeTestServices: true, timeout: 60_000 })(`30 duplicates over 2 clients of ${name}`, (it) => {
    const levels: ReadonlyArray<Isolation> = [undefined, "repeatable read", "serializable"]
    for (const isolation of levels) {
      it.scoped(`${isolation ?? "as it is set up"}: one business row, everyone has its result`, () =>
        Effect.gen(function* () {
          const first = yield* Layer.build(engine)
          const clients = [first, yield* Layer.build(engine)]
          const keys = yield* Effect.all(Array.from({ length: 5 }, () => IdempotencyKey.random))
          const duplicates = (key: string) =>
            Effect.all(
              Array.from({ length: 15 }, () =>
                place(key).pipe(withIdempotentTransaction("order.place", key, { isolation }))
              ),
              { concurrency: "unbounded" }
            )
          const results = yield* Effect.forEach(
            clients,
            (context) => Effect.forEach(keys, duplicates, { concurrency: "unbounded" }).pipe(Effect.provide(context)),
            { concurrency: "unbounded" }
          )
          const sql = yield* Effect.provide(SqlClient.SqlClient, first)
          for (const [index, key] of keys.entries()) {
            const notes = results.flatMap((ofClient) => ofClient[index] ?? []).map(({ note }) => note)
            expect(notes).toHaveLength(30)
            expect(new Set(notes).size).toBe(1)
            expect(yield* sql`SELECT note FROM business WHERE id = ${key}`).toEqual([{ note: notes[0] }])
          }
        })
      )
    }
  })
}

suite("MariaDB", Mariadb.layer, mysqlClient)
suite("Postgres", Postgres.layer, pgClient)
