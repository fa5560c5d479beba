/** Rule 12: one caller of a process leads for a key; the others follow, each with its own policy. */
import { describe, expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/TestClock"
import {
  counting,
  during,
  ended,
  following,
  key,
  lasting,
  nothing,
  type Options,
  operation,
  settleDown,
  singleProcess,
  untyped,
  within
} from "../support/engineProcess.js"
import { answeringAfter } from "../support/faultyRepository.js"

/** A leader whose effect takes 10 seconds, running for one. */
const leading = (options: Options = {}, value: unknown = { id: "paid" }) =>
  Effect.gen(function* () {
    const { process, store } = yield* singleProcess()
    const body = lasting(value, "10 seconds")
    const leader = yield* Effect.fork(process.run(untyped(body.effect, operation, key, options)))
    yield* TestClock.adjust("1 second")
    return { process, store, body, leader }
  })

describe("single flight", () => {
  it.scoped("a hundred callers: one claim, one run, one result", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const body = lasting({ id: "paid" }, "10 seconds")
      const call = process.run(untyped(body.effect, operation, key))
      const all = Effect.all(
        Array.from({ length: 100 }, () => call),
        { concurrency: "unbounded" }
      )
      const outcomes = yield* within("11 seconds")(all)
      expect(outcomes.filter(({ _tag }) => _tag === "Executed")).toHaveLength(1)
      expect(outcomes.filter(({ _tag }) => _tag === "Replayed")).toHaveLength(99)
      expect(outcomes.every(({ value }) => (value as { readonly id: string }).id === "paid")).toBe(true)
      expect(body.runs()).toBe(1)
      expect(process.faults.calls("claim")).toHaveLength(1)
      expect(yield* process.count("recordReplay")).toBe(99)
      expect(process.underWay()).toEqual(nothing)
    })
  )

  it.scoped("no object is shared: everybody's result is a copy of its own", () =>
    Effect.gen(function* () {
      const { leader, process } = yield* leading()
      const followers = yield* Effect.forEach([1, 2], () => Effect.fork(following(process).call))
      yield* TestClock.adjust("10 seconds")
      const values = yield* Effect.forEach([leader, ...followers], (fiber) =>
        Effect.map(ended(fiber), ({ value }) => value)
      )
      expect(new Set(values).size).toBe(3)
      expect(values[1]).toEqual(values[0])
    })
  )

  it.scoped("operations, scopes and keys have flights of their own", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const body = lasting("paid", "10 seconds")
      const calls = [
        untyped(body.effect, operation, key),
        untyped(body.effect, "other", key),
        untyped(body.effect, operation, "order-2"),
        untyped(body.effect, operation, key, { scope: "tenant-1" }),
        untyped(body.effect, operation, key, { scope: "tenant-2" })
      ]
      const { took } = yield* during("1 minute")(Effect.all(calls.map(process.run), { concurrency: "unbounded" }))
      expect(took).toBe(10_000)
      expect(body.runs()).toBe(5)
    })
  )

  it.scoped("another fingerprint: mismatch, at once", () =>
    Effect.gen(function* () {
      const { process } = yield* leading({ fingerprint: { amount: 100 } })
      const follower = following(process, { fingerprint: { amount: 200 } })
      const { exit, took } = yield* during("100 millis")(Effect.flip(follower.call))
      expect(exit).toMatchObject(Exit.succeed({ _tag: "IdempotencyFingerprintMismatchError" }))
      expect(took).toBe(0)
      expect(yield* process.count("recordMismatch")).toBe(1)
      expect(follower.runs()).toBe(0)
      yield* TestClock.adjust("10 seconds")
    })
  )

  it.scoped("fingerprints are compared only if both sides have one", () =>
    Effect.gen(function* () {
      const { process } = yield* leading({ fingerprint: { amount: 100 } })
      const followers = yield* Effect.forEach([{}, { fingerprint: { amount: 100 } }], (options) =>
        Effect.fork(following(process, options).call)
      )
      yield* TestClock.adjust("10 seconds")
      for (const follower of followers) expect(yield* ended(follower)).toMatchObject({ _tag: "Replayed" })
    })
  )

  it.scoped("another fingerprint than the record that the leader found: mismatch, not that record", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.run(untyped(Effect.succeed("paid"), operation, key, { fingerprint: 1 }))
      yield* process.faults.plan("claim", answeringAfter("200 millis"), 1)
      const leader = yield* Effect.fork(process.run(untyped(Effect.succeed("x"), operation, key, { fingerprint: 1 })))
      yield* settleDown
      const follower = yield* Effect.fork(Effect.flip(following(process, { fingerprint: 2 }).call))
      yield* TestClock.adjust("1 second")
      expect(yield* ended(leader)).toMatchObject({ _tag: "Replayed", value: "paid" })
      expect(yield* ended(follower)).toMatchObject({ _tag: "IdempotencyFingerprintMismatchError" })
    })
  )

  it.scoped("a leader that is refused for its fingerprint: who has another, or none, asks for itself", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.run(untyped(Effect.succeed("paid"), operation, key, { fingerprint: 1 }))
      yield* process.faults.plan("claim", answeringAfter("200 millis"), 1)
      const leader = yield* Effect.fork(
        Effect.flip(process.run(untyped(Effect.succeed("x"), operation, key, { fingerprint: 2 })))
      )
      yield* settleDown
      const followers = yield* Effect.forEach([{ fingerprint: 1 }, {}], (options) =>
        Effect.fork(following(process, options).call)
      )
      const same = yield* Effect.fork(Effect.flip(following(process, { fingerprint: 2 }).call))
      yield* TestClock.adjust("1 second")
      for (const refused of [leader, same]) {
        expect(yield* ended(refused)).toMatchObject({ _tag: "IdempotencyFingerprintMismatchError" })
      }
      for (const follower of followers) {
        expect(yield* ended(follower)).toMatchObject({ _tag: "Replayed", value: "paid" })
      }
    })
  )

  it.scoped("another fingerprint than an earlier owner's, which the leader did not give: mismatch", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* store.claim("theirs", { fingerprint: "an earlier owner's", lease: 1000 })
      yield* TestClock.adjust("1 second")
      const leader = yield* Effect.fork(process.run(untyped(lasting("paid", "10 seconds").effect, operation, key)))
      yield* TestClock.adjust("1 second")
      const follower = following(process, { fingerprint: 2 })
      const followed = yield* Effect.fork(Effect.flip(follower.call))
      yield* TestClock.adjust("10 seconds")
      expect(yield* ended(leader)).toMatchObject({ _tag: "Executed", attempt: 2 })
      expect(yield* ended(followed)).toMatchObject({ _tag: "IdempotencyFingerprintMismatchError" })
      expect(follower.runs()).toBe(0)
    })
  )

  it.scoped("inFlight: fail: IdempotencyInFlightError, at once, with what is left of the lease", () =>
    Effect.gen(function* () {
      const { process } = yield* leading()
      const follower = following(process, { inFlight: "fail" })
      const error = yield* Effect.flip(follower.call)
      expect(error).toMatchObject({ _tag: "IdempotencyInFlightError", reason: "Running", idempotencyKey: key })
      expect(error).toHaveProperty("retryAfter", Duration.seconds(29))
      expect(follower.runs()).toBe(0)
      yield* TestClock.adjust("10 seconds")
    })
  )

  it.scoped("a follower's own waitTimeout", () =>
    Effect.gen(function* () {
      const { body, leader, process } = yield* leading({ waitTimeout: "1 hour" })
      const { exit, took } = yield* during("5 seconds")(
        Effect.flip(following(process, { waitTimeout: "3 seconds" }).call)
      )
      expect(exit).toMatchObject(Exit.succeed({ _tag: "IdempotencyInFlightError", reason: "Running" }))
      expect(took).toBe(3000)
      yield* TestClock.adjust("10 seconds")
      expect(yield* ended(leader)).toMatchObject({ _tag: "Executed" })
      expect(body.runs()).toBe(1)
      const [wait] = (yield* process.metrics.calls).filter((call) => call.method === "recordWait")
      expect(wait).toMatchObject({ operation, duration: expect.anything() })
    })
  )

  it.scoped("a follower decodes the recorded result with its own codecs", () =>
    Effect.gen(function* () {
      const { process } = yield* leading({}, { at: "2024-05-01T00:00:00.000Z" })
      const dated = following(process, { success: Schema.Struct({ at: Schema.Date }) })
      const wrong = following(process, { success: Schema.Struct({ at: Schema.Number }) })
      const one = yield* Effect.fork(dated.call)
      const two = yield* Effect.fork(Effect.flip(wrong.call))
      yield* TestClock.adjust("10 seconds")
      expect(yield* ended(one)).toMatchObject({ value: { at: new Date("2024-05-01T00:00:00.000Z") } })
      expect(yield* ended(two)).toMatchObject({ _tag: "IdempotencyResultUnavailableError" })
    })
  )

  it.scoped(
    "a follower of a recorded failure gets it with an error schema, else IdempotencyResultUnavailableError",
    () =>
      Effect.gen(function* () {
        const { process } = yield* singleProcess()
        const failing = Effect.delay(Effect.fail("refused"), "10 seconds")
        const leader = yield* Effect.fork(
          Effect.exit(process.run(untyped(failing, operation, key, { error: Schema.String })))
        )
        yield* TestClock.adjust("1 second")
        const knowing = yield* Effect.fork(Effect.flip(following(process, { error: Schema.String }).call))
        const unknowing = yield* Effect.fork(Effect.flip(following(process).call))
        yield* TestClock.adjust("10 seconds")
        expect(yield* ended(leader)).toEqual(Exit.fail("refused"))
        expect(yield* ended(knowing)).toBe("refused")
        expect(yield* ended(unknowing)).toMatchObject({ _tag: "IdempotencyResultUnavailableError" })
      })
  )

  it.scoped("a leader that fails unrecorded: followers claim again, and one leads", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const failing = counting(Effect.delay(Effect.fail("refused"), "10 seconds"))
      const leader = yield* Effect.fork(Effect.flip(process.run(untyped(failing.effect, operation, key))))
      yield* TestClock.adjust("1 second")
      const body = lasting("paid", "10 seconds")
      const followers = yield* Effect.forEach([1, 2, 3], () =>
        Effect.fork(process.run(untyped(body.effect, operation, key)))
      )
      yield* TestClock.adjust("20 seconds")
      expect(yield* ended(leader)).toBe("refused")
      const outcomes = yield* Effect.forEach(followers, ended)
      expect(outcomes.map(({ _tag }) => _tag).sort()).toEqual(["Executed", "Replayed", "Replayed"])
      expect([failing.runs(), body.runs()]).toEqual([1, 1])
      expect(process.faults.calls("claim")).toHaveLength(2)
    })
  )

  it.scoped("an interrupted leader: one follower leads", () =>
    Effect.gen(function* () {
      const { leader, process } = yield* leading()
      const body = lasting("second", "1 second")
      const follower = yield* Effect.fork(process.run(untyped(body.effect, operation, key)))
      yield* settleDown
      yield* Fiber.interrupt(leader)
      yield* TestClock.adjust("2 seconds")
      expect(yield* ended(follower)).toMatchObject({ _tag: "Executed", value: "second", attempt: 2 })
    })
  )

  it.scoped("an interrupted leader under at-most-once: followers get IdempotencyOutcomeUnknownError", () =>
    Effect.gen(function* () {
      const { leader, process } = yield* leading({ guarantee: "at-most-once" })
      const follower = following(process, { guarantee: "at-most-once" })
      const fiber = yield* Effect.fork(Effect.flip(follower.call))
      yield* settleDown
      yield* Fiber.interrupt(leader)
      yield* settleDown
      expect(yield* ended(fiber)).toMatchObject({ _tag: "IdempotencyOutcomeUnknownError", attempt: 1 })
      expect(follower.runs()).toBe(0)
    })
  )
})
