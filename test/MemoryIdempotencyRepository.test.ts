import { describe, expect, it } from "@effect/vitest"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as HashMap from "effect/HashMap"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import { IdempotencyIdentifiers } from "../src/IdempotencyIdentifiers.js"
import { IdempotencyRecord } from "../src/IdempotencyRecord.js"
import { IdempotencyRepository } from "../src/IdempotencyRepository.js"
import { makeMemoryDriver } from "../src/internal/memoryDriver.js"
import { MemoryIdempotencyRepository } from "../src/MemoryIdempotencyRepository.js"

type Repository = Context.Tag.Service<IdempotencyRepository>

const ids = (idempotencyKey: string) =>
  Either.getOrThrow(IdempotencyIdentifiers.from({ operation: "o", idempotencyKey }))

const record = (idempotencyKey: string) =>
  IdempotencyRecord.create({ operation: "o", idempotencyKey, result: idempotencyKey, timeToLive: "1 hour" })

const save = (repository: Repository, key: string) => Effect.flatMap(record(key), repository.save)

const claim = ({ claims }: Repository, key: string, times: { readonly lease: number; readonly retention: number }) =>
  claims.claim(ids(key), {
    token: "t",
    fingerprint: undefined,
    guarantee: "at-least-once",
    unknownRetention: times.retention,
    ...times
  })

const long = { lease: 60_000, retention: 3_600_000 }

/** Which of the keys hold anything. */
const present = (repository: Repository, keys: ReadonlyArray<string>) =>
  Effect.filter(keys, (key) => Effect.map(repository.inspect(ids(key)), Option.isSome))

const withCapacity = (capacity: number) => Effect.provide(MemoryIdempotencyRepository.layerWith({ capacity }))

const full = { _tag: "IdempotencyStorageError", reason: "Rejected", applied: "no", operation: "o" }

describe("capacity", () => {
  it.effect("drops the longest settled record for a new key", () =>
    Effect.gen(function* () {
      const repository = yield* IdempotencyRepository
      for (const key of ["1", "2", "3"]) yield* save(repository, key)
      expect(yield* present(repository, ["1", "2", "3"])).toEqual(["2", "3"])
      yield* claim(repository, "4", long)
      expect(yield* present(repository, ["1", "2", "3", "4"])).toEqual(["3", "4"])
    }).pipe(withCapacity(2))
  )

  it.effect("counts a record as settled from its completion on", () =>
    Effect.gen(function* () {
      const repository = yield* IdempotencyRepository
      yield* claim(repository, "1", long)
      yield* save(repository, "2")
      yield* repository.claims.complete(ids("1"), {
        token: "t",
        outcome: { _tag: "Unavailable" },
        fingerprint: undefined,
        retention: 60_000
      })
      yield* save(repository, "3")
      expect(yield* present(repository, ["1", "2", "3"])).toEqual(["1", "3"])
    }).pipe(withCapacity(2))
  )

  it.effect("never drops a claim or an unknown outcome, even a lapsed one", () =>
    Effect.gen(function* () {
      const repository = yield* IdempotencyRepository
      yield* claim(repository, "live", long)
      yield* claim(repository, "lapsed", { ...long, lease: 1_000 })
      yield* claim(repository, "held", long)
      yield* repository.claims.hold(ids("held"), { token: "t" })
      yield* TestClock.adjust("2 seconds")
      expect(yield* Effect.flip(save(repository, "new"))).toMatchObject({ ...full, method: "insert" })
      expect(yield* Effect.flip(claim(repository, "new", long))).toMatchObject({ ...full, method: "claim" })
      const completion = repository.claims.complete(ids("new"), {
        token: "t",
        outcome: { _tag: "Unavailable" },
        fingerprint: undefined,
        retention: 1
      })
      expect(yield* Effect.flip(completion)).toMatchObject({ ...full, method: "complete" })
      expect(yield* present(repository, ["live", "lapsed", "held", "new"])).toEqual(["live", "lapsed", "held"])
    }).pipe(withCapacity(3))
  )

  it.effect("takes the room of what has expired, at once", () =>
    Effect.gen(function* () {
      const repository = yield* IdempotencyRepository
      yield* claim(repository, "1", { lease: 1_000, retention: 2_000 })
      yield* claim(repository, "2", long)
      yield* TestClock.adjust("2 seconds")
      expect((yield* claim(repository, "3", long))._tag).toBe("Claimed")
      yield* Effect.flip(claim(repository, "4", long))
    }).pipe(withCapacity(2))
  )

  it.effect("does not stand in the way of keys that are there", () =>
    Effect.gen(function* () {
      const repository = yield* IdempotencyRepository
      yield* claim(repository, "1", long)
      expect((yield* claim(repository, "1", long))._tag).toBe("AlreadyMine")
      yield* repository.claims.release(ids("1"), { token: "t" })
      yield* save(repository, "1")
      expect(yield* present(repository, ["1"])).toEqual(["1"])
    }).pipe(withCapacity(1))
  )

  it.scoped("is a whole number of 1 or more", () =>
    Effect.gen(function* () {
      for (const capacity of [0, -1, 1.5, Number.NaN, Number.NEGATIVE_INFINITY]) {
        const error = yield* Effect.flip(Layer.build(MemoryIdempotencyRepository.layerWith({ capacity })))
        expect(error._tag).toBe("IdempotencyValidationError")
      }
      yield* Layer.build(MemoryIdempotencyRepository.layerWith({ capacity: Number.POSITIVE_INFINITY }))
      yield* Layer.build(MemoryIdempotencyRepository.layerWith({}))
    })
  )
})

