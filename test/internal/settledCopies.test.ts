import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { makeLocalCache } from "../../src/internal/localCache.js"
import { claimBy, completeBy, ids, makeWatchedStore } from "../support/watchedStore.js"

/** As many claims are remembered. */
const maxOpenClaims = 10_000

const makeCached = Effect.gen(function* () {
  const store = makeWatchedStore()
  const cache = yield* makeLocalCache({})
  const driver = cache(store.driver)
  /** Whether a key is answered for without the store. */
  const isCopied = (key: string) =>
    Effect.gen(function* () {
      store.health = "failing"
      const reply = yield* Effect.either(driver.read([ids(key)]))
      store.health = "sound"
      return reply._tag === "Right"
    })
  return { store, driver, isCopied }
})

describe("copies of settled records", () => {
  it.effect("are made of a completion whose claim is remembered: the oldest claims are not", () =>
    Effect.gen(function* () {
      const { driver, isCopied } = yield* makeCached
      const names = Array.from({ length: maxOpenClaims + 1 }, (_, n) => `key-${n}`)
      yield* Effect.forEach(names, (key) => driver.claim(ids(key), claimBy(key, "f")), { discard: true })
      for (const n of [0, 1, maxOpenClaims]) yield* driver.complete(ids(`key-${n}`), completeBy(`key-${n}`, "f"))
      expect(yield* Effect.forEach([0, 1, maxOpenClaims], (n) => isCopied(`key-${n}`))).toEqual([false, true, true])
    })
  )

  it.effect("are not made of a completion that is sent again, nor of one without a fingerprint", () =>
    Effect.gen(function* () {
      const { driver, isCopied } = yield* makeCached
      const complete = (key: string, fingerprint?: string) => driver.complete(ids(key), completeBy(key, fingerprint))
      yield* driver.claim(ids("a"), claimBy("a"))
      yield* complete("a")
      expect(yield* isCopied("a")).toBe(false)

      yield* driver.claim(ids("b"), claimBy("b", "f"))
      yield* driver.remove([ids("b")])
      yield* complete("b", "f")
      yield* driver.remove([ids("b")])
      yield* complete("b", "f")
      expect(yield* isCopied("b")).toBe(false)
    })
  )

  it.effect("are not made of a claim that its owner has given up", () =>
    Effect.gen(function* () {
      const { driver, isCopied } = yield* makeCached
      for (const end of ["release", "hold"] as const) {
        yield* driver.claim(ids(end), claimBy(end, "f"))
        yield* driver[end](ids(end), { token: end })
        yield* driver.complete(ids(end), completeBy(end, "f"))
        expect(yield* isCopied(end)).toBe(false)
      }
    })
  )

  it.effect("are not touched by a change of nothing", () =>
    Effect.gen(function* () {
      const { driver, isCopied, store } = yield* makeCached
      yield* driver.claim(ids("a"), claimBy("a", "f"))
      yield* driver.complete(ids("a"), completeBy("a", "f"))
      const reading = driver.read([ids("b")])
      yield* driver.claim(ids("b"), claimBy("b", "f"))
      yield* store.contents.complete(ids("b"), completeBy("b", "f"))
      store.beforeReply = (method) => (method === "read" ? Effect.orDie(driver.remove([])) : Effect.void)
      yield* reading
      expect(yield* Effect.forEach(["a", "b"], isCopied)).toEqual([true, true])
      expect(yield* driver.read([])).toEqual([])
    })
  )
})
