import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as TestClock from "effect/TestClock"
import { longestTimer } from "../../src/internal/options.js"
import { pollDelay } from "../../src/internal/polling.js"
import { sleepFor } from "../../src/internal/sleep.js"
import { makeTokens } from "../../src/internal/tokens.js"

describe("the delay before a question", () => {
  const delays = (draw: number) =>
    Effect.forEach([0, 1, 2, 3, 4, 5, 10, 2_000], pollDelay).pipe(Effect.withRandom(Random.fixed([draw])))

  it.effect("doubles from 25 ms to 500 ms, its upper half at random", () =>
    Effect.gen(function* () {
      expect(yield* delays(1)).toEqual([25, 50, 100, 200, 400, 500, 500, 500])
      expect(yield* delays(0.5)).toEqual([19, 38, 75, 150, 300, 375, 375, 375])
      expect(yield* delays(0)).toEqual([13, 25, 50, 100, 200, 250, 250, 250])
    })
  )
})

describe("a sleep", () => {
  const endsAfter = (asked: number, millis: number) =>
    Effect.gen(function* () {
      const fiber = yield* Effect.fork(sleepFor(asked))
      yield* TestClock.adjust(millis - 1)
      expect(fiber.unsafePoll()).toBeNull()
      yield* TestClock.adjust(1)
      yield* Fiber.join(fiber)
    })

  it.effect("is as long as it was asked for, but for what no timer can", () =>
    Effect.gen(function* () {
      expect(longestTimer).toBe(24 * 24 * 3_600_000)
      yield* endsAfter(10, 10)
      yield* endsAfter(longestTimer + 1_000, longestTimer)
    })
  )

  it.effect("is never none: time has to pass", () =>
    Effect.gen(function* () {
      for (const asked of [0, -5]) {
        const fiber = yield* Effect.fork(sleepFor(asked))
        yield* Effect.yieldNow()
        expect(fiber.unsafePoll()).toBeNull()
        yield* TestClock.adjust(1)
        yield* Fiber.join(fiber)
      }
    })
  )
})

describe("tokens", () => {
  it("differ, also those of two makers", () => {
    const [one, other] = [makeTokens(), makeTokens()]
    const tokens = Array.from({ length: 100 }, () => [one.next(), other.next()]).flat()
    expect(new Set(tokens).size).toBe(200)
    for (const token of tokens) expect(token).toMatch(/^[\w-]{22}\.[0-9a-z]+$/)
    expect(one.next()).toMatch(/\.2s$/)
  })
})
