/** Rule 10: a caller that knows of another owner does not degrade before that owner's lease has passed. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import {
  counting,
  ended,
  ids,
  key,
  type Options,
  operation,
  settleDown,
  singleProcess,
  untyped
} from "../support/engineProcess.js"
import { unavailable } from "../support/faultyRepository.js"

describe("a caller that has seen another owner", () => {
  /** A caller waits for theirs, and the store has gone away. */
  const waiting = (lease: number, options: Options = {}) =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* store.claim("theirs", { lease })
      const body = counting(Effect.succeed("mine"))
      const caller = yield* Effect.fork(Effect.exit(process.run(untyped(body.effect, operation, key, options))))
      yield* settleDown
      yield* process.faults.plan("all", unavailable)
      return { process, store, body, end: Effect.flatten(ended(caller)) }
    })

  it.scoped("nobody degrades who has seen an owner, before that owner's lease has passed", () =>
    Effect.gen(function* () {
      const { body, end } = yield* waiting(10_000)
      yield* TestClock.adjust("9900 millis")
      expect(body.runs()).toBe(0)
      yield* TestClock.adjust("3 seconds")
      expect(yield* end).toMatchObject({ _tag: "Unprotected", value: "mine" })
    })
  )

  it.scoped("what the owner recorded meanwhile is found once the store is back, without a run", () =>
    Effect.gen(function* () {
      const { body, end, process, store } = yield* waiting(10_000)
      yield* process.faults.changes("silent")
      yield* TestClock.adjust("5 seconds")
      yield* store.complete("theirs")
      yield* process.faults.heal
      yield* TestClock.adjust("2 seconds")
      expect(yield* end).toMatchObject({ _tag: "Replayed", value: "theirs" })
      expect(body.runs()).toBe(0)
    })
  )

  it.scoped("at waitTimeout, such a caller gets IdempotencyInFlightError", () =>
    Effect.gen(function* () {
      const { body, end } = yield* waiting(60_000, { waitTimeout: "5 seconds" })
      yield* TestClock.adjust("7 seconds")
      expect(yield* Effect.flip(end)).toMatchObject({ _tag: "IdempotencyInFlightError", reason: "Running" })
      expect(body.runs()).toBe(0)
    })
  )
})

describe("an owner that is gone", () => {
  it.scoped("is not waited for, when the store goes away after that", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* store.claim("theirs", { lease: 60_000 })
      const failing = Effect.delay(Effect.fail("no stock"), "1 second")
      const leader = yield* Effect.fork(Effect.flip(process.run(untyped(failing, operation, key))))
      yield* settleDown
      const follower = yield* Effect.fork(process.run(untyped(Effect.succeed("mine"), operation, key)))
      yield* TestClock.adjust("1 second")
      yield* Effect.orDie(store.repository.claims.release(ids, { token: "theirs" }))
      yield* TestClock.adjust("500 millis")
      yield* process.faults.plan("claim", unavailable)
      yield* TestClock.adjust("4 seconds")
      expect(yield* ended(leader)).toBe("no stock")
      expect(yield* ended(follower)).toMatchObject({ _tag: "Unprotected", value: "mine" })
    })
  )
})

describe("a caller that has followed one who saw another owner", () => {
  /** Theirs lasts 60 seconds; a second later a follower waits behind a leader that has seen it, and the store goes away. */
  const followed = (options: Options) =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* store.claim("theirs", { lease: 60_000 })
      const call = (effect: Effect.Effect<unknown>, of: Options) =>
        Effect.fork(Effect.exit(process.run(untyped(effect, operation, key, of))))
      const leader = yield* call(Effect.succeed("leader's"), options)
      yield* settleDown
      const body = counting(Effect.succeed("mine"))
      const follower = yield* call(body.effect, { waitTimeout: "1 hour" })
      yield* TestClock.adjust("1 second")
      yield* process.faults.plan("all", unavailable)
      return { leader, follower, body }
    })

  const runsAfterTheLease = ({ body, follower }: Effect.Effect.Success<ReturnType<typeof followed>>) =>
    Effect.gen(function* () {
      yield* TestClock.adjust("38 seconds")
      expect(body.runs()).toBe(0)
      yield* TestClock.adjust("3 seconds")
      expect(yield* Effect.flatten(ended(follower))).toMatchObject({ _tag: "Unprotected", value: "mine" })
    })

  for (const [how, options, tag] of [
    ["gave up waiting", { waitTimeout: "15 seconds" }, "IdempotencyInFlightError"],
    ["was refused, as it does not degrade", { onStorageFailure: "fail" }, "IdempotencyStorageError"]
  ] as const) {
    it.scoped(`who ${how}`, () =>
      Effect.gen(function* () {
        const setting = yield* followed(options)
        yield* TestClock.adjust("20 seconds")
        expect(yield* Effect.flip(Effect.flatten(ended(setting.leader)))).toMatchObject({ _tag: tag })
        yield* runsAfterTheLease(setting)
      })
    )
  }

  it.scoped("who was interrupted", () =>
    Effect.gen(function* () {
      const setting = yield* followed({})
      yield* Fiber.interrupt(setting.leader)
      yield* TestClock.adjust("20 seconds")
      yield* runsAfterTheLease(setting)
    })
  )
})
