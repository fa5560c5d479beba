/** What a metrics backend shows: names, what they count, and by which tags. */
import { describe, expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import { IdempotencyMetrics } from "../../src/IdempotencyMetrics.js"

describe("the metrics", () => {
  it.effect("say what they are", () =>
    Effect.gen(function* () {
      const metrics = yield* IdempotencyMetrics
      const operation = "metrics.named"
      yield* Effect.all([
        metrics.recordHit(operation),
        metrics.recordMiss(operation),
        metrics.recordCollision(operation),
        metrics.recordError(operation, "Timeout"),
        metrics.recordLatency(operation, "claim", Duration.millis(2)),
        metrics.recordExecution(operation),
        metrics.recordReplay(operation),
        metrics.recordWait(operation, Duration.millis(3)),
        metrics.recordTakeover(operation),
        metrics.recordDegraded(operation),
        metrics.recordLeaseLost(operation),
        metrics.recordMismatch(operation),
        metrics.recordInFlight(operation, 1)
      ])
      const ours = (yield* Metric.snapshot).flatMap(({ metricKey: { description, name, tags } }) =>
        tags.some(({ value }) => value === operation)
          ? [
              [
                name,
                Option.getOrElse(description, () => ""),
                ...tags.filter(({ key }) => key !== "operation").map(({ key, value }) => `${key}=${value}`)
              ]
            ]
          : []
      )
      expect(ours.sort(([a = ""], [b = ""]) => (a < b ? -1 : 1))).toEqual([
        ["idempotency_collisions", "saves and completions that met another owner's record"],
        ["idempotency_degraded", "results given without the store's protection"],
        ["idempotency_errors", "failures of the store", "error_type=Timeout"],
        ["idempotency_executions", "protected effects run"],
        ["idempotency_hits", "records found"],
        ["idempotency_in_flight", "protected effects running now"],
        ["idempotency_latency_ms", "time that a call of the store took", "method=claim"],
        ["idempotency_leases_lost", "owners that lost their key"],
        ["idempotency_mismatches", "callers with another fingerprint"],
        ["idempotency_misses", "records not found"],
        ["idempotency_replays", "recorded results given instead of a run"],
        ["idempotency_takeovers", "claims of a key that had an owner before"],
        ["idempotency_wait_ms", "time that callers waited for another owner"]
      ])
    }).pipe(Effect.provide(IdempotencyMetrics.layer))
  )
})
