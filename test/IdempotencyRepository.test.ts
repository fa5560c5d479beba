import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as HashMap from "effect/HashMap"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import { IdempotencyStorageError } from "../src/IdempotencyError.js"
import { IdempotencyIdentifiers } from "../src/IdempotencyIdentifiers.js"
import { IdempotencyRecord } from "../src/IdempotencyRecord.js"
import { IdempotencyRepository } from "../src/IdempotencyRepository.js"
import { makeMemoryDriver } from "../src/internal/memoryDriver.js"
import type { Driver } from "../src/internal/protocol.js"
import { RecordingMetrics } from "../src/testing.js"

const ids = (idempotencyKey: string, operation = "o") =>
  Either.getOrThrow(IdempotencyIdentifiers.from({ operation, idempotencyKey }))

const record = (idempotencyKey: string, operation = "o") =>
  IdempotencyRecord.create({ operation, idempotencyKey, result: 1, timeToLive: "1 hour" })

const claimRequest = {
  token: "t",
  fingerprint: undefined,
  guarantee: "at-least-once",
  lease: 60_000,
  retention: 60_000,
  unknownRetention: 60_000
} as const

/** A repository over the memory driver, parts of it replaced. */
const over = (driver: Partial<Driver> = {}, options?: IdempotencyRepository.Options) =>
  Layer.effect(
    IdempotencyRepository,
    Effect.suspend(() =>
      IdempotencyRepository.make({ ...makeMemoryDriver(Number.POSITIVE_INFINITY).driver, ...driver }, options)
    )
  ).pipe(Layer.provideMerge(RecordingMetrics.layer))

const refusal = new IdempotencyStorageError({ operation: "o", method: "x", reason: "Rejected", applied: "no" })
const refusing = Effect.fail(refusal)
const corrupted = { _tag: "Corrupted", cause: "truncated" } as const

describe("metrics", () => {
  it.effect("count hits, misses and collisions", () =>
    Effect.gen(function* () {
      const repository = yield* IdempotencyRepository
      const metrics = yield* RecordingMetrics
      const first = yield* record("1")
      yield* repository.get(ids("1"))
      yield* repository.save(first)
      yield* repository.get(ids("1"))
      yield* Effect.flip(repository.save(first))
      expect(yield* metrics.count("recordMiss")).toBe(1)
      expect(yield* metrics.count("recordHit")).toBe(1)
      expect(yield* metrics.count("recordCollision")).toBe(1)
      yield* metrics.reset
      yield* Effect.flip(repository.saveMany([first, yield* record("2"), yield* record("2")]))
      expect(yield* metrics.count("recordCollision")).toBe(2)
      yield* repository.getMany([ids("1"), ids("2"), ids("3"), ids("4"), ids("5")])
      expect(yield* metrics.calls).toContainEqual({ method: "recordBulkHit", operation: "o", count: 2 })
      expect(yield* metrics.calls).toContainEqual({ method: "recordBulkMiss", operation: "o", count: 3 })
    }).pipe(Effect.provide(over()))
  )

  it.effect("count bulk reads by operation", () =>
    Effect.gen(function* () {
      const repository = yield* IdempotencyRepository
      const metrics = yield* RecordingMetrics
      yield* repository.saveMany([yield* record("1", "a"), yield* record("1", "b")])
      yield* metrics.reset
      yield* repository.getMany([ids("1", "a"), ids("1", "b"), ids("2", "b")])
      const bulk = (yield* metrics.calls).filter(({ method }) => method.startsWith("recordBulk"))
      expect(bulk).toHaveLength(3)
      expect(bulk).toContainEqual({ method: "recordBulkHit", operation: "a", count: 1 })
      expect(bulk).toContainEqual({ method: "recordBulkHit", operation: "b", count: 1 })
      expect(bulk).toContainEqual({ method: "recordBulkMiss", operation: "b", count: 1 })
    }).pipe(Effect.provide(over()))
  )

  it.effect("measure every call by its name", () =>
    Effect.gen(function* () {
      const repository = yield* IdempotencyRepository
      const metrics = yield* RecordingMetrics
      const { claims } = repository
      yield* repository.get(ids("1"))
      yield* repository.getMany([ids("1")])
      yield* repository.save(yield* record("1"))
      yield* repository.saveMany([yield* record("2")])
      yield* repository.delete(ids("1"))
      yield* repository.deleteMany([ids("2")])
      yield* repository.inspect(ids("1"))
      yield* repository.reset(ids("1"))
      yield* repository.resolve(ids("1"), { _tag: "Unavailable" })
      yield* claims.claim(ids("1"), claimRequest)
      yield* claims.renew([{ identifiers: ids("1"), request: { token: "t", lease: 1_000 } }])
      yield* claims.saveStep(ids("1"), { token: "t", name: "n", encoded: "" })
      yield* claims.hold(ids("1"), { token: "t" })
      yield* claims.release(ids("1"), { token: "t" })
      yield* claims.complete(ids("1"), {
        token: "t",
        outcome: { _tag: "Unavailable" },
        fingerprint: undefined,
        retention: 1
      })
      yield* claims.read([ids("1")])
      const latencies = (yield* metrics.calls).flatMap((call) => (call.method === "recordLatency" ? [call.of] : []))
      expect(latencies).toEqual([
        "get",
        "getMany",
        "save",
        "saveMany",
        "delete",
        "deleteMany",
        "inspect",
        "reset",
        "resolve",
        "claim",
        "renew",
        "saveStep",
        "hold",
        "release",
        "complete",
        "read"
      ])
    }).pipe(Effect.provide(over()))
  )

  it.effect("count failures by their reason", () =>
    Effect.gen(function* () {
      const repository = yield* IdempotencyRepository
      const metrics = yield* RecordingMetrics
      expect(yield* Effect.flip(repository.get(ids("1")))).toBe(refusal)
      expect(yield* Effect.flip(repository.claims.claim(ids("1"), claimRequest))).toBe(refusal)
      const errors = (yield* metrics.calls).filter(({ method }) => method === "recordError")
      expect(errors).toEqual([
        { method: "recordError", operation: "o", errorType: "Rejected" },
        { method: "recordError", operation: "o", errorType: "Rejected" }
      ])
      expect(yield* metrics.count("recordMiss")).toBe(0)
      expect(yield* metrics.count("recordLatency")).toBe(2)
    }).pipe(Effect.provide(over({ read: () => refusing, claim: () => refusing })))
  )
})

