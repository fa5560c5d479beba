/** Rules 7 and 15: renewal every third of the lease, its outcomes, and timers. */
import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as TestClock from "effect/TestClock"
import { withIdempotency } from "../../src/withIdempotency.js"
import {
  counting,
  during,
  ended,
  ids,
  key,
  lasting,
  makeStore,
  nothing,
  operation,
  settleDown,
  singleProcess,
  startProcess,
  twoProcesses,
  untyped
} from "../support/engineProcess.js"
import { hanging, replyLost, unavailable } from "../support/faultyRepository.js"
import { withPauses, withSetBacks, withTimers } from "../support/pausingClock.js"

const fail = { onStorageFailure: "fail" } as const
const atMostOnce = { guarantee: "at-most-once" } as const

describe("renewal", () => {
  it.scoped("an effect that outlasts its lease three times over keeps its key", () =>
    Effect.gen(function* () {
      const { one, two } = yield* twoProcesses()
      const body = lasting("paid", "100 seconds")
      const other = counting(Effect.succeed("other"))
      const owner = yield* Effect.fork(one.run(untyped(body.effect, operation, key)))
      yield* settleDown
      const waiter = yield* Effect.fork(two.run(untyped(other.effect, operation, key, { waitTimeout: "5 minutes" })))
      yield* TestClock.adjust("101 seconds")
      expect(yield* ended(owner)).toMatchObject({ _tag: "Executed", value: "paid", attempt: 1 })
      expect(yield* ended(waiter)).toMatchObject({ _tag: "Replayed", value: "paid" })
      expect(other.runs()).toBe(0)
      expect(yield* one.count("recordLeaseLost")).toBe(0)
    })
  )

  it.scoped("is every third of the lease", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const body = lasting("paid", "49 seconds")
      yield* during("1 minute")(process.run(withIdempotency(body.effect, operation, key, { lease: "30 seconds" })))
      expect(process.faults.calls("renew").map(({ at }) => at)).toEqual([10_000, 20_000, 30_000, 40_000])
      expect(process.underWay()).toEqual(nothing)
    })
  )

  it.scoped("takes the leases of a process together", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const call = (which: number) =>
        process.run(withIdempotency(lasting("paid", "49 seconds").effect, operation, `order-${which}`))
      const calls = Effect.forEach(
        Array.from({ length: 20 }, (_, index) => index),
        call,
        { concurrency: "unbounded" }
      )
      yield* during("1 minute")(calls)
      expect(process.faults.calls("renew").map(({ tokens }) => tokens.length)).toEqual([20, 20, 20, 20])
    })
  )

  it.scoped("gives short leases their pace beside long ones", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const long = yield* Effect.fork(
        process.run(withIdempotency(lasting("a", "20 seconds").effect, operation, "long", { lease: "10 minutes" }))
      )
      yield* TestClock.adjust("5 seconds")
      const short = yield* Effect.fork(
        process.run(withIdempotency(lasting("b", "10 seconds").effect, operation, "short", { lease: "3 seconds" }))
      )
      yield* TestClock.adjust("20 seconds")
      expect([yield* ended(long), yield* ended(short)]).toEqual(["a", "b"])
      expect(process.faults.calls("renew").length).toBeGreaterThanOrEqual(9)
      expect(yield* process.count("recordLeaseLost")).toBe(0)
    })
  )

  it.scoped("a renewal whose reply is lost is made again", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.plan("renew", replyLost, 2)
      const body = lasting("paid", "50 seconds")
      const { exit } = yield* during("1 minute")(process.run(withIdempotency(body.effect, operation, key, fail)))
      expect(exit).toEqual(Exit.succeed("paid"))
    })
  )

  it.scoped("a clock that is set back stops neither renewals nor deadlines", () =>
    withSetBacks((setBack) =>
      Effect.gen(function* () {
        const { process } = yield* singleProcess()
        const owner = yield* Effect.fork(
          process.run(withIdempotency(lasting("paid", "2 minutes").effect, operation, key, fail))
        )
        yield* TestClock.adjust("15 seconds")
        yield* process.faults.plan("claim", hanging)
        const other = yield* Effect.fork(process.run(withIdempotency(Effect.void, operation, "other", fail)))
        yield* TestClock.adjust("100 millis")
        yield* setBack("1 hour")
        yield* TestClock.adjust("5 seconds")
        expect(yield* Effect.flip(ended(other))).toMatchObject({ _tag: "IdempotencyStorageError" })
        const before = process.faults.calls("renew").length
        yield* TestClock.adjust("60 seconds")
        expect(process.faults.calls("renew").length - before).toBeGreaterThanOrEqual(5)
        yield* TestClock.adjust("1 minute")
        expect(yield* ended(owner)).toBe("paid")
      })
    )
  )

  it.scoped("a renewal that dies does not end the renewals", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.plan("renew", () => Effect.die("broken driver"), 2)
      const body = lasting("paid", "100 seconds")
      const { exit } = yield* during("2 minutes")(process.run(withIdempotency(body.effect, operation, key, fail)))
      expect(exit).toEqual(Exit.succeed("paid"))
      expect(process.faults.calls("renew").length).toBeGreaterThan(8)
    })
  )

  it.scoped("ends with the execution, however that ends", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      for (const body of [Effect.fail("refused"), Effect.die("broken"), Effect.interrupt]) {
        yield* Effect.exit(process.run(withIdempotency(body, operation, key)))
      }
      yield* TestClock.adjust("1 minute")
      expect(process.faults.calls("renew")).toHaveLength(0)
      expect(process.underWay()).toEqual(nothing)
    })
  )
})

