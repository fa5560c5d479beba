/** `maxAttempts`: a message that cannot be processed is not tried for ever. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/TestClock"
import { IdempotentConsumer } from "../../src/consumer/IdempotentConsumer.js"
import { MessageOutcome } from "../../src/consumer/MessageOutcome.js"
import { MessagePoisonedError } from "../../src/consumer/MessagePoisonedError.js"
import { isIdempotencyError } from "../../src/IdempotencyError.js"
import { counting, singleProcess, twoProcesses, within } from "../support/engineProcess.js"
import { unavailable } from "../support/faultyRepository.js"
import { consumer, recordOf } from "./support.js"

const { process: consume } = IdempotentConsumer

const failing = () => counting(Effect.fail("no stock" as const))

const poisoned = (attempt: number, maxAttempts: number, messageId = "m-1") =>
  new MessagePoisonedError({ operation: consumer, messageId, attempt, maxAttempts })

describe("a message that keeps failing", () => {
  it.scoped("is poisoned on the attempt after the last, and stays so, without its handler running", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      const handler = failing()
      const deliver = Effect.flip(process.run(consume(handler.effect, consumer, "m-1", { maxAttempts: 3 })))
      for (const runs of [1, 2, 3]) {
        expect(yield* deliver).toBe("no stock")
        expect(handler.runs()).toBe(runs)
      }
      for (const attempt of [4, 5, 6]) {
        expect(yield* deliver).toEqual(poisoned(attempt, 3))
        expect(yield* store.stateOf(recordOf("m-1"))).toBe("Released")
      }
      expect(handler.runs()).toBe(3)
    })
  )

  it.scoped("is poisoned after one attempt, and by its raw id", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const handler = failing()
      const deliver = Effect.flip(process.run(consume(handler.effect, ` ${consumer}`, "a:1 ", { maxAttempts: 1 })))
      expect(yield* deliver).toBe("no stock")
      const error = yield* deliver
      expect(error).toEqual(poisoned(2, 1, "a:1 "))
      expect(error).toBeInstanceOf(MessagePoisonedError)
      expect(String(error)).not.toContain("a:1")
      expect(isIdempotencyError(error)).toBe(false)
      expect(handler.runs()).toBe(1)
    })
  )

  it.scoped("is processed by who grants it more attempts", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* Effect.flip(process.run(consume(failing().effect, consumer, "m-1", { maxAttempts: 1 })))
      yield* Effect.flip(process.run(consume(failing().effect, consumer, "m-1", { maxAttempts: 1 })))
      const deliver = process.run(consume(Effect.succeed("done"), consumer, "m-1", { maxAttempts: 3 }))
      expect(yield* deliver).toEqual(MessageOutcome.Processed({ value: "done" }))
    })
  )

  it.scoped("is no other message, and no other consumer's", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const deliver = (of: string, id: string) =>
        Effect.flip(process.run(consume(failing().effect, of, id, { maxAttempts: 1 })))
      expect(yield* deliver(consumer, "m-1")).toBe("no stock")
      expect(yield* deliver(consumer, "m-2")).toBe("no stock")
      expect(yield* deliver("billing", "m-1")).toBe("no stock")
      expect(yield* deliver(consumer, "m-1")).toEqual(poisoned(2, 1))
    })
  )

  for (const guarantee of ["at-least-once", "at-most-once"] as const) {
    it.scoped(`${guarantee}: is not mistaken for what its handler fails with`, () =>
      Effect.gen(function* () {
        const { process, store } = yield* singleProcess()
        let isAsked = 0
        const handler = counting(Effect.fail({ why: "no stock" }))
        const options = {
          guarantee,
          maxAttempts: 1,
          // Both would take anything.
          error: Schema.Unknown,
          isOutcomeUnknown: (error: { readonly why: string }) => {
            isAsked++
            return error.why !== "no stock"
          }
        }
        const first = { guarantee, maxAttempts: 1 }
        yield* Effect.flip(process.run(consume(handler.effect, consumer, "m-1", first)))
        for (const attempt of [2, 3]) {
          const deliver = process.run(consume(handler.effect, consumer, "m-1", options))
          expect(yield* Effect.flip(deliver)).toEqual(poisoned(attempt, 1))
          expect(yield* store.stateOf(recordOf("m-1"))).toBe("Released")
        }
        expect(isAsked).toBe(0)
        expect(handler.runs()).toBe(1)
      })
    )
  }
})

describe("an attempt", () => {
  it.scoped("counts if it was interrupted, or its process ended", () =>
    Effect.gen(function* () {
      const { one, store, two } = yield* twoProcesses()
      const handler = counting(Effect.never)
      const deliver = consume(handler.effect, consumer, "m-1", { maxAttempts: 2 })
      const interrupted = yield* Effect.fork(one.run(deliver))
      yield* TestClock.adjust("1 second")
      yield* Fiber.interrupt(interrupted)
      // Another process claims, and is not heard of again.
      yield* store.repository.claims.claim(recordOf("m-1"), {
        token: "gone",
        fingerprint: undefined,
        guarantee: "at-least-once",
        lease: 30_000,
        retention: 1_800_000,
        unknownRetention: 2_592_000_000
      })
      expect((yield* Effect.flip(two.run(deliver)))._tag).toBe("IdempotencyInFlightError")
      yield* TestClock.adjust("31 seconds")
      expect(yield* Effect.flip(two.run(deliver))).toEqual(poisoned(3, 2))
      expect(handler.runs()).toBe(1)
    })
  )

  it.scoped("does not count if the store failed", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const handler = failing()
      const deliver = Effect.flip(process.run(consume(handler.effect, consumer, "m-1", { maxAttempts: 1 })))
      yield* process.faults.plan("claim", unavailable)
      for (const runs of [1, 2, 3]) {
        expect(yield* within("1 minute")(deliver)).toBe("no stock")
        expect(handler.runs()).toBe(runs)
      }
      yield* process.faults.heal
      yield* TestClock.adjust("1 minute")
      expect(yield* deliver).toBe("no stock")
      expect(yield* deliver).toEqual(poisoned(2, 1))
      expect(handler.runs()).toBe(4)
    })
  )

  it.scoped("is forgotten a time to live after the last one", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const handler = failing()
      const options = { maxAttempts: 1, timeToLive: "10 minutes" } as const
      const deliver = Effect.flip(process.run(consume(handler.effect, consumer, "m-1", options)))
      yield* deliver
      yield* TestClock.adjust("9 minutes")
      expect(yield* deliver).toEqual(poisoned(2, 1))
      yield* TestClock.adjust("11 minutes")
      expect(yield* deliver).toBe("no stock")
    })
  )

  it.scoped("that succeeded is a duplicate from then on", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const deliver = process.run(consume(Effect.succeed("done"), consumer, "m-1", { maxAttempts: 1 }))
      expect((yield* deliver)._tag).toBe("Processed")
      for (const _ of [1, 2, 3]) expect(Exit.isSuccess(yield* Effect.exit(deliver))).toBe(true)
    })
  )
})
