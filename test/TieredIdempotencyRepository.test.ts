import { describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as TestClock from "effect/TestClock"
import { expectTypeOf } from "vitest"
import { Idempotency } from "../src/Idempotency.js"
import { IdempotencyDomainService } from "../src/IdempotencyDomainService.js"
import type { IdempotencyStorageError, IdempotencyValidationError } from "../src/IdempotencyError.js"
import { IdempotencyMetrics } from "../src/IdempotencyMetrics.js"
import { IdempotencyRepository } from "../src/IdempotencyRepository.js"
import { MemoryIdempotencyRepository } from "../src/MemoryIdempotencyRepository.js"
import { TieredIdempotencyRepository } from "../src/TieredIdempotencyRepository.js"
import { RecordingMetrics } from "../src/testing.js"
import { withIdempotency } from "../src/withIdempotency.js"
import { makeTiered, meanwhile, settled } from "./support/tieredStores.js"
import { claimBy, completeBy, ids, makeWatchedStore } from "./support/watchedStore.js"

describe("a tiered repository", () => {
  it.scoped("runs an effect once, and replays it from the fast store", () =>
    Effect.gen(function* () {
      const [fast, durable] = [makeWatchedStore("fast"), makeWatchedStore("durable")]
      const engine = Idempotency.layer.pipe(
        Layer.provide([
          TieredIdempotencyRepository.layerWith({ fast: fast.layer, durable: durable.layer }),
          IdempotencyDomainService.layer,
          IdempotencyMetrics.layerNoop
        ])
      )
      const context = yield* Layer.build(engine)
      let runs = 0
      const charge = withIdempotency(
        Effect.sync(() => `receipt ${++runs}`),
        "payment.charge",
        "order-1",
        { fingerprint: { amount: 100 } }
      ).pipe(Effect.provide(context))
      const all = yield* Effect.replicateEffect(Effect.zipLeft(charge, meanwhile), 3)
      expect(all).toEqual(["receipt 1", "receipt 1", "receipt 1"])
      expect(durable.calls).toEqual(["claim", "complete"])
    })
  )

  it.scoped("keeps a copy that is as the record", () =>
    Effect.gen(function* () {
      const { copy, durable, repository, settle } = yield* makeTiered()
      yield* settle()
      const [record] = yield* durable.contents.read([ids()])
      expect(record).toMatchObject({ _tag: "Completed", token: "a", fingerprint: "f", attempt: 1 })
      expect(yield* copy).toEqual(record)
      expect(yield* repository.claims.read([ids()])).toEqual([record])
      expect(durable.calls).toEqual(["claim", "complete"])
    })
  )

  it.scoped("fills the fast store again from replays, reads and superseded completions", () =>
    Effect.gen(function* () {
      const { calls, claim, complete, copy, fast, repository, settle } = yield* makeTiered()
      yield* settle()
      const record = yield* copy
      const empty = Effect.sync(() => calls()).pipe(Effect.zipRight(fast.contents.remove([ids()])))
      for (const again of [
        claim("b", "f"),
        Effect.map(repository.get(ids()), () => settled()),
        Effect.map(complete("c", "f"), (reply) => ({ ...reply, _tag: "Settled" }))
      ]) {
        yield* empty
        expect(yield* again).toMatchObject(settled())
        expect(calls().durable).toHaveLength(1)
        yield* meanwhile
        expect(yield* copy).toEqual(record)
        expect(yield* claim("b", "f")).toMatchObject(settled())
        expect(calls().durable).toEqual([])
      }
    })
  )

  it.scoped("reads many from both, in order", () =>
    Effect.gen(function* () {
      const { calls, durable, repository } = yield* makeTiered()
      const { claims } = repository
      for (const key of ["1", "2", "3"]) {
        yield* durable.contents.complete(ids(key), completeBy(key, undefined, { encoded: key }))
      }
      yield* claims.claim(ids("2"), claimBy("b"))
      yield* meanwhile
      calls()
      const states = yield* claims.read([ids("1"), ids("2"), ids("none"), ids("3")])
      expect(states.map((state) => state !== undefined && "token" in state && state.token)).toEqual([
        "1",
        "2",
        false,
        "3"
      ])
      expect(calls()).toEqual({ fast: ["read"], durable: ["read"] })
      yield* meanwhile
      calls()
      yield* claims.read([ids("1"), ids("2"), ids("3")])
      expect(calls()).toEqual({ fast: ["read"], durable: [] })
    })
  )

  it.scoped("answers a mismatch from the copy", () =>
    Effect.gen(function* () {
      const { calls, claim, settle } = yield* makeTiered()
      yield* settle()
      calls()
      expect(yield* claim("b", "g")).toEqual({ _tag: "Mismatch" })
      expect(yield* claim("b")).toMatchObject(settled())
      expect(calls().durable).toEqual([])
    })
  )

  it.scoped("believes nothing in the fast store but settled records", () =>
    Effect.gen(function* () {
      const { claim, complete, fast, repository } = yield* makeTiered()
      yield* fast.contents.claim(ids(), claimBy("stranger"))
      expect(yield* claim("a", "f")).toMatchObject({ _tag: "Claimed", attempt: 1 })
      expect(Option.getOrThrow(yield* repository.inspect(ids()))).toMatchObject({ _tag: "Processing", token: "a" })
      yield* complete("a", "f")
      expect(yield* claim("b", "f")).toMatchObject(settled())
      expect(yield* fast.contents.read([ids()])).toMatchObject([{ _tag: "Processing", token: "stranger" }])
    })
  )

  it.scoped("copies no completion whose record it cannot know", () =>
    Effect.gen(function* () {
      const { claim, complete, copy } = yield* makeTiered()
      // The record has the fingerprint of the claim, which the completion does not know.
      yield* claim("a", "f")
      yield* complete("a")
      expect(yield* copy).toBeUndefined()
      // The record has the outcome of the first completion.
      yield* complete("a", "f", { encoded: '"another"' })
      expect(yield* copy).toBeUndefined()
      expect(yield* claim("b", "g")).toEqual({ _tag: "Mismatch" })
      expect(yield* claim("b", "f")).toMatchObject(settled())
    })
  )
})

describe("the life of a copy", () => {
  it.scoped("is at most fastTimeToLive", () =>
    Effect.gen(function* () {
      const { claim, copy, durable, settle } = yield* makeTiered({ fastTimeToLive: "2 seconds" })
      yield* settle()
      // Behind the back of this repository.
      yield* durable.contents.reset(ids(), { force: true })
      yield* TestClock.adjust("1999 millis")
      expect(yield* claim("b", "f")).toMatchObject(settled())
      yield* TestClock.adjust("1 millis")
      expect(yield* copy).toBeUndefined()
      expect(yield* claim("b", "f")).toMatchObject({ _tag: "Claimed", attempt: 2 })
    })
  )

  it.scoped("is 60 seconds by default", () =>
    Effect.gen(function* () {
      const { copy, settle } = yield* makeTiered()
      yield* settle()
      yield* TestClock.adjust("59 seconds")
      expect(yield* copy).toBeDefined()
      yield* TestClock.adjust("1 second")
      expect(yield* copy).toBeUndefined()
    })
  )

  it.scoped("ends with the record", () =>
    Effect.gen(function* () {
      const { claim, copy, settle } = yield* makeTiered()
      yield* settle({ retention: 500 })
      expect(yield* copy).toBeDefined()
      yield* TestClock.adjust("500 millis")
      expect(yield* copy).toBeUndefined()
      expect(yield* claim("b", "g")).toMatchObject({ _tag: "Claimed", attempt: 1 })
    })
  )

  it.scoped("is asked for no longer than its record and fastTimeToLive", () =>
    Effect.gen(function* () {
      const retentions: Array<number> = []
      const { repository } = yield* makeTiered({ fastTimeToLive: "10 seconds" }, (driver) => ({
        insert: (records, options) => {
          retentions.push(...records.map(({ request }) => request.retention))
          return driver.insert(records, options)
        }
      }))
      const { claims } = repository
      for (const [key, retention] of [
        ["short", 500],
        ["long", 50_000]
      ] as const) {
        yield* claims.claim(ids(key), claimBy("a"))
        yield* claims.complete(ids(key), completeBy("a", undefined, { retention }))
      }
      yield* TestClock.adjust("100 millis")
      for (const key of ["short", "long"]) yield* claims.claim(ids(key), claimBy("b"))
      yield* meanwhile
      expect(retentions).toEqual([400, 10_000])
    })
  )

  it.scoped("is none once its record is over by the local clock: the durable store is asked", () =>
    Effect.gen(function* () {
      // The clock of whoever wrote it is behind.
      const outcome = { _tag: "Success", encoded: '"old"' } as const
      const copy = { _tag: "Completed", token: "old", outcome, attempt: 1, createdAt: 0, expiresAt: 1_000 } as const
      const { claim, repository } = yield* makeTiered({}, () => ({
        read: (all) => Effect.succeed(all.map(() => ({ ...copy, fingerprint: undefined })))
      }))
      yield* TestClock.adjust("999 millis")
      expect(yield* claim("b")).toMatchObject(settled('"old"'))
      yield* TestClock.adjust("1 millis")
      expect(Option.isNone(yield* repository.get(ids()))).toBe(true)
      expect(yield* claim("b")).toMatchObject({ _tag: "Claimed", attempt: 1 })
    })
  )
})

describe("the layer", () => {
  it.scoped("measures each call once", () =>
    Effect.gen(function* () {
      const layer = TieredIdempotencyRepository.layerWith({
        fast: MemoryIdempotencyRepository.layerWith({ capacity: 10 }),
        durable: MemoryIdempotencyRepository.layer
      }).pipe(Layer.provideMerge(RecordingMetrics.layer))
      const context = yield* Layer.build(layer)
      const metrics = Context.get(context, RecordingMetrics)
      yield* Context.get(context, IdempotencyRepository).claims.claim(ids(), claimBy("a"))
      expect((yield* metrics.calls).map(({ method }) => method)).toEqual(["recordLatency"])
    })
  )

  it.scoped("takes repositories as they are", () =>
    Effect.gen(function* () {
      const fast = Context.get(yield* Layer.build(MemoryIdempotencyRepository.layer), IdempotencyRepository)
      const durable = Context.get(yield* Layer.build(MemoryIdempotencyRepository.layer), IdempotencyRepository)
      const layer = TieredIdempotencyRepository.layerWith({ fast, durable })
      expectTypeOf(layer).toEqualTypeOf<Layer.Layer<IdempotencyRepository, IdempotencyValidationError>>()
      const tiered = Context.get(yield* Layer.build(layer), IdempotencyRepository)
      expect(tiered.driver.name).toBe("memory+memory")
      yield* tiered.claims.claim(ids(), claimBy("a"))
      expect(yield* durable.claims.read([ids()])).toMatchObject([{ _tag: "Processing" }])
    })
  )

  it("keeps what the stores need and how they fail", () => {
    class Pool extends Context.Tag("test/Pool")<Pool, string>() {}
    const store: Layer.Layer<IdempotencyRepository, IdempotencyStorageError, Pool> = Layer.unwrapEffect(
      Effect.as(Pool, MemoryIdempotencyRepository.layer)
    )
    const layer = TieredIdempotencyRepository.layerWith({ fast: MemoryIdempotencyRepository.layer, durable: store })
    expectTypeOf(layer).toEqualTypeOf<
      Layer.Layer<IdempotencyRepository, IdempotencyValidationError | IdempotencyStorageError, Pool>
    >()
  })

  it.scoped("refuses one store in both places", () =>
    Effect.gen(function* () {
      const { layer } = MemoryIdempotencyRepository
      const error = yield* Effect.flip(
        Layer.build(TieredIdempotencyRepository.layerWith({ fast: layer, durable: layer }))
      )
      expect(error).toMatchObject({
        _tag: "IdempotencyValidationError",
        issues: [expect.stringContaining("one store")]
      })
    })
  )

  it.scoped("refuses durations that are none", () =>
    Effect.gen(function* () {
      for (const duration of [0, -1, Duration.infinity, Number.NaN]) {
        const error = yield* Effect.flip(Effect.asVoid(makeTiered({ fastTimeToLive: duration, fastTimeout: duration })))
        expect(error).toMatchObject({
          _tag: "IdempotencyValidationError",
          issues: [expect.stringContaining("fastTimeToLive"), expect.stringContaining("fastTimeout")]
        })
      }
      expect((yield* Effect.flip(Effect.asVoid(makeTiered({ fastTimeout: "30 days" })))).issues).toHaveLength(1)
    })
  )
})
