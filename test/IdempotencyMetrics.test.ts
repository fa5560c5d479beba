import { describe, expect, it } from "@effect/vitest"
import * as Array from "effect/Array"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as MetricState from "effect/MetricState"
import { IdempotencyMetrics } from "../src/IdempotencyMetrics.js"

type Metrics = Context.Tag.Service<IdempotencyMetrics>

/** Every measure once. */
const everything = (metrics: Metrics, operation: string) => [
  metrics.recordHit(operation),
  metrics.recordMiss(operation),
  metrics.recordCollision(operation),
  metrics.recordError(operation, "Timeout"),
  metrics.recordLatency(operation, "get", Duration.millis(3)),
  metrics.recordBulkHit(operation, 2),
  metrics.recordBulkMiss(operation, 3),
  metrics.recordExecution(operation),
  metrics.recordReplay(operation),
  metrics.recordWait(operation, Duration.millis(4)),
  metrics.recordTakeover(operation),
  metrics.recordDegraded(operation),
  metrics.recordLeaseLost(operation),
  metrics.recordMismatch(operation),
  metrics.recordInFlight(operation, 2),
  metrics.recordInFlight(operation, -1)
]

/** What is measured of an operation: the metric's name and other tags, and its value, or the count of a histogram. */
const measuredOf = (operation: string) =>
  Effect.map(Metric.snapshot, (pairs) =>
    Object.fromEntries(
      Array.filterMap(pairs, ({ metricKey, metricState }) => {
        const tags = Object.fromEntries(metricKey.tags.map(({ key, value }) => [key, value]))
        const { operation: of, ...others } = tags
        const name = [metricKey.name, ...Object.values(others)].join(" ")
        const value =
          MetricState.isCounterState(metricState) || MetricState.isGaugeState(metricState)
            ? Number("count" in metricState ? metricState.count : metricState.value)
            : MetricState.isHistogramState(metricState)
              ? metricState.count
              : Number.NaN
        return of === operation ? Array.head([[name, value] as const]) : Array.head([])
      })
    )
  )

describe("the metrics", () => {
  it.effect("count by operation", () =>
    Effect.gen(function* () {
      const metrics = yield* IdempotencyMetrics
      yield* Effect.all(everything(metrics, "metrics.all"))
      yield* metrics.recordHit("metrics.other")
      expect(yield* measuredOf("metrics.all")).toEqual({
        idempotency_hits: 3,
        idempotency_misses: 4,
        idempotency_collisions: 1,
        "idempotency_errors Timeout": 1,
        "idempotency_latency_ms get": 1,
        idempotency_executions: 1,
        idempotency_replays: 1,
        idempotency_wait_ms: 1,
        idempotency_takeovers: 1,
        idempotency_degraded: 1,
        idempotency_leases_lost: 1,
        idempotency_mismatches: 1,
        idempotency_in_flight: 1
      })
      expect(yield* measuredOf("metrics.other")).toEqual({ idempotency_hits: 1 })
    }).pipe(Effect.provide(IdempotencyMetrics.layer))
  )

  it.effect("add up over two services", () =>
    Effect.gen(function* () {
      const hit = Effect.flatMap(IdempotencyMetrics, (metrics) => metrics.recordHit("metrics.shared"))
      yield* Effect.provide(hit, IdempotencyMetrics.layer)
      yield* Effect.provide(hit, IdempotencyMetrics.layer)
      expect(yield* measuredOf("metrics.shared")).toEqual({ idempotency_hits: 2 })
    })
  )

  it.effect("of layerNoop measure nothing", () =>
    Effect.gen(function* () {
      const metrics = yield* IdempotencyMetrics
      yield* Effect.all(everything(metrics, "metrics.noop"))
      expect(yield* measuredOf("metrics.noop")).toEqual({})
    }).pipe(Effect.provide(IdempotencyMetrics.layerNoop))
  )
})