describe("time", () => {
  const silent = over(
    { read: () => Effect.never, insert: () => Effect.never, remove: () => Effect.never },
    { operationTimeout: "3 seconds" }
  )

  it.effect("a store that does not answer is not waited for", () =>
    Effect.gen(function* () {
      const repository = yield* IdempotencyRepository
      const made = yield* record("1")
      for (const [method, applied, call] of [
        ["get", "no", repository.get(ids("1"))],
        ["inspect", "no", repository.inspect(ids("1"))],
        ["save", "unknown", repository.save(made)],
        ["saveMany", "unknown", repository.saveMany([made])],
        ["delete", "unknown", repository.delete(ids("1"))]
      ] as const) {
        const fiber = yield* Effect.fork(Effect.flip(Effect.asVoid<unknown, unknown, never>(call)))
        yield* TestClock.adjust("2999 millis")
        expect(yield* Fiber.poll(fiber)).toMatchObject({ _tag: "None" })
        yield* TestClock.adjust("1 millis")
        expect(yield* Fiber.join(fiber)).toMatchObject({
          _tag: "IdempotencyStorageError",
          operation: "o",
          method,
          applied,
          reason: "Timeout"
        })
      }
    }).pipe(Effect.provide(silent))
  )
})

describe("what cannot be read", () => {
  it.effect("is an error, and never a miss", () =>
    Effect.gen(function* () {
      const repository = yield* IdempotencyRepository
      const metrics = yield* RecordingMetrics
      const unavailable = { _tag: "IdempotencyResultUnavailableError", operation: "o", idempotencyKey: "1" }
      expect(yield* Effect.flip(repository.get(ids("1")))).toMatchObject(unavailable)
      expect(yield* Effect.flip(repository.getMany([ids("1")]))).toMatchObject(unavailable)
      expect(yield* Effect.flip(repository.inspect(ids("1")))).toMatchObject(unavailable)
      expect(yield* metrics.count("recordMiss")).toBe(0)
    }).pipe(Effect.provide(over({ read: (all) => Effect.succeed(all.map(() => corrupted)) })))
  )

  it.effect("is a collision when it is saved over", () =>
    Effect.gen(function* () {
      const repository = yield* IdempotencyRepository
      const error = yield* Effect.flip(repository.save(yield* record("1")))
      expect(error).toMatchObject({ _tag: "IdempotencyKeyCollisionError", keys: ["1"] })
    }).pipe(Effect.provide(over({ insert: (all) => Effect.succeed(all.map(() => corrupted)) })))
  )
})

