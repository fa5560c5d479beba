/** Redis as the fast store: a real clock, real retention, and a server that stops answering. */
import { describe, expect, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Redis } from "ioredis"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import { RedisIdempotencyRepository } from "../../src/redis/RedisIdempotencyRepository.js"
import {
  TieredIdempotencyRepository,
  type TieredIdempotencyRepositoryOptions
} from "../../src/TieredIdempotencyRepository.js"
import { repositoryContract } from "../../src/testing.js"
import { liveModelRuns } from "../support/proof.js"
import { type RedisServer, StandaloneRedis, standalone } from "../support/redisServers.js"
import { claimBy, completeBy, ids, makeWatchedStore, type WatchedStore } from "../support/watchedStore.js"

/** A loaded machine may be slow to answer, which is not what the contract is about. */
const patient = { fastTimeout: "10 seconds", operationTimeout: "20 seconds" } as const

const redisBefore = (
  { host, port }: RedisServer,
  durable: WatchedStore,
  options: Omit<TieredIdempotencyRepositoryOptions, "fast" | "durable">
) =>
  Layer.unwrapScoped(
    Effect.map(
      Effect.acquireRelease(
        Effect.sync(() => new Redis({ host, port }).on("error", () => {})),
        (client) => Effect.sync(() => client.disconnect())
      ),
      (redis) =>
        TieredIdempotencyRepository.layerWith({
          fast: RedisIdempotencyRepository.layer({ redis, startup: "fail", startupTimeout: "20 seconds" }),
          durable: durable.layer,
          ...options
        })
    )
  )

repositoryContract(
  "Redis before memory",
  Layer.unwrapEffect(Effect.map(StandaloneRedis, (server) => redisBefore(server, makeWatchedStore(), patient))).pipe(
    Layer.provide(StandaloneRedis.layer)
  ),
  { timeout: "90 seconds", modelRuns: liveModelRuns }
)

const settled = { _tag: "Settled", record: { outcome: { _tag: "Success", encoded: '"done"' } } }

describe("Redis as the fast store", () => {
  it.scopedLive("holds copies with the record's own times, for fastTimeToLive at most", () =>
    Effect.gen(function* () {
      const server = yield* standalone
      const durable = makeWatchedStore()
      const layer = redisBefore(server, durable, { ...patient, fastTimeToLive: "30 seconds" })
      const { claims, reset } = Context.get(yield* Layer.build(layer), IdempotencyRepository)
      const timeToLive = Effect.map(server.command("PTTL", "idempotency:o:k"), Number)
      yield* claims.claim(ids(), claimBy("a", "f"))
      yield* claims.complete(ids(), completeBy("a", "f"))
      // The copy is written in the background.
      yield* Effect.repeat(Effect.delay(timeToLive, "5 millis"), { until: (left) => left > 0 })
      expect(yield* timeToLive).toBeLessThanOrEqual(30_000)
      const [record] = yield* durable.contents.read([ids()])
      expect(yield* claims.claim(ids(), claimBy("b", "f"))).toEqual({ _tag: "Settled", record })
      expect(yield* claims.claim(ids(), claimBy("b", "g"))).toEqual({ _tag: "Mismatch" })
      expect(durable.calls).toEqual(["claim", "complete"])
      expect(yield* reset(ids())).toBe(true)
      expect(yield* timeToLive).toBe(-2)
    })
  )

  it.scopedLive("holds no copy after a reset, though the copy was on its way and had to be sent again", () =>
    Effect.gen(function* () {
      const server = yield* standalone
      const layer = redisBefore(server, makeWatchedStore(), patient)
      const { claims, reset } = Context.get(yield* Layer.build(layer), IdempotencyRepository)
      yield* claims.claim(ids(), claimBy("a", "f"))
      yield* claims.complete(ids(), completeBy("a", "f"))
      yield* Effect.repeat(Effect.delay(server.command("DBSIZE"), "5 millis"), { until: (size) => Number(size) > 0 })
      yield* server.command("FLUSHALL")
      // The server has to be told the script that inserts again, and knows the one that removes.
      yield* claims.claim(ids("other"), claimBy("a", "f"))
      yield* server.command("SCRIPT", "FLUSH")
      yield* reset(ids("other"), { force: true })
      expect(yield* claims.claim(ids(), claimBy("b", "f"))).toMatchObject(settled)
      yield* reset(ids())
      yield* Effect.sleep("50 millis")
      expect(Number(yield* server.command("DBSIZE"))).toBe(0)
    })
  )

  it.scopedLive("is not waited for once it stops", () =>
    Effect.gen(function* () {
      const server = yield* standalone
      const durable = makeWatchedStore()
      const layer = redisBefore(server, durable, { ...patient, fastTimeout: "100 millis" })
      const { claims } = Context.get(yield* Layer.build(layer), IdempotencyRepository)
      yield* durable.contents.complete(ids(), completeBy("a"))
      yield* server.signal("SIGSTOP")
      yield* Effect.addFinalizer(() => server.signal("SIGCONT"))
      const before = yield* Clock.currentTimeMillis
      for (let n = 0; n < 50; n++) expect(yield* claims.claim(ids(), claimBy("b"))).toMatchObject(settled)
      // Once or twice 100 ms; each time it would be 5 seconds.
      expect((yield* Clock.currentTimeMillis) - before).toBeLessThan(2_500)
      expect(durable.calls).toHaveLength(50)
    })
  )
})
