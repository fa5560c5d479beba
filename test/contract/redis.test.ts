import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Cluster, Redis } from "ioredis"
import { Redis as Redis6 } from "ioredis-6"
import { RedisIdempotencyRepository } from "../../src/redis/RedisIdempotencyRepository.js"
import { repositoryContract } from "../../src/testing.js"
import { liveModelRuns } from "../support/proof.js"
import { ClusterRedis, StandaloneRedis, scopedClient } from "../support/redisServers.js"

/** A loaded machine may be slow to answer, which is not what this suite is about. */
const patient = { startup: "fail", startupTimeout: "20 seconds", operationTimeout: "20 seconds" } as const

const onStandalone = Layer.unwrapScoped(
  Effect.gen(function* () {
    const { host, port } = yield* StandaloneRedis
    const redis = yield* scopedClient(() => new Redis({ host, port }))
    return RedisIdempotencyRepository.layer({ redis, ...patient })
  })
).pipe(Layer.provide(StandaloneRedis.layer))

const onStandalone6 = Layer.unwrapScoped(
  Effect.gen(function* () {
    const { host, port } = yield* StandaloneRedis
    const redis = yield* scopedClient(() => new Redis6({ host, port }))
    return RedisIdempotencyRepository.layer({ redis, ...patient })
  })
).pipe(Layer.provide(StandaloneRedis.layer))

const onCluster = Layer.unwrapScoped(
  Effect.gen(function* () {
    const { nodes } = yield* ClusterRedis
    const redis = yield* scopedClient(() => new Cluster([...nodes]))
    return RedisIdempotencyRepository.layer({ redis, ...patient })
  })
).pipe(Layer.provide(ClusterRedis.layer))

const options = { timeout: "90 seconds", modelRuns: liveModelRuns } as const

repositoryContract("Redis, ioredis 5", onStandalone, options)
repositoryContract("Redis, ioredis 6", onStandalone6, options)
repositoryContract("Redis Cluster, ioredis 5", onCluster, options)
