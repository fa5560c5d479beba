/** What a batch costs Postgres: its claims go together. */
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import { IdempotentConsumer } from "../../src/consumer.js"
import { layerSql, SqlIdempotencyRepository } from "../../src/sql.js"
import { pgClientOf } from "../support/databases.js"
import { startPostgres } from "../support/postgresServers.js"

it.scopedLive("100 fresh messages are claimed in one statement", () =>
  Effect.gen(function* () {
    const { query, url } = yield* startPostgres({ shared_preload_libraries: "pg_stat_statements" })
    yield* query("CREATE EXTENSION pg_stat_statements")
    const store = layerSql().pipe(
      Layer.provide(Layer.effectDiscard(SqlIdempotencyRepository.migration)),
      Layer.provideMerge(pgClientOf(url))
    )
    const messages = Array.from({ length: 100 }, (_, n) => `message-${n}`)
    const exits = yield* IdempotentConsumer.processBatch("shipping", messages, { id: (message) => message })(
      (message) => Effect.succeed({ message })
    ).pipe(Effect.provide(store))
    expect(exits.every((exit) => Exit.isSuccess(exit) && exit.value._tag === "Processed")).toBe(true)
    const claims = yield* query(
      "SELECT calls::int AS calls FROM pg_stat_statements WHERE query LIKE 'WITH clock AS%INSERT INTO%'"
    )
    expect(claims).toEqual([{ calls: 1 }])
  })
)
