/** Rule 9: an owner that comes late meets the owner that took over from it. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/TestClock"
import {
  during,
  ended,
  ids,
  key,
  lasting,
  makeStore,
  nothing,
  operation,
  type Process,
  type Store,
  startProcess,
  success,
  untyped
} from "../support/engineProcess.js"
import { unavailable } from "../support/faultyRepository.js"

interface Setting {
  readonly store: Store
  readonly process: Process
  /** The late owner: its effect ends after 60 seconds; its lease of 30 seconds was not renewed. */
  readonly late: Fiber.RuntimeFiber<unknown, unknown>
}

/** 40 seconds after the late owner began, another process has claimed the key. */
const takenOver = (options: { readonly [name: string]: unknown } = {}) =>
  Effect.gen(function* () {
    const store = yield* makeStore()
    const process = yield* startProcess(store)
    yield* process.faults.plan("renew", unavailable)
    const late = yield* Effect.fork(process.run(untyped(lasting("late", "60 seconds").effect, operation, key, options)))
    yield* TestClock.adjust("40 seconds")
    expect((yield* store.claim("winner", { lease: 300_000 }))._tag).toBe("Claimed")
    return { store, process, late } satisfies Setting
  })

describe("superseded", () => {
  it.scoped("the winner recorded a success: it is replayed, and a collision counted", () =>
    Effect.gen(function* () {
      const { late, process, store } = yield* takenOver()
      yield* store.complete("winner")
      yield* TestClock.adjust("21 seconds")
      expect(yield* ended(late)).toMatchObject({ _tag: "Replayed", value: "theirs" })
      expect(yield* process.count("recordCollision")).toBe(1)
      expect(process.underWay()).toEqual(nothing)
    })
  )

  it.scoped("the winner recorded a failure: it is replayed", () =>
    Effect.gen(function* () {
      const { late, store } = yield* takenOver({ error: Schema.String })
      yield* store.complete("winner", { outcome: { _tag: "Failure", encoded: '"refused"' } })
      yield* TestClock.adjust("21 seconds")
      expect(yield* Effect.flip(ended(late))).toBe("refused")
    })
  )

  it.scoped("the winner is unavailable: own value", () =>
    Effect.gen(function* () {
      const { late, process, store } = yield* takenOver()
      yield* store.complete("winner", { outcome: { _tag: "Unavailable" } })
      yield* TestClock.adjust("21 seconds")
      expect(yield* ended(late)).toMatchObject({ _tag: "Executed", value: "late", attempt: 1 })
      expect(yield* process.count("recordCollision")).toBe(1)
    })
  )

  it.scoped("the winner has not settled: it is waited for, and its result replayed", () =>
    Effect.gen(function* () {
      const { late, process, store } = yield* takenOver()
      yield* TestClock.adjust("30 seconds")
      expect(Exit.isFailure(yield* Effect.exit(ended(late)))).toBe(true)
      yield* store.complete("winner")
      yield* TestClock.adjust("1 second")
      expect(yield* ended(late)).toMatchObject({ _tag: "Replayed", value: "theirs" })
      expect(process.underWay()).toEqual(nothing)
    })
  )

  it.scoped("the winner gives up while it is waited for: the late owner's result is recorded", () =>
    Effect.gen(function* () {
      const { late, store } = yield* takenOver()
      yield* TestClock.adjust("25 seconds")
      yield* store.repository.claims.release(ids, { token: "winner" })
      yield* TestClock.adjust("1 second")
      expect(yield* ended(late)).toMatchObject({ _tag: "Executed", value: "late" })
      expect(yield* store.stateOf()).toBe("Completed")
    })
  )

  it.scoped("the store fails while the winner is waited for: the wait goes on", () =>
    Effect.gen(function* () {
      const { late, process, store } = yield* takenOver()
      yield* TestClock.adjust("25 seconds")
      yield* process.faults.plan("complete", unavailable, 20)
      yield* store.complete("winner")
      yield* TestClock.adjust("20 seconds")
      expect(yield* ended(late)).toMatchObject({ _tag: "Replayed", value: "theirs" })
    })
  )

  it.scoped("until waitTimeout, from the end of the effect: then IdempotencyInFlightError, TakenOver", () =>
    Effect.gen(function* () {
      const { late, process } = yield* takenOver({ waitTimeout: "10 seconds" })
      yield* TestClock.adjust("29 seconds")
      expect(Exit.isFailure(yield* Effect.exit(ended(late)))).toBe(true)
      yield* TestClock.adjust("2 seconds")
      expect(yield* Effect.flip(ended(late))).toMatchObject({ _tag: "IdempotencyInFlightError", reason: "TakenOver" })
      expect(process.underWay()).toEqual(nothing)
    })
  )

  it.scoped("inFlight: fail: IdempotencyInFlightError, TakenOver, at once", () =>
    Effect.gen(function* () {
      const { late } = yield* takenOver({ inFlight: "fail" })
      yield* TestClock.adjust("20 seconds")
      expect(yield* Effect.flip(ended(late))).toMatchObject({ _tag: "IdempotencyInFlightError", reason: "TakenOver" })
    })
  )

  it.scoped("the wait for the winner is interruptible", () =>
    Effect.gen(function* () {
      const { late, process } = yield* takenOver()
      yield* TestClock.adjust("25 seconds")
      yield* Fiber.interrupt(late)
      expect(process.underWay()).toEqual(nothing)
    })
  )

  it.scoped("callers of this process wait for the winner too, and are not held up by the late owner", () =>
    Effect.gen(function* () {
      const { late, process, store } = yield* takenOver()
      yield* TestClock.adjust("25 seconds")
      const other = yield* Effect.fork(process.run(untyped(Effect.succeed("other"), operation, key)))
      yield* TestClock.adjust("1 second")
      yield* store.complete("winner")
      yield* TestClock.adjust("1 second")
      expect(yield* ended(other)).toMatchObject({ _tag: "Replayed", value: "theirs" })
      expect(yield* ended(late)).toMatchObject({ _tag: "Replayed", value: "theirs" })
    })
  )

  it.scoped("mismatch: never another request's result", () =>
    Effect.gen(function* () {
      const store = yield* makeStore()
      const process = yield* startProcess(store)
      yield* process.faults.plan("renew", unavailable)
      const options = { fingerprint: { amount: 100 } }
      const call = process.run(untyped(lasting("late", "60 seconds").effect, operation, key, options))
      const late = yield* Effect.fork(call)
      yield* TestClock.adjust("40 seconds")
      yield* store.repository.reset(ids, { force: true })
      yield* store.claim("winner", { fingerprint: "another request" })
      yield* store.complete("winner", { fingerprint: "another request" })
      yield* TestClock.adjust("21 seconds")
      expect(yield* Effect.flip(ended(late))).toMatchObject({ _tag: "IdempotencyInFlightError", reason: "TakenOver" })
    })
  )

  it.scoped("a recorded failure of the late owner gives way to the winner's success", () =>
    Effect.gen(function* () {
      const store = yield* makeStore()
      const process = yield* startProcess(store)
      yield* process.faults.plan("renew", unavailable)
      const failing = Effect.delay(Effect.fail("refused"), "60 seconds")
      const late = yield* Effect.fork(process.run(untyped(failing, operation, key, { error: Schema.String })))
      yield* TestClock.adjust("40 seconds")
      yield* store.claim("winner")
      yield* store.complete("winner", { outcome: success("paid") })
      yield* TestClock.adjust("21 seconds")
      expect(yield* ended(late)).toMatchObject({ _tag: "Replayed", value: "paid" })
    })
  )
})

