/** A fault that only Redis can have: a store that loads its scripts once, and that a server forgets. */
import { afterAll, expect, layer } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { Redis } from "ioredis"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import type { RedisNodeClient } from "../../src/internal/redis/client.js"
import { repositoryContractCases } from "../../src/internal/testing/cases.js"
import { driverOver } from "../redis/fixtures.js"
import { StandaloneRedis } from "../support/redisServers.js"

const killed: Array<{ readonly mutant: string; readonly "killed by": string; readonly "and by": number }> = []
afterAll(() => console.table(killed))

layer(StandaloneRedis.layer, { excludeTestServices: true })(
  "the contract suite, while the server forgets scripts",
  (it) => {
    const failures = (wrap: (redis: Redis, hasForgotten: () => boolean) => RedisNodeClient) =>
      Effect.gen(function* () {
        const { command, port } = yield* StandaloneRedis
        const redis = yield* Effect.acquireRelease(
          Effect.sync(() => new Redis({ host: "127.0.0.1", port })),
          (client) => Effect.sync(() => client.disconnect())
        )
        let hasForgotten = false
        const driver = yield* driverOver(wrap(redis, () => hasForgotten))
        const repository = yield* IdempotencyRepository.make(driver, { operationTimeout: "20 seconds" })
        const advance = (duration: Duration.Duration) =>
          Effect.zipRight(
            Effect.map(command("script", "flush"), () => {
              hasForgotten = true
            }),
            Effect.sleep(Duration.max(duration, Duration.millis(1)))
          )
        return yield* Effect.filter(
          repositoryContractCases.filter(({ group }) => group === "claim" || group === "complete"),
          ({ run }) =>
            Effect.map(
              Effect.exit(Effect.provideService(run(advance), IdempotencyRepository, repository)),
              Exit.isFailure
            )
        )
      })

    it.scoped("passes the store, which gives them again", () =>
      Effect.gen(function* () {
        expect((yield* failures((redis) => redis)).map(({ name }) => name)).toEqual([])
      })
    )

    it.scoped("fails a store that gives them once", () =>
      Effect.gen(function* () {
        const failed = yield* failures((redis, hasForgotten) => ({
          options: redis.options,
          config: (subcommand, parameter) => redis.config(subcommand, parameter),
          scan: (cursor, match, pattern, count, keys) => redis.scan(cursor, match, pattern, count, keys),
          duplicate: (override) => redis.duplicate(override),
          evalsha: (digest, count, input) => redis.evalsha(digest, count, input),
          eval: (script, count, input) =>
            hasForgotten()
              ? Promise.reject(new Error("NOSCRIPT No matching script. Please use EVAL."))
              : redis.eval(script, count, input)
        }))
        expect(failed).not.toEqual([])
        killed.push({
          mutant: "scripts given once, and forgotten by the server",
          "killed by": `${failed[0]?.group}: ${failed[0]?.name}`,
          "and by": failed.length - 1
        })
      })
    )
  }
)
