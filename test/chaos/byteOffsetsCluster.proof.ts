/** A first call and its replay on a cluster, whose connection to the key's node is cut after each of its bytes in turn. */
import { randomUUID } from "node:crypto"
import { describe, expect, layer } from "@effect/vitest"
import * as Array from "effect/Array"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type RedisClusterOptions, RedisIdempotencyRepository } from "effect-idempotency/redis"
import { Cluster, type ClusterNode } from "ioredis"
import { Cluster as Cluster6 } from "ioredis-6"
import { cutAtEveryByte, operation, type Repository } from "../support/byteOffsets.js"
import { ClusterRedis, type RedisCluster } from "../support/redisServers.js"
import { tcpProxy } from "../support/tcpProxy.js"

type ClientOf = (
  nodes: Array<ClusterNode>,
  natMap: NonNullable<RedisClusterOptions["natMap"]>
) => Effect.Effect<Repository, never, Scope.Scope>

const clients: Readonly<Record<string, ClientOf>> = {
  "ioredis 5 with its default options": (nodes, natMap) =>
    Effect.map(
      Effect.acquireRelease(
        Effect.sync(() => new Cluster(nodes, { natMap }).on("error", () => {})),
        (redis) => Effect.sync(() => redis.disconnect())
      ),
      (redis) => RedisIdempotencyRepository.layer({ redis })
    ),
  "ioredis 6 with its default options": (nodes, natMap) =>
    Effect.map(
      Effect.acquireRelease(
        Effect.sync(() => new Cluster6(nodes, { natMap }).on("error", () => {})),
        (redis) => Effect.sync(() => redis.disconnect())
      ),
      (redis) => RedisIdempotencyRepository.layer({ redis })
    ),
  "a client of the library": (nodes, natMap) =>
    Effect.succeed(
      RedisIdempotencyRepository.layerClient({
        nodes,
        options: { natMap },
        startup: "fail",
        startupTimeout: "20 seconds"
      })
    )
}

/** A client that reaches every node by way of a proxy, and keys of one of the primaries: all of them in turn. */
const lineTo = ({ nodes, primaryOf }: RedisCluster, clientOf: ClientOf) => {
  let runs = 0
  return Effect.gen(function* () {
    const proxies = yield* Effect.forEach(nodes, ({ port }) => tcpProxy(port))
    const [some, ...rest] = proxies
    if (some === undefined) return yield* Effect.dieMessage("a cluster without nodes")
    const primary = runs++ % 3
    const at = proxies.map(({ port }) => ({ host: "127.0.0.1", port }))
    const natMap = Object.fromEntries(
      Array.zip(nodes, at).map(([{ host, port }, address]) => [`${host}:${port}`, address])
    )
    return {
      proxy: [some, ...rest][primary] ?? some,
      repository: yield* clientOf(at, natMap),
      freshKey: () => {
        for (;;) {
          const key = randomUUID()
          if (primaryOf(`idempotency:${operation}:${key}`) === primary) return key
        }
      }
    }
  })
}

describe("the connection to a node of a cluster is cut after each byte of a run", () => {
  layer(ClusterRedis.layer, { excludeTestServices: true, timeout: "60 seconds" })((it) => {
    for (const [name, clientOf] of Object.entries(clients)) {
      it.scoped(
        `${name}: one run, and its result`,
        () =>
          Effect.gen(function* () {
            const bytes = yield* cutAtEveryByte(lineTo(yield* ClusterRedis, clientOf), {
              atOnce: 16,
              runsPerClient: 25
            })
            expect(bytes).toBeGreaterThan(0)
          }),
        240_000
      )
    }
  })
})