describe("Lost interrupts the body", () => {
  it.scoped("a forced reset stops the owner at its next renewal", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      let interruptedAt = 0
      const body = counting(
        Effect.onInterrupt(Effect.never, () => Effect.map(TestClock.currentTimeMillis, (now) => (interruptedAt = now)))
      )
      const owner = yield* Effect.fork(
        Effect.flip(process.run(withIdempotency(body.effect, operation, key, { inFlight: "fail" })))
      )
      yield* TestClock.adjust("1 second")
      yield* store.repository.reset(ids, { force: true })
      yield* TestClock.adjust("20 seconds")
      expect(yield* ended(owner)).toMatchObject({ _tag: "IdempotencyInFlightError", reason: "TakenOver" })
      expect(interruptedAt).toBe(10_000)
      expect(body.runs()).toBe(1)
      expect(yield* process.count("recordLeaseLost")).toBe(1)
      expect(process.underWay()).toEqual(nothing)
    })
  )

  it.scoped("taken over by a process that has its result: the owner gets that one", () =>
    Effect.gen(function* () {
      const { one, two } = yield* twoProcesses()
      yield* one.faults.plan("renew", unavailable)
      const owner = yield* Effect.fork(one.run(untyped(lasting("late", "1 hour").effect, operation, key)))
      yield* TestClock.adjust("31 seconds")
      yield* two.run(withIdempotency(Effect.succeed("winner"), operation, key))
      yield* one.faults.heal
      yield* TestClock.adjust("31 seconds")
      expect(yield* ended(owner)).toMatchObject({ _tag: "Replayed", value: "winner" })
      expect(yield* one.count("recordCollision")).toBe(1)
    })
  )
})

