import { describe, expect, it } from "@effect/vitest"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import {
  IdempotencyDomainService,
  type IdempotencyDomainServiceOptions,
  timeToLiveMillis
} from "../src/IdempotencyDomainService.js"

const bounds = (layer: Layer.Layer<IdempotencyDomainService, unknown>) =>
  Effect.map(Effect.provide(IdempotencyDomainService, layer), (service) =>
    [service.minTimeToLive, service.defaultTimeToLive, service.maxTimeToLive].map((bound) => Duration.toSeconds(bound))
  )

const issuesOf = (options: IdempotencyDomainServiceOptions) =>
  IdempotencyDomainService.layerWith(options).pipe(
    Layer.build,
    Effect.flip,
    Effect.map(({ issues }) => issues)
  )

describe("the layers", () => {
  it.effect("have the documented defaults", () =>
    Effect.gen(function* () {
      expect(yield* bounds(IdempotencyDomainService.layer)).toEqual([60, 1_800, 86_400])
      expect(yield* bounds(IdempotencyDomainService.layerWith({}))).toEqual([60, 1_800, 86_400])
    })
  )

  it.effect("take other bounds, also from Config", () =>
    Effect.gen(function* () {
      const options = { minTimeToLive: "1 second", defaultTimeToLive: "1 second", maxTimeToLive: "1 second" } as const
      expect(yield* bounds(IdempotencyDomainService.layerWith(options))).toEqual([1, 1, 1])
      const configured = IdempotencyDomainService.layerConfig({ maxTimeToLive: Config.duration("MAX_TTL") })
      const provider = ConfigProvider.fromMap(new Map([["MAX_TTL", "48 hours"]]))
      expect(yield* Effect.withConfigProvider(bounds(configured), provider)).toEqual([60, 1_800, 172_800])
      const missing = yield* Effect.flip(
        Effect.withConfigProvider(bounds(configured), ConfigProvider.fromMap(new Map()))
      )
      expect(missing).toMatchObject({ _op: "MissingData" })
    })
  )

  it.scoped("refuse bounds that break the rules, and say which", () =>
    Effect.gen(function* () {
      expect(yield* issuesOf({ minTimeToLive: "999 millis" })).toEqual([expect.stringContaining("minTimeToLive")])
      expect(yield* issuesOf({ maxTimeToLive: Duration.infinity })).toEqual([expect.stringContaining("maxTimeToLive")])
      expect(yield* issuesOf({ defaultTimeToLive: "30 seconds" })).toEqual([
        expect.stringContaining("defaultTimeToLive")
      ])
      expect(yield* issuesOf({ defaultTimeToLive: "25 hours" })).toEqual([expect.stringContaining("defaultTimeToLive")])
      expect(yield* issuesOf({ minTimeToLive: "2 hours", maxTimeToLive: "1 hour" })).toContain(
        "maxTimeToLive is less than minTimeToLive"
      )
      expect((yield* issuesOf({ minTimeToLive: 0, defaultTimeToLive: 0, maxTimeToLive: 0 })).length).toBe(3)
    })
  )
})

describe("createRecord", () => {
  it.effect("keeps for the default time, or for the one that was asked for", () =>
    Effect.gen(function* () {
      const service = yield* IdempotencyDomainService
      const record = yield* service.createRecord("o", "k", 1)
      expect(record.expiresAt.epochMillis - record.createdAt.epochMillis).toBe(30 * 60_000)
      const other = yield* service.createRecord("o", "k", 1, { timeToLive: "2 hours", scope: "s" })
      expect(other.expiresAt.epochMillis - other.createdAt.epochMillis).toBe(7_200_000)
      expect(other.scope).toBe("s")
    }).pipe(Effect.provide(IdempotencyDomainService.layer))
  )

  it.effect("includes its bounds, and refuses what lies beyond", () =>
    Effect.gen(function* () {
      const service = yield* IdempotencyDomainService
      for (const timeToLive of ["60 seconds", "24 hours"] as const) {
        yield* service.createRecord("o", "k", 1, { timeToLive })
      }
      for (const timeToLive of [59_999, 86_400_001, 0, Duration.infinity]) {
        const error = yield* Effect.flip(service.createRecord("o", "k", 1, { timeToLive }))
        expect(error).toMatchObject({ _tag: "IdempotencyInvalidTtlError", operation: "o" })
        expect(error.message).toContain("between 1m and 1d")
      }
    }).pipe(Effect.provide(IdempotencyDomainService.layer))
  )

  it.effect("refuses bad identifiers and results", () =>
    Effect.gen(function* () {
      const service = yield* IdempotencyDomainService
      for (const made of [
        service.createRecord("a:b", "k", 1),
        service.createRecord("o", "", 1),
        service.createRecord("o", "k", Number.NaN),
        service.createRecord("o", "k", 1, { scope: "a:b" })
      ]) {
        expect((yield* Effect.flip(made))._tag).toBe("IdempotencyValidationError")
      }
    }).pipe(Effect.provide(IdempotencyDomainService.layer))
  )
})

describe("validateRecord", () => {
  it.effect("refuses a record once it has expired", () =>
    Effect.gen(function* () {
      const service = yield* IdempotencyDomainService
      const record = yield* service.createRecord("o", "k", 1, { timeToLive: "60 seconds" })
      yield* TestClock.adjust(59_999)
      expect(yield* service.validateRecord(record)).toBe(record)
      yield* TestClock.adjust(1)
      expect(yield* Effect.flip(service.validateRecord(record))).toMatchObject({
        _tag: "IdempotencyRecordExpiredError",
        operation: "o",
        idempotencyKey: "k"
      })
    }).pipe(Effect.provide(IdempotencyDomainService.layer))
  )
})

describe("the time to live in milliseconds", () => {
  const within = {
    minTimeToLive: Duration.seconds(1),
    defaultTimeToLive: Duration.seconds(2),
    maxTimeToLive: Duration.seconds(3)
  }

  it("is the default where none is asked for, and whole", () => {
    expect(timeToLiveMillis(within, "o", undefined)).toEqual(Either.right(2_000))
    expect(timeToLiveMillis(within, "o", 1_000.5)).toEqual(Either.right(1_001))
  })

  it("is refused where it is no duration", () => {
    const notADuration: unknown = "soon"
    const result = timeToLiveMillis(within, "o", Object(notADuration))
    expect(Either.isLeft(result) && result.left._tag).toBe("IdempotencyValidationError")
  })
})
