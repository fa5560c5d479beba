/** What the running effect may ask for, which way a call went, and what is measured. */
import { describe, expect, it } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/TestClock"
import { IdempotencyOutcome } from "../../src/IdempotencyOutcome.js"
import { IdempotentExecution } from "../../src/IdempotentExecution.js"
import { withIdempotency, withIdempotencyOutcome } from "../../src/withIdempotency.js"
import {
  ended,
  ids,
  key,
  lasting,
  operation,
  settleDown,
  singleProcess,
  untyped,
  within
} from "../support/engineProcess.js"
import { unavailable } from "../support/faultyRepository.js"

describe("IdempotentExecution", () => {
  const asked = Effect.map(IdempotentExecution, ({ attempt, childKey, idempotencyKey, operation: of, scope }) => ({
    of,
    idempotencyKey,
    scope: scope ?? null,
    attempt,
    child: String(childKey("gateway"))
  }))

  it.scoped("names the operation, the key and the scope", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const call = process.run(withIdempotency(asked, ` ${operation}`, `${key} `, { scope: "tenant" }))
      expect(yield* call).toMatchObject({ of: operation, idempotencyKey: key, scope: "tenant", attempt: 1 })
    })
  )

  it.scoped("attempt grows with each owner, over failures, interruptions, lapses and resets", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      const attempts: Array<number> = []
      const run = (ending: Effect.Effect<string, string>) => {
        const body = Effect.flatMap(IdempotentExecution, ({ attempt }) => {
          attempts.push(attempt)
          return ending
        })
        return process.run(withIdempotency(body, operation, key))
      }
      yield* Effect.flip(run(Effect.fail("refused")))
      yield* Effect.exit(run(Effect.die("broken")))
      yield* Effect.exit(run(Effect.interrupt))
      yield* store.claim("crashed", { lease: 5000 })
      yield* within("10 seconds")(Effect.flip(run(Effect.fail("refused"))))
      yield* run(Effect.succeed("paid"))
      yield* store.repository.reset(ids)
      yield* run(Effect.succeed("paid"))
      expect(attempts).toEqual([1, 2, 3, 5, 6, 7])
    })
  )

  it.scoped("childKey is the same on every attempt", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const children: Array<string> = []
      const body = Effect.flatMap(asked, ({ attempt, child }) => {
        children.push(child)
        return attempt < 3 ? Effect.fail("refused") : Effect.succeed("paid")
      })
      const call = process.run(withIdempotency(body, operation, key))
      yield* Effect.flip(call)
      yield* Effect.flip(call)
      yield* call
      expect(new Set(children).size).toBe(1)
      expect(children).toHaveLength(3)
      // Nor may another release change it: what it was handed to would run again.
      expect(children[0]).toBe("IBgfzbpN2dcgcNsqSmEDg3zuTstBnplOQa4HdRkoVP0")
    })
  )

  it.scoped("childKey differs by name, operation, scope and key, wherever the parts are split", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const childOf = (of: string, ofKey: string, scope: string | undefined, name: string) =>
        process.run(
          withIdempotency(
            Effect.map(IdempotentExecution, ({ childKey }) => String(childKey(name))),
            of,
            ofKey,
            { scope }
          )
        )
      const children = yield* Effect.all([
        childOf("pay", "ab", undefined, "c1"),
        childOf("pay", "abc", undefined, "1"),
        childOf("pay", "a", undefined, "bc1"),
        childOf("payab", "x", undefined, "c1"),
        childOf("pay", "ab", "s", "c1"),
        childOf("pay", "s", "ab", "c1"),
        childOf("pay.s", "ab", undefined, "c1")
      ])
      expect(new Set(children).size).toBe(children.length)
    })
  )
})

