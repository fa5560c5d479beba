/** Attempts that are counted apart from their transaction, beside others who are at the key or have the database. */
import * as SqlClient from "@effect/sql/SqlClient"
import type { Connection } from "@effect/sql/SqlConnection"
import type { SqlError } from "@effect/sql/SqlError"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { expect, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { pipe } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import { IdempotentConsumer } from "../../src/consumer.js"
import type { Idempotency } from "../../src/Idempotency.js"
import type { IdempotencyIdentifiers } from "../../src/IdempotencyIdentifiers.js"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import { IdempotencyTransactions } from "../../src/IdempotencyTransactions.js"
import { layerSql, SqlIdempotencyRepository } from "../../src/sql.js"
import { Mariadb, mysqlClient, Postgres, pgClient, pgClientOf, SqliteFile, sqliteClient } from "../support/databases.js"
import { claimBy, freshIds, ids, minute, outcome, repositoryOf } from "./fixtures.js"

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
const attempted = (request: IdempotencyTransactions.Request, body: Effect.Effect<unknown> = Effect.void) =>
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

    it.scoped("an effect that ends its own transaction is not recorded", () =>
      Effect.gen(function* () {
        const { claims } = yield* repositoryOf()
        const sql = yield* SqlClient.SqlClient
        const request = requestOf(freshIds(), { inFlight: "fail" })
        const ended = yield* Effect.flip(attempted(request, Effect.orDie(sql`ROLLBACK`)))
        expect(ended).toMatchObject({ _tag: "IdempotencyStorageError", method: "complete", applied: "unknown" })
        expect(yield* claims.read([request.identifiers])).toMatchObject([{ _tag: "Released", attempt: 1 }])
      })
    )

    it.scoped("one that waits for another's claim with another fingerprint is refused at once", () =>
      Effect.gen(function* () {
        const { claims } = yield* repositoryOf()
        const key = freshIds()
        yield* claims.claim(key, claimBy("t", { fingerprint: "f" }))
        for (const countsAttempt of [true, false]) {
          const other = Effect.flip(attempted(requestOf(key, { fingerprint: "g", countsAttempt })))
          expect(yield* other).toMatchObject({ _tag: "IdempotencyFingerprintMismatchError" })
        }
      })
    )

    it.scoped("any waiting time will do", () =>
      Effect.gen(function* () {
        const request = requestOf(freshIds(), { waitTimeout: Number.POSITIVE_INFINITY })
        expect(yield* attempted(request)).toEqual({ ran: 1, recorded: 1 })
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

layer(engine.pipe(Layer.provideMerge(sqliteClient), Layer.provideMerge(SqliteFile.layer)), {
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

  it.scoped("is free for others while another process writes, and the attempt is made once that has ended", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const filename = yield* SqliteFile
      const other = Context.get(yield* Layer.build(SqliteClient.layer({ filename })), SqlClient.SqlClient)
      const written = yield* Effect.makeLatch(false)
      const writing = Effect.zipRight(
        other`CREATE TABLE IF NOT EXISTS others (id INTEGER)`,
        Effect.zipRight(written.open, Effect.sleep("1500 millis"))
      )
      const held = yield* Effect.fork(other.withTransaction(writing))
      yield* written.await
      const attempt = yield* Effect.fork(attempted(requestOf(freshIds(), { inFlight: "fail" })))
      yield* Effect.sleep("100 millis")
      const [waited] = yield* Effect.timed(sql`SELECT 1`)
      expect(Duration.toMillis(waited)).toBeLessThan(800)
      expect(yield* Fiber.poll(held)).toEqual(Option.none())
      expect(yield* Fiber.join(attempt)).toEqual({ ran: 1, recorded: 1 })
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

const often = Schedule.spaced("10 millis")

/** A process of its own, with one connection, whose statements go the way they are given. */
const engineOver = (
  url: string,
  way: <A>(text: string, executed: Effect.Effect<A, SqlError>) => Effect.Effect<A, SqlError> = (_, executed) => executed
) =>
  Layer.build(
    engine.pipe(
      Layer.provideMerge(
        Layer.map(pgClientOf(url, { maxConnections: 1 }), (context) => {
          const sql = Context.get(context, SqlClient.SqlClient)
          const reserve = Effect.map(sql.reserve, (connection) => {
            const onTheWay = {
              executeUnprepared: (...args: Parameters<Connection["executeUnprepared"]>) =>
                way(args[0], connection.executeUnprepared(...args)),
              executeRaw: (...args: Parameters<Connection["executeRaw"]>) =>
                way(args[0], connection.executeRaw(...args))
            }
            return new Proxy(connection, {
              get: (target, name) => Reflect.get(name in onTheWay ? onTheWay : target, name)
            })
          })
          return Context.add(
            context,
            SqlClient.SqlClient,
            new Proxy(sql, { get: (target, name) => (name === "reserve" ? reserve : Reflect.get(target, name)) })
          )
        })
      )
    )
  )

layer(Postgres.layer, { excludeTestServices: true, timeout: 60_000 })("between the count and its transaction", (it) => {
  /** An attempt that has been counted: its transaction begins when it is awaited. */
  const counted = <A, E>(
    of: IdempotencyIdentifiers,
    self: Effect.Effect<A, E, IdempotencyTransactions | Idempotency>
  ) =>
    Effect.gen(function* () {
      const { url } = yield* Postgres
      const begins = yield* Effect.makeLatch(false)
      const process = yield* engineOver(url, (text, executed) =>
        text === "BEGIN" ? Effect.zipRight(begins.await, executed) : executed
      )
      const other = yield* engineOver(url)
      const attempt = yield* Effect.fork(Effect.provide(self, process))
      const { claims } = Context.get(other, IdempotencyRepository)
      yield* Effect.repeat(claims.read([of]), { until: ([state]) => state?._tag === "Processing", schedule: often })
      return { attempt: Effect.zipRight(begins.open, Fiber.join(attempt)), other }
    })

  it.scoped("no delivery counts another, and is poisoned beside the last that may run", () =>
    Effect.gen(function* () {
      const options = { transactional: true, maxAttempts: 1 } as const
      const delivery = IdempotentConsumer.process(Effect.succeed("done"), "a", "waits", options)
      const { attempt, other } = yield* counted(ids("waits", "a"), delivery)
      const second = Effect.provide(delivery, other)
      expect(yield* Effect.flip(second)).toMatchObject({ _tag: "IdempotencyInFlightError", reason: "Running" })
      expect(yield* attempt).toEqual({ _tag: "Processed", value: "done" })
      expect(yield* second).toEqual({ _tag: "Duplicate", value: "done" })
    })
  )

  it.scoped("a claim that is reset is not run on", () =>
    Effect.gen(function* () {
      const request = requestOf(freshIds(), { inFlight: "fail" })
      const { attempt, other } = yield* counted(request.identifiers, attempted(request))
      yield* Context.get(other, IdempotencyRepository).reset(request.identifiers, { force: true })
      expect(yield* Effect.flip(attempt)).toMatchObject({ _tag: "IdempotencyInFlightError", reason: "Running" })
      expect(yield* Effect.provide(attempted(request), other)).toEqual({ ran: 2, recorded: 2 })
    })
  )

  it.scoped("after a claim that was taken over it is another attempt", () =>
    Effect.gen(function* () {
      const request = requestOf(freshIds(), { inFlight: "fail" })
      const { attempt, other } = yield* counted(request.identifiers, attempted(request))
      const { claims, reset } = Context.get(other, IdempotencyRepository)
      yield* reset(request.identifiers, { force: true })
      yield* claims.claim(request.identifiers, claimBy("other"))
      yield* claims.release(request.identifiers, { token: "other" })
      expect(yield* attempt).toEqual({ ran: 3, recorded: 3 })
    })
  )
})

layer(Postgres.layer, { excludeTestServices: true, timeout: 60_000 })("with one connection", (it) => {
  it.scoped("a delivery that waits for it is not counted, however long", () =>
    Effect.gen(function* () {
      const { url } = yield* Postgres
      const process = yield* engineOver(url)
      const request = requestOf(freshIds(), { storageTimeout: 200 })
      const sql = Context.get(process, SqlClient.SqlClient)
      const taken = yield* Effect.makeLatch(false)
      yield* Effect.fork(sql.withTransaction(Effect.zipRight(taken.open, Effect.sleep("1 second"))))
      yield* taken.await
      expect(yield* Effect.provide(attempted(request), process)).toEqual({ ran: 1, recorded: 1 })
    })
  )

  it.scoped("an attempt that failed is released once the store answers", () =>
    Effect.gen(function* () {
      const { url } = yield* Postgres
      const process = yield* engineOver(url)
      const request = requestOf(freshIds(), { storageTimeout: 2000 })
      const sql = Context.get(process, SqlClient.SqlClient)
      const [running, goOn] = yield* Effect.all([Effect.makeLatch(false), Effect.makeLatch(false)])
      const body = Effect.zipRight(running.open, Effect.zipRight(goOn.await, Effect.die("bug")))
      const attempt = yield* Effect.fork(Effect.provide(attempted(request, body), process))
      yield* running.await
      yield* Effect.fork(sql.withTransaction(Effect.sleep("3 seconds")))
      yield* Effect.sleep("50 millis")
      yield* goOn.open
      yield* Fiber.await(attempt)
      const [waited, ended] = yield* Effect.timed(Effect.provide(attempted(request), yield* engineOver(url)))
      expect(ended).toEqual({ ran: 2, recorded: 2 })
      // Its lease lasts for 11 seconds.
      expect(Duration.toSeconds(waited)).toBeLessThan(8)
    })
  )

  it.scoped("a claim that arrives after its caller has gone is released", () =>
    Effect.gen(function* () {
      const { url } = yield* Postgres
      const sent = yield* Effect.makeLatch(false)
      const process = yield* engineOver(url, (text, executed) =>
        text.includes("INSERT INTO")
          ? pipe(
              Effect.forkDaemon(Effect.delay(executed, "500 millis")),
              Effect.zipLeft(sent.open),
              Effect.flatMap(Fiber.join)
            )
          : executed
      )
      const request = requestOf(freshIds(), { storageTimeout: 1000 })
      const attempt = yield* Effect.fork(Effect.provide(attempted(request), process))
      yield* sent.await
      yield* Fiber.interrupt(attempt)
      const { claims } = Context.get(yield* engineOver(url), IdempotencyRepository)
      expect(yield* claims.read([request.identifiers])).toEqual([undefined])
      for (const state of ["Processing", "Released"]) {
        yield* Effect.repeat(claims.read([request.identifiers]), {
          until: ([found]) => found?._tag === state,
          schedule: often
        }).pipe(Effect.timeout("5 seconds"))
      }
    })
  )

  it.scoped("whoever waits for another's claim waits no longer than it said, though all connections are taken", () =>
    Effect.gen(function* () {
      const { url } = yield* Postgres
      const key = freshIds()
      const other = yield* engineOver(url)
      yield* Context.get(other, IdempotencyRepository).claims.claim(key, claimBy("t"))
      for (const countsAttempt of [true, false]) {
        const asked = yield* Effect.makeLatch(false)
        const process = yield* engineOver(url, (_, executed) =>
          Effect.zipRight(asked.open, Effect.delay(executed, "100 millis"))
        )
        const sql = Context.get(process, SqlClient.SqlClient)
        const request = requestOf(key, { countsAttempt, waitTimeout: 300, storageTimeout: 500 })
        const waiting = yield* Effect.fork(Effect.timed(Effect.flip(Effect.provide(attempted(request), process))))
        // They have the connection as soon as the key was seen to be in flight.
        yield* asked.await
        const taking = yield* Effect.fork(sql.withTransaction(Effect.sleep("20 seconds")))
        const [waited] = yield* Fiber.join(waiting)
        expect(Duration.toSeconds(waited)).toBeLessThan(5)
        yield* Fiber.interrupt(taking)
      }
    })
  )
})
