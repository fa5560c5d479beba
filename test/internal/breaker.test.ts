/** Rule 11: what opens the circuit breaker, what closes it, and what is told of it. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as TestClock from "effect/TestClock"
import { IdempotencyStorageError } from "../../src/IdempotencyError.js"
import type { IdempotencyIdentifiers } from "../../src/IdempotencyIdentifiers.js"
import { makeBreaker } from "../../src/internal/engine/breaker.js"
import { identifiersOf, settleDown } from "../support/engineProcess.js"
import { recordingLogs } from "../support/recordingLogs.js"

const settings = { breakerThreshold: 3, breakerProbeInterval: 1000, storageTimeout: 1000 }

const failure = (reason: IdempotencyStorageError["reason"]) =>
  new IdempotencyStorageError({
    operation: "o",
    method: "claim",
    reason,
    applied: reason === "Timeout" ? "unknown" : "no"
  })

const of = (key: string) => identifiersOf({ key })
const partOf = ({ idempotencyKey }: IdempotencyIdentifiers) => idempotencyKey.slice(0, 1)

const failing = (
  breaker: ReturnType<typeof makeBreaker>,
  key: string,
  ...reasons: ReadonlyArray<"Unavailable" | "Timeout" | "Rejected" | "Misconfigured">
) => Effect.forEach(reasons, (reason) => breaker.failed(of(key), failure(reason)), { discard: true })

const away = ["Unavailable", "Timeout", "Unavailable"] as const

describe("a breaker", () => {
  it.effect("opens for the whole store after so many failures in a row, be they of one kind or two", () =>
    Effect.gen(function* () {
      const breaker = makeBreaker(undefined, settings, "memory")
      yield* failing(breaker, "a", "Unavailable")
      yield* failing(breaker, "b", "Timeout")
      expect(breaker.isOpen(of("a"))).toBe(false)
      yield* failing(breaker, "c", "Timeout")
      for (const key of ["a", "c", "d"]) expect(breaker.isOpen(of(key))).toBe(true)
    })
  )

  it.effect("counts anew after an answer, which a refusal is, too", () =>
    Effect.gen(function* () {
      for (const answered of [
        (breaker: ReturnType<typeof makeBreaker>) => Effect.sync(() => breaker.succeeded(of("b"))),
        (breaker: ReturnType<typeof makeBreaker>) => failing(breaker, "b", "Rejected"),
        (breaker: ReturnType<typeof makeBreaker>) => failing(breaker, "b", "Misconfigured")
      ]) {
        const breaker = makeBreaker(undefined, settings, "memory")
        yield* failing(breaker, "a", "Timeout", "Timeout")
        yield* answered(breaker)
        yield* failing(breaker, "a", "Timeout", "Timeout")
        expect(breaker.isOpen(of("a"))).toBe(false)
        yield* failing(breaker, "a", "Timeout")
        expect(breaker.isOpen(of("a"))).toBe(true)
        // Late answers say nothing of now: only a probe closes what is open.
        yield* answered(breaker)
        expect(breaker.isOpen(of("a"))).toBe(true)
      }
    })
  )

  it.effect("counts anew after an answer that may be a copy's only if the failures are long ago", () =>
    Effect.gen(function* () {
      const longAgo = 10 * settings.storageTimeout
      const failedAt = 3_600_000
      yield* TestClock.setTime(failedAt)
      for (const [after, isOpen] of [
        [longAgo, true],
        [longAgo + 1, false]
      ] as const) {
        const breaker = makeBreaker(partOf, settings, "redis")
        yield* failing(breaker, "a-1", "Timeout", "Timeout")
        breaker.mayHaveSucceeded(of("b-1"), failedAt + longAgo + 1)
        breaker.mayHaveSucceeded(of("a-2"), failedAt + after)
        yield* failing(breaker, "a-3", "Timeout")
        expect(breaker.isOpen(of("a-1"))).toBe(isOpen)
      }
    })
  )

  it.effect("is not opened by a row that is locked, which the store has told", () =>
    Effect.gen(function* () {
      const breaker = makeBreaker(undefined, settings, "sql")
      const locked = new IdempotencyStorageError({
        operation: "o",
        method: "complete",
        reason: "Timeout",
        applied: "no"
      })
      yield* Effect.repeatN(breaker.failed(of("a"), locked), 10)
      expect(breaker.isOpen(of("a"))).toBe(false)
    })
  )

  it.scoped("asks for a key of its own, at each interval, until there is an answer", () =>
    Effect.gen(function* () {
      const breaker = makeBreaker(undefined, settings, "memory")
      const asked: Array<string> = []
      let answer: Either.Either<unknown, IdempotencyStorageError> = Either.left(failure("Timeout"))
      yield* breaker.probing(({ idempotencyKey, operation }) =>
        Effect.suspend(() => {
          asked.push(`${operation} ${idempotencyKey}`)
          return answer
        })
      )
      yield* TestClock.adjust("10 seconds")
      yield* failing(breaker, "a", "Timeout", "Timeout")
      yield* TestClock.adjust("10 seconds")
      expect(asked).toEqual([])
      yield* failing(breaker, "a", "Timeout")
      yield* TestClock.adjust("2999 millis")
      expect(asked).toEqual(["idempotency.probe probe", "idempotency.probe probe"])
      answer = Either.left(failure("Rejected"))
      yield* TestClock.adjust("1 millis")
      expect(breaker.isOpen(of("a"))).toBe(false)
      yield* TestClock.adjust("1 minute")
      expect(asked).toHaveLength(3)
    })
  )

  it.scoped("of a store with parts opens part by part, and asks for a key of theirs, all at once", () =>
    Effect.gen(function* () {
      const breaker = makeBreaker(partOf, settings, "redis")
      const asked: Array<string> = []
      yield* breaker.probing(({ idempotencyKey }) =>
        Effect.suspend(() => {
          asked.push(idempotencyKey)
          return idempotencyKey.startsWith("a") ? Effect.never : Effect.void
        })
      )
      yield* failing(breaker, "a-1", ...away)
      yield* failing(breaker, "b-1", ...away)
      yield* failing(breaker, "c-1", "Timeout")
      expect(["a-2", "b-2", "c-1", "d-1"].map((key) => breaker.isOpen(of(key)))).toEqual([true, true, false, false])
      yield* TestClock.adjust("1 second")
      breaker.succeeded(of("d-1"))
      expect(asked).toEqual(["a-1", "b-1"])
      expect([breaker.isOpen(of("a-1")), breaker.isOpen(of("b-1"))]).toEqual([true, false])
    })
  )

  it.scoped("goes on with one part after it has closed for another", () =>
    Effect.gen(function* () {
      const breaker = makeBreaker(partOf, settings, "redis")
      let isAway = true
      yield* breaker.probing(({ idempotencyKey }) =>
        Effect.suspend(() => (isAway && idempotencyKey === "a-1" ? Effect.fail(failure("Timeout")) : Effect.void))
      )
      yield* failing(breaker, "a-1", ...away)
      yield* failing(breaker, "b-1", ...away)
      yield* failing(breaker, "c-1", "Timeout")
      yield* TestClock.adjust("1 second")
      expect([breaker.isOpen(of("a-1")), breaker.isOpen(of("b-1"))]).toEqual([true, false])
      isAway = false
      yield* TestClock.adjust("1 second")
      expect(breaker.isOpen(of("a-1"))).toBe(false)
    })
  )

  for (const [name, parts, told] of [
    ["redis", partOf, { "idempotency.store": "redis", "idempotency.store.part": "a" }],
    ["memory", undefined, { "idempotency.store": "memory" }]
  ] as const) {
    it.scoped(`tells the log of ${name} that it opens, stays open and closes`, () =>
      Effect.gen(function* () {
        const { layer, logs } = recordingLogs()
        let isAway = true
        yield* Effect.gen(function* () {
          const breaker = makeBreaker(parts, settings, name)
          yield* breaker.probing(() => Effect.suspend(() => (isAway ? Effect.fail(failure("Timeout")) : Effect.void)))
          yield* failing(breaker, "a-1", ...away, ...away)
          yield* TestClock.adjust("1 second")
          isAway = false
          yield* TestClock.adjust("1 second")
        }).pipe(Effect.provide(layer))
        expect(logs.map(({ level, message }) => `${level} ${message}`)).toEqual([
          "WARN idempotency: the store does not answer; calls go without it until it does",
          "DEBUG idempotency: the store still does not answer",
          "INFO idempotency: the store answers again"
        ])
        for (const { annotations } of logs) expect(annotations).toMatchObject(told)
        if (parts === undefined) expect(logs[0]?.annotations).not.toHaveProperty("idempotency.store.part")
        yield* settleDown
      })
    )
  }
})
