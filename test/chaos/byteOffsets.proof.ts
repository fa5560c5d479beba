/** A first call and its replay on Redis, whose connection is cut after each of its bytes in turn. */
import { randomUUID } from "node:crypto"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import {
  Idempotency,
  IdempotencyDomainService,
  IdempotencyMetrics,
  type IdempotencyRepository,
  withIdempotencyOutcome
} from "effect-idempotency"
import { RedisIdempotencyRepository } from "effect-idempotency/redis"
import { Redis } from "ioredis"
import { Redis as Redis6 } from "ioredis-6"
import { standalone } from "../support/redisServers.js"
import { tcpProxy } from "../support/tcpProxy.js"

const atOnce = 32

type Repository = Layer.Layer<IdempotencyRepository, unknown>

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
    Effect.succeed(RedisIdempotencyRepository.layerClient({ url: `redis://127.0.0.1:${port}` }))
}

/** A first call and two more, with the connection cut after so many of its bytes; without, how many bytes it takes. */
const run = (
  port: number,
  clientOf: (port: number) => Effect.Effect<Repository, never, Scope.Scope>,
  offset?: number
) =>
  Effect.gen(function* () {
    const proxy = yield* tcpProxy(port)
    // A loaded machine may be slow to connect again: tried for as long as the timeout says, however often.
    const engine = Idempotency.layerWith({ storageTimeout: "10 seconds", retry: Schedule.spaced("50 millis") }).pipe(
      Layer.provide([yield* clientOf(proxy.port), IdempotencyDomainService.layer, IdempotencyMetrics.layerNoop])
    )
    let runs = 0
    const call = (key: string) =>
      Effect.sync(() => {
        runs++
        return { paid: key }
      }).pipe(withIdempotencyOutcome("pay", key, { onStorageFailure: "fail", fingerprint: { key } }))
    return yield* Effect.gen(function* () {
      // Connected, and the server knows the scripts.
      yield* call(randomUUID())
      runs = 0
      const before = proxy.passed()
      if (offset !== undefined) yield* proxy.cutAfter(offset)
      // As long as every other, so that a run has as many bytes; a port would come again.
      const key = randomUUID()
      const tags: Array<string> = []
      const values: Array<unknown> = []
      for (const outcome of [yield* call(key), yield* call(key), yield* call(key)]) {
        tags.push(outcome._tag)
        values.push(outcome.value)
      }
      const paid = { paid: key }
      expect({ offset, runs, tags, values }).toEqual({
        offset,
        runs: 1,
        tags: ["Executed", "Replayed", "Replayed"],
        values: [paid, paid, paid]
      })
      return proxy.passed() - before
    }).pipe(Effect.provide(engine))
  }).pipe(Effect.scoped)

describe("the connection is cut after each byte of a run", () => {
  for (const [name, clientOf] of Object.entries(clients)) {
    it.scopedLive(
      `${name}: one run, and its result`,
      () =>
        Effect.gen(function* () {
          const { port } = yield* standalone
          const bytes = yield* run(port, clientOf)
          expect(bytes).toBeGreaterThan(500)
          const offsets = Array.from({ length: bytes }, (_, index) => index)
          yield* Effect.forEach(offsets, (offset) => run(port, clientOf, offset), {
            concurrency: atOnce,
            discard: true
          })
        }),
      240_000
    )
  }
})