describe("saveMany at capacity", () => {
  const saveMany = (repository: Repository, keys: ReadonlyArray<string>) =>
    Effect.flatMap(Effect.forEach(keys, record), (records) => repository.saveMany(records, { rollbackOnError: true }))

  it.effect("saves all, dropping what settled longest", () =>
    Effect.gen(function* () {
      const repository = yield* IdempotencyRepository
      for (const key of ["1", "2", "3"]) yield* save(repository, key)
      yield* saveMany(repository, ["4", "5"])
      expect(yield* present(repository, ["1", "2", "3", "4", "5"])).toEqual(["3", "4", "5"])
    }).pipe(withCapacity(3))
  )

  it.effect("saves none, and drops none, where there is no room for all", () =>
    Effect.gen(function* () {
      const repository = yield* IdempotencyRepository
      yield* claim(repository, "claimed", long)
      yield* save(repository, "settled")
      expect(yield* Effect.flip(saveMany(repository, ["1", "2", "3"]))).toMatchObject(full)
      expect(yield* present(repository, ["claimed", "settled", "1", "2", "3"])).toEqual(["claimed", "settled"])
      yield* saveMany(repository, ["1", "2"])
      expect(yield* present(repository, ["claimed", "settled", "1", "2"])).toEqual(["claimed", "1", "2"])
    }).pipe(withCapacity(3))
  )

  it.effect("does not drop a released key of its own to make room for another", () =>
    Effect.gen(function* () {
      const repository = yield* IdempotencyRepository
      for (const token of ["a", "b"]) {
        yield* repository.claims.claim(ids("released"), {
          ...long,
          token,
          fingerprint: undefined,
          guarantee: "at-least-once",
          unknownRetention: 1
        })
        yield* repository.claims.release(ids("released"), { token })
      }
      yield* save(repository, "settled")
      yield* saveMany(repository, ["1", "released"])
      expect(yield* present(repository, ["1", "released", "settled"])).toEqual(["1", "released"])
      expect(Option.getOrThrow(yield* repository.get(ids("released"))).attempt).toBe(2)
    }).pipe(withCapacity(2))
  )

  it.effect("without rolling back, the last ones stay", () =>
    Effect.gen(function* () {
      const repository = yield* IdempotencyRepository
      yield* repository.saveMany(yield* Effect.forEach(["1", "2", "3"], record))
      expect(HashMap.size(yield* repository.getMany(["1", "2", "3"].map(ids)))).toBe(2)
    }).pipe(withCapacity(2))
  )
})

