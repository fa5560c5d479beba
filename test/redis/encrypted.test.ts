/** What a real server holds of results that are encrypted. */
import { describe, expect, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { Idempotency } from "../../src/Idempotency.js"
import { IdempotencyDomainService } from "../../src/IdempotencyDomainService.js"
import { IdempotencyMetrics } from "../../src/IdempotencyMetrics.js"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import { ResultCipher } from "../../src/ResultCipher.js"
import { RedisIdempotencyRepository } from "../../src/redis.js"
import { withIdempotency } from "../../src/withIdempotency.js"
import { withIdempotentStep } from "../../src/withIdempotentStep.js"
import { dropsLostSteps } from "../support/droppedSteps.js"
import { StandaloneRedis } from "../support/redisServers.js"

class Declined extends Schema.TaggedError<Declined>()("Declined", { card: Schema.String }) {}

const secret = "4111-1111"
const cipher = ResultCipher.layer({ keys: [{ id: "a", key: Redacted.make(new Uint8Array(32).fill(7)) }] })

describe("over Redis", () => {
  layer(StandaloneRedis.layer, { excludeTestServices: true })((it) => {
    it.scoped("reset drops the steps of a lost key, and their owner stays refused", () =>
      Effect.gen(function* () {
        const { command, port } = yield* StandaloneRedis
        yield* command("flushall")
        const store = RedisIdempotencyRepository.layerClient({ url: `redis://127.0.0.1:${port}` })
        const withKey = (fill: number) => {
          const key = { id: `k${fill}`, key: Redacted.make(new Uint8Array(32).fill(fill)) }
          const encrypted = IdempotencyRepository.layerEncrypted().pipe(
            Layer.provide([store, ResultCipher.layer({ keys: [key] })])
          )
          return Effect.map(Layer.build(encrypted), Context.get(IdempotencyRepository))
        }
        yield* dropsLostSteps(yield* withKey(8), yield* withKey(7))
      })
    )

    it.scoped("no key of the server holds the plain text, and swapped values are refused", () =>
      Effect.gen(function* () {
        const { command, port } = yield* StandaloneRedis
        yield* command("flushall")
        const context = yield* Layer.build(
          Idempotency.layer.pipe(
            Layer.provideMerge(IdempotencyRepository.layerEncrypted()),
            Layer.provide([
              RedisIdempotencyRepository.layerClient({ url: `redis://127.0.0.1:${port}` }),
              cipher,
              IdempotencyDomainService.layer
            ]),
            Layer.provide(IdempotencyMetrics.layerNoop)
          )
        )
        let runs = 0
        const charge = (key: string, scope?: string) =>
          Effect.sync(() => ({ card: secret, run: ++runs })).pipe(
            withIdempotency("pay", key, { scope }),
            Effect.provide(context)
          )
        yield* charge("1", "tenant-1")
        yield* charge("1", "tenant-2")
        const declined = Effect.fail(new Declined({ card: secret })).pipe(
          withIdempotency("pay", "declined", { error: Declined }),
          Effect.provide(context)
        )
        yield* Effect.flip(declined)
        expect(yield* Effect.flip(declined)).toMatchObject({ _tag: "Declined", card: secret })
        const interrupted = Effect.succeed(secret).pipe(
          withIdempotentStep("first"),
          Effect.zipRight(Effect.die("down")),
          withIdempotency("pay", "steps"),
          Effect.provide(context)
        )
        expect(Exit.isFailure(yield* Effect.exit(interrupted))).toBe(true)

        const keys = String(yield* command("keys", "*"))
          .split(/[,\n]/)
          .sort()
        expect(keys).toEqual([
          "idempotency:pay:declined",
          "idempotency:pay:steps",
          "idempotency:pay:tenant-1:1",
          "idempotency:pay:tenant-2:1"
        ])
        for (const key of keys) {
          const value = String(yield* command("get", key))
          expect(value).toContain("enc1.")
          expect(value).not.toContain(secret)
        }

        expect(yield* charge("1", "tenant-1")).toMatchObject({ run: 1 })
        yield* command("copy", "idempotency:pay:tenant-2:1", "idempotency:pay:tenant-1:1", "replace")
        expect(yield* Effect.flip(charge("1", "tenant-1"))).toMatchObject({
          _tag: "IdempotencyResultUnavailableError"
        })
        expect(yield* charge("1", "tenant-2")).toMatchObject({ run: 2 })
        expect(runs).toBe(2)
      })
    )
  })
})
