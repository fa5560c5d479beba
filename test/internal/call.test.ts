import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as TestClock from "effect/TestClock"
import { type AnyFiber, answered, Call, followed, nowIn, type Resume, waiting } from "../../src/internal/call.js"
import { makeDeadlines } from "../../src/internal/engine/deadlines.js"

/** A call that ends when the test says so, and tells how often it was given up. */
const makeOpenCall = () => {
  let resume: Resume<string, string> = () => {}
  const open = { starts: 0, givenUp: 0, end: (end: Effect.Effect<string, string>) => resume(end) }
  const call = waiting<string, string>((_, given) => {
    open.starts++
    resume = given
    return () => {
      open.givenUp++
    }
  })
  return { open, call }
}

describe("a call as an effect", () => {
  it.effect("is started each time, by the clock of who runs it", () =>
    Effect.gen(function* () {
      const now = answered((fiber) => Effect.succeed(nowIn(fiber)))
      yield* TestClock.setTime(7)
      expect(yield* now).toBe(7)
      yield* TestClock.adjust(1)
      expect(yield* now).toBe(8)
    })
  )

  it.effect("is given up by an interruption", () =>
    Effect.gen(function* () {
      const { call, open } = makeOpenCall()
      const fiber = yield* Effect.fork(call)
      yield* Effect.yieldNow()
      yield* Fiber.interrupt(fiber)
      expect(open).toMatchObject({ starts: 1, givenUp: 1 })
    })
  )

  it.effect("stays one, with what follows it; any other effect stays one, too", () =>
    Effect.gen(function* () {
      const told: Array<string> = []
      const ending = (fiber: AnyFiber) => {
        const startedAt = nowIn(fiber)
        return (end: Effect.Effect<string, string>) =>
          Effect.tap(end, (value) => {
            told.push(`${value} after ${nowIn(fiber) - startedAt}`)
          })
      }
      const { call, open } = makeOpenCall()
      const after = followed(call, ending)
      expect(after).toBeInstanceOf(Call)
      const fiber = yield* Effect.fork(after)
      yield* TestClock.adjust(5)
      open.end(Effect.succeed("call"))
      expect(yield* Fiber.join(fiber)).toBe("call")

      const slow = followed(Effect.delay(Effect.succeed("effect"), 3), ending)
      expect(slow).not.toBeInstanceOf(Call)
      const other = yield* Effect.fork(slow)
      yield* TestClock.adjust(3)
      yield* Fiber.join(other)
      expect(told).toEqual(["call after 5", "effect after 3"])
    })
  )
})

describe("a call under a deadline", () => {
  const under = <A, E>(call: Effect.Effect<A, E>) =>
    Effect.map(makeDeadlines, (deadlines) => deadlines.within<A, E | string, never>(call, 100, () => "too late"))

  it.scoped("needs no turn where it is answered at once", () =>
    Effect.gen(function* () {
      const within = yield* under(answered(() => Effect.succeed("here")))
      expect(Effect.runSync(within)).toBe("here")
    })
  )

  it.scoped("is given up at the deadline; what comes later is nobody's", () =>
    Effect.gen(function* () {
      const { call, open } = makeOpenCall()
      const fiber = yield* Effect.fork(Effect.uninterruptible(yield* under(call)))
      yield* TestClock.adjust(99)
      expect(fiber.unsafePoll()).toBeNull()
      yield* TestClock.adjust(1)
      expect(yield* Fiber.await(fiber)).toEqual(Exit.fail("too late"))
      open.end(Effect.succeed("late"))
      expect(open.givenUp).toBe(1)
    })
  )

  it.effect("after the layer's end, too, one that does not let itself be stopped is not waited for", () =>
    Effect.gen(function* () {
      const within = yield* Effect.scoped(under(Effect.onInterrupt(Effect.never, () => Effect.never)))
      const fiber = yield* Effect.fork(Effect.uninterruptible(within))
      yield* TestClock.adjust(100)
      expect(fiber.unsafePoll()).toEqual(Exit.fail("too late"))
    })
  )

  it.scoped("is not cut short by an interruption where that is off", () =>
    Effect.gen(function* () {
      const { call, open } = makeOpenCall()
      const told: Array<string> = []
      const fiber = yield* Effect.fork(
        Effect.uninterruptible(Effect.map(yield* under(call), (value) => told.push(value)))
      )
      yield* Effect.yieldNow()
      fiber.unsafeInterruptAsFork(FiberId.none)
      yield* TestClock.adjust(50)
      expect(fiber.unsafePoll()).toBeNull()
      open.end(Effect.succeed("paid"))
      yield* Fiber.await(fiber)
      expect(told).toEqual(["paid"])
      expect(open.givenUp).toBe(0)
    })
  )

  it.scoped("is not missed if it is answered before its fiber has come to wait", () =>
    Effect.gen(function* () {
      const { call, open } = makeOpenCall()
      const within = yield* under(call)
      // After each of its steps in turn the fiber lets others run, and the answer comes.
      for (let step = 1; step <= 8; step++) {
        let steps = 0
        const fiber = yield* Effect.fork(
          Effect.withScheduler(within, {
            scheduleTask: (task) => queueMicrotask(task),
            shouldYield: () => {
              if (open.starts < step || ++steps !== step) return false
              open.end(Effect.succeed(`at ${step}`))
              return 0
            }
          })
        )
        yield* Effect.promise(() => new Promise<void>((resolve) => setImmediate(resolve)))
        open.end(Effect.succeed(`at ${step}`))
        expect(yield* Fiber.join(fiber)).toBe(`at ${step}`)
      }
    })
  )
})
