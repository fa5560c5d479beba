/** The circuit breaker of a store that copies stand before: when it opens, and what is answered while it is open. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/TestClock"
import {
  Idempotency,
  IdempotencyDomainService,
  type IdempotencyEngineOptions,
  IdempotencyMetrics,
  IdempotencyRepository,
  ResultCipher,
  TieredIdempotencyRepository,
  withIdempotency,
  withIdempotencyOutcome
} from "../src/index.js"
import { meanwhile } from "./support/tieredStores.js"
import { claimBy, ids, makeWatchedStore, type WatchedStore } from "./support/watchedStore.js"

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

const engineOver = (
  store: Layer.Layer<IdempotencyRepository>,
  settings: Pick<IdempotencyEngineOptions, "breakerThreshold" | "breakerProbeInterval">
) =>
  Idempotency.layerWith({ ...settings, retry: Schedule.stop }).pipe(
    Layer.provide([store, IdempotencyDomainService.layer, IdempotencyMetrics.layerNoop])
  )

const fingerprint = "request"

/** Each copy after a failure of the store: whether the store answers, no copy tells. */
describe("beside copies the circuit breaker", () => {
  const threshold = 8

  for (const [name, storeOf] of Object.entries(stores)) {
    it.scoped(`opens as without them: ${name}`, () => {
      const durable = makeWatchedStore()
      const engine = engineOver(storeOf(durable), { breakerThreshold: threshold })
      const call = (key: string, of = fingerprint) =>
        Effect.succeed(key).pipe(withIdempotencyOutcome("pay", key, { fingerprint: of }))
      return Effect.gen(function* () {
        yield* call("copied")
        yield* meanwhile
        durable.health = "failing"
        for (let n = 0; n < threshold; n++) {
          yield* call(`new-${n}`)
          expect(yield* call("copied")).toMatchObject({ _tag: "Replayed" })
          yield* Effect.flip(call("copied", "another request"))
          yield* Effect.succeed("own").pipe(withIdempotency("pay", "copied", { strategy: "optimistic" }))
        }
        durable.calls.splice(0)
        expect(yield* call("last")).toMatchObject({ _tag: "Unprotected" })
        expect(durable.calls).toEqual([])
      }).pipe(Effect.provide(engine))
    })
  }

  it.scoped("forgets failures that are long ago, as the store may have answered since", () => {
    const durable = makeWatchedStore()
    const engine = engineOver(tiered(durable), { breakerThreshold: 2 })
    const call = (key: string) =>
      Effect.succeed(key).pipe(withIdempotencyOutcome("pay", key, { fingerprint, onStorageFailure: "fail" }))
    return Effect.gen(function* () {
      yield* call("copied")
      yield* meanwhile
      for (const key of ["one", "two"]) {
        yield* TestClock.adjust("16 seconds")
        expect(yield* call("copied")).toMatchObject({ _tag: "Replayed" })
        durable.health = "failing"
        yield* Effect.flip(call(key))
        durable.health = "sound"
      }
      durable.calls.splice(0)
      yield* call("new")
      expect(durable.calls).toContain("claim")
    }).pipe(Effect.provide(engine))
  })

  /** The store fails now and then, and answers in between: by this call. */
  const answersBetween = (
    store: (durable: WatchedStore) => Layer.Layer<IdempotencyRepository>,
    between: Effect.Effect<unknown, unknown, Idempotency>
  ) => {
    const durable = makeWatchedStore()
    const call = (key: string) =>
      Effect.succeed(key).pipe(withIdempotency("o", key, { fingerprint, onStorageFailure: "fail" }))
    return Effect.gen(function* () {
      yield* call("known")
      yield* durable.contents.claim(ids("busy"), claimBy("another"))
      yield* meanwhile
      for (const key of ["one", "two", "three"]) {
        durable.health = "failing"
        yield* Effect.flip(call(key))
        durable.health = "sound"
        durable.calls.splice(0)
        yield* between
      }
      yield* call("new")
      expect(durable.calls).toContain("claim")
    }).pipe(Effect.provide(engineOver(store(durable), { breakerThreshold: 2 })))
  }

  const known = Effect.succeed("again").pipe(withIdempotency("o", "known", { fingerprint }))
  const busy = Effect.flip(Effect.succeed("busy").pipe(withIdempotency("o", "busy", { inFlight: "fail" })))

  it.scoped("counts anew after a replay that no copy can have given", () => answersBetween(({ layer }) => layer, known))

  it.scoped("counts anew after what copies cannot answer: that another runs", () => answersBetween(tiered, busy))

  it.scoped("is not closed by one: its probe asks the store", () => {
    const durable = makeWatchedStore()
    const parts = IdempotencyRepository.make({ ...durable.driver, partOf: () => "node" })
    const store = cached(Layer.effect(IdempotencyRepository, Effect.orDie(parts)))
    const engine = engineOver(store, { breakerThreshold: 1, breakerProbeInterval: "10 seconds" })
    const call = (key: string, body: Effect.Effect<unknown> = Effect.void) =>
      body.pipe(withIdempotencyOutcome("pay", key, { success: Schema.Unknown, fingerprint }))
    const becomes = (health: WatchedStore["health"]) =>
      Effect.sync(() => {
        durable.health = health
      })
    return Effect.gen(function* () {
      // A renewal fails, so that the probe asks for its key, of which there is a copy once its owner has ended.
      const owner = yield* Effect.fork(call("copied", Effect.sleep("15 seconds")))
      yield* TestClock.adjust("9 seconds")
      yield* becomes("failing")
      yield* TestClock.adjust("2 seconds")
      yield* becomes("sound")
      yield* TestClock.adjust("4 seconds")
      yield* Fiber.join(owner)
      yield* becomes("failing")
      expect(yield* call("copied")).toMatchObject({ _tag: "Replayed" })
      yield* TestClock.adjust("5 seconds")
      expect(durable.calls.at(-1)).toBe("read")
      durable.calls.splice(0)
      expect(yield* call("new")).toMatchObject({ _tag: "Unprotected" })
      expect(durable.calls).toEqual([])
    }).pipe(Effect.provide(engine))
  })
})

describe("with the circuit breaker open", () => {
  for (const [name, storeOf] of Object.entries(stores)) {
    it.scoped(`copies in ${name} are replayed, and nothing else`, () => {
      const durable = makeWatchedStore()
      const engine = engineOver(storeOf(durable), { breakerThreshold: 1 })
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
