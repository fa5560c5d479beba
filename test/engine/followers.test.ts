/** Rule 12: who follows a leader that waits for another process, is interrupted there, or runs without the store. */
import { describe, expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Predicate from "effect/Predicate"
import * as TestClock from "effect/TestClock"
import {
  during,
  ended,
  following,
  gated,
  key,
  makeStore,
  type Options,
  operation,
  settleDown,
  singleProcess,
  startProcess,
  untyped
} from "../support/engineProcess.js"
import { answeringAfter, hanging, unavailable } from "../support/faultyRepository.js"

describe("following a leader that waits for another process", () => {
  const waitingFor = Effect.gen(function* () {
    const { process, store } = yield* singleProcess()
    yield* store.claim("theirs", { lease: 60_000 })
    const leader = yield* Effect.fork(following(process, { waitTimeout: "20 seconds" }).call)
    yield* TestClock.adjust("1 second")
    return { process, store, leader }
  })

  it.scoped("one of them asks the store, and all get the result", () =>
    Effect.gen(function* () {
      const { leader, process, store } = yield* waitingFor
      const before = process.faults.calls("claim").length
      const followers = yield* Effect.forEach([1, 2, 3], () => Effect.fork(following(process).call))
      yield* settleDown
      expect(process.faults.calls("claim")).toHaveLength(before)
      yield* store.complete("theirs")
      yield* TestClock.adjust("1 second")
      for (const fiber of [leader, ...followers]) {
        expect(yield* ended(fiber)).toMatchObject({ _tag: "Replayed", value: "theirs" })
      }
    })
  )

  for (const [what, request, options, tag] of [
    ["in flight", {}, { inFlight: "fail" }, "IdempotencyInFlightError"],
    ["of a waitTimeout of zero", {}, { waitTimeout: 0 }, "IdempotencyInFlightError"],
    ["of unknown outcome", { guarantee: "at-most-once", lease: 1 }, {}, "IdempotencyResultUnavailableError"],
    ["of another request", { fingerprint: "theirs" }, {}, "IdempotencyFingerprintMismatchError"]
  ] as const) {
    it.scoped(`a hundred callers of a key that is held elsewhere, ${what}: the answer to one is that to all`, () =>
      Effect.gen(function* () {
        const store = yield* makeStore()
        const process = yield* startProcess(store)
        yield* store.claim("theirs", request)
        yield* TestClock.adjust("10 millis")
        yield* process.faults.plan("claim", answeringAfter("100 millis"))
        const call = untyped(Effect.succeed("mine"), operation, key, { fingerprint: "f", ...options })
        const errors = Effect.forEach(
          Array.from({ length: 100 }, () => Effect.flip(process.run(call))),
          (one) => one,
          { concurrency: "unbounded" }
        )
        const { exit, took } = yield* during("20 seconds")(errors)
        expect(Exit.isSuccess(exit) && exit.value.every((error) => Predicate.isTagged(error, tag))).toBe(true)
        expect(took).toBe(100)
        expect(process.faults.calls("claim")).toHaveLength(1)
      })
    )
  }

  it.scoped("inFlight: fail, at once; an own waitTimeout", () =>
    Effect.gen(function* () {
      const { leader, process } = yield* waitingFor
      const hasty = Effect.flip(following(process, { inFlight: "fail" }).call)
      expect(yield* during("100 millis")(hasty)).toMatchObject({
        exit: Exit.succeed({
          _tag: "IdempotencyInFlightError",
          reason: "Running",
          retryAfter: Duration.seconds(59)
        }),
        took: 0
      })
      const patient = Effect.flip(following(process, { waitTimeout: "5 seconds" }).call)
      expect(yield* during("10 seconds")(patient)).toMatchObject({
        exit: Exit.succeed({ _tag: "IdempotencyInFlightError" }),
        took: 5000
      })
      yield* Fiber.interrupt(leader)
    })
  )

  it.scoped("the leader's patience ends first: a follower goes on waiting", () =>
    Effect.gen(function* () {
      const { leader, process, store } = yield* waitingFor
      const follower = yield* Effect.fork(following(process, { waitTimeout: "1 hour" }).call)
      yield* TestClock.adjust("25 seconds")
      expect(yield* Effect.flip(ended(leader))).toMatchObject({ _tag: "IdempotencyInFlightError" })
      yield* store.complete("theirs")
      yield* TestClock.adjust("1 second")
      expect(yield* ended(follower)).toMatchObject({ _tag: "Replayed", value: "theirs" })
      // One for each of them, though the follower waited for two.
      expect(yield* process.count("recordWait")).toBe(2)
    })
  )
})

describe("an interrupted leader that waits for another process", () => {
  it.scoped("a follower goes on waiting in its place", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* store.claim("theirs", { lease: 60_000 })
      const leader = yield* Effect.fork(following(process).call)
      yield* TestClock.adjust("1 second")
      const follower = yield* Effect.fork(following(process).call)
      yield* settleDown
      yield* Fiber.interrupt(leader)
      yield* TestClock.adjust("1 second")
      yield* store.complete("theirs")
      yield* TestClock.adjust("1 second")
      expect(yield* ended(follower)).toMatchObject({ _tag: "Replayed", value: "theirs" })
    })
  )
})

