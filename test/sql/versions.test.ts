/** A row that took the place of another one between a read and the write that follows from it. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type { IdempotencyIdentifiers } from "../../src/IdempotencyIdentifiers.js"
import type { Driver } from "../../src/internal/protocol.js"
import { SqlIdempotencyRepository } from "../../src/sql.js"
import { Mariadb, mysqlClient, Postgres, pgClient, SqliteFile, sqliteClient } from "../support/databases.js"
import { claimBy, completeBy, driverBy, freshIds, insertBy, repositoryOf, rowsOf } from "./fixtures.js"

/** A driver whose first write comes after what is done meanwhile. */
const slowDriver = Effect.gen(function* () {
  const [reached, goOn] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
  const writes = (text: string) => /\b(UPDATE|DELETE FROM) ["`]/.test(text)
  const driver = yield* driverBy(
    (run) => (text, parameters) =>
      writes(text)
        ? Deferred.succeed(reached, undefined).pipe(
            Effect.zipRight(Deferred.await(goOn)),
            Effect.zipRight(run(text, parameters))
          )
        : run(text, parameters)
  )
  const meanwhile = <A, E, R>(others: Effect.Effect<A, E, R>) =>
    Deferred.await(reached).pipe(Effect.zipRight(others), Effect.zipRight(Deferred.succeed(goOn, undefined)))
  return { driver, meanwhile }
})

const suite = <E>(name: string, client: Layer.Layer<SqlClient.SqlClient, E>) =>
  layer(client, { excludeTestServices: true, timeout: 60_000 })(name, (it) => {
    const setup = Effect.gen(function* () {
      yield* SqlIdempotencyRepository.migration
      const sql = yield* SqlClient.SqlClient
      const repository = yield* repositoryOf()
      const { driver, meanwhile } = yield* slowDriver
      const key = freshIds()
      const expire = rowsOf(
        sql,
        `UPDATE idempotency_records SET expires_at = 5 WHERE idempotency_key = '${key.idempotencyKey}'`
      )
      const reap = rowsOf(sql, `DELETE FROM idempotency_records WHERE idempotency_key = '${key.idempotencyKey}'`)
      /** What the slow driver's verb is told, whose write comes after what others do. */
      const late = <A, E2, B, E3, R3>(
        verb: (driver: Driver, key: IdempotencyIdentifiers) => Effect.Effect<A, E2>,
        others: Effect.Effect<B, E3, R3>
      ) =>
        Effect.gen(function* () {
          const slow = yield* Effect.fork(verb(driver, key))
          yield* meanwhile(others)
          return yield* Fiber.join(slow)
        })
      return { repository, claims: repository.claims, key, expire, reap, late }
    })

    const claimLate = (driver: Driver, key: IdempotencyIdentifiers) => driver.claim(key, claimBy("p"))

    it.scoped("a claim of an expired row does not take the result that was recorded since", () =>
      Effect.gen(function* () {
        const { claims, expire, key, late, reap } = yield* setup
        yield* claims.claim(key, claimBy("t"))
        yield* claims.complete(key, completeBy("t"))
        yield* expire
        const others = Effect.all([reap, claims.claim(key, claimBy("q")), claims.complete(key, completeBy("q"))])
        expect(yield* late(claimLate, others)).toMatchObject({ _tag: "Settled", record: { token: "q" } })
        expect(yield* claims.read([key])).toMatchObject([{ _tag: "Completed", token: "q" }])
      })
    )

    it.scoped("a claim of an expired row does not take the claim that was made since", () =>
      Effect.gen(function* () {
        const { claims, expire, key, late, reap } = yield* setup
        yield* claims.claim(key, claimBy("t"))
        yield* expire
        const others = Effect.all([reap, claims.claim(key, claimBy("q"))])
        expect(yield* late(claimLate, others)).toMatchObject({ _tag: "InFlight" })
        expect(yield* claims.read([key])).toMatchObject([{ _tag: "Processing", token: "q" }])
      })
    )

    it.scoped("nor the result that the late owner of that row has recorded since", () =>
      Effect.gen(function* () {
        const { claims, expire, key, late, reap } = yield* setup
        yield* claims.claim(key, claimBy("t"))
        yield* expire
        const others = Effect.all([reap, claims.complete(key, completeBy("t"))])
        expect(yield* late(claimLate, others)).toMatchObject({ _tag: "Settled", record: { token: "t" } })
      })
    )

    it.scoped("a reset of a record does not free the claim that was made since", () =>
      Effect.gen(function* () {
        const { claims, key, late, repository } = yield* setup
        yield* repository.driver.insert([{ identifiers: key, request: insertBy("t") }], { allOrNothing: false })
        const others = Effect.all([repository.delete(key), claims.claim(key, claimBy("q"))])
        const reset = (driver: Driver) => driver.reset(key, { force: false })
        expect(yield* late(reset, others)).toMatchObject({ _tag: "InFlight" })
        expect(yield* claims.read([key])).toMatchObject([{ _tag: "Processing", token: "q" }])
      })
    )

    it.scoped("a reset of what cannot be read does not discard the claim that was made since", () =>
      Effect.gen(function* () {
        const { claims, key, late, reap } = yield* setup
        const sql = yield* SqlClient.SqlClient
        yield* claims.claim(key, claimBy("t"))
        yield* rowsOf(
          sql,
          `UPDATE idempotency_records SET state = 'Foo' WHERE idempotency_key = '${key.idempotencyKey}'`
        )
        const others = Effect.all([reap, claims.claim(key, claimBy("q"))])
        yield* late((driver) => driver.reset(key, { force: false }), others)
        expect(yield* claims.read([key])).toMatchObject([{ _tag: "Processing", token: "q" }])
      })
    )

    it.scoped("a record is not deleted in place of the one that it was read as", () =>
      Effect.gen(function* () {
        const { claims, key, late, repository } = yield* setup
        const one = (token: string) => [{ identifiers: key, request: insertBy(token) }]
        const { driver } = repository
        yield* driver.insert(one("t"), { allOrNothing: false })
        const others = Effect.all([repository.delete(key), claims.claim(key, claimBy("q"))])
        expect(yield* late((slow) => slow.remove([key]), others)).toEqual([false])
        expect(yield* claims.read([key])).toMatchObject([{ _tag: "Processing", token: "q" }])
      })
    )
  })

suite("Postgres", pgClient.pipe(Layer.provide(Postgres.layer)))
suite("SQLite", sqliteClient.pipe(Layer.provide(SqliteFile.layer)))
suite("MariaDB", mysqlClient.pipe(Layer.provide(Mariadb.layer)))
