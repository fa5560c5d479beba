/** A first call and its replay on Redis, whose connection is cut after each of its bytes in turn. */
import { randomUUID } from "node:crypto"
import { describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { RedisIdempotencyRepository } from "effect-idempotency/redis"
import { Redis } from "ioredis"
import { Redis as Redis6 } from "ioredis-6"
import { cutAtEveryByte, type Repository } from "../support/byteOffsets.js"
import { standalone } from "../support/redisServers.js"
import { tcpProxy } from "../support/tcpProxy.js"

/** A connection that is slow on a loaded machine is not taken for a dead one: there is one cut, and no other. */
const unhurried = { connectTimeout: 30_000, socketTimeout: 30_000 }

const clients: Readonly<Record<string, (port: number) => Effect.Effect<Repository, never, Scope.Scope>>> = {
  "ioredis 5 with its default options": (port) =>
    Effect.map(
      Effect.acquireRelease(
        Effect.sync(() => new Redis(port, "127.0.0.1").on("error", () => {})),
        (redis) => Effect.sync(() => redis.disconnect())
      ),
      (redis) => RedisIdempotencyRepository.layer({ redis })
    ),
  "ioredis 6 with its default options": (port) =>
    Effect.map(
      Effect.acquireRelease(
        Effect.sync(() => new Redis6({ port, host: "127.0.0.1" }).on("error", () => {})),
        (redis) => Effect.sync(() => redis.disconnect())
      ),
      (redis) => RedisIdempotencyRepository.layer({ redis })
    ),
  "a client of the library": (port) =>
    Effect.succeed(RedisIdempotencyRepository.layerClient({ url: `redis://127.0.0.1:${port}`, options: unhurried }))
}

describe("the connection is cut after each byte of a run", () => {
  for (const [name, clientOf] of Object.entries(clients)) {
    it.scopedLive(
      `${name}: one run, and its result`,
      () =>
        Effect.gen(function* () {
          const { port } = yield* standalone
          const line = Effect.gen(function* () {
            const proxy = yield* tcpProxy(port)
            return { proxy, repository: yield* clientOf(proxy.port), freshKey: randomUUID }
          })
          // More at once have the event loop busy for so long, beside other long tests, that their connections time out.
          yield* cutAtEveryByte(line, { atOnce: 8, runsPerClient: 10 })
        }),
      // A minute by itself; beside other long tests, and on a slow machine, some more.
      480_000
    )
  }
})
