/** The layer's scope ends in order: no new claims, then owners finish within the grace period, then release or hold. */
import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import { withIdempotency } from "../../src/withIdempotency.js"
import {
  counting,
  ended,
  gated,
  key,
  makeStore,
  nothing,
  operation,
  settleDown,
  startProcess
} from "../support/engineProcess.js"
import { answeringAfter, hanging, unavailable } from "../support/faultyRepository.js"

describe("shutdown", () => {
  it.scoped("an owner that ends within the grace period records its result", () =>
    Effect.gen(function* () {
      const store = yield* makeStore()
      const process = yield* startProcess(store, { shutdownGrace: "5 seconds" })
      const body = yield* gated("paid")
      const owner = yield* Effect.fork(process.run(withIdempotency(body.effect, operation, key)))
      yield* body.started
      const stop = yield* Effect.fork(process.stop)
      yield* settleDown
      yield* body.open
      yield* Fiber.join(stop)
      expect(yield* Fiber.join(owner)).toBe("paid")
      expect(yield* store.stateOf()).toBe("Completed")
      expect(process.underWay()).toEqual(nothing)
    })
  )

  it.scoped("an owner that outlasts the grace period is interrupted, and its key released", () =>
    Effect.gen(function* () {
      const store = yield* makeStore()
      const process = yield* startProcess(store, { shutdownGrace: "20 millis" })
      const body = counting(Effect.never)
      const owner = yield* Effect.fork(process.run(withIdempotency(body.effect, operation, key)))
      yield* settleDown
      yield* process.stop
      const exit = yield* Fiber.await(owner)
      expect(Exit.isInterrupted(exit)).toBe(true)
      expect(yield* store.stateOf()).toBe("Released")
      expect(process.underWay()).toEqual(nothing)
    })
  )

  it.scoped("under at-most-once, the key of an owner that is interrupted is held", () =>
    Effect.gen(function* () {
      const store = yield* makeStore()
      const process = yield* startProcess(store, { shutdownGrace: "20 millis" })
      const owner = yield* Effect.fork(
        process.run(withIdempotency(Effect.never, operation, key, { guarantee: "at-most-once" }))
      )
      yield* settleDown
      yield* process.stop
      expect(Exit.isInterrupted(yield* Fiber.await(owner))).toBe(true)
      expect(yield* store.stateOf()).toBe("Unknown")
    })
  )

  it.scoped("an effect that cannot be interrupted does not hold the shutdown up for ever", () =>
    Effect.gen(function* () {
      const store = yield* makeStore()
      const process = yield* startProcess(store, { shutdownGrace: "20 millis", storageTimeout: "30 millis" })
      const body = yield* gated("paid")
      const owner = yield* Effect.fork(
        process.run(withIdempotency(Effect.uninterruptible(body.effect), operation, key))
      )
      yield* body.started
      yield* process.stop
      yield* body.open
      expect(Exit.isInterrupted(yield* Fiber.await(owner))).toBe(true)
      expect(yield* store.stateOf()).toBe("Released")
    })
  )

  it.scoped("nobody claims once the scope is closing: new callers are interrupted and run nothing", () =>
    Effect.gen(function* () {
      const store = yield* makeStore()
      const process = yield* startProcess(store, { shutdownGrace: "5 seconds" })
      const owned = yield* gated("paid")
      const owner = yield* Effect.fork(process.run(withIdempotency(owned.effect, operation, key)))
      yield* owned.started
      const stop = yield* Effect.fork(process.stop)
      yield* settleDown
      const late = counting(Effect.succeed("late"))
      for (const options of [{}, { strategy: "optimistic" as const }]) {
        const exit = yield* Effect.exit(process.run(withIdempotency(late.effect, operation, "order-2", options)))
        expect(Exit.isFailure(exit) && Cause.isInterruptedOnly(exit.cause)).toBe(true)
      }
      yield* owned.open
      yield* Fiber.join(stop)
      yield* Fiber.join(owner)
      expect(late.runs()).toBe(0)
      expect(process.faults.calls("claim")).toHaveLength(1)
    })
  )

  it.scoped("a caller that waits for another process claims no more", () =>
    Effect.gen(function* () {
      const store = yield* makeStore()
      const process = yield* startProcess(store)
      yield* store.claim("theirs")
      const body = counting(Effect.succeed("mine"))
      const waiter = yield* Effect.fork(process.run(withIdempotency(body.effect, operation, key)))
      yield* settleDown
      yield* process.stop
      yield* TestClock.adjust("40 seconds")
      expect(Exit.isInterrupted(yield* Effect.exit(ended(waiter)))).toBe(true)
      expect(body.runs()).toBe(0)
    })
  )

  it.scoped("a completion that goes on in the background gets its chance before the scope ends", () =>
    Effect.gen(function* () {
      const store = yield* makeStore()
      const process = yield* startProcess(store, { storageTimeout: "300 millis" })
      yield* process.faults.plan("complete", unavailable)
      const caller = yield* Effect.fork(process.run(withIdempotency(Effect.succeed("paid"), operation, key)))
      yield* TestClock.adjust("1 second")
      expect(yield* ended(caller)).toBe("paid")
      expect(process.underWay().background).toBe(1)
      yield* process.faults.heal
      const stop = yield* Effect.fork(process.stop)
      yield* TestClock.adjust("2 seconds")
      yield* Fiber.join(stop)
      expect(yield* store.stateOf()).toBe("Completed")
    })
  )

  it.scoped("a store that never answers does not hold the shutdown up for ever", () =>
    Effect.gen(function* () {
      const store = yield* makeStore()
      const process = yield* startProcess(store, { shutdownGrace: "10 millis", storageTimeout: "30 millis" })
      const owner = yield* Effect.fork(process.run(withIdempotency(Effect.never, operation, key)))
      yield* settleDown
      yield* process.faults.plan("all", hanging)
      yield* Effect.raceFirst(process.stop, Effect.forever(TestClock.adjust("10 millis")))
      expect(Exit.isInterrupted(yield* Effect.exit(ended(owner)))).toBe(true)
      expect(process.underWay()).toEqual(nothing)
    })
  )

  for (const [strategy, verb] of [
    ["claim", "claim"],
    ["optimistic", "read"]
  ] as const) {
    it.scoped(`a caller whose ${verb} is answered after the scope began to close runs nothing, and holds nothing`, () =>
      Effect.gen(function* () {
        const store = yield* makeStore()
        const process = yield* startProcess(store, { shutdownGrace: "1 second" })
        yield* process.faults.plan(verb, answeringAfter("200 millis"), 1)
        const body = counting(Effect.succeed("late"))
        const caller = yield* Effect.fork(process.run(withIdempotency(body.effect, operation, key, { strategy })))
        yield* TestClock.adjust("100 millis")
        const stop = yield* Effect.fork(process.stop)
        yield* settleDown
        yield* TestClock.adjust("200 millis")
        expect(Exit.isInterrupted(yield* Fiber.await(caller))).toBe(true)
        yield* Effect.raceFirst(Fiber.join(stop), Effect.forever(TestClock.adjust("10 millis")))
        expect(body.runs()).toBe(0)
        expect(["Absent", "Released"]).toContain(yield* store.stateOf())
        expect(process.underWay()).toEqual(nothing)
      })
    )
  }

  it.scoped("callers that follow an owner get its result within the grace period, and run nothing after it", () =>
    Effect.gen(function* () {
      const store = yield* makeStore()
      const process = yield* startProcess(store, { shutdownGrace: "500 millis" })
      const body = yield* gated("paid")
      const stuck = counting(Effect.never)
      const call = process.run(withIdempotency(body.effect, operation, key))
      const endless = process.run(withIdempotency(stuck.effect, operation, "order-2"))
      const fibers = yield* Effect.forEach([call, call, endless, endless], (one) => Effect.fork(one))
      yield* body.started
      yield* settleDown
      const stop = yield* Effect.fork(process.stop)
      yield* settleDown
      yield* body.open
      yield* Fiber.join(stop)
      const exits = yield* Effect.forEach(fibers, Fiber.await)
      expect(exits.slice(0, 2)).toEqual([Exit.succeed("paid"), Exit.succeed("paid")])
      expect(exits.slice(2).map(Exit.isInterrupted)).toEqual([true, true])
      expect([body.runs(), stuck.runs()]).toEqual([1, 1])
      expect(process.underWay()).toEqual(nothing)
    })
  )
})
