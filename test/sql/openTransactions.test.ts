/** Transactions that meet a record, a claim or each other, and stay open. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import {
  type Idempotency,
  IdempotencyIdentifiers,
  IdempotencyRepository,
  type IdempotencyTransactions,
  withIdempotency
} from "../../src/index.js"
import { layerSql, SqlIdempotencyRepository, withIdempotentTransaction } from "../../src/sql.js"
import { Mariadb, mysqlClient, Postgres, pgClient } from "../support/databases.js"
import { blockedSessions, eventually, freshIds, numberOf } from "./fixtures.js"

type Process = Context.Context<Idempotency | IdempotencyRepository | IdempotencyTransactions | SqlClient.SqlClient>

/** Of `blocked`: how many sessions wait for a lock. */
const suite = <Server, E>(
  name: string,
  server: Layer.Layer<Server>,
  client: Layer.Layer<SqlClient.SqlClient, E, Server>,
  blocked: string
) =>
  layer(server, { excludeTestServices: true, timeout: 60_000 })(name, (it) => {
    /** Each as in a process of its own: a client and an engine. */
    const engine = Layer.fresh(layerSql()).pipe(
      Layer.provide(Layer.effectDiscard(SqlIdempotencyRepository.migration)),
      Layer.provideMerge(Layer.fresh(client))
    )
    const processes = Effect.all([Layer.build(engine), Layer.build(engine)])
    const inTransaction = <A, E2, R>(process: Process, effect: Effect.Effect<A, E2, R>) =>
      Effect.provide(Context.get(process, SqlClient.SqlClient).withTransaction(effect), process)
    const credit = (key: string, value = "run again") =>
      withIdempotentTransaction(Effect.succeed(value), "credit", key, { inFlight: "fail" })

    it.scoped.each(["30 days", Duration.infinity] as const)("who waits for %s waits", (waitTimeout) =>
      Effect.gen(function* () {
        const [one, other] = yield* processes
        const { idempotencyKey: key } = freshIds()
        const patient = (value: string) =>
          withIdempotentTransaction(Effect.succeed(value), "credit", key, { waitTimeout })
        const [credited, ended] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
        const open = patient("credited").pipe(
          Effect.zipLeft(Deferred.succeed(credited, undefined)),
          Effect.zipLeft(Deferred.await(ended))
        )
        const first = yield* Effect.fork(inTransaction(one, open))
        yield* Deferred.await(credited)
        const waiting = yield* Effect.forEach(
          [Effect.provide(patient("run again"), other), inTransaction(other, patient("run again"))],
          Effect.fork
        )
        const sql = Context.get(one, SqlClient.SqlClient)
        yield* eventually(numberOf(sql, blocked), (count) => count === 2)
        yield* Deferred.succeed(ended, undefined)
        expect(yield* Fiber.join(first)).toBe("credited")
        expect(yield* Effect.forEach(waiting, Fiber.join)).toEqual(["credited", "credited"])
      })
    )

    it.scoped("a record that one replays is replayed by others meanwhile", () =>
      Effect.gen(function* () {
        const [one, other] = yield* processes
        const { idempotencyKey: key } = freshIds()
        yield* Effect.provide(credit(key, "credited"), one)
        const [replayed, ended] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
        const open = credit(key).pipe(
          Effect.zipLeft(Deferred.succeed(replayed, undefined)),
          Effect.zipLeft(Deferred.await(ended))
        )
        const first = yield* Effect.fork(inTransaction(one, open))
        yield* Deferred.await(replayed)
        expect(yield* inTransaction(other, credit(key))).toBe("credited")
        yield* Deferred.succeed(ended, undefined)
        expect(yield* Fiber.join(first)).toBe("credited")
      })
    )

    it.scoped("two that replay the same records in another order do not wait for each other", () =>
      Effect.gen(function* () {
        const [one, other] = yield* processes
        const keys = [freshIds().idempotencyKey, freshIds().idempotencyKey]
        yield* Effect.forEach(keys, (key) => Effect.provide(credit(key, `credited ${key}`), one))
        const met = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
        const replays = (process: Process, order: ReadonlyArray<number>) =>
          inTransaction(
            process,
            Effect.forEach(order, (index, step) =>
              Effect.zipLeft(
                withIdempotentTransaction(Effect.succeed("run again"), "credit", keys[index] ?? ""),
                step === 0
                  ? Effect.zipRight(
                      Effect.forEach(met.slice(index, index + 1), (mine) => Deferred.succeed(mine, undefined)),
                      Effect.forEach(met, Deferred.await)
                    )
                  : Effect.void
              )
            )
          )
        const results = yield* Effect.all([replays(one, [0, 1]), replays(other, [1, 0])], { concurrency: "unbounded" })
        const [a, b] = keys.map((key) => `credited ${key}`)
        expect(results).toEqual([
          [a, b],
          [b, a]
        ])
      })
    )

    /** What a transaction that has read the table is told of the key, once others have done something to it. */
    const toldAfter = <A, E2, R>(process: Process, key: string, others: Effect.Effect<A, E2, R>) =>
      Effect.gen(function* () {
        const sql = Context.get(process, SqlClient.SqlClient)
        const [opened, done] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
        const late = Effect.gen(function* () {
          // On MySQL this is what all later reads see.
          yield* sql`SELECT count(*) FROM idempotency_records`
          yield* Deferred.succeed(opened, undefined)
          yield* Deferred.await(done)
          return yield* credit(key)
        })
        const open = yield* Effect.fork(inTransaction(process, late))
        yield* Deferred.await(opened)
        yield* others
        yield* Deferred.succeed(done, undefined)
        return yield* Effect.either(Fiber.join(open))
      })

    it.scoped("a call within one sees what has been recorded since it was opened", () =>
      Effect.gen(function* () {
        const [one, other] = yield* processes
        const { idempotencyKey: key } = freshIds()
        const recorded = Effect.provide(credit(key, "credited"), one)
        expect(yield* toldAfter(other, key, recorded)).toEqual(Either.right("credited"))
      })
    )

    it.scoped("a call within one sees that a claim that was live has been completed", () =>
      Effect.gen(function* () {
        const [one, other] = yield* processes
        const { idempotencyKey: key } = freshIds()
        const [begun, ended] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
        const owner = yield* Deferred.succeed(begun, undefined).pipe(
          Effect.zipRight(Deferred.await(ended)),
          Effect.as("claimed"),
          withIdempotency("credit", key, { onStorageFailure: "fail" }),
          Effect.provide(one),
          Effect.fork
        )
        yield* Deferred.await(begun)
        const completed = Effect.zipRight(Deferred.succeed(ended, undefined), Fiber.join(owner))
        expect(yield* toldAfter(other, key, completed)).toEqual(Either.right("claimed"))
      })
    )

    it.scoped("a call within one does not replay what has been reset since it was opened", () =>
      Effect.gen(function* () {
        const [one, other] = yield* processes
        const { idempotencyKey: key } = freshIds()
        const ids = yield* IdempotencyIdentifiers.from({ operation: "credit", idempotencyKey: key })
        yield* Effect.provide(credit(key, "withdrawn"), one)
        const reset = Context.get(one, IdempotencyRepository).reset(ids)
        expect(yield* toldAfter(other, key, reset)).toEqual(Either.right("run again"))
      })
    )

    if (name === "Postgres") {
      it.scoped("a claim that one meets is still its owner's to complete", () =>
        Effect.gen(function* () {
          const [one, other] = yield* processes
          const { idempotencyKey: key } = freshIds()
          const [begun, met, ended] = [
            yield* Deferred.make<void>(),
            yield* Deferred.make<void>(),
            yield* Deferred.make<void>()
          ]
          const owner = yield* Deferred.succeed(begun, undefined).pipe(
            Effect.zipRight(Deferred.await(met)),
            Effect.as("claimed"),
            withIdempotency("credit", key, { onStorageFailure: "fail" }),
            Effect.provide(one),
            Effect.fork
          )
          yield* Deferred.await(begun)
          const open = Effect.flip(credit(key)).pipe(
            Effect.zipLeft(Deferred.succeed(met, undefined)),
            Effect.zipLeft(Deferred.await(ended))
          )
          const beside = yield* Effect.fork(inTransaction(other, open))
          expect(yield* Fiber.join(owner)).toBe("claimed")
          yield* Deferred.succeed(ended, undefined)
          expect(yield* Fiber.join(beside)).toMatchObject({ _tag: "IdempotencyInFlightError" })
        })
      )
    }
  })

suite("Postgres", Postgres.layer, pgClient, blockedSessions.postgres)
suite("MariaDB", Mariadb.layer, mysqlClient, blockedSessions.mariadb)
