import { describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as TestClock from "effect/TestClock"
import { expectTypeOf } from "vitest"
import { Idempotency } from "../src/Idempotency.js"
import { IdempotencyDomainService } from "../src/IdempotencyDomainService.js"
import type { IdempotencyValidationError } from "../src/IdempotencyError.js"
import { IdempotencyMetrics } from "../src/IdempotencyMetrics.js"
import { IdempotencyRecord } from "../src/IdempotencyRecord.js"
import { IdempotencyRepository } from "../src/IdempotencyRepository.js"
import { MemoryIdempotencyRepository } from "../src/MemoryIdempotencyRepository.js"
import { RecordingMetrics } from "../src/testing.js"
import { withIdempotency } from "../src/withIdempotency.js"
import { claimBy, completeBy, ids, makeWatchedStore, type WatchedStore } from "./support/watchedStore.js"

const settled = (encoded = '"done"') => ({ _tag: "Settled", record: { outcome: { _tag: "Success", encoded } } })

/** A process with a cache of its own before the store. */
const cacheBefore = (store: WatchedStore, options?: IdempotencyRepository.LocalCacheOptions) =>
  Effect.map(
    Layer.build(IdempotencyRepository.layerLocalCache(options).pipe(Layer.provide(store.layer))),
    Context.get(IdempotencyRepository)
  )

const makeCached = (options?: IdempotencyRepository.LocalCacheOptions) =>
  Effect.gen(function* () {
    const store = makeWatchedStore()
    const repository = yield* cacheBefore(store, options)
    const { claims } = repository
    return {
      store,
      repository,
      claim: (key: string, fingerprint?: string) => claims.claim(ids(key), claimBy("caller", fingerprint)),
      /** Behind the back of the cache. */
      settle: (key: string, more?: Parameters<typeof completeBy>[2]) =>
        store.contents.complete(ids(key), completeBy("owner", "f", more)),
      /** Which of the keys the cache still answers for; they become the most recently used, in this order. */
      cached: (keys: ReadonlyArray<string>) =>
        Effect.suspend(() => {
          store.health = "failing"
          return Effect.forEach(keys, (key) =>
            Effect.map(Effect.isSuccess(claims.claim(ids(key), claimBy("caller"))), (answered) =>
              answered ? [key] : []
            )
          ).pipe(
            Effect.map((answered) => answered.flat()),
            Effect.ensuring(
              Effect.sync(() => {
                store.health = "sound"
              })
            )
          )
        }),
      calls: () => store.calls.splice(0)
    }
  })

describe("a local cache", () => {
  it.scoped("replays without a call to the store", () =>
    Effect.gen(function* () {
      const store = makeWatchedStore()
      const repository = IdempotencyRepository.layerLocalCache().pipe(Layer.provide(store.layer))
      const context = yield* Layer.build(
        Idempotency.layer.pipe(
          Layer.provide([repository, IdempotencyDomainService.layer, IdempotencyMetrics.layerNoop])
        )
      )
      let runs = 0
      const charge = withIdempotency(
        Effect.sync(() => `receipt ${++runs}`),
        "payment.charge",
        "order-1",
        { fingerprint: { amount: 100 } }
      ).pipe(Effect.provide(context))
      expect(yield* Effect.replicateEffect(charge, 5)).toEqual(Array.from({ length: 5 }, () => "receipt 1"))
      expect(store.calls).toEqual(["claim", "complete"])
    })
  )

  it.scoped("is filled by replays, reads and superseded completions", () =>
    Effect.gen(function* () {
      const { cached, claim, repository, settle } = yield* makeCached()
      for (const key of ["claim", "get", "complete"]) yield* settle(key)
      yield* claim("claim")
      yield* repository.get(ids("get"))
      yield* repository.claims.complete(ids("complete"), completeBy("late", "f"))
      expect(yield* cached(["claim", "get", "complete", "other"])).toEqual(["claim", "get", "complete"])
    })
  )

  it.scoped("answers reads as the store does", () =>
    Effect.gen(function* () {
      const { calls, claim, repository, settle, store } = yield* makeCached()
      yield* settle("1")
      yield* claim("1")
      const [record] = yield* store.contents.read([ids("1")])
      calls()
      expect(yield* repository.claims.read([ids("1")])).toEqual([record])
      expect(Option.isSome(yield* repository.get(ids("1")))).toBe(true)
      expect(calls()).toEqual([])
    })
  )

  it.scoped("tells operators what the store holds, whatever it has a copy of", () =>
    Effect.gen(function* () {
      const { calls, claim, repository, settle, store } = yield* makeCached()
      yield* settle("1")
      yield* claim("1")
      yield* store.contents.reset(ids("1"), { force: false })
      calls()
      expect(yield* repository.inspect(ids("1"))).toMatchObject(Option.some({ _tag: "Released", attempt: 1 }))
      expect(calls()).toEqual(["read"])
      yield* store.contents.claim(ids("1"), claimBy("later"))
      const above = yield* cacheBefore({ ...store, layer: Layer.succeed(IdempotencyRepository, repository) })
      expect(yield* above.inspect(ids("1"))).toMatchObject(Option.some({ _tag: "Processing", attempt: 2 }))
    })
  )

  it.scoped("compares fingerprints", () =>
    Effect.gen(function* () {
      const { calls, claim, settle } = yield* makeCached()
      yield* settle("1")
      yield* claim("1")
      calls()
      expect(yield* claim("1", "g")).toEqual({ _tag: "Mismatch" })
      expect(yield* claim("1", "f")).toMatchObject(settled())
      expect(calls()).toEqual([])
    })
  )

  it.scoped("holds recorded failures, and no unavailable result", () =>
    Effect.gen(function* () {
      const { cached, claim, store } = yield* makeCached()
      const complete = (key: string, outcome: ReturnType<typeof completeBy>["outcome"]) =>
        store.contents.complete(ids(key), { ...completeBy("owner"), outcome })
      yield* complete("failure", { _tag: "Failure", encoded: '"declined"' })
      yield* complete("unavailable", { _tag: "Unavailable" })
      yield* claim("failure")
      yield* claim("unavailable")
      expect(yield* cached(["failure", "unavailable"])).toEqual(["failure"])
    })
  )

  it.scoped("answers for settled records while the store is away, and for nothing else", () =>
    Effect.gen(function* () {
      const { claim, repository, settle, store } = yield* makeCached()
      yield* settle("1")
      yield* claim("1")
      store.health = "failing"
      expect(yield* claim("1")).toMatchObject(settled())
      expect(yield* Effect.flip(claim("2"))).toMatchObject({ _tag: "IdempotencyStorageError" })
      expect(yield* Effect.flip(repository.reset(ids("1")))).toMatchObject({ _tag: "IdempotencyStorageError" })
    })
  )
})

describe("the bounds of a local cache", () => {
  it.scoped("count: the least recently used goes first", () =>
    Effect.gen(function* () {
      const { cached, claim, settle } = yield* makeCached({ capacity: 2 })
      for (const key of ["1", "2", "3"]) yield* settle(key)
      yield* claim("1")
      yield* claim("2")
      yield* claim("1")
      yield* claim("3")
      expect(yield* cached(["1", "2", "3"])).toEqual(["1", "3"])
    })
  )

  it.scoped("bytes of results and keys", () =>
    Effect.gen(function* () {
      // A stored key is `o:` and the key: 3 bytes, with a result of 7.
      const { cached, claim, settle } = yield* makeCached({ maxBytes: 30 })
      for (const key of ["1", "2", "3"]) yield* settle(key, { encoded: '"five5"' })
      yield* settle("4", { encoded: '"4"' })
      for (const key of ["1", "2", "3"]) yield* claim(key)
      expect(yield* cached(["1", "2", "3"])).toEqual(["1", "2", "3"])
      yield* claim("4")
      expect(yield* cached(["1", "2", "3", "4"])).toEqual(["2", "3", "4"])
    })
  )

  it.scoped("bytes, not characters", () =>
    Effect.gen(function* () {
      const { cached, claim, settle } = yield* makeCached({ maxBytes: 12 })
      yield* settle("1", { encoded: '"üüü"' })
      yield* settle("2", { encoded: '"üüüü"' })
      yield* claim("1")
      yield* claim("2")
      expect(yield* cached(["1", "2"])).toEqual(["1"])
    })
  )

  it.scoped("bytes: what was replaced or removed counts no more", () =>
    Effect.gen(function* () {
      const { cached, claim, repository, settle } = yield* makeCached({ maxBytes: 25, timeToLive: "1 second" })
      for (let round = 0; round < 5; round++) {
        yield* settle("1", { encoded: '"five5"' })
        yield* settle("2", { encoded: '"five5"' })
        yield* claim("1")
        yield* claim("2")
        expect(yield* cached(["1", "2"])).toEqual(["1", "2"])
        // Over, and filled anew.
        yield* TestClock.adjust("1 second")
        yield* claim("1")
        yield* claim("2")
        expect(yield* cached(["1", "2"])).toEqual(["1", "2"])
        yield* repository.deleteMany([ids("1"), ids("2")])
      }
    })
  )

  it.scoped("bytes: what two replies brought counts once", () =>
    Effect.gen(function* () {
      const { cached, claim, settle, store } = yield* makeCached({ maxBytes: 25 })
      yield* settle("1", { encoded: '"five5"' })
      yield* settle("2", { encoded: '"five5"' })
      store.beforeReply = () => Effect.yieldNow()
      yield* Effect.all([claim("1"), claim("1")], { concurrency: "unbounded" })
      expect(store.calls).toHaveLength(2)
      yield* claim("2")
      expect(yield* cached(["1", "2"])).toEqual(["1", "2"])
    })
  )

  it.scoped("bytes: a record that is larger than the cache displaces nothing", () =>
    Effect.gen(function* () {
      const { cached, claim, settle } = yield* makeCached({ maxBytes: 20 })
      yield* settle("1")
      yield* settle("2", { encoded: '"more than twenty bytes"' })
      yield* claim("1")
      yield* claim("2")
      expect(yield* cached(["1", "2"])).toEqual(["1"])
    })
  )

  it.scoped("time: timeToLive since the store was asked, whether used or not", () =>
    Effect.gen(function* () {
      const { cached, claim, settle, store } = yield* makeCached({ timeToLive: "3 seconds" })
      yield* settle("1")
      store.beforeReply = () => Effect.sleep("1 second")
      const slow = yield* Effect.fork(claim("1"))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(slow)
      yield* TestClock.adjust("1999 millis")
      expect(yield* claim("1")).toMatchObject(settled())
      yield* TestClock.adjust("1 millis")
      expect(yield* cached(["1"])).toEqual([])
    })
  )

  it.scoped("time: 10 seconds by default, and never beyond the record's own end", () =>
    Effect.gen(function* () {
      const { cached, claim, settle } = yield* makeCached()
      yield* settle("long")
      yield* settle("short", { retention: 4_000 })
      yield* claim("long")
      yield* claim("short")
      yield* TestClock.adjust("3999 millis")
      expect(yield* cached(["long", "short"])).toEqual(["long", "short"])
      yield* TestClock.adjust("1 millis")
      expect(yield* cached(["long", "short"])).toEqual(["long"])
      expect(yield* claim("short")).toMatchObject({ _tag: "Claimed", attempt: 1 })
      yield* TestClock.adjust("5999 millis")
      expect(yield* cached(["long"])).toEqual(["long"])
      yield* TestClock.adjust("1 millis")
      expect(yield* cached(["long"])).toEqual([])
    })
  )
})

describe("clearing a local cache", () => {
  it.scoped("reset, delete, save and resolve do, through this repository", () =>
    Effect.gen(function* () {
      const record = yield* IdempotencyRecord.create({ ...ids("save"), result: "saved", timeToLive: "1 hour" })
      const { cached, claim, repository, settle, store } = yield* makeCached()
      const keys = ["reset", "delete", "deleteMany", "save", "resolve"]
      for (const key of keys) {
        yield* settle(key)
        yield* claim(key)
      }
      expect(yield* cached(keys)).toEqual(keys)
      // Another process was there.
      yield* store.contents.reset(ids("resolve"), { force: true })
      yield* store.contents.claim(ids("resolve"), claimBy("other"))
      yield* store.contents.hold(ids("resolve"), { token: "other" })
      yield* store.contents.reset(ids("save"), { force: true })

      yield* repository.reset(ids("reset"))
      yield* repository.delete(ids("delete"))
      yield* repository.deleteMany([ids("deleteMany")])
      yield* repository.save(record)
      yield* repository.resolve(ids("resolve"), { _tag: "Success", result: "resolved" })
      expect(yield* cached(keys)).toEqual([])
      expect(yield* claim("reset")).toMatchObject({ _tag: "Claimed", attempt: 2 })
      expect(yield* claim("resolve")).toMatchObject(settled('"resolved"'))
      expect(yield* claim("save")).toMatchObject(settled('"saved"'))
    })
  )

  it.scoped("leaves other processes with the old result for up to timeToLive", () =>
    Effect.gen(function* () {
      const { cached, claim, repository, settle, store } = yield* makeCached()
      const other = yield* cacheBefore(store)
      yield* settle("1")
      yield* claim("1")
      yield* other.claims.claim(ids("1"), claimBy("other"))
      yield* repository.reset(ids("1"))
      expect(yield* cached(["1"])).toEqual([])
      yield* TestClock.adjust("9999 millis")
      expect(yield* other.claims.claim(ids("1"), claimBy("other"))).toMatchObject(settled())
      yield* TestClock.adjust("1 millis")
      expect(yield* other.claims.claim(ids("1"), claimBy("other"))).toMatchObject({ _tag: "Claimed", attempt: 2 })
    })
  )

  it.scoped("without an answer clears it too: the change may have been made", () =>
    Effect.gen(function* () {
      const { claim, repository, settle, store } = yield* makeCached()
      yield* settle("1")
      yield* claim("1")
      store.health = "lost"
      yield* Effect.flip(repository.reset(ids("1")))
      store.health = "sound"
      expect(yield* claim("1")).toMatchObject({ _tag: "Claimed", attempt: 2 })
    })
  )

  it.scoped("is not undone by a reply that was on its way", () =>
    Effect.gen(function* () {
      for (const call of ["claim", "get"] as const) {
        const { cached, claim, repository, settle, store } = yield* makeCached({ operationTimeout: "1 minute" })
        yield* settle("1")
        store.beforeReply = (method) => (method === "reset" ? Effect.void : Effect.sleep("1 second"))
        const late = yield* Effect.fork<unknown, { readonly _tag: string }, never>(
          call === "claim" ? claim("1") : repository.get(ids("1"))
        )
        yield* Effect.yieldNow().pipe(Effect.repeatN(10))
        expect(store.calls).toHaveLength(1)
        yield* repository.reset(ids("1"))
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(late)
        store.beforeReply = () => Effect.void
        expect(yield* cached(["1"])).toEqual([])
        expect(yield* claim("1")).toMatchObject({ _tag: "Claimed", attempt: 2 })
      }
    })
  )
})

describe("the layer of a local cache", () => {
  it.scoped("measures each call once, and says what it is", () =>
    Effect.gen(function* () {
      const layer = IdempotencyRepository.layerLocalCache().pipe(
        Layer.provide(MemoryIdempotencyRepository.layer),
        Layer.provideMerge(RecordingMetrics.layer)
      )
      const context = yield* Layer.build(layer)
      const repository = Context.get(context, IdempotencyRepository)
      yield* repository.claims.claim(ids(), claimBy("a"))
      const calls = yield* Context.get(context, RecordingMetrics).calls
      expect(calls.map(({ method }) => method)).toEqual(["recordLatency"])
      expect(repository.driver.name).toBe("local+memory")
    })
  )

  it.scoped("refuses bounds that are none", () =>
    Effect.gen(function* () {
      expectTypeOf(IdempotencyRepository.layerLocalCache()).toEqualTypeOf<
        Layer.Layer<IdempotencyRepository, IdempotencyValidationError, IdempotencyRepository>
      >()
      for (const count of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
        const error = yield* Effect.flip(Effect.asVoid(makeCached({ capacity: count, maxBytes: count })))
        expect(error).toMatchObject({
          _tag: "IdempotencyValidationError",
          issues: [expect.stringContaining("capacity"), expect.stringContaining("maxBytes")]
        })
      }
      for (const timeToLive of [0, -1, Duration.infinity, Number.NaN]) {
        const error = yield* Effect.flip(Effect.asVoid(makeCached({ timeToLive })))
        expect(error).toMatchObject({ issues: [expect.stringContaining("timeToLive")] })
      }
    })
  )
})
