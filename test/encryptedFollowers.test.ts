/** What callers of one process share of a result that was encrypted: what is stored. */
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import { Idempotency } from "../src/Idempotency.js"
import { IdempotencyDomainService } from "../src/IdempotencyDomainService.js"
import { IdempotencyMetrics } from "../src/IdempotencyMetrics.js"
import { IdempotencyRepository } from "../src/IdempotencyRepository.js"
import { ResultCipher } from "../src/ResultCipher.js"
import { withIdempotency } from "../src/withIdempotency.js"
import { ids, makeWatchedStore } from "./support/watchedStore.js"

for (const [what, isLost, isAway, stored, followed] of [
  [
    "a result that was stored, without an answer, before the cipher failed is replayed",
    true,
    (encryptions: number) => encryptions > 1,
    { outcome: { _tag: "Success" } },
    { _tag: "Right", right: "paid" }
  ],
  [
    "a result that could not be encrypted is not there",
    false,
    () => true,
    { outcome: { _tag: "Unavailable" } },
    { _tag: "Left", left: { _tag: "IdempotencyResultUnavailableError" } }
  ]
] as const) {
  it.scoped(what, () =>
    Effect.gen(function* () {
      const store = makeWatchedStore()
      let encryptions = 0
      const cipher = Layer.succeed(ResultCipher, {
        encrypt: (text) =>
          Effect.suspend(() => {
            store.health = isLost && encryptions === 0 ? "lost" : "sound"
            return isAway(++encryptions) ? Effect.fail(new Error("away")) : Effect.succeed(`sealed ${text}`)
          }),
        decrypt: (text) => Effect.succeed(text.slice("sealed ".length))
      })
      const context = yield* Layer.build(
        Idempotency.layer.pipe(
          Layer.provide(IdempotencyRepository.layerEncrypted()),
          Layer.provide([store.layer, cipher, IdempotencyDomainService.layer, IdempotencyMetrics.layerNoop])
        )
      )
      let runs = 0
      const call = Effect.sync(() => runs++).pipe(
        Effect.zipRight(Effect.delay(Effect.succeed("paid"), "1 second")),
        withIdempotency("o", "k"),
        Effect.provide(context)
      )
      const leader = yield* Effect.fork(call)
      yield* Effect.yieldNow()
      const follower = yield* Effect.fork(Effect.either(call))
      yield* TestClock.adjust("3 seconds")
      expect(yield* Fiber.join(leader)).toBe("paid")
      expect(yield* store.contents.read([ids()])).toMatchObject([stored])
      expect(yield* Fiber.join(follower)).toMatchObject(followed)
      expect(encryptions).toBe(isLost ? 2 : 1)
      expect(runs).toBe(1)
    })
  )
}
