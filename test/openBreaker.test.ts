/** While the circuit breaker is open: what is known of a key without its store is replayed, all else is refused. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import {
  Idempotency,
  IdempotencyDomainService,
  IdempotencyMetrics,
  IdempotencyRepository,
  ResultCipher,
  TieredIdempotencyRepository,
  withIdempotencyOutcome
} from "../src/index.js"
import { meanwhile } from "./support/tieredStores.js"
import { makeWatchedStore, type WatchedStore } from "./support/watchedStore.js"

const encrypted = (repository: Layer.Layer<IdempotencyRepository>) =>
  IdempotencyRepository.layerEncrypted().pipe(
    Layer.provide(repository),
    Layer.provide(ResultCipher.layer({ keys: [{ id: "one", key: Redacted.make(new Uint8Array(32).fill(7)) }] })),
    Layer.orDie
  )

const cached = (repository: Layer.Layer<IdempotencyRepository>) =>
  IdempotencyRepository.layerLocalCache().pipe(Layer.provide(repository), Layer.orDie)

const tiered = (durable: WatchedStore) =>
  Layer.orDie(TieredIdempotencyRepository.layerWith({ fast: makeWatchedStore("fast").layer, durable: durable.layer }))

const stores: Readonly<Record<string, (durable: WatchedStore) => Layer.Layer<IdempotencyRepository>>> = {
  "a fast store": tiered,
  "a fast store, encrypted": (durable) => encrypted(tiered(durable)),
  "a local cache": ({ layer }) => cached(layer),
  "a local cache before a fast store": (durable) => cached(tiered(durable)),
  "a local cache before encryption": ({ layer }) => cached(encrypted(layer))
}

const fingerprint = "request"

describe("with the circuit breaker open", () => {
  for (const [name, storeOf] of Object.entries(stores)) {
    it.scoped(`copies in ${name} are replayed, and nothing else`, () => {
      const durable = makeWatchedStore()
      const engine = Idempotency.layerWith({ breakerThreshold: 1, retry: Schedule.stop }).pipe(
        Layer.provide([storeOf(durable), IdempotencyDomainService.layer, IdempotencyMetrics.layerNoop])
      )
      let runs = 0
      const call = (key: string, options: { readonly strategy?: "optimistic"; readonly fingerprint?: string } = {}) =>
        Effect.sync(() => ++runs).pipe(withIdempotencyOutcome("pay", key, { fingerprint, ...options }))
      return Effect.gen(function* () {
        yield* call("copied")
        yield* meanwhile
        durable.health = "failing"
        expect(yield* call("new")).toMatchObject({ _tag: "Unprotected", value: 2 })
        durable.calls.splice(0)
        expect(yield* call("copied")).toMatchObject({ _tag: "Replayed", value: 1 })
        expect(yield* call("copied", { strategy: "optimistic" })).toMatchObject({ _tag: "Replayed", value: 1 })
        const other = call("copied", { fingerprint: "another request" })
        expect(yield* Effect.flip(other)).toMatchObject({ _tag: "IdempotencyFingerprintMismatchError" })
        expect(yield* call("new")).toMatchObject({ _tag: "Unprotected", value: 3 })
        expect(durable.calls).toEqual([])
      }).pipe(Effect.provide(engine))
    })
  }
})
