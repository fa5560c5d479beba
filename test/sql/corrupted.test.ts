/** Rows that this version would not have written. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { IdempotencyIdentifiers } from "../../src/IdempotencyIdentifiers.js"
import { SqlIdempotencyRepository } from "../../src/sql.js"
import { Mariadb, mysqlClient, Postgres, pgClient, SqliteFile, sqliteClient } from "../support/databases.js"
import { claimBy, completeBy, freshIds, insertBy, outcome, repositoryOf, rowsOf } from "./fixtures.js"

type State = "Processing" | "Unknown" | "Completed" | "Released"

/** What is wrong with a row of this state. */
const garbage: ReadonlyArray<readonly [state: State, change: string]> = [
  ["Processing", "state = 'Foo'"],
  ["Processing", "state = ''"],
  ["Processing", "state = 'processing'"],
  ["Completed", "state = 'Processing'"],
  ["Processing", "state = 'Completed'"],
  ["Processing", "steps = 'not JSON'"],
  ["Processing", 'steps = \'{"name":"one"}\''],
  ["Released", 'steps = \'[{"name":"one"}]\''],
  ["Released", "retention = NULL"],
  ["Processing", "lease_until = NULL"],
  ["Processing", "guarantee = NULL"],
  ["Processing", "guarantee = 'never'"],
  ["Unknown", "reason = NULL"],
  ["Unknown", "reason = 'bored'"],
  ["Unknown", "unknown_retention = NULL"],
  ["Completed", "outcome = NULL"],
  ["Completed", "outcome = 'Foo'"],
  ["Completed", "result = NULL"]
]

/** Columns of SQLite hold anything. */
const garbageInSqlite: ReadonlyArray<readonly [state: State, change: string]> = [
  ["Processing", "attempt = 'many'"],
  ["Completed", "created_at = 'today'"],
  ["Completed", "expires_at = 'never'"],
  ["Completed", "result = x'00ff'"],
  ["Completed", "token = x'00ff'"],
  ["Released", "retention = 1.5"]
]

const suite = <E>(name: string, client: Layer.Layer<SqlClient.SqlClient, E>, cases = garbage) =>
  layer(client, { excludeTestServices: true, timeout: 60_000 })(name, (it) => {
    const setup = Effect.gen(function* () {
      yield* SqlIdempotencyRepository.migration
      const sql = yield* SqlClient.SqlClient
      const repository = yield* repositoryOf()
      const { claims, driver } = repository
      const make = (state: State, key: IdempotencyIdentifiers) =>
        Effect.gen(function* () {
          if (state === "Completed") return yield* claims.complete(key, completeBy("t"))
          yield* claims.claim(key, claimBy("t"))
          if (state === "Unknown") return yield* claims.hold(key, { token: "t" })
          if (state === "Released") return yield* claims.release(key, { token: "t" })
          return
        })
      const change = (key: IdempotencyIdentifiers, text: string) =>
        rowsOf(sql, `UPDATE idempotency_records SET ${text} WHERE idempotency_key = '${key.idempotencyKey}'`)
      const row = (key: IdempotencyIdentifiers) =>
        rowsOf(sql, `SELECT * FROM idempotency_records WHERE idempotency_key = '${key.idempotencyKey}'`)
      return { repository, claims, driver, make, change, row }
    })

    it.scoped.each(cases)("%s with %s: every verb says so and changes nothing, and a reset frees it", ([state, text]) =>
      Effect.gen(function* () {
        const { change, claims, driver, make, repository, row } = yield* setup
        const key = freshIds()
        yield* make(state, key)
        yield* change(key, text)
        const before = yield* row(key)
        expect(before).toHaveLength(1)
        const one = [{ identifiers: key, request: insertBy("t") }]
        const replies = {
          claim: yield* claims.claim(key, claimBy("t")),
          again: yield* claims.claim(key, claimBy("u")),
          renew: (yield* claims.renew([{ identifiers: key, request: { token: "t", lease: 9 } }]))[0],
          complete: yield* claims.complete(key, completeBy("t")),
          release: yield* claims.release(key, { token: "t" }),
          hold: yield* claims.hold(key, { token: "t" }),
          saveStep: yield* claims.saveStep(key, { token: "t", name: "n", encoded: "1" }),
          resolve: yield* driver.resolve(key, { token: "t", outcome }),
          insert: (yield* driver.insert(one, { allOrNothing: false }))[0],
          read: (yield* claims.read([key]))[0]
        }
        for (const [verb, reply] of Object.entries(replies)) expect(reply, verb).toMatchObject({ _tag: "Corrupted" })
        expect(yield* repository.delete(key)).toBe(false)
        expect(yield* Effect.flip(repository.get(key))).toMatchObject({ _tag: "IdempotencyResultUnavailableError" })

        const beside = freshIds()
        const both = [key, beside].map((identifiers) => ({ identifiers, request: insertBy("t") }))
        const together = yield* driver.insert(both, { allOrNothing: true })
        expect(together.map(({ _tag }) => _tag)).toEqual(["Corrupted", "Inserted"])
        expect(yield* claims.read([beside])).toEqual([undefined])
        expect(yield* row(key)).toEqual(before)
        const apart = yield* driver.insert(both, { allOrNothing: false })
        expect(apart.map(({ _tag }) => _tag)).toEqual(["Corrupted", "Inserted"])

        expect(yield* repository.reset(key)).toBe(true)
        expect(yield* claims.claim(key, claimBy("t"))).toMatchObject({ _tag: "Claimed", attempt: 1 })
      })
    )

    it.scoped("one of many does not trouble the others", () =>
      Effect.gen(function* () {
        const { change, claims, make } = yield* setup
        const keys = Array.from({ length: 3 }, freshIds)
        const [, corrupt] = keys
        if (corrupt === undefined) return yield* Effect.dieMessage("no keys")
        yield* Effect.forEach(keys, (key) => make("Processing", key))
        yield* change(corrupt, "state = 'Foo'")
        const renewals = keys.map((identifiers) => ({ identifiers, request: { token: "t", lease: 60_000 } }))
        expect((yield* claims.renew(renewals)).map(({ _tag }) => _tag)).toEqual(["Renewed", "Corrupted", "Renewed"])
        expect((yield* claims.read(keys)).map((state) => state?._tag)).toEqual([
          "Processing",
          "Corrupted",
          "Processing"
        ])
        const replies = yield* Effect.forEach(keys, (key) => claims.claim(key, claimBy("u")), {
          concurrency: "unbounded"
        })
        expect(replies.map(({ _tag }) => _tag)).toEqual(["InFlight", "Corrupted", "InFlight"])
      })
    )
  })

suite("Postgres", pgClient.pipe(Layer.provide(Postgres.layer)))
suite("SQLite", sqliteClient.pipe(Layer.provide(SqliteFile.layer)), [...garbage, ...garbageInSqlite])
suite("MariaDB", mysqlClient.pipe(Layer.provide(Mariadb.layer)))
