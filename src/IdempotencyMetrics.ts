/**
 * What happened, as numbers.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"
import { constant } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as MetricBoundaries from "effect/MetricBoundaries"
import * as MetricKey from "effect/MetricKey"
import type * as MetricKeyType from "effect/MetricKeyType"
import * as MetricLabel from "effect/MetricLabel"
import { answered } from "./internal/call.js"

/**
 * The measures that the repository and the engine take. None can fail. A service of one's own is one object.
 *
 * @since 0.1.0
 * @category services
 */
export class IdempotencyMetrics extends Context.Tag("effect-idempotency/IdempotencyMetrics")<
  IdempotencyMetrics,
  {
    /** `get` found a record. */
    readonly recordHit: (operation: string) => Effect.Effect<void>
    /** `get` found none. */
    readonly recordMiss: (operation: string) => Effect.Effect<void>
    /** A record or another owner was in the way of a save or a completion. */
    readonly recordCollision: (operation: string) => Effect.Effect<void>
    /** The store failed; `errorType` is the reason of `IdempotencyStorageError`, or `Unconfirmed` (see `durability`). */
    readonly recordError: (operation: string, errorType: string) => Effect.Effect<void>
    /** One call of the store, whether it succeeded or not. */
    readonly recordLatency: (operation: string, method: string, duration: Duration.Duration) => Effect.Effect<void>
    /** `getMany` found so many records. */
    readonly recordBulkHit: (operation: string, count: number) => Effect.Effect<void>
    /** `getMany` did not find so many. */
    readonly recordBulkMiss: (operation: string, count: number) => Effect.Effect<void>
    /** A protected effect was run. */
    readonly recordExecution: (operation: string) => Effect.Effect<void>
    /** A recorded result was given instead of a run. */
    readonly recordReplay: (operation: string) => Effect.Effect<void>
    /** A caller waited so long for another owner. */
    readonly recordWait: (operation: string, duration: Duration.Duration) => Effect.Effect<void>
    /** A key was claimed that had an owner before (`attempt` above 1). */
    readonly recordTakeover: (operation: string) => Effect.Effect<void>
    /** An effect ran without the store's protection, or its result was given before it was recorded. */
    readonly recordDegraded: (operation: string) => Effect.Effect<void>
    /** An owner found that it no longer holds its key. */
    readonly recordLeaseLost: (operation: string) => Effect.Effect<void>
    /** A caller came with another fingerprint. */
    readonly recordMismatch: (operation: string) => Effect.Effect<void>
    /** So many more (or fewer) protected effects are running. */
    readonly recordInFlight: (operation: string, change: number) => Effect.Effect<void>
  }
>() {
  /**
   * Effect `Metric`s named `idempotency_*`, tagged by operation, never by key. Latency and waits are histograms in
   * milliseconds.
   *
   * @since 0.1.0
   * @category layers
   */
  static readonly layer: Layer.Layer<IdempotencyMetrics> = Layer.sync(IdempotencyMetrics, () => makeMetrics())

  /**
   * Measures nothing.
   *
   * @since 0.1.0
   * @category layers
   */
  static readonly layerNoop: Layer.Layer<IdempotencyMetrics> = Layer.sync(IdempotencyMetrics, () => {
    const nothing = constant(Effect.void)
    return {
      recordHit: nothing,
      recordMiss: nothing,
      recordCollision: nothing,
      recordError: nothing,
      recordLatency: nothing,
      recordBulkHit: nothing,
      recordBulkMiss: nothing,
      recordExecution: nothing,
      recordReplay: nothing,
      recordWait: nothing,
      recordTakeover: nothing,
      recordDegraded: nothing,
      recordLeaseLost: nothing,
      recordMismatch: nothing,
      recordInFlight: nothing
    }
  })
}

/**
 * A metric with its tags, made once for each combination of them. The tags are of its key: `Metric.tagged` would look
 * for the metric at each update.
 */