describe("expiry", () => {
  it.effect("comes at exactly expiresAt", () =>
    Effect.gen(function* () {
      const repository = yield* IdempotencyRepository
      yield* save(repository, "1")
      yield* TestClock.adjust("1 hour")
      expect(yield* present(repository, ["1"])).toEqual([])
      yield* save(repository, "1")
      yield* TestClock.adjust(3_599_999)
      expect(Option.isSome(yield* repository.get(ids("1")))).toBe(true)
      yield* TestClock.adjust(1)
      expect(Option.isNone(yield* repository.get(ids("1")))).toBe(true)
    }).pipe(Effect.provide(MemoryIdempotencyRepository.layer))
  )

  it.effect("a lease ends at exactly leaseUntil", () =>
    Effect.gen(function* () {
      const repository = yield* IdempotencyRepository
      const byAnother = repository.claims.claim(ids("1"), {
        ...long,
        token: "other",
        fingerprint: undefined,
        guarantee: "at-least-once",
        unknownRetention: 1
      })
      yield* claim(repository, "1", long)
      yield* TestClock.adjust(59_999)
      expect(yield* byAnother).toEqual({ _tag: "InFlight", remaining: 1 })
      yield* TestClock.adjust(1)
      expect(yield* byAnother).toMatchObject({ _tag: "Claimed", attempt: 2 })
    }).pipe(Effect.provide(MemoryIdempotencyRepository.layer))
  )

  it.effect("a sweep removes what has expired, and only that", () =>
    Effect.gen(function* () {
      const { driver, sweep } = makeMemoryDriver(2)
      const repository = yield* IdempotencyRepository.make(driver)
      yield* claim(repository, "1", { lease: 1_000, retention: 2_000 })
      yield* save(repository, "2")
      yield* TestClock.adjust("2 seconds")
      yield* sweep
      // The room that was swept is free: nothing has to be dropped.
      yield* claim(repository, "3", long)
      expect(yield* present(repository, ["1", "2", "3"])).toEqual(["2", "3"])
    })
  )

  it.effect("a sweep goes on in turns, until all has been looked at", () =>
    Effect.gen(function* () {
      const count = 15_000
      const { driver, sweep } = makeMemoryDriver(count)
      const repository = yield* IdempotencyRepository.make(driver)
      yield* Effect.forEach(
        Array.from({ length: count }, (_, n) => `${n}`),
        (key) => claim(repository, key, { lease: 1_000, retention: 2_000 }),
        { discard: true }
      )
      yield* TestClock.adjust("2 seconds")
      const sweeping = yield* Effect.fork(sweep)
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(sweeping)
      yield* save(repository, "settled")
      yield* Effect.forEach(
        Array.from({ length: count - 1 }, (_, n) => `again-${n}`),
        (key) => claim(repository, key, long),
        { discard: true }
      )
      expect(yield* present(repository, ["settled"])).toEqual(["settled"])
    })
  )

  it.effect("the layer sweeps by itself, every 5 minutes", () =>
    Effect.gen(function* () {
      const repository = yield* IdempotencyRepository
      for (const [expiring, settled, claimed] of [
        ["1", "2", "3"],
        ["4", "5", "6"]
      ] as const) {
        yield* claim(repository, expiring, { lease: 1_000, retention: 2_000 })
        yield* save(repository, settled)
        yield* TestClock.adjust("5 minutes")
        yield* claim(repository, claimed, { lease: 1_000, retention: 2_000 })
        expect(yield* present(repository, [expiring, settled, claimed])).toEqual([settled, claimed])
        yield* repository.delete(ids(settled))
        yield* TestClock.adjust("5 minutes")
      }
    }).pipe(withCapacity(2))
  )

  it.effect("the sweeping ends with the layer", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      yield* Scope.extend(Layer.build(MemoryIdempotencyRepository.layer), scope)
      yield* TestClock.adjust("2 minutes")
      const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* Fiber.join(closing)
    })
  )
})

