/** Copies before a store that encrypts: they hold what it holds, also where it could not hold the result. */
import { describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { Idempotency } from "../src/Idempotency.js"
import { IdempotencyDomainService } from "../src/IdempotencyDomainService.js"
import { IdempotencyMetrics } from "../src/IdempotencyMetrics.js"
import { IdempotencyRepository } from "../src/IdempotencyRepository.js"
import { ResultCipher } from "../src/ResultCipher.js"
import { TieredIdempotencyRepository } from "../src/TieredIdempotencyRepository.js"
import { withIdempotency } from "../src/withIdempotency.js"
import { meanwhile } from "./support/tieredStores.js"
import { claimBy, completeBy, ids, makeWatchedStore } from "./support/watchedStore.js"

const local = (encrypted: Layer.Layer<IdempotencyRepository>) =>
  IdempotencyRepository.layerLocalCache().pipe(Layer.provide(encrypted))

const tiered = (encrypted: Layer.Layer<IdempotencyRepository>) =>
  TieredIdempotencyRepository.layerWith({ fast: makeWatchedStore("fast").layer, durable: encrypted })

const settled = (outcome: object) => ({ _tag: "Settled", record: { outcome } })

for (const [name, before] of [
  ["a local cache", local],
  ["a fast store", tiered]
] as const) {
  describe(name, () => {
    const setup = Effect.gen(function* () {
      const store = makeWatchedStore()
      let isAway = false
      const cipher = Layer.succeed(ResultCipher, {
        encrypt: (text) => (isAway ? Effect.fail(new Error("away")) : Effect.succeed(`sealed ${text}`)),
        decrypt: (text) => Effect.succeed(text.slice("sealed ".length))
      })
      const encrypted = IdempotencyRepository.layerEncrypted().pipe(Layer.provide([store.layer, cipher]))
      const context = yield* Layer.build(
        Idempotency.layer.pipe(
          Layer.provideMerge(before(encrypted)),
          Layer.provide([IdempotencyDomainService.layer, IdempotencyMetrics.layerNoop])
        )
      )
      const elsewhere = yield* Layer.build(encrypted)
      return {
        store,
        context,
        claims: Context.get(context, IdempotencyRepository).claims,
        inspect: Context.get(context, IdempotencyRepository).inspect(ids()),
        /** What a process without copies is told. */
        claimElsewhere: Context.get(elsewhere, IdempotencyRepository).claims.claim(ids(), claimBy("c", "f")),
        cipherIsAway: Effect.sync(() => {
          isAway = true
        })
      }
    })

    it.scoped("answers with the result that was sealed, without a call to the store", () =>
      Effect.gen(function* () {
        const { claimElsewhere, claims, store } = yield* setup
        yield* claims.claim(ids(), claimBy("a", "f"))
        yield* claims.complete(ids(), completeBy("a", "f"))
        yield* meanwhile
        const replayed = settled({ _tag: "Success", encoded: '"done"' })
        expect(yield* claims.claim(ids(), claimBy("b", "f"))).toMatchObject(replayed)
        expect(store.calls).toEqual(["claim", "complete"])
        expect(yield* claimElsewhere).toMatchObject(replayed)
      })
    )

    it.scoped("tells operators what is stored by now, decrypted", () =>
      Effect.gen(function* () {
        const { claims, inspect, store } = yield* setup
        yield* claims.claim(ids(), claimBy("a", "f"))
        yield* claims.complete(ids(), completeBy("a", "f"))
        yield* meanwhile
        yield* store.contents.reset(ids(), { force: false })
        yield* store.contents.complete(ids(), completeBy("b", "f", { encoded: 'enc1.t.sealed "anew"' }))
        expect(yield* inspect).toMatchObject(Option.some({ token: "b", outcome: { encoded: '"anew"' } }))
      })
    )

    it.scoped("answers as the store does where the result could not be sealed", () =>
      Effect.gen(function* () {
        const { cipherIsAway, claimElsewhere, claims } = yield* setup
        yield* claims.claim(ids(), claimBy("a", "f"))
        yield* cipherIsAway
        expect(yield* claims.complete(ids(), completeBy("a", "f"))).toMatchObject({ _tag: "Done", attempt: 1 })
        yield* meanwhile
        const recorded = settled({ _tag: "Unavailable" })
        expect(yield* claimElsewhere).toMatchObject(recorded)
        expect(yield* claims.claim(ids(), claimBy("b", "f"))).toMatchObject(recorded)
      })
    )

    it.scoped("replays no value that only its caller was given", () =>
      Effect.gen(function* () {
        const { cipherIsAway, context } = yield* setup
        let runs = 0
        const charge = Effect.sync(() => `receipt ${++runs}`).pipe(
          withIdempotency("o", "k", { fingerprint: "f" }),
          Effect.provide(context)
        )
        yield* cipherIsAway
        expect(yield* charge).toBe("receipt 1")
        yield* meanwhile
        expect(yield* Effect.flip(charge)).toMatchObject({ _tag: "IdempotencyResultUnavailableError" })
        expect(runs).toBe(1)
      })
    )
  })
}

it.scoped("above copies, too, operators are told what is stored by now, decrypted", () =>
  Effect.gen(function* () {
    const [fast, durable] = [makeWatchedStore("fast"), makeWatchedStore("durable")]
    const cipher = Layer.succeed(ResultCipher, {
      encrypt: (text) => Effect.succeed(`sealed ${text}`),
      decrypt: (text) => Effect.succeed(text.slice("sealed ".length))
    })
    const encryptedOver = (layer: Layer.Layer<IdempotencyRepository>) =>
      Effect.map(
        Layer.build(IdempotencyRepository.layerEncrypted().pipe(Layer.provide([layer, cipher]))),
        Context.get(IdempotencyRepository)
      )
    const { claims, inspect } = yield* encryptedOver(
      Layer.orDie(TieredIdempotencyRepository.layerWith({ fast: fast.layer, durable: durable.layer }))
    )
    yield* claims.claim(ids(), claimBy("a", "f"))
    yield* claims.complete(ids(), completeBy("a", "f"))
    yield* meanwhile
    expect(fast.calls).toContain("insert")
    const beside = yield* encryptedOver(durable.layer)
    yield* beside.reset(ids())
    yield* beside.claims.complete(ids(), completeBy("b", "f", { encoded: '"anew"' }))
    fast.calls.length = 0
    expect(yield* inspect(ids())).toMatchObject(Option.some({ token: "b", outcome: { encoded: '"anew"' } }))
    expect(fast.calls).toEqual([])
  })
)
