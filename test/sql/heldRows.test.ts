/** Rows that an open transaction of another connection holds, for longer than anybody waits. */
import * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import { MysqlClient } from "@effect/sql-mysql2"
import { expect, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type { IdempotencyIdentifiers } from "../../src/IdempotencyIdentifiers.js"
import { Idempotency, IdempotencyDomainService, withIdempotency } from "../../src/index.js"
import { SqlIdempotencyRepository, withIdempotentTransaction } from "../../src/sql.js"
import { RecordingMetrics } from "../../src/testing.js"
import { Mariadb, Postgres, pgClientOf } from "../support/databases.js"
import {
  blockedSessions,
  claimBy,
  completeBy,
  eventually,
  freshIds,
  insertBy,
  numberOf,
  repositoryOf,
  rowsOf,
  sqlOf
} from "./fixtures.js"

/** What an open transaction does to hold a row. */
type Hold = (other: SqlClient.SqlClient) => Effect.Effect<unknown, SqlError>

/** Of `blocked`: how many sessions wait for a lock. */
const suite = <I, S extends { readonly url: string }>(
  name: string,
  tag: Context.Tag<I, S>,
  server: Layer.Layer<I>,
  clientOf: (url: string) => Layer.Layer<SqlClient.SqlClient>,
  blocked: string
) =>
  layer(Layer.provideMerge(Layer.unwrapEffect(Effect.map(tag, ({ url }) => clientOf(url))), server), {
    excludeTestServices: true,
    timeout: 60_000
  })(name, (it) => {
    /** An open transaction of another client, which has done that, and ends with the effect. */
    const holdUntil = (hold: Hold, end: Effect.Effect<void>) =>
      Effect.gen(function* () {
        const { url } = yield* tag
        const other = yield* sqlOf(Layer.fresh(clientOf(url)))
        const held = yield* Deferred.make<void>()
        const holding = yield* hold(other).pipe(
          Effect.zipRight(Deferred.succeed(held, undefined)),
          Effect.zipRight(end),
          other.withTransaction,
          Effect.fork
        )
        yield* Deferred.await(held)
        return { other, holding }
      })
    /** Runs while that holds; then nobody waits for it any more. */
    const whileHeld = <A, E, R>(hold: Hold, effect: Effect.Effect<A, E, R>) =>
      Effect.gen(function* () {
        const done = yield* Deferred.make<void>()
        const { holding, other } = yield* holdUntil(hold, Deferred.await(done))
        const result = yield* effect
        yield* eventually(numberOf(other, blocked), (waiting) => waiting === 0, 1_000)
        yield* Deferred.succeed(done, undefined)
        yield* Fiber.join(holding)
        return result
      })
    /** Runs while that holds, which ends long before anybody gives up. */
    const whileHeldBriefly = <A, E, R>(hold: Hold, effect: Effect.Effect<A, E, R>) =>
      Effect.flatMap(holdUntil(hold, Effect.sleep("100 millis")), ({ holding }) =>
        Effect.zipLeft(effect, Fiber.join(holding))
      )
    const locking =
      (...keys: ReadonlyArray<IdempotencyIdentifiers>): Hold =>
      (other) =>
        Effect.forEach(keys, ({ idempotencyKey }) =>
          rowsOf(
            other,
            `SELECT 1 FROM idempotency_records WHERE operation = 'payment.charge' AND scope = '' AND idempotency_key = '${idempotencyKey}' FOR UPDATE`
          )
        )
    const inserting =
      ({ idempotencyKey }: IdempotencyIdentifiers): Hold =>
      (other) =>
        rowsOf(
          other,
          `INSERT INTO idempotency_records (operation, scope, idempotency_key, version, state, token, attempt, created_at, expires_at, retention) VALUES ('payment.charge', '', '${idempotencyKey}', 1, 'Released', 't', 1, 1, 9000000000000, 60000)`
        )
    const setup = Effect.gen(function* () {
      yield* SqlIdempotencyRepository.migration
      return yield* repositoryOf()
    })

    it.scoped("a claim of one is in flight, and asked again by and by", () =>
      Effect.gen(function* () {
        const { claims } = yield* setup
        const [fresh, released, expired] = [freshIds(), freshIds(), freshIds()]
        for (const key of [released, expired]) {
          yield* claims.claim(key, claimBy("t"))
          yield* claims.release(key, { token: "t" })
        }
        const sql = yield* SqlClient.SqlClient
        yield* rowsOf(
          sql,
          `UPDATE idempotency_records SET expires_at = 5 WHERE idempotency_key = '${expired.idempotencyKey}'`
        )
        for (const [key, hold] of [
          [fresh, inserting(fresh)],
          [released, locking(released)],
          [expired, locking(expired)]
        ] as const) {
          const reply = yield* whileHeld(hold, Effect.timeout(claims.claim(key, claimBy("u")), "5 seconds"))
          expect(reply).toMatchObject({ _tag: "InFlight" })
          expect(yield* claims.claim(key, claimBy("u"))).toMatchObject({ _tag: "Claimed" })
        }
      })
    )

    it.scoped("a call beside a transaction with its key is in flight, and does not run", () =>
      Effect.gen(function* () {
        yield* setup
        const { url } = yield* tag
        const { idempotencyKey } = freshIds()
        // A machine that is slow to answer is not what this is about: no attempt is to time out.
        const engine = Layer.fresh(Idempotency.layerWith({ storageTimeout: "15 seconds" })).pipe(
          Layer.provideMerge(Layer.fresh(SqlIdempotencyRepository.layer)),
          Layer.provideMerge(IdempotencyDomainService.layer),
          Layer.provideMerge(Layer.fresh(clientOf(url))),
          Layer.provideMerge(RecordingMetrics.layer)
        )
        const [ours, theirs] = [yield* Layer.build(engine), yield* Layer.build(engine)]
        const { count } = Context.get(ours, RecordingMetrics)
        const answered = count("recordLatency", "book")
        const [begun, ended] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
        const first = yield* Deferred.succeed(begun, undefined).pipe(
          Effect.zipRight(Deferred.await(ended)),
          Effect.as("first"),
          withIdempotentTransaction("book", idempotencyKey),
          Effect.provide(theirs),
          Effect.fork
        )
        yield* Deferred.await(begun)
        const second = Effect.provide(withIdempotency(Effect.succeed("second"), "book", idempotencyKey), ours)
        const failing = withIdempotency(Effect.succeed("second"), "book", idempotencyKey, { inFlight: "fail" })
        expect(yield* Effect.flip(Effect.provide(failing, ours))).toMatchObject({ _tag: "IdempotencyInFlightError" })
        expect(yield* numberOf(yield* SqlClient.SqlClient, blocked)).toBe(0)
        const before = yield* answered
        const waiting = yield* Effect.fork(second)
        yield* eventually(answered, (now) => now > before)
        expect(yield* count("recordError")).toBe(0)
        yield* Deferred.succeed(ended, undefined)
        expect([yield* Fiber.join(first), yield* Fiber.join(waiting)]).toEqual(["first", "first"])
      })
    )

    it.scoped("keeps no other lease from being renewed", () =>
      Effect.gen(function* () {
        const { claims } = yield* setup
        const keys = Array.from({ length: 12 }, freshIds)
        yield* Effect.forEach(keys, (key) => claims.claim(key, claimBy("t")))
        const renewals = keys.map((identifiers) => ({ identifiers, request: { token: "t", lease: 60_000 } }))
        const replies = yield* whileHeld(
          locking(...keys.slice(0, 10)),
          Effect.timeout(claims.renew(renewals), "5 seconds")
        )
        expect(replies.map(({ _tag }) => _tag)).toEqual([
          ...Array.from({ length: 10 }, () => "Failed"),
          "Renewed",
          "Renewed"
        ])
        expect(replies[0]).toMatchObject({ error: { method: "renew", reason: "Timeout", applied: "no" } })
        expect((yield* claims.renew(renewals)).every(({ _tag }) => _tag === "Renewed")).toBe(true)
      })
    )

    it.scoped("what its owner or an operator does to one fails, and has done nothing", () =>
      Effect.gen(function* () {
        const repository = yield* setup
        const { claims } = repository
        const key = freshIds()
        yield* claims.claim(key, claimBy("t"))
        const fails = <A, E>(effect: Effect.Effect<A, E>) => Effect.timeout(Effect.flip(effect), "5 seconds")
        const errors = yield* whileHeld(
          locking(key),
          Effect.all([
            fails(claims.complete(key, completeBy("t"))),
            fails(claims.release(key, { token: "t" })),
            fails(claims.hold(key, { token: "t" })),
            fails(claims.saveStep(key, { token: "t", name: "n", encoded: "1" })),
            fails(repository.reset(key, { force: true }))
          ])
        )
        for (const error of errors) expect(error).toMatchObject({ reason: "Timeout", applied: "no" })
        expect(yield* claims.complete(key, completeBy("t"))).toMatchObject({ _tag: "Done" })
      })
    )

    it.scoped("one that is held for a moment is waited for", () =>
      Effect.gen(function* () {
        const repository = yield* setup
        const { claims, driver } = repository
        const settled = Effect.gen(function* () {
          const key = freshIds()
          yield* claims.claim(key, claimBy("t"))
          yield* claims.complete(key, completeBy("t"))
          return key
        })
        const removed = yield* settled
        expect(yield* whileHeldBriefly(locking(removed), repository.delete(removed))).toBe(true)
        const reset = yield* settled
        yield* whileHeldBriefly(locking(reset), repository.reset(reset))
        const expired = yield* settled
        const sql = yield* SqlClient.SqlClient
        yield* rowsOf(
          sql,
          `UPDATE idempotency_records SET expires_at = 5 WHERE idempotency_key = '${expired.idempotencyKey}'`
        )
        const reaping: Hold = (other) =>
          rowsOf(other, `DELETE FROM idempotency_records WHERE idempotency_key = '${expired.idempotencyKey}'`)
        const claimed = yield* whileHeldBriefly(reaping, claims.claim(expired, claimBy("u")))
        expect(claimed).toMatchObject({ _tag: "Claimed", attempt: 1 })
        for (const allOrNothing of [true, false]) {
          const key = yield* settled
          const members = [key, freshIds()].map((identifiers) => ({ identifiers, request: insertBy("u") }))
          const gone: Hold = (other) =>
            rowsOf(other, `DELETE FROM idempotency_records WHERE idempotency_key = '${key.idempotencyKey}'`)
          yield* repository.delete(key)
          const inserted = yield* whileHeldBriefly(
            (other) => Effect.zipRight(inserting(key)(other), gone(other)),
            driver.insert(members, { allOrNothing })
          )
          expect(inserted.map(({ _tag }) => _tag)).toEqual(["Inserted", "Inserted"])
        }
      })
    )

    it.scoped("many that are stored together, with one of them, are not", () =>
      Effect.gen(function* () {
        const { claims, driver } = yield* setup
        for (const allOrNothing of [true, false]) {
          const [held, other] = [freshIds(), freshIds()]
          const members = [held, other].map((identifiers) => ({ identifiers, request: insertBy("u") }))
          const inserted = Effect.timeout(Effect.flip(driver.insert(members, { allOrNothing })), "5 seconds")
          const error = yield* whileHeld(inserting(held), inserted)
          expect(error).toMatchObject({ reason: "Timeout", applied: "no" })
          expect(yield* claims.read([other])).toEqual([undefined])
        }
      })
    )

    it.scoped("many that are stored together, beside one that nobody asked for, are stored", () =>
      Effect.gen(function* () {
        const { claims, driver } = yield* setup
        const beside = freshIds()
        yield* claims.claim(beside, claimBy("t"))
        const members = Array.from({ length: 50 }, () => ({ identifiers: freshIds(), request: insertBy("u") }))
        for (const allOrNothing of [true, false]) {
          const replies = yield* whileHeld(locking(beside), driver.insert(members, { allOrNothing }))
          expect(replies.map(({ _tag }) => _tag)).toEqual(members.map(() => "Inserted"))
          yield* driver.remove(members.map(({ identifiers }) => identifiers))
        }
      })
    )

    it.scoped(
      "more than go in one statement may have been stored or removed, all but one",
      () =>
        Effect.gen(function* () {
          const { claims, driver } = yield* setup
          const keys = Array.from({ length: 501 }, freshIds)
          const [last] = keys.slice(-1)
          if (last === undefined) return yield* Effect.dieMessage("no keys")
          const members = keys.map((identifiers) => ({ identifiers, request: insertBy("u") }))
          const storing = Effect.timeout(Effect.flip(driver.insert(members, { allOrNothing: false })), "50 seconds")
          expect(yield* whileHeld(inserting(last), storing)).toMatchObject({ reason: "Timeout", applied: "unknown" })
          const stored = yield* driver.insert(members, { allOrNothing: false })
          expect(stored.at(-1)).toMatchObject({ _tag: "Inserted" })

          const removing = Effect.timeout(Effect.flip(driver.remove(keys)), "50 seconds")
          expect(yield* whileHeld(locking(last), removing)).toMatchObject({ reason: "Timeout", applied: "unknown" })
          const removed = yield* driver.remove(keys)
          expect(removed.at(-1)).toBe(true)
          expect(yield* claims.read(keys)).toEqual(keys.map(() => undefined))
        }),
      120_000
    )

    it.scoped("nobody who subscribes to its changes, or removes it, waits for that transaction", () =>
      Effect.gen(function* () {
        const repository = yield* setup
        const [running, settled] = [freshIds(), freshIds()]
        yield* repository.claims.claim(running, claimBy("t"))
        yield* repository.claims.complete(settled, completeBy("t"))
        const held = locking(running, settled)
        yield* whileHeld(held, Effect.timeout(repository.claims.changes(running), "5 seconds"))
        const error = yield* whileHeld(held, Effect.timeout(Effect.flip(repository.delete(settled)), "5 seconds"))
        expect(error).toMatchObject({ reason: "Timeout", applied: "no" })
        expect(yield* repository.delete(settled)).toBe(true)
      })
    )
  })

suite("Postgres", Postgres, Postgres.layer, (url) => pgClientOf(url), blockedSessions.postgres)
suite(
  "MariaDB",
  Mariadb,
  Mariadb.layer,
  (url) => Layer.orDie(MysqlClient.layer({ url: Redacted.make(url), maxConnections: 10 })),
  blockedSessions.mariadb
)
