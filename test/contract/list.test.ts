/** Stores made of stores list what the store beneath them holds. */
import { describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import { MemoryIdempotencyRepository } from "../../src/MemoryIdempotencyRepository.js"
import { ResultCipher } from "../../src/ResultCipher.js"
import { TieredIdempotencyRepository } from "../../src/TieredIdempotencyRepository.js"
import { FaultInjectingRepository } from "../../src/testing/FaultInjectingRepository.js"
import { claimBy, ids } from "../support/requests.js"

const outcome = { _tag: "Success", encoded: "1" } as const
const completion = { token: "t", outcome, fingerprint: undefined, retention: 60_000 }

const build = <E>(layer: Layer.Layer<IdempotencyRepository, E>) =>
  Effect.map(Layer.build(layer), Context.get(IdempotencyRepository))

describe("list", () => {
  it.scoped("of two stores is that of the durable one", () =>
    Effect.gen(function* () {
      const fast = yield* build(MemoryIdempotencyRepository.layerWith({ capacity: 10 }))
      const durable = yield* build(MemoryIdempotencyRepository.layer)
      const tiered = yield* build(
        TieredIdempotencyRepository.layerWith({
          fast: Layer.succeed(IdempotencyRepository, fast),
          durable: Layer.succeed(IdempotencyRepository, durable)
        })
      )
      yield* fast.claims.claim(ids("fast"), claimBy("t"))
      yield* durable.claims.claim(ids("durable"), claimBy("t"))
      yield* tiered.claims.complete(ids("both"), completion)
      const page = yield* tiered.list()
      expect(page).toEqual(yield* durable.list())
      expect(page.entries.map(({ identifiers }) => identifiers.idempotencyKey)).toEqual(["both", "durable"])
    })
  )

  it.scoped("is not answered from a cache", () =>
    Effect.gen(function* () {
      const store = yield* build(MemoryIdempotencyRepository.layer)
      const cached = yield* build(
        IdempotencyRepository.layerLocalCache().pipe(Layer.provide(Layer.succeed(IdempotencyRepository, store)))
      )
      yield* cached.claims.claim(ids("k"), claimBy("t"))
      yield* cached.claims.complete(ids("k"), completion)
      expect((yield* cached.list()).entries).toHaveLength(1)
      yield* store.delete(ids("k"))
      expect((yield* cached.list()).entries).toHaveLength(0)
    })
  )

  it.scoped("of encrypted results decrypts nothing", () =>
    Effect.gen(function* () {
      const cipher = { encrypt: () => Effect.succeed("hidden"), decrypt: () => Effect.dieMessage("was decrypted") }
      const encrypted = yield* build(
        IdempotencyRepository.layerEncrypted().pipe(
          Layer.provide([MemoryIdempotencyRepository.layer, Layer.succeed(ResultCipher, cipher)])
        )
      )
      yield* encrypted.claims.claim(ids("steps"), claimBy("t"))
      yield* encrypted.claims.saveStep(ids("steps"), { token: "t", name: "n", encoded: "1" })
      yield* encrypted.claims.complete(ids("k"), completion)
      const { entries } = yield* encrypted.list()
      expect(entries.map(({ state }) => state)).toMatchObject([
        { _tag: "Completed", outcome: "Success" },
        { _tag: "Processing", attempt: 1 }
      ])
    })
  )

  it.scoped("suffers the faults that are injected, and is refused where the store cannot list", () =>
    Effect.gen(function* () {
      const faulty = yield* build(
        FaultInjectingRepository.layer(({ method, n }) =>
          method !== "list" ? "none" : n === 1 ? "refused" : n === 2 ? "requestLost" : "none"
        ).pipe(Layer.provide(MemoryIdempotencyRepository.layer))
      )
      const refused = yield* Effect.flip(faulty.list({ operation: "o" }))
      expect(refused).toMatchObject({ operation: "o", method: "list", reason: "Unavailable", applied: "no" })
      const lost = yield* Effect.fork(Effect.flip(faulty.list()))
      yield* TestClock.adjust("1 second")
      expect(yield* Fiber.join(lost)).toMatchObject({ method: "list", reason: "Timeout" })
      yield* faulty.claims.claim(ids("k"), claimBy("t"))
      expect((yield* faulty.list()).entries).toHaveLength(1)

      const { list: _, ...driver } = faulty.driver
      const without = yield* build(
        FaultInjectingRepository.layer(() => "refused").pipe(
          Layer.provide(Layer.effect(IdempotencyRepository, IdempotencyRepository.make(driver)))
        )
      )
      expect(yield* Effect.flip(without.list())).toMatchObject({
        _tag: "IdempotencyValidationError",
        issues: ["the memory store cannot list its keys"]
      })
    })
  )
})
