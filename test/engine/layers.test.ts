/** The engine's layers: what they take from beneath, their options, and what a scope leaves behind. */
import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as TestClock from "effect/TestClock"
import { Idempotency, type IdempotencyEngineOptions } from "../../src/Idempotency.js"
import { IdempotencyDomainService } from "../../src/IdempotencyDomainService.js"
import { IdempotencyMetrics } from "../../src/IdempotencyMetrics.js"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import { layerMemory } from "../../src/layerMemory.js"
import { MemoryIdempotencyRepository } from "../../src/MemoryIdempotencyRepository.js"
import { RecordingMetrics } from "../../src/testing/RecordingMetrics.js"
import { withIdempotency, withIdempotencyOutcome } from "../../src/withIdempotency.js"
import { counting, identifiersOf, key, operation, untyped } from "../support/engineProcess.js"

const charge = withIdempotency(Effect.succeed("paid"), operation, key)

const beneath = Layer.mergeAll(
  MemoryIdempotencyRepository.layer,
  IdempotencyDomainService.layer,
  IdempotencyMetrics.layerNoop
)

describe("layerMemory", () => {
  it.effect("provides all four services", () =>
    Effect.gen(function* () {
      yield* charge
      const repository = yield* IdempotencyRepository
      const record = Option.getOrThrow(yield* repository.get(identifiersOf()))
      expect(record.result).toBe("paid")
      const domain = yield* IdempotencyDomainService
      yield* domain.validateRecord(record)
      yield* Effect.flatMap(IdempotencyMetrics, (metrics) => metrics.recordHit(operation))
    }).pipe(Effect.provide(layerMemory))
  )

  it.effect("takes the metrics from beneath", () =>
    Effect.gen(function* () {
      yield* charge
      yield* charge
      const metrics = yield* RecordingMetrics
      expect(yield* metrics.count("recordExecution")).toBe(1)
      expect(yield* metrics.count("recordReplay")).toBe(1)
      // The store measures with them, too.
      expect(yield* metrics.count("recordLatency")).toBe(3)
    }).pipe(Effect.provide(layerMemory.pipe(Layer.provideMerge(RecordingMetrics.layer))))
  )

  it.effect("takes the domain service from beneath", () =>
    Effect.gen(function* () {
      yield* charge
      yield* TestClock.adjust("90 seconds")
      expect(yield* withIdempotencyOutcome(Effect.succeed("again"), operation, key)).toMatchObject({ _tag: "Replayed" })
      yield* TestClock.adjust("30 seconds")
      expect(yield* withIdempotencyOutcome(Effect.succeed("again"), operation, key)).toMatchObject({ _tag: "Executed" })
    }).pipe(
      Effect.provide(
        layerMemory.pipe(Layer.provide(IdempotencyDomainService.layerWith({ defaultTimeToLive: "2 minutes" })))
      )
    )
  )

  it.effect("without them: half an hour, and Effect metrics", () =>
    Effect.gen(function* () {
      const of = "layers.default"
      yield* withIdempotency(Effect.succeed("paid"), of, key)
      const counter = Metric.counter("idempotency_executions", {
        description: "protected effects run",
        incremental: true
      })
      expect((yield* Metric.value(Metric.tagged(counter, "operation", of))).count).toBe(1)
      yield* TestClock.adjust("29 minutes")
      expect(yield* withIdempotencyOutcome(Effect.succeed("x"), of, key)).toMatchObject({ _tag: "Replayed" })
    }).pipe(Effect.provide(layerMemory))
  )

  it.effect("merging beside it changes nothing", () =>
    Effect.gen(function* () {
      yield* charge
      const metrics = yield* RecordingMetrics
      expect(yield* metrics.calls).toEqual([])
    }).pipe(Effect.provide(Layer.merge(layerMemory, RecordingMetrics.layer)))
  )

  it.effect("each time it is built, it is another store; named twice in one program, it is one", () =>
    Effect.gen(function* () {
      const body = counting(Effect.succeed("paid"))
      const call = withIdempotency(body.effect, operation, key)
      yield* Effect.provide(call, layerMemory)
      yield* Effect.provide(call, layerMemory)
      expect(body.runs()).toBe(2)
      const writer = () => Layer.effectDiscard(Effect.orDie(call)).pipe(Layer.provide(layerMemory))
      yield* Effect.scoped(Layer.build(Layer.merge(writer(), writer())))
      expect(body.runs()).toBe(3)
    })
  )
})

