/**
 * Metrics that remember what was measured, for tests.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { IdempotencyMetrics } from "../IdempotencyMetrics.js"

/**
 * A method of `IdempotencyMetrics`.
 *
 * @since 0.1.0
 * @category models
 */
export type MetricsMethod = keyof Context.Tag.Service<IdempotencyMetrics>

type PlainMethod = Exclude<
  MetricsMethod,
  "recordError" | "recordLatency" | "recordBulkHit" | "recordBulkMiss" | "recordWait" | "recordInFlight"
>

/**
 * One call of a method of `IdempotencyMetrics`, with the arguments that the method has.
 *
 * @since 0.1.0
 * @category models
 */
export type MetricsCall =
  | { readonly method: PlainMethod; readonly operation: string }
  | { readonly method: "recordError"; readonly operation: string; readonly errorType: string }
  | {
      readonly method: "recordLatency"
      readonly operation: string
      /** The method of the repository. */
      readonly of: string
      readonly duration: Duration.Duration
    }
  | { readonly method: "recordBulkHit" | "recordBulkMiss"; readonly operation: string; readonly count: number }
  | { readonly method: "recordWait"; readonly operation: string; readonly duration: Duration.Duration }
  | { readonly method: "recordInFlight"; readonly operation: string; readonly change: number }

/**
 * What was measured, in order, and the `IdempotencyMetrics` that remembers it. Provide the layer beneath a store or an
 * all-in-one layer; with `Layer.provideMerge` the test can ask for `RecordingMetrics`.
 *
 * @example
 * ```ts
 * import * as Effect from "effect/Effect"
 * import * as Layer from "effect/Layer"
 * import { layerMemory, withIdempotency } from "effect-idempotency"
 * import { RecordingMetrics } from "effect-idempotency/testing"
 *
 * const program = Effect.gen(function* () {
 *   const charge = withIdempotency(Effect.succeed("paid"), "payment.charge", "order-1")
 *   yield* charge
 *   yield* charge
 *   const metrics = yield* RecordingMetrics
 *   return yield* metrics.count("recordReplay") // 1
 * })
 *
 * Effect.runPromise(Effect.provide(program, layerMemory.pipe(Layer.provideMerge(RecordingMetrics.layer))))
 * ```
 *
 * @since 0.1.0
 * @category services
 */
export class RecordingMetrics extends Context.Tag("effect-idempotency/testing/RecordingMetrics")<
  RecordingMetrics,
  {
    /** All calls since the start or the last `reset`, oldest first. */
    readonly calls: Effect.Effect<ReadonlyArray<MetricsCall>>
    /** How many of these were of a method, on one operation or on any. */
    readonly count: (method: MetricsMethod, operation?: string) => Effect.Effect<number>
    /** Forgets all calls. */
    readonly reset: Effect.Effect<void>
  }
>() {
  /**
   * A new recording for each time that it is built.
   *
   * @since 0.1.0
   * @category layers
   */
  static readonly layer: Layer.Layer<RecordingMetrics | IdempotencyMetrics> = Layer.effectContext(
    Effect.sync(() => makeContext())
  )
}

const makeContext = (): Context.Context<RecordingMetrics | IdempotencyMetrics> => {
  let calls: ReadonlyArray<MetricsCall> = []
  const record = (call: MetricsCall): Effect.Effect<void> =>
    Effect.sync(() => {
      calls = [...calls, call]
    })
  const simple = (method: PlainMethod) => (operation: string) => record({ method, operation })

  return Context.make(RecordingMetrics, {
    calls: Effect.sync(() => calls),
    count: (method, operation) =>
      Effect.sync(
        () =>
          calls.filter((call) => call.method === method && (operation === undefined || call.operation === operation))
            .length
      ),
    reset: Effect.sync(() => {
      calls = []
    })
  }).pipe(
    Context.add(IdempotencyMetrics, {
      recordHit: simple("recordHit"),
      recordMiss: simple("recordMiss"),
      recordCollision: simple("recordCollision"),
      recordError: (operation, errorType) => record({ method: "recordError", operation, errorType }),
      recordLatency: (operation, of, duration) => record({ method: "recordLatency", operation, of, duration }),
      recordBulkHit: (operation, count) => record({ method: "recordBulkHit", operation, count }),
      recordBulkMiss: (operation, count) => record({ method: "recordBulkMiss", operation, count }),
      recordExecution: simple("recordExecution"),
      recordReplay: simple("recordReplay"),
      recordWait: (operation, duration) => record({ method: "recordWait", operation, duration }),
      recordTakeover: simple("recordTakeover"),
      recordDegraded: simple("recordDegraded"),
      recordLeaseLost: simple("recordLeaseLost"),
      recordMismatch: simple("recordMismatch"),
      recordInFlight: (operation, change) => record({ method: "recordInFlight", operation, change })
    })
  )
}
