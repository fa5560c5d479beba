import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as TestClock from "effect/TestClock"
import { sleepUnless } from "../../src/internal/sleep.js"

describe("a sleep that an event ends", () => {
  it.effect("ends at its time, and stops what it waited for", () =>
    Effect.gen(function* () {
      let isStopped = false
      const event = Effect.onInterrupt(Effect.never, () =>
        Effect.sync(() => {
          isStopped = true
        })
      )
      const fiber = yield* Effect.fork(sleepUnless(100, event))
      yield* TestClock.adjust(99)
      expect(fiber.unsafePoll()).toBeNull()
      yield* TestClock.adjust(1)
      yield* Fiber.join(fiber)
      yield* Effect.yieldNow()
      expect(isStopped).toBe(true)
    })
  )

  it.effect("ends with the event", () =>
    Effect.gen(function* () {
      const event = yield* Deferred.make<void>()
      const fiber = yield* Effect.fork(sleepUnless(100, Deferred.await(event)))
      yield* TestClock.adjust(1)
      yield* Deferred.succeed(event, undefined)
      yield* Fiber.join(fiber)
    })
  )

  it("ends when it is interrupted, at whichever of its steps", () => {
    /** Whether it ends if it is interrupted at its n-th step; nothing where it has fewer. */
    const ends = (n: number): boolean | undefined => {
      const tasks: Array<() => void> = []
      let steps = 0
      let hasEnded = false
      const fiber = Effect.runFork(sleepUnless(60_000, Effect.never), {
        scheduler: {
          scheduleTask: (task) => void tasks.push(task),
          shouldYield: (current) => {
            if (current.id() === fiberId && steps++ === n) current.unsafeInterruptAsFork(FiberId.none)
            return false
          }
        },
        immediate: false
      })
      const fiberId = fiber.id()
      fiber.addObserver(() => {
        hasEnded = true
      })
      const run = () => {
        for (let task = tasks.shift(); task !== undefined; task = tasks.shift()) task()
      }
      run()
      const isWithin = steps > n
      if (!isWithin) fiber.unsafeInterruptAsFork(FiberId.none)
      run()
      return isWithin ? hasEnded : undefined
    }
    const all = Array.from({ length: 200 }, (_, n) => ends(n)).filter((one) => one !== undefined)
    expect(all.length).toBeGreaterThan(10)
    expect(all).not.toContain(false)
  })
})
