/** Rule 13: waiters poll with jitter; changes wake them earlier and are only a hint; on waking they claim again. */
import { describe, expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as TestClock from "effect/TestClock"
import {
  counting,
  during,
  ended,
  ids,
  key,
  lasting,
  operation,
  settleDown,
  singleProcess,
  twoProcesses,
  untyped
} from "../support/engineProcess.js"
import { hanging } from "../support/faultyRepository.js"

const waiting = (options: { readonly [name: string]: unknown } = {}) =>
  Effect.gen(function* () {
    const { process, store } = yield* singleProcess()
    yield* store.claim("theirs", { lease: 20_000 })
    const body = counting(Effect.succeed("mine"))
    return { process, store, body, call: process.run(untyped(body.effect, operation, key, options)) }
  })

/** What a caller has waited for: it comes after 5 seconds. */
const awaited = ({ call, store }: Effect.Effect.Success<ReturnType<typeof waiting>>) =>
  Effect.gen(function* () {
    const waiter = yield* Effect.fork(call)
    yield* TestClock.adjust("5 seconds")
    yield* store.complete("theirs")
    yield* settleDown
    return yield* ended(waiter)
  })

describe("waiters", () => {
  it.scoped("two processes: one execution, and the follower in the other process gets its result", () =>
    Effect.gen(function* () {
      const { one, two } = yield* twoProcesses()
      const body = lasting({ id: "paid" }, "10 seconds")
      const calls = [one, two, one, two].map((process) => process.run(untyped(body.effect, operation, key)))
      const { exit, took } = yield* during("11 seconds")(Effect.all(calls, { concurrency: "unbounded" }))
      expect(Exit.isSuccess(exit) && exit.value.map(({ value }) => value)).toEqual(Array(4).fill({ id: "paid" }))
      expect(took).toBe(10_000)
      expect(body.runs()).toBe(1)
    })
  )

  it.scoped("are woken by changes, at once", () =>
    Effect.gen(function* () {
      expect(yield* awaited(yield* waiting())).toMatchObject({ _tag: "Replayed", value: "theirs" })
    })
  )

  it.scoped("are woken by a release, and then run", () =>
    Effect.gen(function* () {
      const { call, store } = yield* waiting()
      const waiter = yield* Effect.fork(call)
      yield* TestClock.adjust("5 seconds")
      yield* store.repository.claims.release(ids, { token: "theirs" })
      yield* settleDown
      expect(yield* ended(waiter)).toMatchObject({ _tag: "Executed", value: "mine", attempt: 2 })
    })
  )

  it.scoped("without changes they find out by polling, within half a second", () =>
    Effect.gen(function* () {
      const { call, process, store } = yield* waiting()
      yield* process.faults.changes("silent")
      const waiter = yield* Effect.fork(call)
      yield* TestClock.adjust("5 seconds")
      yield* store.complete("theirs")
      yield* TestClock.adjust("500 millis")
      expect(yield* ended(waiter)).toMatchObject({ _tag: "Replayed", value: "theirs" })
    })
  )

  it.scoped.each(["hanging", "stuck", "dying", "broken"] as const)("a %s subscription does not hold them up", (how) =>
    Effect.gen(function* () {
      const { call, process, store } = yield* waiting()
      yield* process.faults.changes(how)
      const waiter = yield* Effect.fork(call)
      yield* TestClock.adjust("5 seconds")
      yield* store.complete("theirs")
      yield* TestClock.adjust("2 seconds")
      expect(yield* ended(waiter)).toMatchObject({ _tag: "Replayed", value: "theirs" })
    })
  )

  it.scoped("poll from 25 ms, doubling to 500 ms, with jitter", () =>
    Effect.gen(function* () {
      const { call, process } = yield* waiting()
      yield* process.faults.changes("silent")
      const waiter = yield* Effect.fork(call)
      yield* TestClock.adjust("10 seconds")
      const at = process.faults.calls("claim").map((claim) => claim.at)
      const gaps = at.slice(1).map((time, index) => time - (at[index] ?? 0))
      const bounds = [25, 50, 100, 200, 400, ...Array<number>(gaps.length).fill(500)]
      for (const [index, gap] of gaps.entries()) {
        expect(gap).toBeGreaterThanOrEqual((bounds[index] ?? 500) / 2 - 1)
        expect(gap).toBeLessThanOrEqual((bounds[index] ?? 500) + 1)
      }
      expect(gaps.length).toBeGreaterThan(19)
      expect(new Set(gaps).size).toBeGreaterThan(5)
      yield* TestClock.adjust("11 seconds")
      expect(yield* ended(waiter)).toMatchObject({ _tag: "Executed", attempt: 2 })
    })
  )

  it.scoped("claim again with one token, however often they ask", () =>
    Effect.gen(function* () {
      const setting = yield* waiting()
      const { process } = setting
      yield* awaited(setting)
      expect(new Set(process.faults.calls("claim").map(({ tokens }) => tokens[0])).size).toBe(1)
    })
  )

  it.scoped("take over as soon as the lease has passed", () =>
    Effect.gen(function* () {
      const { body, call } = yield* waiting()
      const { exit, took } = yield* during("30 seconds")(call)
      expect(exit).toMatchObject(Exit.succeed({ _tag: "Executed", attempt: 2 }))
      expect(took).toBeGreaterThanOrEqual(20_000)
      expect(took).toBeLessThanOrEqual(20_100)
      expect(body.runs()).toBe(1)
    })
  )

  it.scoped("give up at waitTimeout, with what is left of the lease", () =>
    Effect.gen(function* () {
      const { body, call, process } = yield* waiting({ waitTimeout: "5 seconds" })
      const { exit, took } = yield* during("30 seconds")(Effect.flip(call))
      expect(exit).toMatchObject(Exit.succeed({ _tag: "IdempotencyInFlightError", reason: "Running", operation }))
      expect(Exit.isSuccess(exit) && exit.value).toHaveProperty("retryAfter", Duration.seconds(15))
      expect(took).toBe(5000)
      expect(body.runs()).toBe(0)
      expect(yield* process.count("recordWait")).toBe(1)
    })
  )

  it.scoped("a waitTimeout of nothing: one question, no wait", () =>
    Effect.gen(function* () {
      const { call, process } = yield* waiting({ waitTimeout: 0 })
      const { exit, took } = yield* during("1 second")(Effect.flip(call))
      expect(exit).toMatchObject(Exit.succeed({ _tag: "IdempotencyInFlightError" }))
      expect(took).toBe(0)
      expect(process.faults.calls("claim")).toHaveLength(1)
    })
  )

  it.scoped("are measured once, with how long they waited", () =>
    Effect.gen(function* () {
      yield* TestClock.adjust("1 hour")
      const setting = yield* waiting()
      const { process } = setting
      yield* awaited(setting)
      const waits = (yield* process.metrics.calls).filter(({ method }) => method === "recordWait")
      expect(waits).toEqual([{ method: "recordWait", operation, duration: Duration.seconds(5) }])
    })
  )

  it.scoped("inFlight: fail asks once, and does not wait", () =>
    Effect.gen(function* () {
      const { call, process } = yield* waiting({ inFlight: "fail" })
      const { exit, took } = yield* during("1 second")(Effect.flip(call))
      expect(exit).toMatchObject(Exit.succeed({ _tag: "IdempotencyInFlightError", reason: "Running" }))
      expect(Exit.isSuccess(exit) && exit.value).toHaveProperty("retryAfter", Duration.seconds(20))
      expect(took).toBe(0)
      expect(yield* process.count("recordWait")).toBe(0)
      expect(process.faults.calls("claim")).toHaveLength(1)
    })
  )

  it.scoped("a store that hangs meanwhile does not end the wait of a fail caller early, nor late", () =>
    Effect.gen(function* () {
      const { body, call, process } = yield* waiting({ waitTimeout: "5 seconds", inFlight: "wait" })
      const waiter = yield* Effect.fork(Effect.flip(call))
      yield* TestClock.adjust("2 seconds")
      yield* process.faults.plan("claim", hanging)
      yield* TestClock.adjust("4100 millis")
      expect(yield* ended(waiter)).toMatchObject({ _tag: "IdempotencyInFlightError" })
      expect(body.runs()).toBe(0)
    })
  )

  it.scoped("leave nothing behind: no subscription, no timer, no flight", () =>
    Effect.gen(function* () {
      const setting = yield* waiting()
      const { process } = setting
      yield* awaited(setting)
      const before = process.faults.calls().length
      yield* TestClock.adjust("5 minutes")
      expect(process.faults.calls()).toHaveLength(before)
      expect(process.underWay()).toEqual({ owners: 0, flights: 0, leases: 0, background: 0 })
    })
  )
})