describe("waking up", () => {
  const settle = (repository: Repository) =>
    repository.claims.complete(ids("1"), {
      token: "t",
      outcome: { _tag: "Unavailable" },
      fingerprint: undefined,
      retention: 60_000
    })

  it.scoped("a change that ends a claim wakes those who wait for that key", () =>
    Effect.gen(function* () {
      const repository = yield* IdempotencyRepository
      yield* claim(repository, "1", long)
      const [one, two, other] = yield* Effect.all([
        repository.claims.changes(ids("1")),
        repository.claims.changes(ids("1")),
        repository.claims.changes(ids("2"))
      ])
      const waiting = yield* Effect.all([Effect.fork(one), Effect.fork(two), Effect.fork(other)])
      yield* Effect.yieldNow()
      yield* settle(repository)
      yield* Fiber.join(waiting[0])
      yield* Fiber.join(waiting[1])
      expect(Option.isNone(yield* Fiber.poll(waiting[2]))).toBe(true)
    }).pipe(Effect.provide(MemoryIdempotencyRepository.layer))
  )

  it.scoped("a change between the subscription and the wait is not missed", () =>
    Effect.gen(function* () {
      const repository = yield* IdempotencyRepository
      yield* claim(repository, "1", long)
      const changed = yield* repository.claims.changes(ids("1"))
      yield* settle(repository)
      yield* changed
      const again = yield* Effect.fork(changed)
      yield* Effect.yieldNow()
      expect(Option.isNone(yield* Fiber.poll(again))).toBe(true)
      yield* repository.reset(ids("1"))
      yield* Fiber.join(again)
    }).pipe(Effect.provide(MemoryIdempotencyRepository.layer))
  )
})

describe("retention", () => {
  const copy = { token: "copy", outcome: { _tag: "Unavailable" }, fingerprint: undefined, attempt: 3 } as const
  const insert = (repository: Repository, expiresAt: number, retention: number) =>
    repository.driver.insert([{ identifiers: ids("1"), request: { ...copy, createdAt: 0, expiresAt, retention } }], {
      allOrNothing: false
    })

  it.effect("of a copy is its own, and its times are those of the record", () =>
    Effect.gen(function* () {
      const repository = yield* IdempotencyRepository
      const read = Effect.map(repository.claims.read([ids("1")]), ([state]) => state)
      yield* insert(repository, 60_000, 1_000)
      yield* TestClock.adjust("999 millis")
      expect(yield* read).toMatchObject({ _tag: "Completed", createdAt: 0, expiresAt: 60_000, attempt: 3 })
      expect(yield* insert(repository, 60_000, 90_000)).toEqual([{ _tag: "Inserted" }])
      yield* TestClock.adjust("1 millis")
      expect(yield* read).toBeUndefined()
      expect(yield* claim(repository, "1", long)).toMatchObject({ _tag: "Claimed", attempt: 1 })
    }).pipe(Effect.provide(MemoryIdempotencyRepository.layer))
  )

  it.effect("of a copy ends with it: what comes after has its own", () =>
    Effect.gen(function* () {
      const repository = yield* IdempotencyRepository
      yield* insert(repository, 60_000, 1_000)
      yield* repository.delete(ids("1"))
      yield* insert(repository, 60_000, 60_000)
      yield* TestClock.adjust("59999 millis")
      expect(yield* present(repository, ["1"])).toEqual(["1"])
      yield* repository.reset(ids("1"))
      yield* claim(repository, "1", long)
      yield* TestClock.adjust("1 minute")
      expect(yield* present(repository, ["1"])).toEqual(["1"])
    }).pipe(Effect.provide(MemoryIdempotencyRepository.layer))
  )

  it.effect("of a copy frees its room", () =>
    Effect.gen(function* () {
      const repository = yield* IdempotencyRepository
      yield* insert(repository, 60_000, 1_000)
      yield* TestClock.adjust("1 second")
      yield* claim(repository, "2", long)
      yield* Effect.flip(claim(repository, "3", long))
    }).pipe(withCapacity(1))
  )
})
