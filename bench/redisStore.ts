/** A Redis server that is measured on, the limits on it, and ours. */
import { createHash } from "node:crypto"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { IdempotencyRepository } from "effect-idempotency"
import { RedisIdempotencyRepository } from "effect-idempotency/redis"
import { Redis } from "ioredis"
import { type RedisServer, standalone } from "../test/support/redisServers.js"
import type { Store, Subject } from "./comparisons.js"
import { type Drive, promises } from "./drive.js"
import { makeBody } from "./work.js"

export interface Bench {
  readonly server: Pick<RedisServer, "port" | "url">
  /** For what is not measured. */
  readonly redis: Redis
  readonly store: Store
}

export const connect = (port: number): Effect.Effect<Redis, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const redis = new Redis({ host: "127.0.0.1", port })
      redis.on("error", () => {})
      return redis
    }),
    (redis) => Effect.sync(() => redis.disconnect())
  )

const infoNumber = async (redis: Redis, section: string, name: string): Promise<number> => {
  const info = await redis.info(section)
  return Number(new RegExp(`^${name}:(\\d+)`, "m").exec(info)?.[1])
}

/** Commands that clients sent so far are not counted apart from those that scripts ran: calls of scripts are. */
export const scriptCalls = async (redis: Redis): Promise<number> => {
  const info = await redis.info("commandstats")
  return [...info.matchAll(/^cmdstat_(?:eval|evalsha):calls=(\d+)/gm)].reduce((sum, [, n]) => sum + Number(n), 0)
}

export const connectedClients = (redis: Redis): Promise<number> => infoNumber(redis, "clients", "connected_clients")

/** Beyond payload and keys, of some hundred keys of the store. */
const overheadOf = async (redis: Redis, payloadBytes: number): Promise<number> => {
  const [, keys] = await redis.scan(0, "COUNT", 300)
  const sizes = await Promise.all(keys.map(async (key) => Number(await redis.memory("USAGE", key)) - key.length))
  return sizes.reduce((sum, size) => sum + size, 0) / sizes.length - payloadBytes
}

const storeOf = (redis: Redis): Store => ({
  empty: Effect.promise(() => redis.flushall()),
  records: () => Effect.promise(() => redis.dbsize()),
  // A read of the server takes all that has arrived on a connection: one for each round trip of a single caller, fewer
  // where calls share a write. Its own question is among them.
  roundTrips: Effect.promise(() => infoNumber(redis, "stats", "total_reads_processed")),
  overhead: (payloadBytes) => Effect.promise(() => overheadOf(redis, payloadBytes))
})

/** On a server that runs. */
export const attach = (port: number): Effect.Effect<Bench, never, Scope.Scope> =>
  Effect.map(connect(port), (redis) => ({
    server: { port, url: `redis://127.0.0.1:${port}` },
    redis,
    store: storeOf(redis)
  }))

/** On a server of its own. */
export const makeBench: Effect.Effect<Bench, never, Scope.Scope> = Effect.flatMap(standalone, ({ port }) =>
  attach(port)
)

const compareAndSet = `if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  return 1
end
return 0`
const digest = createHash("sha1").update(compareAndSet).digest("hex")
const lease = 30_000
const retention = 1_800_000

/** The least that a safe first execution can send: a claim that answers what is there, and a fenced completion. */
export const raw = (bench: Bench, bytes: number): Effect.Effect<Subject, never, Scope.Scope> =>
  Effect.gen(function* () {
    const redis = yield* connect(bench.server.port)
    yield* Effect.promise(() => redis.script("LOAD", compareAndSet))
    const body = makeBody(bytes)
    let owners = 0
    const first: Drive = promises(async (name) => {
      const key = `raw:${name}`
      const owner = `owner-${++owners}`
      const found = await redis.set(key, owner, "PX", lease, "NX", "GET")
      if (found !== null) throw new Error(`the key is not fresh: ${key}`)
      const result = body.run()
      const isMine = await redis.evalsha(digest, 1, key, owner, JSON.stringify(result), retention)
      if (isMine !== 1) throw new Error(`the claim is lost: ${key}`)
      return result
    })
    const replay: Drive = promises(async (name) => JSON.parse((await redis.get(`raw:${name}`)) ?? "null"))
    return { name: "raw ioredis", role: "limit", body, store: bench.store, first, replay }
  })

/** Deadlines that a busy machine keeps: a call that degrades would not be what is measured. */

/** On a client of its own, as the limits have. */
export const redisLayer = (bench: Bench): Effect.Effect<Layer.Layer<IdempotencyRepository>, never, Scope.Scope> =>
  Effect.map(connect(bench.server.port), (redis) => RedisIdempotencyRepository.layer({ redis }))

/** The same with a cache in this process before it. */
export const cachedLayer = (bench: Bench): Effect.Effect<Layer.Layer<IdempotencyRepository>, never, Scope.Scope> =>
  Effect.map(redisLayer(bench), (layer) =>
    Layer.orDie(
      IdempotencyRepository.layerLocalCache({ capacity: 100_000, timeToLive: "30 minutes" }).pipe(Layer.provide(layer))
    )
  )
