/** SQLite's one connection, which a transaction of the same process has for longer than a call waits. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { withIdempotency } from "../../src/index.js"
import { layerSql, SqlIdempotencyRepository } from "../../src/sql.js"
import { RecordingMetrics } from "../../src/testing.js"
import { SqliteFile, sqliteClient } from "../support/databases.js"
import { claimBy, completeBy, eventually, freshIds, repositoryOf } from "./fixtures.js"

const engine = layerSql().pipe(
  Layer.provide(Layer.effectDiscard(SqlIdempotencyRepository.migration)),
  Layer.provideMerge(sqliteClient),
  Layer.provideMerge(RecordingMetrics.layer),
  Layer.provide(SqliteFile.layer)
)

layer(engine, { excludeTestServices: true, timeout: 60_000 })("a transaction of the same process", (it) => {
  /** Runs while another fiber has a transaction open. */
  const whileOpen = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const [open, ended] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const other = yield* Deferred.succeed(open, undefined).pipe(
        Effect.zipRight(Deferred.await(ended)),
        sql.withTransaction,
        Effect.fork
      )
      yield* Deferred.await(open)
      return yield* Effect.ensuring(effect, Effect.zipRight(Deferred.succeed(ended, undefined), Fiber.await(other)))
    })

  it.scoped("keeps claims in flight, and no owner from its key", () =>
    Effect.gen(function* () {
      const { claims } = yield* repositoryOf()
      const [key, absent] = [freshIds(), freshIds()]
      yield* claims.claim(key, claimBy("t"))
      const within = Effect.timeout("5 seconds")
      yield* whileOpen(
        Effect.gen(function* () {
          expect(yield* within(claims.claim(absent, claimBy("u")))).toMatchObject({ _tag: "InFlight" })
          const renewal = [{ identifiers: key, request: { token: "t", lease: 60_000 } }]
          const busy = { reason: "Rejected", applied: "no" }
          expect(yield* within(Effect.flip(claims.renew(renewal)))).toMatchObject(busy)
          expect(yield* within(Effect.flip(claims.release(key, { token: "t" })))).toMatchObject(busy)
          expect(yield* within(Effect.flip(claims.read([key])))).toMatchObject(busy)
          // Tried again by whoever completes, with the same outcome.
          const completion = yield* within(Effect.flip(claims.complete(key, completeBy("t"))))
          expect(completion).toMatchObject({ reason: "Rejected", applied: "unknown" })
        })
      )
      expect(yield* claims.claim(absent, claimBy("u"))).toMatchObject({ _tag: "Claimed", attempt: 1 })
      expect(yield* claims.complete(key, completeBy("t"))).toMatchObject({ _tag: "Done" })
    })
  )

  it.scoped("is waited for by calls: they do not run unprotected beside it", () =>
    Effect.gen(function* () {
      const { idempotencyKey } = freshIds()
      const { count } = yield* RecordingMetrics
      const answered = count("recordLatency", "count")
      let runs = 0
      const call = withIdempotency(
        Effect.sync(() => ++runs),
        "count",
        idempotencyKey
      )
      const failing = withIdempotency(
        Effect.sync(() => ++runs),
        "count",
        idempotencyKey,
        { inFlight: "fail" }
      )
      const waiting = yield* whileOpen(
        Effect.gen(function* () {
          expect(yield* Effect.flip(failing)).toMatchObject({ _tag: "IdempotencyInFlightError" })
          expect(runs).toBe(0)
          const before = yield* answered
          const forked = yield* Effect.fork(call)
          yield* eventually(answered, (now) => now > before)
          expect(yield* count("recordError", "count")).toBe(0)
          expect(runs).toBe(0)
          return forked
        })
      )
      expect(yield* Fiber.join(waiting)).toBe(1)
      expect(yield* call).toBe(1)
    })
  )
})
