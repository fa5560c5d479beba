import { describe, expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Equal from "effect/Equal"
import * as FastCheck from "effect/FastCheck"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/TestClock"
import { IdempotencyIdentifiers } from "../src/IdempotencyIdentifiers.js"
import { IdempotencyRecord } from "../src/IdempotencyRecord.js"
import type { Json } from "../src/Jsonable.js"

const good = {
  operation: "payment.charge",
  idempotencyKey: "order-1",
  result: { id: 1 },
  timeToLive: "1 minute"
} as const

const issuesOf = (input: Partial<Parameters<typeof IdempotencyRecord.create>[0]>) =>
  Effect.map(Effect.flip(IdempotencyRecord.create({ ...good, ...input })), (error) => error.issues)

describe("create", () => {
  it.effect("makes a record that starts now", () =>
    Effect.gen(function* () {
      yield* TestClock.adjust("5 seconds")
      const record = yield* IdempotencyRecord.create({ ...good, scope: "tenant", fingerprint: "f-1_" })
      expect(record).toMatchObject({
        operation: "payment.charge",
        idempotencyKey: "order-1",
        scope: "tenant",
        outcome: "success",
        result: { id: 1 },
        fingerprint: "f-1_",
        attempt: 1
      })
      expect(record.createdAt.epochMillis).toBe(5_000)
      expect(record.expiresAt.epochMillis).toBe(65_000)
      expect(record).toBeInstanceOf(IdempotencyRecord)
    })
  )

  it.effect("trims, and gives the identifiers", () =>
    Effect.gen(function* () {
      const record = yield* IdempotencyRecord.create({
        ...good,
        operation: " payment.charge ",
        idempotencyKey: " order-1 "
      })
      const ids = Either.getOrThrow(IdempotencyIdentifiers.from(good))
      expect(Equal.equals(record.identifiers, ids)).toBe(true)
      const scoped = yield* IdempotencyRecord.create({ ...good, scope: "tenant" })
      expect(scoped.identifiers.scope).toBe("tenant")
    })
  )

  it.effect("takes every JSON value, and nothing", () =>
    Effect.gen(function* () {
      for (const result of [undefined, null, false, 0, "", "\ud800", [], {}, [[{}]], { toJSON: { "\udc00": 1 } }]) {
        expect((yield* IdempotencyRecord.create({ ...good, result })).result).toEqual(result)
      }
    })
  )

  it.effect("refuses identifiers that break the rules", () =>
    Effect.gen(function* () {
      expect(yield* issuesOf({ operation: "a:b" })).toHaveLength(1)
      expect(yield* issuesOf({ idempotencyKey: " ", scope: "a:b" })).toHaveLength(2)
    })
  )

  it.effect("refuses what is not JSON", () =>
    Effect.gen(function* () {
      const circular: Array<Json> = []
      circular.push(circular)
      const converted = Object.defineProperty({ id: 1 }, "toJSON", { value: () => 2 })
      for (const result of [Number.NaN, { deep: [Number.POSITIVE_INFINITY] }, circular, converted]) {
        expect(yield* issuesOf({ result })).toEqual(["the result is not JSON"])
      }
    })
  )

  it.effect("refuses a fingerprint that no store could keep", () =>
    Effect.gen(function* () {
      for (const fingerprint of ["", "a b", "x".repeat(129)]) expect(yield* issuesOf({ fingerprint })).toHaveLength(1)
      yield* IdempotencyRecord.create({ ...good, fingerprint: "x".repeat(128) })
    })
  )

  it.effect("refuses a time to live that is none", () =>
    Effect.gen(function* () {
      for (const timeToLive of [0, -1, 0.5, Number.NaN, Duration.infinity, 1e17]) {
        expect(yield* issuesOf({ timeToLive })).toHaveLength(1)
      }
      yield* IdempotencyRecord.create({ ...good, timeToLive: 1 })
    })
  )
})

describe("time", () => {
  it.effect("a record expires at exactly expiresAt", () =>
    Effect.gen(function* () {
      const record = yield* IdempotencyRecord.create(good)
      yield* TestClock.adjust(59_999)
      expect(yield* record.isExpired).toBe(false)
      expect(Duration.toMillis(yield* record.remainingTimeToLive)).toBe(1)
      yield* TestClock.adjust(1)
      expect(yield* record.isExpired).toBe(true)
      expect(Duration.toMillis(yield* record.remainingTimeToLive)).toBe(0)
      yield* TestClock.adjust("1 hour")
      expect(Duration.toMillis(yield* record.remainingTimeToLive)).toBe(0)
    })
  )
})

describe("the schema", () => {
  it.effect.prop("takes a record to JSON and back", { result: FastCheck.jsonValue() }, ({ result }) =>
    Effect.gen(function* () {
      const record = yield* IdempotencyRecord.create({ ...good, result: JSON.parse(JSON.stringify(result)) })
      const text = JSON.stringify(Schema.encodeSync(IdempotencyRecord)(record))
      const back = Schema.decodeUnknownSync(IdempotencyRecord)(JSON.parse(text))
      expect(back.result).toEqual(record.result)
      expect(Equal.equals(back.identifiers, record.identifiers)).toBe(true)
      expect(back.expiresAt.epochMillis).toBe(record.expiresAt.epochMillis)
    })
  )

  it("refuses records that break the rules", () => {
    const decode = Schema.decodeUnknownEither(IdempotencyRecord)
    const valid = {
      operation: "o",
      idempotencyKey: "k",
      result: 1,
      createdAt: "2024-01-01T00:00:00.000Z",
      expiresAt: "2024-01-01T01:00:00.000Z"
    }
    expect(decode(valid)).toMatchObject({ right: { outcome: "success", attempt: 1 } })
    for (const wrong of [
      { operation: "a:b" },
      { idempotencyKey: "" },
      { result: Number.NaN },
      { createdAt: "yesterday" },
      { attempt: -1 },
      { attempt: 1.5 },
      { outcome: "perhaps" },
      { fingerprint: "a b" }
    ]) {
      expect(Either.isLeft(decode({ ...valid, ...wrong })), JSON.stringify(wrong)).toBe(true)
    }
  })
})