describe("Lost under at-most-once", () => {
  it.scoped("a forced reset stops the owner: TakenOver, and it is not run again by this call", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      const body = counting(Effect.never)
      const owner = yield* Effect.fork(Effect.flip(process.run(untyped(body.effect, operation, key, atMostOnce))))
      yield* TestClock.adjust("1 second")
      yield* store.repository.reset(ids, { force: true })
      yield* TestClock.adjust("20 seconds")
      expect(yield* ended(owner)).toMatchObject({ _tag: "IdempotencyInFlightError", reason: "TakenOver" })
      expect(body.runs()).toBe(1)
      expect(process.underWay()).toEqual(nothing)
    })
  )

  it.scoped("an operator resolved the key: the owner stops, and gets what the operator recorded", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* process.faults.plan("renew", unavailable)
      const owner = yield* Effect.fork(process.run(untyped(Effect.never, operation, key, atMostOnce)))
      yield* TestClock.adjust("29 seconds")
      yield* store.repository.reset(ids, { force: true })
      yield* store.claim("theirs")
      yield* store.complete("theirs")
      yield* process.faults.heal
      yield* TestClock.adjust("10 seconds")
      expect(yield* ended(owner)).toMatchObject({ _tag: "Replayed", value: "theirs" })
    })
  )

  it.scoped("the store cannot say whether it is lost: the owner carries on until the lease has passed", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      const owner = yield* Effect.fork(Effect.flip(process.run(untyped(Effect.never, operation, key, atMostOnce))))
      yield* TestClock.adjust("1 second")
      yield* store.repository.reset(ids, { force: true })
      yield* process.faults.plan("claim", unavailable)
      yield* TestClock.adjust("28 seconds")
      expect(yield* process.count("recordLeaseLost")).toBe(0)
      yield* TestClock.adjust("5 seconds")
      expect(yield* ended(owner)).toMatchObject({ _tag: "IdempotencyOutcomeUnknownError" })
    })
  )
})

describe("Gone carries on", () => {
  for (const options of [{}, fail, atMostOnce]) {
    it.scoped(
      `${JSON.stringify(options)}: the record is gone, the effect is not stopped, and its result recorded`,
      () =>
        Effect.gen(function* () {
          const { process, store } = yield* singleProcess()
          const body = lasting("paid", "100 seconds")
          const owner = yield* Effect.fork(process.run(untyped(body.effect, operation, key, options)))
          yield* TestClock.adjust("5 seconds")
          yield* store.loseEverything
          yield* TestClock.adjust("100 seconds")
          expect(yield* ended(owner)).toMatchObject({ _tag: "Executed", value: "paid" })
          expect(yield* store.stateOf()).toBe("Completed")
          expect(yield* process.count("recordLeaseLost")).toBe(0)
        })
    )
  }
})

