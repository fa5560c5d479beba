/** What users read when something is wrong: it says what, of what, and what to do. */
import { describe, expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { IdempotencyDomainService, timeToLiveMillis } from "../src/IdempotencyDomainService.js"
import {
  IdempotencyFingerprintMismatchError,
  IdempotencyInFlightError,
  IdempotencyInvalidTtlError,
  IdempotencyKeyCollisionError,
  IdempotencyOutcomeUnknownError,
  IdempotencyRecordExpiredError,
  IdempotencyResultUnavailableError,
  IdempotencyStorageError,
  IdempotencyValidationError
} from "../src/IdempotencyError.js"
import { IdempotencyKey } from "../src/IdempotencyKey.js"
import { canonicalJson } from "../src/internal/hash.js"
import { identifiersIssues } from "../src/internal/identifiers.js"
import { readOptions } from "../src/internal/options.js"
import { ResultCipher } from "../src/ResultCipher.js"

const about = { operation: "payment.charge", idempotencyKey: "order-1" }
const { operation } = about

describe("the message of an error", () => {
  const [min, max] = [Duration.seconds(1), Duration.hours(1)]

  it("tells what happened, to which operation, and what to do", () => {
    const stored = { operation, method: "claim", reason: "Timeout" } as const
    expect(
      [
        new IdempotencyValidationError({ operation, issues: ["the key is empty", "the scope is empty"] }),
        new IdempotencyInvalidTtlError({ operation, timeToLive: Duration.zero, min, max }),
        new IdempotencyKeyCollisionError({ operation, keys: ["a", "b"] }),
        new IdempotencyRecordExpiredError(about),
        new IdempotencyStorageError({ ...stored, applied: "unknown" }),
        new IdempotencyStorageError({ ...stored, applied: "no" }),
        new IdempotencyInFlightError({ ...about, reason: "Running", retryAfter: min }),
        new IdempotencyInFlightError({ ...about, reason: "TakenOver", retryAfter: max }),
        new IdempotencyFingerprintMismatchError(about),
        new IdempotencyOutcomeUnknownError({ ...about, attempt: 3 }),
        new IdempotencyResultUnavailableError(about)
      ].map(({ message }) => message)
    ).toEqual([
      'Invalid input (operation "payment.charge"): the key is empty; the scope is empty. Nothing ran: correct it, as no retry helps',
      'The time to live 0 is not between 1s and 1h (operation "payment.charge"): choose one within, or widen the bounds of IdempotencyDomainService',
      '2 key(s) have a record or an owner already (operation "payment.charge"), which is never replaced: get the records of `keys`, or leave them out',
      'The record has expired (operation "payment.charge") and cannot be used: create a new one',
      'The idempotency store failed in "claim": Timeout (operation "payment.charge"); it may have taken effect: try again, with the same key',
      'The idempotency store failed in "claim": Timeout (operation "payment.charge"); nothing was changed: try again, with the same key',
      'Another call is running under this idempotency key (operation "payment.charge"): try again with it in 1s',
      'Another call has taken over under this idempotency key (operation "payment.charge"): try again with it in 1h',
      'This idempotency key was used for another request (operation "payment.charge"): use a new key for a new request',
      'Attempt 3 may have happened (operation "payment.charge"), and is not repeated: find out whether it did, then resolve or reset the key',
      'The effect has run, but its recorded result cannot be given (operation "payment.charge"), and it is not run again: look the result up elsewhere, or reset the key if it may run again'
    ])
  })

  it("leaves out an operation that there is not", () => {
    expect(new IdempotencyValidationError({ operation: "", issues: ["no"] }).message).toBe(
      "Invalid input: no. Nothing ran: correct it, as no retry helps"
    )
  })
})

describe("what is wrong with", () => {
  it("identifiers", () => {
    expect(identifiersIssues("", " ", undefined)).toEqual(["the operation is empty"])
    expect(identifiersIssues("o".repeat(101), "k".repeat(256), "s".repeat(256))).toEqual([
      "the operation has 101 characters, more than 100",
      "the key has 256 characters, more than 255",
      "the scope has 256 characters, more than 255"
    ])
    expect(identifiersIssues("o".repeat(100), "k".repeat(255), "s".repeat(255))).toEqual([])
    expect(identifiersIssues("a:b", "a\nb", "a\ud800")).toEqual([
      "the operation holds a colon",
      "the key holds a control character",
      "the scope holds a lone surrogate"
    ])
  })

  it("what is to be canonical JSON", () => {
    class Nothing {}
    const circular: Record<string, unknown> = {}
    circular["self"] = { circular }
    const deep = JSON.parse(`${"[".repeat(200_000)}${"]".repeat(200_000)}`)
    const nested: Array<readonly [unknown, string]> = [
      ["\ud800", "a string holds a lone surrogate"],
      [Number.NaN, "a number is not finite"],
      [1n, "JSON has no bigint"],
      [Symbol.iterator, "JSON has no symbol"],
      [() => 1, "JSON has no function"],
      [new Map([[1, 2]]), "a Map has no properties that JSON would keep"],
      [new Nothing(), "a Nothing has no properties that JSON would keep"],
      [Object.create({ constructor: undefined }), "a class instance has no properties that JSON would keep"],
      [new Date(0), "a Date has no properties that JSON would keep"],
      [new Uint8Array(2), "an object is not plain JSON"],
      [{ toJSON: () => 1 }, "an object is not plain JSON"],
      [{ "\ud800": 1 }, "a property name holds a lone surrogate"],
      [circular, "an object holds itself"]
    ]
    for (const [value, why] of nested) {
      for (const each of [value, [value], { a: 1, b: { c: value } }])
        expect(canonicalJson(each)).toEqual(Either.left(why))
    }
    const unreadable = {
      get a() {
        throw new Error("no")
      }
    }
    expect(canonicalJson(undefined)).toEqual(Either.left("JSON has no undefined"))
    expect(canonicalJson([undefined])).toEqual(Either.left("JSON has no undefined"))
    for (const value of [unreadable, deep]) {
      expect(canonicalJson(value)).toEqual(Either.left("it is nested too deeply, or a property cannot be read"))
    }
  })

  it("what has a canonical form: nothing", () => {
    class Point {
      x = 1
    }
    const twice = { a: 1 }
    expect(canonicalJson({ b: [null, true, "x", undefined].slice(0, 3), a: undefined, c: new Point() })).toEqual(
      Either.right('{"b":[null,true,"x"],"c":{"x":1}}')
    )
    expect(canonicalJson({ toJSON: { a: 1 } })).toEqual(Either.right('{"toJSON":{"a":1}}'))
    expect(canonicalJson([Object.create(null), {}, [], twice, twice])).toEqual(
      Either.right('[{},{},[],{"a":1},{"a":1}]')
    )
  })

  it("the parameters of a key", () => {
    const issuesOf = (derive: () => unknown) => Either.try({ try: derive, catch: (error) => error })
    const invalid = (issue: string) => Either.left(expect.objectContaining({ operation: "", issues: [issue] }))
    const nan = { entityId: "e", action: "a", params: { a: Number.NaN } }
    const why = "the parameters have no JSON form: a number is not finite"
    expect(issuesOf(() => IdempotencyKey.derive(nan))).toEqual(invalid(why))
    expect(issuesOf(() => IdempotencyKey.deriveCompatible(nan))).toEqual(invalid(why))
    expect(issuesOf(() => IdempotencyKey.deriveCompatible({ entityId: "\ud800", action: "a" }))).toEqual(
      invalid("the parameters have no JSON form: a part holds a lone surrogate")
    )
  })

  it.effect("options", () =>
    Effect.gen(function* () {
      const issuesOf = (read: Parameters<typeof readOptions>[0]) =>
        Effect.map(Effect.flip(readOptions(read)), ({ issues, operation }) => ({ issues, operation }))
      const wrong = yield* issuesOf(({ duration, whole }) => [
        duration("none", Number.NaN),
        duration("zero", 0),
        duration("endless", Duration.infinity),
        duration("long", 11, 10),
        duration("short", 4, 10, 5),
        whole("half", 1.5),
        whole("zeroth", 0),
        whole("many", 11, 10)
      ])
      const most = Number.MAX_SAFE_INTEGER
      expect(wrong).toEqual({
        operation: "",
        issues: [
          `none is not a duration between 1 ms and ${most} ms`,
          `zero is not a duration between 1 ms and ${most} ms`,
          `endless is not a duration between 1 ms and ${most} ms`,
          "long is not a duration between 1 ms and 10 ms",
          "short is not a duration between 5 ms and 10 ms",
          "half is not a whole number of 1 or more",
          "zeroth is not a whole number of 1 or more",
          "many is not a whole number between 1 and 10"
        ]
      })
      expect(
        yield* readOptions(({ duration, whole }) => [
          duration("least", 1),
          duration("rounded", "1500 micros"),
          duration("most", 10, 10, 10),
          whole("one", 1),
          whole("ten", 10, 10)
        ])
      ).toEqual([1, 2, 10, 1, 10])
    })
  )

  it.scoped("bounds of the time to live", () =>
    Effect.gen(function* () {
      const issuesOf = (options: Parameters<typeof IdempotencyDomainService.layerWith>[0]) =>
        Effect.map(Effect.flip(Layer.build(IdempotencyDomainService.layerWith(options))), ({ issues, operation }) => {
          expect(operation).toBe("")
          return issues
        })
      const below = (name: string) => `${name} is not a finite duration of at least a second`
      const outside = "defaultTimeToLive is not between minTimeToLive and maxTimeToLive"
      expect(yield* issuesOf({ minTimeToLive: 0, defaultTimeToLive: 999, maxTimeToLive: 1_000 })).toEqual([
        below("defaultTimeToLive"),
        below("minTimeToLive")
      ])
      expect(yield* issuesOf({ maxTimeToLive: Duration.infinity })).toContain(below("maxTimeToLive"))
      expect(yield* issuesOf({ defaultTimeToLive: "1 second" })).toEqual([outside])
      expect(yield* issuesOf({ minTimeToLive: "2 hours", maxTimeToLive: "1 hour" })).toEqual([
        "maxTimeToLive is less than minTimeToLive",
        outside
      ])
    })
  )

  it.effect("a time to live", () =>
    Effect.gen(function* () {
      const bounds = yield* IdempotencyDomainService
      // @ts-expect-error: no duration
      expect(timeToLiveMillis(bounds, operation, "no")).toEqual(
        Either.left(new IdempotencyValidationError({ operation, issues: ["the time to live is not a duration"] }))
      )
    }).pipe(Effect.provide(IdempotencyDomainService.layer))
  )

  it.effect("keys of a cipher", () =>
    Effect.gen(function* () {
      const issuesOf = (keys: ReadonlyArray<ResultCipher.Key>) =>
        Effect.map(Effect.flip(ResultCipher.make({ keys })), ({ issues, operation }) => {
          expect(operation).toBe("")
          return issues
        })
      const key = (bytes: number) => Redacted.make(new Uint8Array(bytes))
      expect(yield* issuesOf([])).toEqual(["there is no key"])
      expect(
        yield* issuesOf([
          { id: "a", key: key(32) },
          { id: "a", key: key(31) },
          { id: "a.b", key: key(33) },
          { id: "", key: Redacted.make("no base64!") },
          { id: "i".repeat(65), key: Redacted.make("AAAA") }
        ])
      ).toEqual([
        "the id of key 2 is used twice",
        "key 2 is not 32 bytes, or their base64",
        'the id of key 3 is not 1 to 64 letters, digits, "_" and "-"',
        "key 3 is not 32 bytes, or their base64",
        'the id of key 4 is not 1 to 64 letters, digits, "_" and "-"',
        "key 4 is not 32 bytes, or their base64",
        'the id of key 5 is not 1 to 64 letters, digits, "_" and "-"',
        "key 5 is not 32 bytes, or their base64"
      ])
    })
  )
})
