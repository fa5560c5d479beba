/** The inbox: a message's record and its handler's rows are committed together. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import { IdempotentConsumer } from "../../src/consumer.js"
import { layerSql, SqlIdempotencyRepository } from "../../src/sql.js"
import { Postgres, pgClient, SqliteFile, sqliteClient } from "../support/databases.js"

const tables = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* SqlIdempotencyRepository.migration
  yield* sql`CREATE TABLE inbox_rows (id VARCHAR(100) NOT NULL)`
})

const engine = Layer.fresh(layerSql()).pipe(Layer.provide(Layer.effectDiscard(tables)))

const write = (id: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`INSERT INTO inbox_rows (id) VALUES (${id})`
    return { id }
  })

const rowsOf = (id: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql`SELECT id FROM inbox_rows WHERE id = ${id}`).pipe(
    Effect.map((rows) => rows.length)
  )

const suite = (name: string, client: Layer.Layer<SqlClient.SqlClient>) =>
  layer(engine.pipe(Layer.provideMerge(client)), { excludeTestServices: true, timeout: 60_000 })(name, (it) => {
    it.effect("processed once per consumer, with its rows", () =>
      Effect.gen(function* () {
        const process = (consumer: string) =>
          IdempotentConsumer.process(write("once"), consumer, "once", { transactional: true })
        expect(yield* process("a")).toEqual({ _tag: "Processed", value: { id: "once" } })
        expect(yield* process("a")).toEqual({ _tag: "Duplicate", value: { id: "once" } })
        expect(yield* process("b")).toMatchObject({ _tag: "Processed" })
        expect(yield* rowsOf("once")).toBe(2)
      })
    )

    it.effect("a failure leaves no row, and is not remembered", () =>
      Effect.gen(function* () {
        const failing = IdempotentConsumer.process(Effect.zipRight(write("fails"), Effect.fail("no")), "a", "fails", {
          transactional: true
        })
        expect(yield* Effect.flip(failing)).toBe("no")
        expect(yield* rowsOf("fails")).toBe(0)
        const again = IdempotentConsumer.process(write("fails"), "a", "fails", { transactional: true })
        expect(yield* again).toMatchObject({ _tag: "Processed" })
      })
    )

    it.effect("attempts count though they are rolled back; the one after the last is poisoned", () =>
      Effect.gen(function* () {
        const failing = IdempotentConsumer.process(Effect.zipRight(write("bad"), Effect.fail("no")), "a", "bad", {
          transactional: true,
          maxAttempts: 3
        })
        const ends = yield* Effect.replicateEffect(Effect.flip(failing), 5)
        expect(ends.slice(0, 3)).toEqual(["no", "no", "no"])
        expect(ends.slice(3)).toMatchObject([
          { _tag: "MessagePoisonedError", attempt: 4 },
          { _tag: "MessagePoisonedError", attempt: 5 }
        ])
        expect(yield* rowsOf("bad")).toBe(0)
        const good = IdempotentConsumer.process(write("good"), "a", "good", { transactional: true, maxAttempts: 1 })
        expect(yield* good).toMatchObject({ _tag: "Processed" })
        expect(yield* good).toMatchObject({ _tag: "Duplicate" })
      })
    )

    it.effect("attempts within a caller's transaction are refused", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const counted = IdempotentConsumer.process(write("open"), "a", "open", { transactional: true, maxAttempts: 3 })
        expect(yield* Effect.flip(sql.withTransaction(counted))).toMatchObject({ _tag: "IdempotencyValidationError" })
        const joined = IdempotentConsumer.process(write("open"), "a", "open", { transactional: true })
        yield* Effect.flip(sql.withTransaction(Effect.zipRight(joined, Effect.fail("rolled back"))))
        expect(yield* rowsOf("open")).toBe(0)
        yield* sql.withTransaction(joined)
        expect(yield* rowsOf("open")).toBe(1)
      })
    )

    it.effect("a batch larger than the pool: each message has its own transaction and its own end", () =>
      Effect.gen(function* () {
        const ids = Array.from({ length: 60 }, (_, n) => `batch-${n % 50}`)
        const exits = yield* IdempotentConsumer.processBatch("a", ids, {
          id: (id) => id,
          concurrency: 20,
          transactional: true
        })((id) => (id === "batch-7" ? Effect.zipRight(write(id), Effect.fail("no")) : write(id)))
        const tags = exits.map((exit) => (Exit.isSuccess(exit) ? exit.value._tag : "failed"))
        const failures = exits.filter(Exit.isFailure).map(({ cause }) => cause)
        expect(failures).toEqual([Cause.fail("no"), Cause.fail("no")])
        expect(tags.filter((tag) => tag === "Processed")).toHaveLength(49)
        expect(tags.filter((tag) => tag === "Duplicate")).toHaveLength(9)
        expect(tags.filter((tag) => tag === "failed")).toHaveLength(2)
        const rows = yield* Effect.forEach(new Set(ids), rowsOf)
        expect(rows.reduce((sum, n) => sum + n, 0)).toBe(49)
      })
    )

    it.effect("what a transaction decides by itself is refused", () =>
      Effect.gen(function* () {
        // @ts-expect-error a lease has no meaning in a transaction
        const leased = IdempotentConsumer.process(write("l"), "a", "l", { transactional: true, lease: "1 minute" })
        expect(yield* Effect.flip(leased)).toMatchObject({
          _tag: "IdempotencyValidationError",
          issues: ["lease has no meaning in a transaction"]
        })
      })
    )
  })

suite("Postgres", pgClient.pipe(Layer.provide(Postgres.layer)))
suite("SQLite", sqliteClient.pipe(Layer.provide(SqliteFile.layer)))
