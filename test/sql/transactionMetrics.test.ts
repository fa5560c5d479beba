/** What is counted of effects that share a transaction with their record. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { IdempotencyFingerprintMismatchError, IdempotencyStorageError } from "../../src/index.js"
import { layerSql, SqlIdempotencyRepository, withIdempotentTransaction } from "../../src/sql.js"
import { RecordingMetrics } from "../../src/testing.js"
import { SqliteFile, sqliteClient } from "../support/databases.js"

const engine = Layer.fresh(layerSql()).pipe(
  Layer.provide(Layer.effectDiscard(SqlIdempotencyRepository.migration)),
  Layer.provideMerge(RecordingMetrics.layer),
  Layer.provideMerge(sqliteClient),
  Layer.provide(SqliteFile.layer)
)

/** What is counted of one call, apart from the store's own. */
const countedOf = (call: Effect.Effect<unknown, unknown, Layer.Layer.Success<typeof engine>>) =>
  Effect.gen(function* () {
    const metrics = yield* RecordingMetrics
    const before = (yield* metrics.calls).length
    yield* Effect.exit(call)
    return (yield* metrics.calls).slice(before).map(({ method }) => method)
  })

const running = ["recordExecution", "recordInFlight", "recordInFlight"]

layer(engine, { excludeTestServices: true, timeout: 60_000 })("a transaction", (it) => {
  it.effect("executions, replays and mismatches", () =>
    Effect.gen(function* () {
      const book = (fingerprint: string) =>
        Effect.succeed("booked").pipe(withIdempotentTransaction("book", "one", { fingerprint }))
      expect(yield* countedOf(book("f"))).toEqual(running)
      expect(yield* countedOf(book("f"))).toEqual(["recordReplay"])
      expect(yield* countedOf(book("g"))).toEqual(["recordMismatch"])
    })
  )

  it.effect("failures of the store, and not those of the effect, whatever they are", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const failures = [
        new IdempotencyStorageError({ operation: "book", method: "claim", reason: "Timeout", applied: "no" }),
        new IdempotencyFingerprintMismatchError({ operation: "book", idempotencyKey: "two" })
      ]
      for (const failure of failures) {
        const failing = Effect.fail(failure).pipe(withIdempotentTransaction("book", "two"))
        expect(yield* countedOf(failing)).toEqual(running)
      }
      const ending = Effect.orDie(sql`ROLLBACK`).pipe(Effect.asVoid, withIdempotentTransaction("book", "three"))
      expect(yield* countedOf(ending)).toEqual([...running, "recordError"])
    })
  )
})
