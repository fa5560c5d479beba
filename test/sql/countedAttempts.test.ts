/** Attempts that are counted apart from their transaction, beside others who are at the key or have the database. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { IdempotentConsumer } from "../../src/consumer.js"
import type { Idempotency } from "../../src/Idempotency.js"
import type { IdempotencyIdentifiers } from "../../src/IdempotencyIdentifiers.js"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import { IdempotencyTransactions } from "../../src/IdempotencyTransactions.js"
import { layerSql, SqlIdempotencyRepository } from "../../src/sql.js"
import { Mariadb, mysqlClient, Postgres, pgClient, pgClientOf, SqliteFile, sqliteClient } from "../support/databases.js"
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
  countsAttempt: true,
  ...terms
})

/** What it was told, and what is recorded, as the number of the attempt. */
const attempted = (request: IdempotencyTransactions.Request, body: Effect.Effect<void> = Effect.void) =>
  Effect.flatMap(IdempotencyTransactions, (transactions) =>
    Effect.map(
      transactions.run(request, (attempt) => Effect.as(body, { value: attempt, outcome })),
      (result) =>
        result._tag === "Executed"
          ? { ran: result.value, recorded: result.attempt }
          : { recorded: result.record.attempt }
    )
  )

const suite = <E>(name: string, client: Layer.Layer<SqlClient.SqlClient, E>) =>
  layer(engine.pipe(Layer.provideMerge(client)), { excludeTestServices: true, timeout: 60_000 })(name, (it) => {
    it.scoped("one that is in flight all the while is not counted", () =>
      Effect.gen(function* () {
        const { claims } = yield* repositoryOf()
        for (const terms of [{ inFlight: "fail" }, { inFlight: "wait", waitTimeout: 200 }] as const) {
          const key = freshIds()
          yield* claims.claim(key, claimBy("t"))
          const refused = yield* Effect.flip(attempted(requestOf(key, terms)))
          expect(refused).toMatchObject({ _tag: "IdempotencyInFlightError", reason: "Running" })
          yield* claims.release(key, { token: "t" })
          expect(yield* attempted(requestOf(key, terms))).toEqual({ ran: 2, recorded: 2 })
          expect(yield* attempted(requestOf(key, terms))).toEqual({ recorded: 2 })
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
        expect(yield* Fiber.join(waiting)).toEqual({ ran: 2, recorded: 2 })
      })
    )

    it.scoped("one that was interrupted, or died, leaves its key to the next", () =>
      Effect.gen(function* () {
        const request = requestOf(freshIds(), { inFlight: "fail" })
        const started = yield* Effect.makeLatch(false)
        const running = yield* Effect.fork(attempted(request, Effect.zipRight(started.open, Effect.never)))
        yield* started.await
        yield* Fiber.interrupt(running)
        yield* Effect.exit(attempted(request, Effect.die("bug")))
        expect(yield* attempted(request)).toEqual({ ran: 3, recorded: 3 })
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
      const [ended] = yield* Effect.all(
        [
          Effect.delay(attempted(requestOf(key, { inFlight: "fail", storageTimeout: 300 })), "50 millis"),
          sql.withTransaction(Effect.sleep("500 millis"))
        ],
        { concurrency: 2 }
      )
      expect(ended).toEqual({ ran: 1, recorded: 1 })
      expect(yield* claims.read([key])).toMatchObject([{ _tag: "Completed" }])
    })
  )
})

/** A process of its own, with one connection. */
const engineOver = (url: string) => Layer.build(engine.pipe(Layer.provideMerge(pgClientOf(url, { maxConnections: 1 }))))

layer(Postgres.layer, { excludeTestServices: true, timeout: 60_000 })("between the count and its transaction", (it) => {
  /** An attempt that is counted; from then on others have the connection that it waits for, until it is awaited. */
  const counted = <A, E>(self: Effect.Effect<A, E, IdempotencyTransactions | Idempotency>) =>
    Effect.gen(function* () {
      const { url } = yield* Postgres
      const process = yield* engineOver(url)
      const other = yield* engineOver(url)
      const sql = Context.get(process, SqlClient.SqlClient)
      const latch = Effect.makeLatch(false)
      const [held, over, taken, letGo] = yield* Effect.all([latch, latch, latch, latch])
      // The connection goes to whoever has waited for it longest.
      yield* Effect.fork(sql.withTransaction(Effect.zipRight(held.open, over.await)))
      yield* held.await
      const attempt = yield* Effect.fork(Effect.provide(self, process))
      yield* Effect.sleep("50 millis")
      yield* Effect.fork(sql.withTransaction(Effect.zipRight(taken.open, letGo.await)))
      yield* Effect.sleep("50 millis")
      yield* over.open
      yield* taken.await
      return { attempt: Effect.zipRight(letGo.open, Fiber.join(attempt)), other }
    })

  it.scoped("no delivery counts another, and is poisoned beside the last that may run", () =>
    Effect.gen(function* () {
      const options = { transactional: true, maxAttempts: 1 } as const
      const delivery = IdempotentConsumer.process(Effect.succeed("done"), "a", "waits", options)
      const { attempt, other } = yield* counted(delivery)
      const second = Effect.provide(delivery, other)
      expect(yield* Effect.flip(second)).toMatchObject({ _tag: "IdempotencyInFlightError", reason: "Running" })
      expect(yield* attempt).toEqual({ _tag: "Processed", value: "done" })
      expect(yield* second).toEqual({ _tag: "Duplicate", value: "done" })
    })
  )

  it.scoped("a claim that is reset is not run on", () =>
    Effect.gen(function* () {
      const request = requestOf(freshIds(), { inFlight: "fail" })
      const { attempt, other } = yield* counted(attempted(request))
      yield* Context.get(other, IdempotencyRepository).reset(request.identifiers, { force: true })
      expect(yield* Effect.flip(attempt)).toMatchObject({ _tag: "IdempotencyInFlightError", reason: "Running" })
      expect(yield* Effect.provide(attempted(request), other)).toEqual({ ran: 2, recorded: 2 })
    })
  )

  it.scoped("after a claim that was taken over it is another attempt", () =>
    Effect.gen(function* () {
      const request = requestOf(freshIds(), { inFlight: "fail" })
      const { attempt, other } = yield* counted(attempted(request))
      const { claims, reset } = Context.get(other, IdempotencyRepository)
      yield* reset(request.identifiers, { force: true })
      yield* claims.claim(request.identifiers, claimBy("other"))
      yield* claims.release(request.identifiers, { token: "other" })
      expect(yield* attempt).toEqual({ ran: 3, recorded: 3 })
    })
  )

  it.scoped("an attempt that failed is released once the store answers", () =>
    Effect.gen(function* () {
      const { url } = yield* Postgres
      const process = yield* engineOver(url)
      const request = requestOf(freshIds(), { storageTimeout: 500 })
      const sql = Context.get(process, SqlClient.SqlClient)
      const [running, goOn] = yield* Effect.all([Effect.makeLatch(false), Effect.makeLatch(false)])
      const body = Effect.zipRight(running.open, Effect.zipRight(goOn.await, Effect.die("bug")))
      const attempt = yield* Effect.fork(Effect.provide(attempted(request, body), process))
      yield* running.await
      yield* Effect.fork(sql.withTransaction(Effect.sleep("1200 millis")))
      yield* Effect.sleep("50 millis")
      yield* goOn.open
      yield* Fiber.await(attempt)
      const next = Effect.timed(Effect.provide(attempted(request), yield* engineOver(url)))
      const [waited, ended] = yield* next
      expect(ended).toEqual({ ran: 2, recorded: 2 })
      // Its lease would last for 21 seconds.
      expect(Duration.toSeconds(waited)).toBeLessThan(10)
    })
  )
})
