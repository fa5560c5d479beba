/** Renewals where the database does not tell which rows a statement has changed: each is a statement of its own. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { IdempotencyIdentifiers } from "../../src/IdempotencyIdentifiers.js"
import { SqlIdempotencyRepository } from "../../src/sql.js"
import { Mariadb, mysqlClient } from "../support/databases.js"
import { claimBy, driverBy, freshIds, repositoryOf, rowsOf } from "./fixtures.js"

layer(mysqlClient.pipe(Layer.provide(Mariadb.layer)), { excludeTestServices: true, timeout: 60_000 })(
  "MariaDB",
  (it) => {
    const claimed = (count: number) =>
      Effect.gen(function* () {
        yield* SqlIdempotencyRepository.migration
        const { claims } = yield* repositoryOf()
        const keys = Array.from({ length: count }, freshIds)
        yield* Effect.forEach(keys, (key) => claims.claim(key, claimBy("t")))
        return keys
      })
    const renewalsOf = (keys: ReadonlyArray<IdempotencyIdentifiers>) =>
      keys.map((identifiers) => ({ identifiers, request: { token: "t", lease: 60_000 } }))

    it.scoped("ask for the rows of all of them together", () =>
      Effect.gen(function* () {
        const keys = yield* claimed(20)
        const statements: Array<string> = []
        const driver = yield* driverBy(
          (run) => (text, parameters) =>
            Effect.zipRight(
              Effect.sync(() => statements.push(text)),
              run(text, parameters)
            )
        )
        const replies = yield* driver.renew(renewalsOf(keys))
        expect(new Set(replies.map(({ _tag }) => _tag))).toEqual(new Set(["Renewed"]))
        expect(statements.filter((text) => !text.startsWith("UPDATE"))).toHaveLength(2)
        expect(statements).toHaveLength(22)
      })
    )

    it.scoped("of a key that others change all the time fail, and no other with it", () =>
      Effect.gen(function* () {
        const keys = yield* claimed(3)
        const sql = yield* SqlClient.SqlClient
        const [restless = freshIds()] = keys
        const driver = yield* driverBy((run) => (text, parameters) => {
          const write = run(text, parameters)
          if (!text.startsWith("UPDATE") || !parameters.includes(restless.idempotencyKey)) return write
          const change = `UPDATE idempotency_records SET version = version + 1 WHERE idempotency_key = '${restless.idempotencyKey}'`
          return Effect.zipRight(rowsOf(sql, change), write)
        })
        expect(yield* driver.renew(renewalsOf(keys))).toMatchObject([
          { _tag: "Failed", error: { method: "renew", reason: "Unavailable", applied: "no" } },
          { _tag: "Renewed" },
          { _tag: "Renewed" }
        ])
      })
    )
  }
)