/** An owner whose effect lasts an hour, and whose key was taken from it after 5 seconds: it notices at 10. */
const robbed = (options: { readonly [name: string]: unknown } = {}) =>
  Effect.gen(function* () {
    const store = yield* makeStore()
    const process = yield* startProcess(store)
    const body = lasting("late", "1 hour")
    const late = yield* Effect.fork(process.run(untyped(body.effect, operation, key, options)))
    yield* TestClock.adjust("5 seconds")
    yield* store.repository.reset(ids, { force: true })
    return { store, process, body, late }
  })

describe("lost, with the effect still running", () => {
  it.scoped("the winner has not settled: it is waited for, until waitTimeout: TakenOver", () =>
    Effect.gen(function* () {
      const store = yield* makeStore()
      const process = yield* startProcess(store)
      yield* process.faults.plan("renew", unavailable)
      const body = lasting("late", "1 hour")
      const options = { waitTimeout: "10 seconds" }
      const late = yield* Effect.fork(process.run(untyped(body.effect, operation, key, options)))
      yield* TestClock.adjust("31 seconds")
      yield* store.claim("winner", { lease: 300_000 })
      yield* process.faults.heal
      yield* TestClock.adjust("15 seconds")
      expect(yield* Effect.flip(ended(late))).toMatchObject({ _tag: "IdempotencyInFlightError", reason: "TakenOver" })
      expect(body.runs()).toBe(1)
    })
  )

  it.scoped("the winner settles while it is waited for: its result is replayed", () =>
    Effect.gen(function* () {
      const store = yield* makeStore()
      const process = yield* startProcess(store)
      yield* process.faults.plan("renew", unavailable)
      const late = yield* Effect.fork(process.run(untyped(lasting("late", "1 hour").effect, operation, key)))
      yield* TestClock.adjust("31 seconds")
      yield* store.claim("winner", { lease: 300_000 })
      yield* process.faults.heal
      yield* TestClock.adjust("10 seconds")
      const { exit, took } = yield* during("1100 millis")(Effect.zipRight(store.complete("winner"), Fiber.join(late)))
      expect(exit).toMatchObject(Exit.succeed({ _tag: "Replayed", value: "theirs" }))
      expect(took).toBe(0)
    })
  )

  it.scoped("the winner recorded another request's result: TakenOver, not that result", () =>
    Effect.gen(function* () {
      const { late, store } = yield* robbed({ fingerprint: { amount: 100 } })
      yield* store.claim("winner", { fingerprint: "another request" })
      yield* store.complete("winner", { fingerprint: "another request" })
      yield* TestClock.adjust("10 seconds")
      expect(yield* Effect.flip(ended(late))).toMatchObject({ _tag: "IdempotencyInFlightError", reason: "TakenOver" })
    })
  )

  it.scoped("the winner is another request that has not settled: TakenOver, no mismatch", () =>
    Effect.gen(function* () {
      const { late, process, store } = yield* robbed({ fingerprint: { amount: 100 } })
      yield* store.claim("winner", { fingerprint: "another request", lease: 300_000 })
      yield* TestClock.adjust("10 seconds")
      expect(yield* Effect.flip(ended(late))).toMatchObject({ _tag: "IdempotencyInFlightError", reason: "TakenOver" })
      expect(yield* process.count("recordMismatch")).toBe(1)
    })
  )

  it.scoped("the store goes away: the winner, known to run, is given a lease before the effect runs again", () =>
    Effect.gen(function* () {
      const { body, late, process, store } = yield* robbed()
      yield* store.claim("winner", { lease: 300_000 })
      yield* process.faults.plan("claim", unavailable)
      yield* TestClock.adjust("34 seconds")
      expect(body.runs()).toBe(1)
      yield* TestClock.adjust("4 seconds")
      expect(body.runs()).toBe(2)
      yield* Fiber.interrupt(late)
    })
  )

  it.scoped("the winner is unavailable: IdempotencyResultUnavailableError, as this owner has no value", () =>
    Effect.gen(function* () {
      const { late, store } = yield* robbed()
      yield* store.claim("winner")
      yield* store.complete("winner", { outcome: { _tag: "Unavailable" } })
      yield* TestClock.adjust("10 seconds")
      expect(yield* Effect.flip(ended(late))).toMatchObject({ _tag: "IdempotencyResultUnavailableError" })
    })
  )
})
