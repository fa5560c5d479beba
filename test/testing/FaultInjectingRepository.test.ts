import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as TestClock from "effect/TestClock"
import { Idempotency } from "../../src/Idempotency.js"
import { IdempotencyDomainService } from "../../src/IdempotencyDomainService.js"
import { IdempotencyIdentifiers } from "../../src/IdempotencyIdentifiers.js"
import { IdempotencyMetrics } from "../../src/IdempotencyMetrics.js"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import { MemoryIdempotencyRepository } from "../../src/MemoryIdempotencyRepository.js"
import {
  FaultInjectingRepository,
  type RepositoryCall,
  type RepositoryFault
} from "../../src/testing/FaultInjectingRepository.js"
import { RecordingMetrics } from "../../src/testing/RecordingMetrics.js"
import { withIdempotencyOutcome } from "../../src/withIdempotency.js"

const ids = Either.getOrThrow(IdempotencyIdentifiers.from({ operation: "op", idempotencyKey: "k" }))

const claim = (token: string) => ({
  token,
  fingerprint: undefined,
  guarantee: "at-least-once" as const,
  lease: 10_000,
  retention: 60_000,
  unknownRetention: 60_000
})

const faulty = (policy: (call: RepositoryCall) => RepositoryFault) =>
  FaultInjectingRepository.layer(policy).pipe(Layer.provide(MemoryIdempotencyRepository.layer))

/** One claim that meets a fault: how it ended within a second, and what is stored then and ten seconds later. */
const suffered = (fault: RepositoryFault) =>
  Effect.gen(function* () {
    const { claims, inspect } = yield* IdempotencyRepository
    const stored = Effect.map(inspect(ids), (state) => Option.isSome(state))
    const fiber = yield* Effect.fork(
      claims
        .claim(ids, claim("t"))
        .pipe(
          Effect.match({ onFailure: ({ applied, reason }) => `${reason}, ${applied}`, onSuccess: ({ _tag }) => _tag }),
          Effect.timeoutTo({ duration: "1 second", onTimeout: () => "silence", onSuccess: (answer) => answer })
        )
    )
    yield* TestClock.adjust("1 second")
    const answer = yield* Fiber.join(fiber)
    const soon = yield* stored
    yield* TestClock.adjust("5 seconds")
    return [answer, soon, yield* stored]
  }).pipe(Effect.provide(faulty(() => fault)))

