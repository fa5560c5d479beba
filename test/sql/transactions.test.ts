/** An effect and its record in one transaction, on real databases. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, it, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import {
  Idempotency,
  IdempotencyDomainService,
  IdempotencyIdentifiers,
  IdempotencyMetrics,
  IdempotencyRepository,
  IdempotentExecution,
  withIdempotency
} from "../../src/index.js"
import { layerSql, SqlIdempotencyRepository, withIdempotentTransaction } from "../../src/sql.js"
import { Mariadb, mysqlClient, Postgres, pgClient, SqliteFile, sqliteClient } from "../support/databases.js"

const tables = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* SqlIdempotencyRepository.migration
  yield* sql`CREATE TABLE IF NOT EXISTS business (id VARCHAR(100) NOT NULL, note VARCHAR(100) NOT NULL)`
})

/** Nobody runs long here; a loaded machine may. */
const engine = Layer.fresh(layerSql()).pipe(Layer.provide(Layer.effectDiscard(tables)))

const book = (id: string, note = "booked") =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`INSERT INTO business (id, note) VALUES (${id}, ${note})`
    return { id, note }
  })

const booked = (id: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const rows = yield* sql<{ note: string }>`SELECT note FROM business WHERE id = ${id}`
    return rows.map(({ note }) => note)
  })

const keyOf = (() => {
  let count = 0
  return () => `key-${count++}`
})()

const stored = (key: string, operation = "book") =>
  Effect.gen(function* () {
    const repository = yield* IdempotencyRepository
    const ids = yield* IdempotencyIdentifiers.from({ operation, idempotencyKey: key })
    return yield* repository.inspect(ids)
  })

class Refused extends Error {
  readonly _tag = "Refused"
}

