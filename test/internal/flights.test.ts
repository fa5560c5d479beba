import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HashMap from "effect/HashMap"
import * as Logger from "effect/Logger"
import * as TestClock from "effect/TestClock"
import { IdempotencyStorageError } from "../../src/IdempotencyError.js"
import { isWithin, makeFlights, type Phase } from "../../src/internal/engine/flights.js"
import { loop } from "../../src/internal/engine/loop.js"

const error = new IdempotencyStorageError({ operation: "o", method: "claim", reason: "Timeout", applied: "no" })
const outcome = { _tag: "Success", encoded: "1" } as const
const record = { token: "t", outcome, fingerprint: undefined, createdAt: 0, expiresAt: 1 }

const ends: ReadonlyArray<Phase> = [
  { _tag: "failed", error },
  { _tag: "recorded", record, lacksFingerprint: false },
  { _tag: "unrecorded" },
  { _tag: "given", outcome, reason: error, isEnd: true }
]
const others: ReadonlyArray<Phase> = [
  { _tag: "claiming" },
  { _tag: "waiting", until: () => 1 },
  { _tag: "running", leaseUntil: () => 1 },
  { _tag: "given", outcome, reason: error, isEnd: false }
]

describe("a flight", () => {
  it("keeps its key until its end, and stays in the end that it came to", () => {
    for (const end of ends) {
      const flights = makeFlights()
      const flight = flights.start("k", "f", undefined)
      expect(flight).toMatchObject({ key: "k", fingerprint: "f", phase: { _tag: "claiming" } })
      for (const phase of others) {
        flights.move(flight, phase)
        expect(flights.get("k")).toBe(flight)
        expect(flight.phase).toBe(phase)
      }
      flights.move(flight, end)
      expect(flights.size()).toBe(0)
      const next = flights.start("k", undefined, undefined)
      flights.move(flight, { _tag: "unrecorded" })
      expect(flight.phase).toBe(end)
      expect(flights.get("k")).toBe(next)
    }
  })

  it.effect("tells who waits that it has left a phase, once; and who comes too late, at once", () =>
    Effect.gen(function* () {
      const flights = makeFlights()
      const flight = flights.start("k", undefined, undefined)
      const claiming = flight.phase
      const waiting = yield* Effect.fork(flights.left(flight, claiming))
      yield* Effect.yieldNow()
      expect(flight.listeners?.size ?? 0).toBe(1)
      flights.move(flight, { _tag: "unrecorded" })
      expect(flight.listeners?.size ?? 0).toBe(0)
      yield* Fiber.join(waiting)
      yield* flights.left(flight, claiming)
    })
  )

  it.effect("forgets who waits no longer", () =>
    Effect.gen(function* () {
      const flights = makeFlights()
      const flight = flights.start("k", undefined, undefined)
      const waiting = yield* Effect.fork(flights.left(flight, flight.phase))
      yield* Effect.yieldNow()
      yield* Fiber.interrupt(waiting)
      expect(flight.listeners?.size ?? 0).toBe(0)
    })
  )

  it("is within itself, and within those that it was started in", () => {
    const flights = makeFlights()
    const outer = flights.start("outer", undefined, undefined)
    const middle = flights.start("middle", undefined, outer)
    const inner = flights.start("inner", undefined, middle)
    expect([outer, middle, inner].map((flight) => isWithin(inner, flight))).toEqual([true, true, true])
    expect([outer, middle, inner].map((flight) => isWithin(outer, flight))).toEqual([true, false, false])
    expect(isWithin(undefined, outer)).toBe(false)
  })
})

describe("a loop", () => {
  it.scoped("logs a turn that dies, by its name, and takes the next after 100 ms", () =>
    Effect.gen(function* () {
      const logged: Array<readonly [message: unknown, fiber: unknown, cause: string]> = []
      const logger = Logger.make(({ annotations, cause, message }) => {
        const [text] = Array.isArray(message) ? message : [message]
        logged.push([text, HashMap.unsafeGet(annotations, "fiber"), Cause.pretty(cause)])
      })
      let turns = 0
      const turn = Effect.suspend(() => {
        turns++
        return turns === 2 ? Effect.never : Effect.die(new Error("broken"))
      })
      yield* Effect.provide(loop("renewal", turn), Logger.replace(Logger.defaultLogger, logger))
      yield* TestClock.adjust(99)
      expect(turns).toBe(1)
      expect(logged).toEqual([
        ["idempotency: renewal died", "idempotency.renewal", expect.stringContaining("Error: broken")]
      ])
      yield* TestClock.adjust(1)
      expect(turns).toBe(2)
    })
  )
})