describe("IdempotencyOutcome", () => {
  const toText = IdempotencyOutcome.$match({
    Executed: ({ attempt, value }) => `executed ${value} on attempt ${attempt}`,
    Replayed: ({ value }) => `replayed ${value}`,
    Unprotected: ({ reason, value }) => `unprotected ${value}: ${reason === "NoKey" ? reason : reason._tag}`
  })

  it.scoped("Executed, Replayed, Unprotected; $match tells them apart", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const call = (ofKey: string | null) =>
        process.run(withIdempotencyOutcome(Effect.succeed("paid"), operation, ofKey))
      const texts = [toText(yield* call(key)), toText(yield* call(key)), toText(yield* call(null))]
      yield* process.faults.plan("all", unavailable)
      texts.push(toText(yield* within("3 seconds")(call("order-2"))))
      expect(texts).toEqual([
        "executed paid on attempt 1",
        "replayed paid",
        "unprotected paid: NoKey",
        "unprotected paid: IdempotencyStorageError"
      ])
    })
  )

  it.scoped("Replayed says when the result was recorded and until when it is kept, by the store's clock", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const body = lasting("paid", "10 seconds")
      const call = process.run(withIdempotencyOutcome(body.effect, operation, key, { timeToLive: "1 hour" }))
      const owner = yield* Effect.fork(call)
      yield* TestClock.adjust("1 second")
      const follower = yield* Effect.fork(call)
      yield* TestClock.adjust("1 minute")
      const replayed = { _tag: "Replayed", value: "paid", recordedAt: DateTime.unsafeMake(10_000) }
      yield* ended(owner)
      for (const outcome of [yield* ended(follower), yield* call]) {
        expect(outcome).toEqual({ ...replayed, expiresAt: DateTime.unsafeMake(3_610_000) })
      }
    })
  )
})

describe("metrics", () => {
  const measured = ["recordExecution", "recordReplay", "recordDegraded", "recordTakeover", "recordMismatch"] as const

  it.scoped("a run and a replay; the gauge of executions comes back to 0", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const call = process.run(withIdempotency(Effect.succeed("paid"), operation, key))
      yield* call
      yield* call
      const counts = yield* Effect.forEach(measured, process.count)
      expect(counts).toEqual([1, 1, 0, 0, 0])
      const calls = yield* process.metrics.calls
      const changes = calls.flatMap((measure) => (measure.method === "recordInFlight" ? [measure.change] : []))
      expect(changes).toEqual([1, -1])
      expect(calls.every((measure) => measure.operation === operation)).toBe(true)
      expect(JSON.stringify(calls)).not.toContain(key)
    })
  )

  it.scoped("the gauge comes back to 0 after failures, defects, interruptions and losses", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      for (const body of [Effect.fail("refused"), Effect.die("broken"), Effect.interrupt]) {
        yield* Effect.exit(process.run(withIdempotency(body, operation, key)))
      }
      const interrupted = yield* Effect.fork(process.run(withIdempotency(Effect.never, operation, key)))
      yield* settleDown
      yield* Fiber.interrupt(interrupted)
      const lost = yield* Effect.fork(
        Effect.exit(process.run(withIdempotency(Effect.never, operation, key, { inFlight: "fail" })))
      )
      yield* TestClock.adjust("1 second")
      yield* store.loseEverything
      yield* store.claim("theirs")
      yield* TestClock.adjust("15 seconds")
      yield* ended(lost)
      const calls = yield* process.metrics.calls
      const sum = calls.reduce(
        (total, measure) => total + (measure.method === "recordInFlight" ? measure.change : 0),
        0
      )
      expect(sum).toBe(0)
      expect(yield* process.count("recordExecution")).toBe(5)
      expect(yield* process.count("recordLeaseLost")).toBe(1)
    })
  )

  it.scoped("a take-over, a mismatch, a wait, a degraded run", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* store.claim("crashed", { lease: 5000 })
      yield* within("10 seconds")(process.run(untyped(Effect.succeed("paid"), operation, key, { fingerprint: 1 })))
      yield* Effect.flip(process.run(untyped(Effect.succeed("paid"), operation, key, { fingerprint: 2 })))
      yield* process.faults.plan("all", unavailable)
      yield* within("3 seconds")(process.run(untyped(Effect.succeed("paid"), operation, "order-2")))
      const counts = yield* Effect.forEach(measured, process.count)
      expect(counts).toEqual([2, 0, 1, 1, 1])
      expect(yield* process.count("recordWait")).toBe(1)
    })
  )

  it.scoped("a recorded failure that is replayed is a replay", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const call = Effect.flip(
        process.run(withIdempotency(Effect.fail("refused"), operation, key, { error: Schema.String }))
      )
      yield* call
      yield* call
      expect([yield* process.count("recordExecution"), yield* process.count("recordReplay")]).toEqual([1, 1])
    })
  )
})
