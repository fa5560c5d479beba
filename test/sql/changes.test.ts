/** Waiters are woken by what others do, in their own process and on Postgres in all. */
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { SqlIdempotencyRepository } from "../../src/sql.js"
import { Postgres, pgClient, pgClientOf } from "../support/databases.js"
import { claimBy, completeBy, eventually, freshIds, logged, repositoryOf, repositoryOver } from "./fixtures.js"

layer(Layer.provideMerge(pgClient, Postgres.layer), { excludeTestServices: true, timeout: 60_000 })(
  "Postgres",
  (it) => {
    const setup = Effect.gen(function* () {
      yield* SqlIdempotencyRepository.migration
      const { query, url } = yield* Postgres
      const listeners = Effect.map(
        query("SELECT count(*) AS n FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"),
        ([row]) => Number(row?.["n"])
      )
      const { claims } = yield* repositoryOf()
      const other = yield* repositoryOver(Layer.fresh(pgClientOf(url)))
      return { claims, listeners, other: other.claims, query, url }
    })

    it.scoped("a change in one process wakes the waiters of another, without its polling", () =>
      Effect.gen(function* () {
        const { claims, listeners, other } = yield* setup
        const key = freshIds()
        yield* claims.claim(key, claimBy("t"))
        const changed = yield* other.changes(key)
        yield* eventually(listeners, (count) => count === 1)
        yield* Effect.fork(Effect.delay(claims.release(key, { token: "t" }), "20 millis"))
        yield* Effect.timeout(changed, "2 seconds")
        expect(yield* other.claim(key, claimBy("u"))).toMatchObject({ _tag: "Claimed", attempt: 2 })

        // Whoever waits again says so again.
        const waiter = yield* claims.changes(key)
        yield* eventually(listeners, (count) => count === 2)
        yield* Effect.fork(Effect.delay(other.complete(key, completeBy("u")), "20 millis"))
        yield* Effect.timeout(waiter, "2 seconds")
        expect(yield* claims.claim(key, claimBy("v"))).toMatchObject({ _tag: "Settled" })
      })
    )

    it.scoped("what nobody waits for is told to nobody", () =>
      Effect.gen(function* () {
        const { claims, listeners, other } = yield* setup
        const [awaited, ignored] = [freshIds(), freshIds()]
        yield* Effect.forEach([awaited, ignored], (key) => claims.claim(key, claimBy("t")))
        const changed = yield* other.changes(awaited)
        yield* eventually(listeners, (count) => count === 1)
        yield* claims.complete(ignored, completeBy("t"))
        expect(yield* Effect.timeoutOption(changed, "200 millis")).toMatchObject({ _tag: "None" })
        yield* claims.complete(awaited, completeBy("t"))
        yield* Effect.timeout(changed, "2 seconds")
      })
    )

    it.scoped("one connection serves all waiters, and is one only", () =>
      Effect.gen(function* () {
        const { claims, listeners, url } = yield* setup
        const keys = Array.from({ length: 20 }, freshIds)
        yield* Effect.forEach(keys, (key) => claims.claim(key, claimBy("t")))
        const sql = yield* repositoryOver(Layer.fresh(pgClientOf(url)))
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* Effect.forEach(keys, (key) => sql.claims.changes(key))
            yield* eventually(listeners, (count) => count === 1)
            yield* Effect.sleep("100 millis")
            expect(yield* listeners).toBe(1)
          })
        )
      })
    )

    it.scoped("a listening connection that is cut troubles nobody, whoever waits", () =>
      logged((messages) =>
        Effect.gen(function* () {
          const { claims, listeners, other, query } = yield* setup
          const key = freshIds()
          yield* claims.claim(key, claimBy("t"))
          yield* other.changes(key)
          yield* eventually(listeners, (count) => count === 1)
          yield* query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
          yield* eventually(listeners, (count) => count === 0)
          yield* claims.release(key, { token: "t" })
          expect(yield* other.claim(key, claimBy("u"))).toMatchObject({ _tag: "Claimed" })
          expect(messages).toEqual([])
        })
      )
    )

    it.scoped("a waiter within the process is woken without the database", () =>
      Effect.gen(function* () {
        const { claims } = yield* setup
        const sql = yield* Effect.map(Postgres, ({ query }) => query)
        const key = freshIds()
        yield* claims.claim(key, claimBy("t"))
        const changed = yield* claims.changes(key)
        yield* sql("UPDATE idempotency_records SET awaited = FALSE")
        yield* Effect.fork(Effect.delay(claims.complete(key, completeBy("t")), "20 millis"))
        yield* Effect.timeout(changed, "2 seconds")
      })
    )
  }
)
