/** Metrics that cannot fail are promised, not checked: one that dies must not make an effect that has run run again. */
import type * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { IdempotencyMetrics } from "../IdempotencyMetrics.js"
import { Call } from "./call.js"
import * as eager from "./eager.js"

const complain = (cause: Cause.Cause<unknown>): Effect.Effect<void> =>
  // A logger may die of it as well.
  Effect.catchAllCause(Effect.logWarning("idempotency: a metric died, and is not counted", cause), () => Effect.void)

/** Those of the library's own metrics. */
const cannotDie = (measure: unknown): boolean => measure instanceof Call || measure === Effect.void

const unfailing = (record: () => Effect.Effect<void>): Effect.Effect<void> => {
  const measure = eager.suspend(record)
  return cannotDie(measure) ? measure : Effect.catchAllCause(measure, complain)
}

/** The same metrics, whose defects are logged and forgotten. */
export const unfailingMetrics = (
  metrics: Context.Tag.Service<IdempotencyMetrics>
): Context.Tag.Service<IdempotencyMetrics> => ({
  recordHit: (operation) => unfailing(() => metrics.recordHit(operation)),
  recordMiss: (operation) => unfailing(() => metrics.recordMiss(operation)),
  recordCollision: (operation) => unfailing(() => metrics.recordCollision(operation)),
  recordError: (operation, errorType) => unfailing(() => metrics.recordError(operation, errorType)),
  recordLatency: (operation, method, duration) => unfailing(() => metrics.recordLatency(operation, method, duration)),
  recordBulkHit: (operation, count) => unfailing(() => metrics.recordBulkHit(operation, count)),
  recordBulkMiss: (operation, count) => unfailing(() => metrics.recordBulkMiss(operation, count)),
  recordExecution: (operation) => unfailing(() => metrics.recordExecution(operation)),
  recordReplay: (operation) => unfailing(() => metrics.recordReplay(operation)),
  recordWait: (operation, duration) => unfailing(() => metrics.recordWait(operation, duration)),
  recordTakeover: (operation) => unfailing(() => metrics.recordTakeover(operation)),
  recordDegraded: (operation) => unfailing(() => metrics.recordDegraded(operation)),
  recordLeaseLost: (operation) => unfailing(() => metrics.recordLeaseLost(operation)),
  recordMismatch: (operation) => unfailing(() => metrics.recordMismatch(operation)),
  recordInFlight: (operation, change) => unfailing(() => metrics.recordInFlight(operation, change))
})