const taggedOnce = <Type extends MetricKeyType.MetricKeyType.Untyped>(key: MetricKey.MetricKey<Type>) => {
  const tagged = (tags: ReadonlyArray<MetricLabel.MetricLabel>) =>
    Metric.fromMetricKey(MetricKey.taggedWithLabels(key, tags))
  const made = new Map<string, ReturnType<typeof tagged>>()
  return (operation: string, tag?: string, value = ""): ReturnType<typeof tagged> => {
    const combination = `${operation}:${value}`
    const known = made.get(combination)
    if (known !== undefined) return known
    const byOperation = MetricLabel.make("operation", operation)
    const metric = tagged(tag === undefined ? [byOperation] : [byOperation, MetricLabel.make(tag, value)])
    made.set(combination, metric)
    return metric
  }
}

const counter = (name: string, description: string) =>
  taggedOnce(MetricKey.counter(`idempotency_${name}`, { description, incremental: true }))

const milliseconds = (name: string, description: string) => {
  const boundaries = MetricBoundaries.exponential({ start: 0.25, factor: 2, count: 18 })
  return taggedOnce(MetricKey.histogram(`idempotency_${name}`, boundaries, description))
}

const gauge = (name: string, description: string) => taggedOnce(MetricKey.gauge(`idempotency_${name}`, { description }))

/** As `Metric.update` and `Metric.modify`, in less than half of their time, and at once where the fiber is at hand. */
const changed = (change: (labels: ReadonlyArray<MetricLabel.MetricLabel>) => void): Effect.Effect<void> =>
  answered((fiber) => {
    change(fiber.getFiberRef(FiberRef.currentMetricLabels))
    return Effect.void
  })

const update = <Type, Out>(metric: Metric.Metric<Type, number, Out>, input: number): Effect.Effect<void> =>
  changed((labels) => metric.unsafeUpdate(input, labels))

const modify = (metric: Metric.Metric.Gauge<number>, change: number): Effect.Effect<void> =>
  changed((labels) => metric.unsafeModify(change, labels))

/** Made once for each operation: what is measured most differs in nothing else. */
const onceFor = (make: (operation: string) => Effect.Effect<void>): ((operation: string) => Effect.Effect<void>) => {
  const made = new Map<string, Effect.Effect<void>>()
  return (operation) => {
    const known = made.get(operation)
    if (known !== undefined) return known
    const effect = make(operation)
    made.set(operation, effect)
    return effect
  }
}

const count = (name: string, description: string) => {
  const tagged = counter(name, description)
  return onceFor((operation) => update(tagged(operation), 1))
}

const makeMetrics = (): Context.Tag.Service<IdempotencyMetrics> => {
  const hits = counter("hits", "records found")
  const misses = counter("misses", "records not found")
  const errors = counter("errors", "failures of the store")
  const latency = milliseconds("latency_ms", "time that a call of the store took")
  const waits = milliseconds("wait_ms", "time that callers waited for another owner")
  const inFlight = gauge("in_flight", "protected effects running now")
  const begun = onceFor((operation) => modify(inFlight(operation), 1))
  const ended = onceFor((operation) => modify(inFlight(operation), -1))
  return {
    recordHit: (operation) => update(hits(operation), 1),
    recordMiss: (operation) => update(misses(operation), 1),
    recordCollision: count("collisions", "saves and completions that met another owner's record"),
    recordError: (operation, errorType) => update(errors(operation, "error_type", errorType), 1),
    recordLatency: (operation, method, duration) =>
      update(latency(operation, "method", method), Duration.toMillis(duration)),
    recordBulkHit: (operation, count) => update(hits(operation), count),
    recordBulkMiss: (operation, count) => update(misses(operation), count),
    recordExecution: count("executions", "protected effects run"),
    recordReplay: count("replays", "recorded results given instead of a run"),
    recordWait: (operation, duration) => update(waits(operation), Duration.toMillis(duration)),
    recordTakeover: count("takeovers", "claims of a key that had an owner before"),
    recordDegraded: count("degraded", "results given without the store's protection"),
    recordLeaseLost: count("leases_lost", "owners that lost their key"),
    recordMismatch: count("mismatches", "callers with another fingerprint"),
    recordInFlight: (operation, change) =>
      change === 1 ? begun(operation) : change === -1 ? ended(operation) : modify(inFlight(operation), change)
  }
}
