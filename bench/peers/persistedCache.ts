/**
 * `PersistedCache` of `@effect/experimental`, on its Redis persistence, or in its memory.
 *
 * A cache: it neither claims nor waits beyond its process, so that concurrent callers of a fresh key all run, and what
 * it cannot store fails the call. Only its replays are compared. Its results are encoded exits; `Schema.Unknown` is the
 * cheapest codec that it can be given.
 */
import * as PersistedCache from "@effect/experimental/PersistedCache"
import * as PersistenceRedis from "@effect/experimental/Persistence/Redis"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as PrimaryKey from "effect/PrimaryKey"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { Store, Subject } from "../comparisons.js"
import { fibers } from "../drive.js"
import { makeBody } from "../work.js"

class Charge extends Schema.TaggedRequest<Charge>()("Charge", {
  failure: Schema.String,
  success: Schema.Unknown,
  payload: { key: Schema.String }
}) {
  [PrimaryKey.symbol](): string {
    return this.key
  }
}

export const persistedCache = (
  options: { readonly port: number; readonly inMemory: boolean },
  store: Store,
  bytes: number
): Effect.Effect<Subject, never, Scope.Scope> =>
  Effect.gen(function* () {
    const body = makeBody(bytes)
    const persistence = yield* Layer.build(PersistenceRedis.layerResult({ host: "127.0.0.1", port: options.port }))
    const cache = yield* PersistedCache.make({
      storeId: options.inMemory ? "cached" : "stored",
      lookup: (_: Charge) => body.effect,
      timeToLive: () => "30 minutes",
      // Each key is read from Redis: none is still there when it comes round again.
      inMemoryCapacity: options.inMemory ? 100_000 : 1,
      inMemoryTTL: options.inMemory ? "30 minutes" : 0
    }).pipe(Effect.provide(persistence))
    const drive = fibers(Effect.runPromise, (key) => cache.get(new Charge({ key })))
    return {
      name: options.inMemory ? "PersistedCache in memory" : "PersistedCache",
      role: "peer",
      body,
      store,
      first: drive,
      replay: drive,
      keepsReferences: options.inMemory
    }
  })