const invalid: ReadonlyArray<readonly [what: string, options: object, issue: string]> = [
  ["a storageTimeout of nothing", { storageTimeout: 0 }, "storageTimeout"],
  ["a storageTimeout that is no duration", { storageTimeout: "soon" }, "storageTimeout"],
  ["a storageTimeout beyond what a lease can be three times of", { storageTimeout: "9 days" }, "storageTimeout"],
  ["maxResultBytes that is no whole number", { maxResultBytes: 1.5 }, "maxResultBytes"],
  ["maxResultBytes of 0", { maxResultBytes: 0 }, "maxResultBytes"],
  ["an unknownRetention of nothing", { unknownRetention: 0 }, "unknownRetention"],
  ["a breakerThreshold of 0", { breakerThreshold: 0 }, "breakerThreshold"],
  ["a breakerProbeInterval of 25 days", { breakerProbeInterval: "25 days" }, "breakerProbeInterval"],
  ["a shutdownGrace of 25 days", { shutdownGrace: "25 days" }, "shutdownGrace"],
  ["maxBackgroundCompletions of -1", { maxBackgroundCompletions: -1 }, "maxBackgroundCompletions"]
]

describe("Idempotency.layerWith", () => {
  const built = (options: IdempotencyEngineOptions) =>
    Effect.exit(Effect.scoped(Layer.build(Idempotency.layerWith(options).pipe(Layer.provide(beneath)))))

  for (const [what, options, issue] of invalid) {
    it.effect(`${what}: IdempotencyValidationError`, () =>
      Effect.gen(function* () {
        const exit = yield* built(options)
        expect(Exit.isFailure(exit) && Cause.squash(exit.cause)).toMatchObject({
          _tag: "IdempotencyValidationError",
          issues: [expect.stringContaining(issue)]
        })
      })
    )
  }

  it.effect("names every option that is out of bounds", () =>
    Effect.gen(function* () {
      const exit = yield* built({ storageTimeout: 0, maxResultBytes: 0, breakerThreshold: 0 })
      expect(Exit.isFailure(exit) && Cause.squash(exit.cause)).toHaveProperty("issues.length", 3)
    })
  )

  it.effect("takes options within bounds", () =>
    Effect.gen(function* () {
      const exit = yield* built({
        storageTimeout: "500 millis",
        retry: Schedule.recurs(1),
        maxResultBytes: 1,
        unknownRetention: "365 days",
        breakerThreshold: 1,
        breakerProbeInterval: 1,
        shutdownGrace: "24 days",
        maxBackgroundCompletions: 1
      })
      expect(Exit.isSuccess(exit)).toBe(true)
    })
  )

  it.effect("unknownRetention is how long an unknown outcome blocks its key", () =>
    Effect.gen(function* () {
      const call = untyped(Effect.die("broken"), operation, key, { guarantee: "at-most-once" })
      yield* Effect.exit(call)
      const state = yield* Effect.flatMap(IdempotencyRepository, (repository) => repository.inspect(identifiersOf()))
      expect(Option.getOrThrow(state)).toMatchObject({ _tag: "Unknown", expiresAt: 7_200_000 })
    }).pipe(Effect.provide(Idempotency.layerWith({ unknownRetention: "2 hours" }).pipe(Layer.provideMerge(beneath))))
  )
})

describe("Idempotency.layerConfig", () => {
  const layer = Idempotency.layerConfig({
    storageTimeout: Config.duration("STORAGE_TIMEOUT"),
    maxResultBytes: Config.integer("MAX_RESULT_BYTES").pipe(Config.withDefault(1000))
  }).pipe(Layer.provide(beneath))

  const withConfig = (entries: ReadonlyArray<readonly [string, string]>) =>
    Effect.withConfigProvider(ConfigProvider.fromMap(new Map(entries)))

  it.effect("reads its options", () =>
    Effect.gen(function* () {
      const engine = yield* Effect.provide(Idempotency, layer)
      expect(engine.settings).toMatchObject({ storageTimeout: 2000, attemptTimeout: 666, maxResultBytes: 1000 })
    }).pipe(withConfig([["STORAGE_TIMEOUT", "2 seconds"]]))
  )

  it.effect("validates them", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Effect.provide(Idempotency, layer))
      expect(error).toMatchObject({ _tag: "IdempotencyValidationError" })
    }).pipe(withConfig([["STORAGE_TIMEOUT", "0 millis"]]))
  )

  it.effect("fails without them", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Effect.provide(Idempotency, layer))
      expect(error).toHaveProperty("_op", "MissingData")
    }).pipe(withConfig([]))
  )
})

describe("engines", () => {
  it.effect("two over one repository share its records, and nothing else", () =>
    Effect.gen(function* () {
      const engine = Layer.fresh(Idempotency.layer)
      const body = counting(Effect.succeed("paid"))
      const call = withIdempotencyOutcome(body.effect, operation, key)
      expect(yield* Effect.provide(call, engine)).toMatchObject({ _tag: "Executed" })
      expect(yield* Effect.provide(call, engine)).toMatchObject({ _tag: "Replayed" })
      expect(body.runs()).toBe(1)
    }).pipe(Effect.provide(beneath))
  )
})
