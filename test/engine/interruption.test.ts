/** Rule 1: the bookkeeping is uninterruptible and bounded; the user's effect and every wait are interruptible. */
import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import * as Option from "effect/Option"
import * as TestClock from "effect/TestClock"
import type { Idempotency } from "../../src/Idempotency.js"
import { IdempotentExecution } from "../../src/IdempotentExecution.js"
import { withIdempotency } from "../../src/withIdempotency.js"
import {
  counting,
  during,
  ended,
  gated,
  key,
  lasting,
  nothing,
  operation,
  settleDown,
  singleProcess,
  untyped
} from "../support/engineProcess.js"
import { answeringAfter, hanging } from "../support/faultyRepository.js"

describe("interruption", () => {
  it.scoped("interrupted in its body, an execution is released, and the next caller runs", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      const body = lasting("paid", "10 seconds")
      const call = process.run(withIdempotency(body.effect, operation, key))
      const owner = yield* Effect.fork(call)
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.interrupt(owner)
      expect(yield* store.stateOf()).toBe("Released")
      const { exit } = yield* during("10 seconds")(call)
      expect(exit).toEqual(Exit.succeed("paid"))
      expect(body.runs()).toBe(2)
      expect(process.underWay()).toEqual(nothing)
    })
  )

  it.scoped("under at-most-once it is held: the next caller fails with IdempotencyOutcomeUnknownError", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      const body = lasting("paid", "10 seconds")
      const call = process.run(withIdempotency(body.effect, operation, key, { guarantee: "at-most-once" }))
      const owner = yield* Effect.fork(call)
      yield* TestClock.adjust("5 seconds")
      yield* Fiber.interrupt(owner)
      expect(yield* store.stateOf()).toBe("Unknown")
      expect(yield* Effect.flip(call)).toMatchObject({ _tag: "IdempotencyOutcomeUnknownError", attempt: 1 })
      expect(body.runs()).toBe(1)
    })
  )

  for (const guarantee of ["at-least-once", "at-most-once"]) {
    it.scoped(`a body that never started is released, ${guarantee}: interrupted while the claim is on its way`, () =>
      Effect.gen(function* () {
        const { process, store } = yield* singleProcess()
        yield* process.faults.plan("claim", answeringAfter("100 millis"), 1)
        const body = counting(Effect.succeed("paid"))
        const call = process.run(untyped(body.effect, operation, key, { guarantee }))
        const owner = yield* Effect.fork(call)
        yield* TestClock.adjust("50 millis")
        yield* Fiber.interruptFork(owner)
        yield* TestClock.adjust("1 second")
        expect(Exit.isInterrupted(yield* Effect.exit(ended(owner)))).toBe(true)
        expect(body.runs()).toBe(0)
        expect(yield* store.stateOf()).toBe("Released")
        expect(process.underWay()).toEqual(nothing)
      })
    )

    it.scoped(`a caller interrupted before it began claims nothing, ${guarantee}`, () =>
      Effect.gen(function* () {
        const { process, store } = yield* singleProcess()
        const body = counting(Effect.succeed("paid"))
        const exit = yield* Effect.exit(
          Effect.zipRight(Effect.interrupt, process.run(untyped(body.effect, operation, key, { guarantee })))
        )
        expect(Exit.isInterrupted(exit)).toBe(true)
        expect(yield* store.stateOf()).toBe("Absent")
      })
    )
  }

  it.scoped("the bookkeeping after the body is not cut short: the result is recorded", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* process.faults.plan("complete", answeringAfter("200 millis"), 1)
      const owner = yield* Effect.fork(process.run(withIdempotency(Effect.succeed("paid"), operation, key)))
      yield* TestClock.adjust("100 millis")
      yield* Fiber.interruptFork(owner)
      yield* TestClock.adjust("1 second")
      expect(yield* store.stateOf()).toBe("Completed")
      expect(process.underWay()).toEqual(nothing)
    })
  )

  it.scoped("the bookkeeping is bounded: a release that is never answered ends with its deadline", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const owner = yield* Effect.fork(process.run(withIdempotency(Effect.never, operation, key)))
      yield* settleDown
      yield* process.faults.plan("release", hanging)
      const { took } = yield* during("5 seconds")(Fiber.interrupt(owner))
      expect(took).toBeLessThanOrEqual(1001)
    })
  )

  it.scoped("the body's finalizers run before the key is released", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      let seen = ""
      const body = Effect.onInterrupt(Effect.never, () =>
        Effect.map(store.stateOf(), (state) => {
          seen = state
        })
      )
      const owner = yield* Effect.fork(process.run(withIdempotency(body, operation, key)))
      yield* settleDown
      yield* Fiber.interrupt(owner)
      expect(seen).toBe("Processing")
      expect(yield* store.stateOf()).toBe("Released")
    })
  )

  it.scoped("a wait for another process is interruptible", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* store.claim("theirs")
      const waiter = yield* Effect.fork(process.run(withIdempotency(Effect.succeed("mine"), operation, key)))
      yield* TestClock.adjust("1 second")
      yield* Fiber.interrupt(waiter)
      expect(process.underWay()).toEqual(nothing)
      expect(yield* store.stateOf()).toBe("Processing")
    })
  )

  it.scoped("a wait for another caller of this process is interruptible, and leaves that one alone", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const body = yield* gated("paid")
      const call = process.run(withIdempotency(body.effect, operation, key))
      const owner = yield* Effect.fork(call)
      yield* body.started
      const follower = yield* Effect.fork(call)
      yield* settleDown
      yield* Fiber.interrupt(follower)
      yield* body.open
      expect(yield* Fiber.join(owner)).toBe("paid")
    })
  )

  it.scoped("a defect in the body is released, and under at-most-once held", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      const body = counting(Effect.die("broken"))
      const exit = yield* Effect.exit(process.run(withIdempotency(body.effect, operation, key)))
      expect(Exit.isFailure(exit) && Cause.squash(exit.cause)).toBe("broken")
      expect(yield* store.stateOf()).toBe("Released")
      const strict = process.run(withIdempotency(body.effect, operation, key, { guarantee: "at-most-once" }))
      yield* Effect.exit(strict)
      expect(yield* store.stateOf()).toBe("Unknown")
      expect(yield* Effect.flip(strict)).toMatchObject({ _tag: "IdempotencyOutcomeUnknownError", attempt: 2 })
      expect(body.runs()).toBe(2)
    })
  )

  it.scoped("what the body does to its fiber reaches the caller, as without protection", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const ref = FiberRef.unsafeMake("before")
      yield* process.run(withIdempotency(FiberRef.set(ref, "after"), operation, key))
      expect(yield* FiberRef.get(ref)).toBe("after")
      const failing = Effect.zipRight(FiberRef.set(ref, "failed"), Effect.fail("refused"))
      yield* Effect.flip(process.run(withIdempotency(failing, operation, "order-2")))
      expect(yield* FiberRef.get(ref)).toBe("failed")
    })
  )

  it.scoped("what surrounds the body does not: its execution ends with it", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const ref = FiberRef.unsafeMake(0)
      const setting = FiberRef.update(ref, (n) => n + 1)
      const surrounding = Effect.map(
        Effect.serviceOption(IdempotentExecution),
        Option.map(({ idempotencyKey }) => idempotencyKey)
      )
      const surroundingAfter = (call: Effect.Effect<unknown, unknown, Idempotency>) =>
        process.run(Effect.zipRight(Effect.exit(call), surrounding))

      expect(yield* surroundingAfter(withIdempotency(setting, operation, key))).toEqual(Option.none())
      const failing = Effect.zipRight(setting, Effect.fail("refused"))
      expect(yield* surroundingAfter(withIdempotency(failing, operation, "order-2"))).toEqual(Option.none())
      const later = yield* Effect.fork(
        surroundingAfter(withIdempotency(Effect.delay(setting, "1 second"), operation, "order-3"))
      )
      yield* TestClock.adjust("1 second")
      expect(yield* Fiber.join(later)).toEqual(Option.none())
      expect(yield* FiberRef.get(ref)).toBe(3)
      // Within another execution it is that one's again.
      const outer = Effect.zipRight(withIdempotency(setting, operation, "inner"), surrounding)
      expect(yield* process.run(withIdempotency(Effect.map(outer, Option.getOrNull), operation, "outer"))).toBe("outer")
    })
  )

  it.scoped("a fiber that the body forks lives as long as its caller, as without protection", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const done = yield* Deferred.make<string>()
      const body = Effect.asVoid(Effect.fork(Effect.delay(Deferred.succeed(done, "sent"), "1 second")))
      yield* process.run(withIdempotency(body, operation, key))
      yield* TestClock.adjust("2 seconds")
      expect(yield* Deferred.isDone(done)).toBe(true)
    })
  )
})
