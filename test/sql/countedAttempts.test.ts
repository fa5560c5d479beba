/** Attempts that are counted apart from their transaction, beside others who are at the key or have the database. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { IdempotentConsumer } from "../../src/consumer.js"
import type { IdempotencyIdentifiers } from "../../src/IdempotencyIdentifiers.js"
import { IdempotencyTransactions } from "../../src/IdempotencyTransactions.js"
import { layerSql, SqlIdempotencyRepository } from "../../src/sql.js"
import { Mariadb, mysqlClient, Postgres, pgClient, SqliteFile, sqliteClient } from "../support/databases.js"
import { claimBy, freshIds, minute, outcome, repositoryOf } from "./fixtures.js"

const engine = Layer.fresh(layerSql()).pipe(Layer.provide(Layer.effectDiscard(SqlIdempotencyRepository.migration)))

const requestOf = (
  identifiers: IdempotencyIdentifiers,
  terms: Partial<IdempotencyTransactions.Request> = {}
): IdempotencyTransactions.Request => ({
  identifiers,
  fingerprint: undefined,
  retention: minute,
  inFlight: "wait",
  waitTimeout: 20_000,
  storageTimeout: 10_000,
  isolation: undefined,
  ...terms
})

/** Counts, then runs: the attempt that was counted, and the one that ran. */
const attempted = (request: IdempotencyTransactions.Request) =>
  Effect.flatMap(IdempotencyTransactions, (transactions) =>
    Effect.flatMap(transactions.countAttempt(request), (counted) =>
      Effect.map(
        transactions.run(request, (attempt) => Effect.succeed({ value: attempt, outcome })),
        (result) => ({ counted, ran: result._tag === "Executed" ? result.value : undefined })
      )
    )
  )

const suite = <E>(name: string, client: Layer.Layer<SqlClient.SqlClient, E>) =>
  layer(engine.pipe(Layer.provideMerge(client)), { excludeTestServices: true, timeout: 60_000 })(name, (it) => {
    it.scoped("one that is in flight all the while is not counted", () =>
      Effect.gen(function* () {
        const { claims } = yield* repositoryOf()
        const transactions = yield* IdempotencyTransactions
        for (const terms of [{ inFlight: "fail" }, { inFlight: "wait", waitTimeout: 200 }] as const) {
          const key = freshIds()
          const request = requestOf(key, terms)
          yield* claims.claim(key, claimBy("t"))
          const counted = yield* Effect.flip(transactions.countAttempt(request))
          expect(counted).toMatchObject({ _tag: "IdempotencyInFlightError", reason: "Running" })
          yield* claims.release(key, { token: "t" })
          expect(yield* attempted(requestOf(key, terms))).toEqual({ counted: 2, ran: 3 })
        }
      })
    )

    it.scoped("one that waits is counted once its owner has gone", () =>
      Effect.gen(function* () {
        const { claims } = yield* repositoryOf()
        const key = freshIds()
        yield* claims.claim(key, claimBy("t"))
        const waiting = yield* Effect.fork(attempted(requestOf(key)))
        yield* Effect.sleep("100 millis")
        yield* claims.release(key, { token: "t" })
        expect(yield* Fiber.join(waiting)).toEqual({ counted: 2, ran: 3 })
      })
    )
  })

suite("Postgres", pgClient.pipe(Layer.provide(Postgres.layer)))
suite("MariaDB", mysqlClient.pipe(Layer.provide(Mariadb.layer)))
suite("SQLite", sqliteClient.pipe(Layer.provide(SqliteFile.layer)))

layer(engine.pipe(Layer.provideMerge(sqliteClient), Layer.provide(SqliteFile.layer)), {
  excludeTestServices: true,
  timeout: 60_000
})("SQLite's one connection", (it) => {
  it.effect("messages that always fail are poisoned, though each waits for the other's transaction", () =>
    Effect.gen(function* () {
      const process = (id: string) =>
        IdempotentConsumer.process(Effect.delay(Effect.fail("no"), "400 millis"), "a", id, {
          transactional: true,
          maxAttempts: 2
        })
      const delivered = (id: string) => Effect.replicateEffect(Effect.flip(process(id)), 4)
      const ends = yield* Effect.all([delivered("x"), delivered("y")], { concurrency: 2 })
      const poisoned = (attempt: number) => ({ _tag: "MessagePoisonedError", attempt })
      for (const each of ends) expect(each).toMatchObject(["no", "no", poisoned(3), poisoned(4)])
    })
  )

  it.scoped("a transaction that has it for a while keeps no attempt from being counted, nor its key in flight", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { claims } = yield* repositoryOf()
      const key = freshIds()
      const [{ counted }] = yield* Effect.all(
        [
          Effect.delay(attempted(requestOf(key, { inFlight: "fail", storageTimeout: 300 })), "50 millis"),
          sql.withTransaction(Effect.sleep("500 millis"))
        ],
        { concurrency: 2 }
      )
      expect(counted).toBe(1)
      expect(yield* claims.read([key])).toMatchObject([{ _tag: "Completed" }])
    })
  )
})
