/** Failovers: by Sentinel, and by hand over a frozen link. What they forget, and what is confirmed before. */
import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import {
  Idempotency,
  IdempotencyDomainService,
  IdempotencyMetrics,
  IdempotencyRepository,
  withIdempotencyOutcome
} from "../../src/index.js"
import type { Constructors, Target } from "../../src/internal/redis/connection.js"
import { makeOwning, type Settings } from "../../src/internal/redis/make.js"
import { RedisIdempotencyRepository } from "../../src/redis.js"
import { repositoryContract } from "../../src/testing.js"
import { primary, type RedisSentinels, replicaOf, sentinelSet } from "../support/redisServers.js"
import { tcpProxy } from "../support/tcpProxy.js"
import { claimBy, freshIds, majors } from "./fixtures.js"

const operation = "payment.charge"
const confirmed: Settings = { durability: { replicas: 1, timeout: "900 millis" } }

const over = (ioredis: Constructors, target: Target, settings: Settings) =>
  // An attempt has a third: on a busy machine, too, more than it takes to be told that nothing was confirmed.
  Idempotency.layerWith({ storageTimeout: "6 seconds" }).pipe(
    Layer.provideMerge(Layer.scoped(IdempotencyRepository, makeOwning(ioredis, target, settings))),
    Layer.provide([IdempotencyDomainService.layer, IdempotencyMetrics.layerNoop])
  )

const pay = <R = never>(key: string, body: Effect.Effect<unknown, never, R> = Effect.void) =>
  Effect.as(body, "paid").pipe(
    withIdempotencyOutcome(operation, key, { onStorageFailure: "fail", inFlight: "fail", lease: "2 minutes" })
  )

const watched = ({ name, sentinels }: RedisSentinels): Target => ({
  options: { sentinels: sentinels.map(({ host, port }) => ({ host, port })), name, role: "master" }
})

/** Until the sentinels have made the replica the primary, and the client has found it. */
const patiently = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.retry(effect, { times: 300, while: () => Effect.as(Effect.sleep("100 millis"), true) })

describe.each(majors)("Sentinel, $major", ({ ioredis }) => {
  it.scopedLive("after a failover, what was recorded is replayed, and what was claimed is held", () =>
    Effect.gen(function* () {
      const servers = yield* sentinelSet
      const held = freshIds()
      const run = Effect.gen(function* () {
        const { claims } = yield* IdempotencyRepository
        expect(yield* pay("recorded")).toMatchObject({ _tag: "Executed" })
        expect(yield* pay("recorded")).toMatchObject({ _tag: "Replayed" })
        expect(yield* claims.claim(held, claimBy("t"))).toMatchObject({ _tag: "Claimed" })
        yield* servers.primary.signal("SIGKILL")
        expect(yield* patiently(pay("recorded"))).toMatchObject({ _tag: "Replayed", value: "paid" })
        expect(yield* patiently(claims.claim(held, claimBy("u")))).toMatchObject({ _tag: "InFlight" })
        // The new primary has no replica: nothing more is claimed, and what is recorded is still given.
        const refused = yield* Effect.flip(claims.claim(freshIds(), claimBy("t")))
        expect(refused).toMatchObject({ reason: "Rejected", applied: "unknown" })
        expect(String(yield* servers.replicas[0]?.command("role") ?? Effect.void)).toContain("master")
      })
      yield* Effect.provide(run, over(ioredis, watched(servers), { ...confirmed, startup: "fail" }))
    })
  )
})

describe.each(majors)("a replica that is promoted, $major", ({ ioredis }) => {
  /** A primary whose link to its replica can be frozen, and the failover to that. */
  const linked = Effect.gen(function* () {
    const server = yield* primary
    const link = yield* tcpProxy(server.port)
    const replica = yield* replicaOf(server, link.port)
    const promote = Effect.zipRight(server.signal("SIGKILL"), replica.command("replicaof", "no", "one"))
    const runs: Array<string> = []
    return {
      link,
      promote,
      runs,
      by: (who: string, body: Effect.Effect<unknown> = Effect.void) =>
        pay(
          "order-1",
          Effect.zipRight(
            Effect.sync(() => runs.push(who)),
            body
          )
        ),
      onPrimary: (settings: Settings) => Layer.build(over(ioredis, { url: server.url }, settings)),
      onReplica: Layer.build(over(ioredis, { url: replica.url }, {}))
    }
  })

  it.scopedLive("without durability a claim on a frozen link is lost: the second caller runs", () =>
    Effect.gen(function* () {
      const { by, link, onPrimary, onReplica, promote, runs } = yield* linked
      const started = yield* Deferred.make<void>()
      yield* link.freeze
      const first = by("first", Effect.zipRight(Deferred.succeed(started, undefined), Effect.never))
      const running = yield* Effect.fork(Effect.provide(first, yield* onPrimary({})))
      yield* Deferred.await(started)
      yield* promote
      expect(yield* Effect.provide(by("second"), yield* onReplica)).toMatchObject({ _tag: "Executed" })
      expect(runs).toEqual(["first", "second"])
      yield* Fiber.interruptFork(running)
    })
  )

  it.scopedLive("with it, that claim fails before the effect: the second caller runs alone", () =>
    Effect.gen(function* () {
      const { by, link, onPrimary, onReplica, promote, runs } = yield* linked
      const store = yield* onPrimary(confirmed)
      yield* link.freeze
      const refused = yield* Effect.flip(Effect.provide(by("first"), store))
      expect(refused).toMatchObject({ _tag: "IdempotencyStorageError", method: "claim", reason: "Rejected" })
      yield* promote
      expect(yield* Effect.provide(by("second"), yield* onReplica)).toMatchObject({ _tag: "Executed" })
      expect(runs).toEqual(["second"])
    })
  )

  it.scopedLive("with it, a claim that was confirmed is held, whatever the link does then", () =>
    Effect.gen(function* () {
      const { by, link, onPrimary, onReplica, promote, runs } = yield* linked
      const started = yield* Deferred.make<void>()
      const first = by("first", Effect.zipRight(Deferred.succeed(started, undefined), Effect.never))
      const running = yield* Effect.fork(Effect.provide(first, yield* onPrimary(confirmed)))
      yield* Deferred.await(started)
      yield* link.freeze
      yield* promote
      const refused = yield* Effect.flip(Effect.provide(by("second"), yield* onReplica))
      expect(refused).toMatchObject({ _tag: "IdempotencyInFlightError" })
      expect(runs).toEqual(["first"])
      yield* Fiber.interruptFork(running)
    })
  )
})

const behindSentinel = Layer.unwrapScoped(
  Effect.map(sentinelSet, (servers) =>
    RedisIdempotencyRepository.layerFrom({
      ...watched(servers),
      startup: "fail",
      startupTimeout: "20 seconds",
      operationTimeout: "20 seconds",
      durability: { replicas: 1, timeout: "10 seconds" }
    })
  )
)

repositoryContract("Redis behind Sentinel, with durability", behindSentinel, { timeout: "90 seconds" })