describe("following a degraded leader", () => {
  const degraded = (options: Options = {}) =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.plan("all", unavailable)
      const body = yield* gated({ id: "paid" })
      const leader = yield* Effect.fork(process.run(untyped(body.effect, operation, key, options)))
      yield* TestClock.adjust("1 second")
      yield* body.started
      return { process, body, leader }
    })

  it.scoped("proceed followers share its result as Unprotected, and no object", () =>
    Effect.gen(function* () {
      const { body, leader, process } = yield* degraded({ fingerprint: 1 })
      const followers = yield* Effect.forEach([{}, { fingerprint: 1 }], (options) =>
        Effect.fork(following(process, options).call)
      )
      yield* settleDown
      yield* body.open
      yield* TestClock.adjust("2 seconds")
      const own = yield* ended(leader)
      expect(own).toMatchObject({ _tag: "Unprotected", value: { id: "paid" } })
      for (const fiber of followers) {
        const shared = yield* ended(fiber)
        expect(shared).toMatchObject({ _tag: "Unprotected", value: { id: "paid" }, reason: { method: "claim" } })
        expect(shared.value).not.toBe(own.value)
      }
      expect(body.runs()).toBe(1)
    })
  )

  it.scoped("fail followers get the storage error, another fingerprint a mismatch", () =>
    Effect.gen(function* () {
      const { body, process } = yield* degraded({ fingerprint: 1 })
      const strict = yield* Effect.fork(Effect.flip(following(process, { onStorageFailure: "fail" }).call))
      const once = yield* Effect.fork(Effect.flip(following(process, { guarantee: "at-most-once" }).call))
      const other = yield* Effect.fork(Effect.flip(following(process, { fingerprint: 2 }).call))
      yield* settleDown
      expect(yield* ended(other)).toMatchObject({ _tag: "IdempotencyFingerprintMismatchError" })
      yield* body.open
      yield* TestClock.adjust("2 seconds")
      expect(yield* ended(strict)).toMatchObject({ _tag: "IdempotencyStorageError" })
      expect(yield* ended(once)).toMatchObject({ _tag: "IdempotencyStorageError" })
    })
  )

  it.scoped("its result that cannot be recorded is not shared", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.plan("all", hanging)
      const leader = yield* Effect.fork(
        process.run(untyped(Effect.delay(Effect.succeed(Number.NaN), "5 seconds"), operation, key))
      )
      yield* TestClock.adjust("2 seconds")
      const follower = yield* Effect.fork(Effect.flip(following(process).call))
      yield* TestClock.adjust("10 seconds")
      expect(yield* ended(leader)).toMatchObject({ _tag: "Unprotected", value: Number.NaN })
      expect(yield* ended(follower)).toMatchObject({ _tag: "IdempotencyResultUnavailableError" })
    })
  )
})
