/** A process that claims a key, says so, and never ends what it runs. */
import * as Effect from "effect/Effect"
import { withIdempotency } from "effect-idempotency"
import { RedisIdempotencyRepository } from "effect-idempotency/redis"
import { engineOver } from "../ours.js"
import { answer } from "../processes.js"

export interface OwnerTask {
  readonly url: string
  readonly key: string
  readonly lease: number
}

answer<OwnerTask, "claimed">(
  ({ key, lease, url }) =>
    new Promise((claimed, failed) => {
      const hang = Effect.zipRight(
        Effect.sync(() => claimed("claimed")),
        Effect.never
      )
      const engine = engineOver(RedisIdempotencyRepository.layerClient({ url }), { storageTimeout: "500 millis" })
      Effect.runPromise(withIdempotency(hang, "bench", key, { lease }).pipe(Effect.provide(engine))).catch(failed)
    })
)