describe("FaultInjectingRepository", () => {
  const cases: ReadonlyArray<readonly [RepositoryFault, answer: string, soon: boolean, later: boolean]> = [
    ["none", "Claimed", true, true],
    ["requestLost", "silence", false, false],
    ["replyLost", "silence", true, true],
    ["cutBefore", "Unavailable, unknown", false, false],
    ["cutAfter", "Unavailable, unknown", true, true],
    ["refused", "Unavailable, no", false, false],
    ["rejected", "Rejected, no", false, false],
    ["misconfigured", "Misconfigured, no", false, false],
    ["duplicated", "AlreadyMine", true, true],
    [{}, "Claimed", true, true],
    [{ requestDelay: "100 millis" }, "Claimed", true, true],
    [{ requestDelay: "3 seconds" }, "silence", false, true],
    [{ replyDelay: "3 seconds" }, "silence", true, true]
  ]
  for (const [fault, answer, soon, later] of cases) {
    it.effect(`${JSON.stringify(fault)}: ${answer}, ${soon ? "applied" : later ? "applied late" : "not applied"}`, () =>
      Effect.gen(function* () {
        expect(yield* suffered(fault)).toEqual([answer, soon, later])
      })
    )
  }

  it.effect("delivers a copy later", () => {
    const policy = ({ method }: RepositoryCall): RepositoryFault =>
      method === "claim" ? { repeatAfter: "3 seconds" } : "none"
    return Effect.gen(function* () {
      const { claims, inspect } = yield* IdempotencyRepository
      const leaseUntil = Effect.map(inspect(ids), (state) =>
        Option.isSome(state) && state.value._tag === "Processing" ? state.value.leaseUntil : undefined
      )
      expect((yield* claims.claim(ids, claim("t")))._tag).toBe("Claimed")
      expect(yield* leaseUntil).toBe(10_000)
      yield* TestClock.adjust("3 seconds")
      expect(yield* leaseUntil).toBe(13_000)
    }).pipe(Effect.provide(faulty(policy)))
  })

  it.effect("tells the policy of every call, counted by method", () => {
    const calls: Array<RepositoryCall> = []
    const policy = (call: RepositoryCall): RepositoryFault => {
      calls.push(call)
      return "none"
    }
    return Effect.gen(function* () {
      const { claims, get } = yield* IdempotencyRepository
      const { complete, hold, read, release, renew, saveStep } = claims
      yield* claims.claim(ids, claim("t"))
      yield* TestClock.adjust("1 second")
      yield* renew([{ identifiers: ids, request: { token: "t", lease: 10_000 } }])
      yield* saveStep(ids, { token: "t", name: "a", encoded: "1" })
      yield* claims.claim(ids, claim("u"))
      yield* read([ids])
      yield* hold(ids, { token: "u" })
      yield* release(ids, { token: "u" })
      const outcome = { _tag: "Success", encoded: "1" } as const
      yield* complete(ids, { token: "t", outcome, fingerprint: undefined, retention: 60_000 })
      expect(Option.isSome(yield* get(ids))).toBe(true)
      expect(calls.map(({ at, method, n }) => `${at} ${method} ${n}`)).toEqual([
        "0 claim 1",
        "1000 renew 1",
        "1000 saveStep 1",
        "1000 claim 2",
        "1000 read 1",
        "1000 hold 1",
        "1000 release 1",
        "1000 complete 1"
      ])
      expect(calls.every(({ identifiers: [first] }) => first === ids)).toBe(true)
    }).pipe(Effect.provide(faulty(policy)))
  })

  it.effect("counts what it injects, and its driver is not measured", () =>
    Effect.gen(function* () {
      const { claims, driver } = yield* IdempotencyRepository
      const metrics = yield* RecordingMetrics
      yield* Effect.flip(claims.claim(ids, claim("t")))
      expect([yield* metrics.count("recordError"), yield* metrics.count("recordLatency")]).toEqual([1, 1])
      yield* Effect.flip(driver.claim(ids, claim("t")))
      expect([yield* metrics.count("recordError"), yield* metrics.count("recordLatency")]).toEqual([1, 1])
    }).pipe(Effect.provide(faulty(() => "refused").pipe(Layer.provideMerge(RecordingMetrics.layer))))
  )

  it.effect("lets changes through", () =>
    Effect.gen(function* () {
      const { claims } = yield* IdempotencyRepository
      yield* claims.claim(ids, claim("t"))
      const changed = yield* claims.changes(ids)
      const woken = yield* Deferred.make<void>()
      yield* Effect.fork(Effect.zipRight(changed, Deferred.succeed(woken, undefined)))
      yield* claims.release(ids, { token: "t" })
      yield* Deferred.await(woken)
    }).pipe(Effect.scoped, Effect.provide(faulty(() => "none")))
  )

  it("makes the same faults from the same seed", () => {
    const faults = (seed: number) => {
      const policy = FaultInjectingRepository.random({ seed, probability: 0.5, maxDelay: "1 second" })
      return Array.from({ length: 200 }, (_, n) => policy({ method: "claim", n, identifiers: [ids], at: 0 }))
    }
    expect(faults(1)).toEqual(faults(1))
    expect(faults(1)).not.toEqual(faults(2))
    const names = faults(1).map((fault) => (typeof fault === "string" ? fault : "delayed"))
    expect(new Set(names).size).toBe(9)
    expect(names.filter((name) => name === "none").length).toBeGreaterThan(60)
    const delays = faults(1).flatMap((fault) => (typeof fault === "string" ? [] : Object.values(fault)))
    for (const delay of delays) expect(Duration.toMillis(delay ?? 0)).toBeLessThan(1000)
  })

  it("makes no faults, or only those that are asked for", () => {
    const call: RepositoryCall = { method: "claim", n: 1, identifiers: [ids], at: 0 }
    const never = FaultInjectingRepository.random({ seed: 1, probability: 0 })
    expect(never(call)).toBe("none")
    const always = FaultInjectingRepository.random({ seed: 1, probability: 1, faults: ["misconfigured"] })
    expect(always(call)).toBe("misconfigured")
  })

  it.effect("shows that a completion whose reply is lost is brought home", () => {
    const repository = faulty(({ method, n }) => (method === "complete" && n === 1 ? "replyLost" : "none"))
    const engine = Idempotency.layer.pipe(
      Layer.provide([repository, IdempotencyDomainService.layer, IdempotencyMetrics.layerNoop])
    )
    return Effect.gen(function* () {
      let runs = 0
      const charge = Effect.sync(() => ++runs).pipe(withIdempotencyOutcome("charge", "order-1"))
      const first = yield* Effect.fork(charge)
      yield* TestClock.adjust("1 second")
      expect((yield* Fiber.join(first))._tag).toBe("Executed")
      const second = yield* charge
      expect([second._tag, second.value, runs]).toEqual(["Replayed", 1, 1])
    }).pipe(Effect.provide(engine))
  })
})
