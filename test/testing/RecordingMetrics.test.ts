import { describe, expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { IdempotencyMetrics } from "../../src/IdempotencyMetrics.js"
import { IdempotencyRecord } from "../../src/IdempotencyRecord.js"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import { MemoryIdempotencyRepository } from "../../src/MemoryIdempotencyRepository.js"
import { RecordingMetrics } from "../../src/testing.js"

describe("RecordingMetrics", () => {
  it.effect("remembers every measure with its arguments, in order", () =>
    Effect.gen(function* () {
      const metrics = yield* IdempotencyMetrics
      const recorded = yield* RecordingMetrics
      yield* metrics.recordHit("o")
      yield* metrics.recordMiss("o")
      yield* metrics.recordCollision("o")
      yield* metrics.recordError("o", "Timeout")
      yield* metrics.recordLatency("o", "get", Duration.millis(3))
      yield* metrics.recordBulkHit("o", 1)
      yield* metrics.recordBulkMiss("o", 2)
      yield* metrics.recordExecution("o")
      yield* metrics.recordReplay("o")
      yield* metrics.recordWait("o", Duration.millis(4))
      yield* metrics.recordTakeover("o")
      yield* metrics.recordDegraded("o")
      yield* metrics.recordLeaseLost("o")
      yield* metrics.recordMismatch("o")
      yield* metrics.recordInFlight("o", -1)
      expect(yield* recorded.calls).toEqual([
        { method: "recordHit", operation: "o" },
        { method: "recordMiss", operation: "o" },
        { method: "recordCollision", operation: "o" },
        { method: "recordError", operation: "o", errorType: "Timeout" },
        { method: "recordLatency", operation: "o", of: "get", duration: Duration.millis(3) },
        { method: "recordBulkHit", operation: "o", count: 1 },
        { method: "recordBulkMiss", operation: "o", count: 2 },
        { method: "recordExecution", operation: "o" },
        { method: "recordReplay", operation: "o" },
        { method: "recordWait", operation: "o", duration: Duration.millis(4) },
        { method: "recordTakeover", operation: "o" },
        { method: "recordDegraded", operation: "o" },
        { method: "recordLeaseLost", operation: "o" },
        { method: "recordMismatch", operation: "o" },
        { method: "recordInFlight", operation: "o", change: -1 }
      ])
    }).pipe(Effect.provide(RecordingMetrics.layer))
  )

  it.effect("counts by method and operation, and forgets", () =>
    Effect.gen(function* () {
      const metrics = yield* IdempotencyMetrics
      const recorded = yield* RecordingMetrics
      yield* metrics.recordHit("a")
      yield* metrics.recordHit("b")
      const before = yield* recorded.calls
      expect(yield* recorded.count("recordHit")).toBe(2)
      expect(yield* recorded.count("recordHit", "a")).toBe(1)
      expect(yield* recorded.count("recordMiss")).toBe(0)
      yield* recorded.reset
      expect(yield* recorded.calls).toEqual([])
      expect(before).toHaveLength(2)
    }).pipe(Effect.provide(RecordingMetrics.layer))
  )

  it.effect("is what a store beneath which it is provided measures with", () =>
    Effect.gen(function* () {
      const repository = yield* IdempotencyRepository
      const recorded = yield* RecordingMetrics
      const record = yield* IdempotencyRecord.create({
        operation: "o",
        idempotencyKey: "k",
        result: 1,
        timeToLive: "1 hour"
      })
      yield* repository.get(record.identifiers)
      yield* repository.save(record)
      yield* repository.get(record.identifiers)
      expect(yield* recorded.count("recordMiss", "o")).toBe(1)
      expect(yield* recorded.count("recordHit", "o")).toBe(1)
      expect(yield* recorded.count("recordLatency", "o")).toBe(3)
    }).pipe(Effect.provide(MemoryIdempotencyRepository.layer.pipe(Layer.provideMerge(RecordingMetrics.layer))))
  )
})
