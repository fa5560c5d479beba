/** Two identities never meet in a store: as `identities.test.ts`, through a real server. */
import { layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import { Redis } from "ioredis"
import { driverOver } from "../redis/fixtures.js"
import { pair } from "../support/hostileIdentities.js"
import { holdsFor } from "../support/hostileStores.js"
import { isProof } from "../support/proof.js"
import { StandaloneRedis } from "../support/redisServers.js"
import { claimBy } from "../support/requests.js"

layer(StandaloneRedis.layer, { excludeTestServices: true })("Redis", (it) => {
  it.scoped("two identities are two claims, and each reads its own", () =>
    Effect.gen(function* () {
      const { port } = yield* StandaloneRedis
      const redis = yield* Effect.acquireRelease(
        Effect.sync(() => new Redis({ host: "127.0.0.1", port })),
        (client) => Effect.sync(() => client.disconnect())
      )
      const driver = yield* driverOver(redis)
      yield* holdsFor(pair, isProof ? 2_000 : 150, ([a, b]) =>
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
    })
  )
})
