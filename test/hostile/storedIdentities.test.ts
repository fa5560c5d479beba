/** Two identities never meet in a store: as `identities.test.ts`, through real servers. */
import { layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Layer from "effect/Layer"
import { Redis } from "ioredis"
import type { Driver } from "../../src/internal/protocol.js"
import { SqlIdempotencyRepository } from "../../src/sql.js"
import { driverOver } from "../redis/fixtures.js"
import { repositoryOf } from "../sql/fixtures.js"
import { Mariadb, mysqlClient, Postgres, pgClient, SqliteFile, sqliteClient } from "../support/databases.js"
import { pair } from "../support/hostileIdentities.js"
import { holdsFor } from "../support/hostileStores.js"
import { isProof } from "../support/proof.js"
import { StandaloneRedis } from "../support/redisServers.js"
import { claimBy } from "../support/requests.js"

const areTwoClaims = (driver: Driver, numRuns: number) =>
  holdsFor(pair, numRuns, ([a, b]) =>
    Effect.gen(function* () {
      yield* driver.reset(a, { force: true })
      yield* driver.reset(b, { force: true })
      const tokens = [globalThis.crypto.randomUUID(), globalThis.crypto.randomUUID()] as const
      const first = yield* driver.claim(a, claimBy(tokens[0]))
      const second = yield* driver.claim(b, claimBy(tokens[1]))
      const [one, two] = yield* driver.read([a, b])
      const got = [first._tag, second._tag, one?._tag === "Processing" && one.token === tokens[0]]
      const due = Equal.equals(a, b) ? ["Claimed", "InFlight", true] : ["Claimed", "Claimed", true]
      const isOwn = two?._tag === "Processing" && two.token === (Equal.equals(a, b) ? tokens[0] : tokens[1])
      return isOwn && got.every((value, index) => value === due[index]) ? [] : [`${got.join()}, ${isOwn}`]
    })
  )

const what = "two identities are two claims, and each reads its own"

layer(StandaloneRedis.layer, { excludeTestServices: true })("Redis", (it) => {
  it.scoped(what, () =>
    Effect.gen(function* () {
      const { port } = yield* StandaloneRedis
      const redis = yield* Effect.acquireRelease(
        Effect.sync(() => new Redis({ host: "127.0.0.1", port })),
        (client) => Effect.sync(() => client.disconnect())
      )
      yield* areTwoClaims(yield* driverOver(redis), isProof ? 2_000 : 150)
    })
  )
})

// Collations, trailing spaces and case: a database may take two texts for one.
for (const [name, client] of [
  ["Postgres", pgClient.pipe(Layer.provide(Postgres.layer))],
  ["SQLite", sqliteClient.pipe(Layer.provide(SqliteFile.layer))],
  ["MariaDB", mysqlClient.pipe(Layer.provide(Mariadb.layer))]
] as const) {
  layer(client, { excludeTestServices: true, timeout: 60_000 })(name, (it) => {
    it.scoped(
      what,
      () =>
        Effect.gen(function* () {
          yield* SqlIdempotencyRepository.migration
          const { driver } = yield* repositoryOf()
          yield* areTwoClaims(driver, isProof ? 600 : 60)
        }),
      120_000
    )
  })
}