const suite = <E>(name: string, client: Layer.Layer<SqlClient.SqlClient, E>) =>
  layer(engine.pipe(Layer.provideMerge(client)), { excludeTestServices: true, timeout: 60_000 })(name, (it) => {
    it.effect("the first call runs, later ones get its result", () =>
      Effect.gen(function* () {
        const key = keyOf()
        const call = withIdempotentTransaction(book(key), "book", key)
        expect(yield* call).toEqual({ id: key, note: "booked" })
        expect(yield* call).toEqual({ id: key, note: "booked" })
        expect(yield* booked(key)).toEqual(["booked"])
        const state = Option.getOrThrow(yield* stored(key))
        expect(state).toMatchObject({ _tag: "Completed", attempt: 1 })
      })
    )

    it.effect("a failure rolls back, is not recorded, and the next call runs", () =>
      Effect.gen(function* () {
        const key = keyOf()
        const failing = book(key).pipe(
          Effect.zipRight(Effect.fail(new Refused())),
          withIdempotentTransaction("book", key)
        )
        expect(yield* Effect.flip(failing)).toBeInstanceOf(Refused)
        expect(yield* booked(key)).toEqual([])
        expect(yield* stored(key)).toEqual(Option.none())
        const defective = book(key).pipe(Effect.zipRight(Effect.die("broken")), withIdempotentTransaction("book", key))
        expect(Exit.isFailure(yield* Effect.exit(defective))).toBe(true)
        expect(yield* booked(key)).toEqual([])
        yield* withIdempotentTransaction(book(key), "book", key)
        expect(yield* booked(key)).toEqual(["booked"])
      })
    )

    it.effect("an interruption rolls back", () =>
      Effect.gen(function* () {
        const key = keyOf()
        const started = yield* Deferred.make<void>()
        const fiber = yield* book(key).pipe(
          Effect.zipRight(Deferred.succeed(started, undefined)),
          Effect.zipRight(Effect.never),
          withIdempotentTransaction("book", key),
          Effect.fork
        )
        yield* Deferred.await(started)
        yield* Fiber.interrupt(fiber)
        expect(yield* booked(key)).toEqual([])
        yield* withIdempotentTransaction(book(key), "book", key)
        expect(yield* booked(key)).toEqual(["booked"])
      })
    )

    it.effect("an outer rollback leaves neither the business row nor the record", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const key = keyOf()
        const call = withIdempotentTransaction(book(key), "book", key)
        const outer = sql.withTransaction(Effect.zipRight(call, Effect.fail(new Refused())))
        expect(yield* Effect.flip(outer)).toBeInstanceOf(Refused)
        expect(yield* booked(key)).toEqual([])
        expect(yield* stored(key)).toEqual(Option.none())
        yield* sql.withTransaction(call)
        expect(yield* booked(key)).toEqual(["booked"])
        expect(yield* sql.withTransaction(call)).toEqual({ id: key, note: "booked" })
        expect(yield* booked(key)).toEqual(["booked"])
      })
    )

    it.effect("in an open transaction, a failure undoes what was done within, and no more", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const key = keyOf()
        yield* sql.withTransaction(
          Effect.gen(function* () {
            yield* book(key, "outer")
            yield* Effect.flip(
              book(key, "inner").pipe(
                Effect.zipRight(Effect.fail(new Refused())),
                withIdempotentTransaction("book", key)
              )
            )
          })
        )
        expect(yield* booked(key)).toEqual(["outer"])
        expect(yield* stored(key)).toEqual(Option.none())
      })
    )

    it.effect("protected effects nest: each has its record, and all commit together", () =>
      Effect.gen(function* () {
        const [outer, inner] = [keyOf(), keyOf()]
        const nested = (fails: boolean) =>
          Effect.gen(function* () {
            yield* book(outer)
            yield* withIdempotentTransaction(book(inner), "book", inner)
            if (fails) yield* Effect.fail(new Refused())
            return "both"
          }).pipe(withIdempotentTransaction("book", outer))
        yield* Effect.flip(nested(true))
        expect([yield* booked(outer), yield* booked(inner)]).toEqual([[], []])
        expect(yield* nested(false)).toBe("both")
        expect([yield* booked(outer), yield* booked(inner)]).toEqual([["booked"], ["booked"]])
      })
    )

    it.effect("a key that its own transaction holds is in flight, at once", () =>
      Effect.gen(function* () {
        const key = keyOf()
        const error = yield* withIdempotentTransaction(book(key), "book", key).pipe(
          withIdempotentTransaction("book", key),
          Effect.flip,
          Effect.timeout("5 seconds")
        )
        expect(error).toMatchObject({ _tag: "IdempotencyInFlightError", reason: "Running" })
      })
    )

    it.effect("a claim within a transaction is refused, and told what to use", () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const key = keyOf()
        const error = yield* Effect.flip(sql.withTransaction(withIdempotency(book(key), "book", key)))
        expect(error).toMatchObject({ _tag: "IdempotencyValidationError" })
        expect(String(error)).toContain("withIdempotentTransaction")
        expect(yield* booked(key)).toEqual([])
        expect(yield* stored(key)).toEqual(Option.none())
      })
    )

    it.effect("a transaction within a claim is fine", () =>
      Effect.gen(function* () {
        const key = keyOf()
        const call = withIdempotentTransaction(book(key), "book", key).pipe(withIdempotency("claim", key))
        yield* call
        yield* call
        expect(yield* booked(key)).toEqual(["booked"])
      })
    )

    it.effect("another request under the same key is a mismatch, and nothing runs", () =>
      Effect.gen(function* () {
        const key = keyOf()
        const call = (amount: number) => withIdempotentTransaction(book(key), "book", key, { fingerprint: { amount } })
        yield* call(1)
        expect(yield* Effect.flip(call(2))).toMatchObject({ _tag: "IdempotencyFingerprintMismatchError" })
        yield* call(1)
        expect(yield* booked(key)).toEqual(["booked"])
      })
    )

    it.effect("what another runs outside a transaction is waited for, then replayed", () =>
      Effect.gen(function* () {
        const key = keyOf()
        const gate = yield* Deferred.make<void>()
        const started = yield* Deferred.make<void>()
        const claimed = yield* Deferred.succeed(started, undefined).pipe(
          Effect.zipRight(Deferred.await(gate)),
          Effect.as({ id: key, note: "claimed" }),
          withIdempotency("book", key),
          Effect.fork
        )
        yield* Deferred.await(started)
        const refused = yield* Effect.flip(withIdempotentTransaction(book(key), "book", key, { inFlight: "fail" }))
        expect(refused).toMatchObject({ _tag: "IdempotencyInFlightError" })
        const short = yield* Effect.flip(
          withIdempotentTransaction(book(key), "book", key, { waitTimeout: "100 millis" })
        )
        expect(short).toMatchObject({ _tag: "IdempotencyInFlightError" })
        const waiting = yield* Effect.fork(withIdempotentTransaction(book(key), "book", key))
        yield* Effect.sleep("50 millis")
        yield* Deferred.succeed(gate, undefined)
        expect(yield* Fiber.join(waiting)).toEqual({ id: key, note: "claimed" })
        yield* Fiber.join(claimed)
        expect(yield* booked(key)).toEqual([])
      })
    )

    it.effect("a released key is claimed in the transaction, with the next attempt", () =>
      Effect.gen(function* () {
        const key = keyOf()
        yield* Effect.flip(withIdempotency(Effect.fail("no"), "book", key))
        const attempt = yield* Effect.map(IdempotentExecution, (execution) => execution.attempt).pipe(
          withIdempotentTransaction("book", key)
        )
        expect(attempt).toBe(2)
        expect(Option.getOrThrow(yield* stored(key))).toMatchObject({ _tag: "Completed", attempt: 2 })
      })
    )

    it.effect("a result that cannot be recorded is given to its caller, and never run again", () =>
      Effect.gen(function* () {
        const key = keyOf()
        const large = "x".repeat(1_100_000)
        const call = Effect.as(book(key), large).pipe(withIdempotentTransaction("book", key))
        expect((yield* call).length).toBe(large.length)
        expect(yield* Effect.flip(call)).toMatchObject({ _tag: "IdempotencyResultUnavailableError" })
        expect(yield* booked(key)).toEqual(["booked"])
      })
    )

    it.effect("bad input runs nothing", () =>
      Effect.gen(function* () {
        const key = keyOf()
        const errors = yield* Effect.forEach(
          [
            withIdempotentTransaction(book(key), "", key),
            withIdempotentTransaction(book(key), "book", "a:b"),
            withIdempotentTransaction(book(key), "book", ""),
            withIdempotentTransaction(book(key), "book", key, { timeToLive: Duration.millis(1) })
          ],
          (call) => Effect.map(Effect.either(call), (either) => (Either.isLeft(either) ? either.left._tag : "ran"))
        )
        expect(errors).toEqual([
          "IdempotencyValidationError",
          "IdempotencyValidationError",
          "IdempotencyValidationError",
          "IdempotencyInvalidTtlError"
        ])
        expect(yield* booked(key)).toEqual([])
      })
    )
  })

suite("Postgres", pgClient.pipe(Layer.provide(Postgres.layer)))
suite("SQLite", sqliteClient.pipe(Layer.provide(SqliteFile.layer)))
suite("MariaDB", mysqlClient.pipe(Layer.provide(Mariadb.layer)))

const slow = Layer.fresh(Idempotency.layerWith({ storageTimeout: "11 seconds" })).pipe(
  Layer.provideMerge(SqlIdempotencyRepository.layer),
  Layer.provide([IdempotencyDomainService.layer, IdempotencyMetrics.layer]),
  Layer.provide(Layer.effectDiscard(tables))
)

it.scopedLive("a transaction has no lease that could be too short for the engine's timeout", () =>
  Effect.map(withIdempotentTransaction(Effect.succeed(1), "book", keyOf()), (value) => expect(value).toBe(1)).pipe(
    Effect.provide(slow.pipe(Layer.provideMerge(sqliteClient), Layer.provide(SqliteFile.layer)))
  )
)