describe("what an operator resolves with", () => {
  it.effect("is any JSON value, and nothing else", () =>
    Effect.gen(function* () {
      const { claims, get, resolve } = yield* IdempotencyRepository
      const result = ["half of an emoji: \ud83d", { toJSON: 1 }]
      yield* claims.claim(ids("1"), claimRequest)
      yield* claims.hold(ids("1"), { token: "t" })
      expect(yield* Effect.flip(resolve(ids("1"), { _tag: "Success", result: [Number.NaN] }))).toMatchObject({
        _tag: "IdempotencyValidationError",
        issues: ["the result is not JSON"]
      })
      expect(yield* resolve(ids("1"), { _tag: "Failure", error: result })).toBe(true)
      expect(yield* get(ids("1"))).toMatchObject({ _tag: "Some", value: { outcome: "failure", result } })
    }).pipe(Effect.provide(over()))
  )
})

describe("many records", () => {
  it.effect("are refused together where they cannot be rolled back, before anything is written", () =>
    Effect.gen(function* () {
      const repository = yield* IdempotencyRepository
      const records = [yield* record("1"), yield* record("2")]
      const error = yield* Effect.flip(repository.saveMany(records, { rollbackOnError: true }))
      expect(error._tag).toBe("IdempotencyValidationError")
      expect(HashMap.isEmpty(yield* repository.getMany([ids("1"), ids("2")]))).toBe(true)
      yield* repository.saveMany(records)
    }).pipe(Effect.provide(over({ atomicTogether: (all) => all.length < 2 })))
  )

  it.effect("named twice are refused together, before anything is written", () =>
    Effect.gen(function* () {
      const repository = yield* IdempotencyRepository
      const records = [yield* record("1"), yield* record("2"), yield* record("2")]
      const error = yield* Effect.flip(repository.saveMany(records, { rollbackOnError: true }))
      expect(error).toMatchObject({ _tag: "IdempotencyKeyCollisionError", keys: ["2"] })
      expect(HashMap.isEmpty(yield* repository.getMany([ids("1"), ids("2")]))).toBe(true)
    }).pipe(Effect.provide(over()))
  )

  it.effect("named twice, all or nothing: what is in the way in the store is named as well, in the same order", () =>
    Effect.gen(function* () {
      const repository = yield* IdempotencyRepository
      const { claims } = repository
      yield* repository.save(yield* record("stored"))
      for (const key of ["claimed", "released"]) yield* claims.claim(ids(key), claimRequest)
      yield* claims.release(ids("released"), { token: "t" })
      const records = yield* Effect.forEach(
        ["twice", "twice", "released", "claimed", "stored", "stored", "free"],
        (key) => record(key)
      )
      const refused = { _tag: "IdempotencyKeyCollisionError", keys: ["claimed", "stored", "twice", "stored"] }
      expect(yield* Effect.flip(repository.saveMany(records, { rollbackOnError: true }))).toMatchObject(refused)
      expect(HashMap.size(yield* repository.getMany(records.map(({ identifiers }) => identifiers)))).toBe(1)
      expect(yield* Effect.flip(repository.saveMany(records))).toMatchObject(refused)
    }).pipe(Effect.provide(over()))
  )

  it.effect("named twice, and the store away: nothing is said to have been written", () =>
    Effect.gen(function* () {
      const { saveMany } = yield* IdempotencyRepository
      const records = [yield* record("1"), yield* record("1")]
      expect(yield* Effect.flip(saveMany(records, { rollbackOnError: true }))).toBe(refusal)
    }).pipe(Effect.provide(over({ read: () => refusing })))
  )

  it.effect("named twice, one of them expired, are refused as expired", () =>
    Effect.gen(function* () {
      const { saveMany } = yield* IdempotencyRepository
      const records = [yield* record("1"), yield* record("1")]
      yield* TestClock.adjust("1 hour")
      for (const rollbackOnError of [false, true]) {
        expect(yield* Effect.flip(saveMany(records, { rollbackOnError }))).toMatchObject({
          _tag: "IdempotencyRecordExpiredError"
        })
      }
    }).pipe(Effect.provide(over()))
  )
})