describe("unreachable for a whole lease", () => {
  for (const fault of [unavailable, hanging]) {
    it.scoped(`under proceed the effect carries on (${fault === hanging ? "hanging" : "refusing"})`, () =>
      Effect.gen(function* () {
        const { process } = yield* singleProcess()
        yield* process.faults.plan("renew", fault)
        const body = lasting("paid", "100 seconds")
        const { exit } = yield* during("2 minutes")(process.run(untyped(body.effect, operation, key)))
        expect(exit).toMatchObject(Exit.succeed({ _tag: "Executed", value: "paid", attempt: 1 }))
        expect(yield* process.count("recordLeaseLost")).toBe(0)
      })
    )

    it.scoped(
      `under fail it is interrupted, IdempotencyStorageError (${fault === hanging ? "hanging" : "refusing"})`,
      () =>
        Effect.gen(function* () {
          const { process } = yield* singleProcess()
          yield* process.faults.plan("renew", fault)
          const body = lasting("paid", "100 seconds")
          const { exit, took } = yield* during("2 minutes")(
            Effect.flip(process.run(withIdempotency(body.effect, operation, key, fail)))
          )
          expect(exit).toMatchObject(Exit.succeed({ _tag: "IdempotencyStorageError", method: "renew" }))
          expect(took).toBeGreaterThanOrEqual(30_000)
          expect(took).toBeLessThanOrEqual(33_000)
          expect(yield* process.count("recordLeaseLost")).toBe(1)
          expect(process.underWay()).toEqual(nothing)
        })
    )

    it.scoped(`under at-most-once it is interrupted and held (${fault === hanging ? "hanging" : "refusing"})`, () =>
      Effect.gen(function* () {
        const { process, store } = yield* singleProcess()
        yield* process.faults.plan("renew", fault)
        const body = lasting("paid", "100 seconds")
        const { exit } = yield* during("2 minutes")(
          Effect.flip(process.run(withIdempotency(body.effect, operation, key, atMostOnce)))
        )
        expect(exit).toMatchObject(Exit.succeed({ _tag: "IdempotencyOutcomeUnknownError", attempt: 1 }))
        expect(yield* store.stateOf()).toBe("Unknown")
      })
    )
  }

  it.scoped("away for less than a lease, nobody is stopped", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const body = lasting("paid", "100 seconds")
      const owner = yield* Effect.fork(process.run(untyped(body.effect, operation, key, atMostOnce)))
      yield* TestClock.adjust("5 seconds")
      yield* process.faults.plan("renew", hanging)
      yield* TestClock.adjust("24 seconds")
      yield* process.faults.heal
      yield* TestClock.adjust("75 seconds")
      expect(yield* ended(owner)).toMatchObject({ _tag: "Executed", value: "paid", attempt: 1 })
    })
  )

  it.scoped("at-most-once: an owner that was only late, and was called unknown by another, finds its key again", () =>
    withPauses((pause) =>
      Effect.gen(function* () {
        const { one, store, two } = yield* twoProcesses()
        const body = lasting("paid", "100 seconds")
        yield* one.faults.plan("renew", unavailable)
        const owner = yield* Effect.fork(one.run(untyped(body.effect, operation, key, atMostOnce)))
        yield* TestClock.adjust("29500 millis")
        yield* pause("600 millis")
        const other = two.run(untyped(body.effect, operation, key, atMostOnce))
        expect(yield* Effect.flip(other)).toMatchObject({ _tag: "IdempotencyOutcomeUnknownError" })
        expect(yield* store.stateOf()).toBe("Unknown")
        yield* one.faults.heal
        yield* TestClock.adjust("10 seconds")
        expect(yield* store.stateOf()).toBe("Processing")
        yield* TestClock.adjust("61 seconds")
        expect(yield* ended(owner)).toMatchObject({ _tag: "Executed", value: "paid", attempt: 1 })
        expect(yield* other).toMatchObject({ _tag: "Replayed", value: "paid" })
        expect(body.runs()).toBe(1)
      })
    )
  )
})

describe("timers", () => {
  it.scoped("never exceed 24 days, whatever the options", () =>
    withTimers((timers) =>
      Effect.gen(function* () {
        const store = yield* makeStore()
        const process = yield* startProcess(store, { domain: { maxTimeToLive: "400 days" } })
        const options = { lease: "20 days", waitTimeout: "365 days", timeToLive: "300 days" } as const
        const body = lasting("paid", "1 minute")
        const call = process.run(withIdempotency(body.effect, operation, key, options))
        const both = yield* Effect.fork(Effect.all([call, call], { concurrency: "unbounded" }))
        yield* TestClock.adjust("2 minutes")
        expect(yield* ended(both)).toEqual(["paid", "paid"])
        expect(Math.max(...timers)).toBeLessThanOrEqual(Duration.toMillis("24 days"))
        // The follower's patience is in there: it is cut to 24 days, not lost.
        expect(Math.max(...timers)).toBe(Duration.toMillis("24 days"))
      })
    )
  )

  it.scoped("an infinite waitTimeout is one of 24 days", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const body = lasting("paid", "1 minute")
      const call = process.run(withIdempotency(body.effect, operation, key, { waitTimeout: Duration.infinity }))
      const { exit } = yield* during("2 minutes")(Effect.all([call, call], { concurrency: "unbounded" }))
      expect(exit).toEqual(Exit.succeed(["paid", "paid"]))
    })
  )

  it.scoped("a lease beyond them is refused", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const call = process.run(withIdempotency(Effect.succeed("paid"), operation, key, { lease: "25 days" }))
      const exit = yield* Effect.exit(call)
      expect(Exit.isFailure(exit) && Cause.squash(exit.cause)).toMatchObject({ _tag: "IdempotencyValidationError" })
    })
  )
})
