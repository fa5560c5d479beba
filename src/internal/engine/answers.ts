/** What a caller is told in place of running: of others, of what is recorded, of a store that failed. */
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import {
  IdempotencyInFlightError,
  IdempotencyOutcomeUnknownError,
  type IdempotencyStorageError
} from "../../IdempotencyError.js"
import type { IdempotencyMetrics } from "../../IdempotencyMetrics.js"
import * as transition from "../transition.js"
import type { Recorded } from "./flights.js"
import { type Beginning, type ExecutionRequest, isStrict, mismatched, takenOver } from "./request.js"

export interface Answers {
  readonly inFlight: (request: ExecutionRequest, remaining: number) => Beginning
  readonly mismatch: (request: ExecutionRequest) => Beginning
  readonly replay: (request: ExecutionRequest, record: Recorded) => Beginning
  /** Nothing where the caller may go on without the store. */
  readonly storageFailure: (request: ExecutionRequest, error: IdempotencyStorageError) => Beginning | undefined
  readonly unknownOutcome: (request: ExecutionRequest, attempt: number) => Beginning
}

export const makeAnswers = (metrics: Context.Tag.Service<IdempotencyMetrics>): Answers => {
  /** For a caller whose effect has run, whoever took its key over is no more than that. */
  const mismatch: Answers["mismatch"] = (request) =>
    Effect.zipRight(
      metrics.recordMismatch(request.identifiers.operation),
      Effect.fail(request.blockedBy === "TakenOver" ? takenOver(request) : mismatched(request))
    )

  return {
    mismatch,

    inFlight: ({ blockedBy, identifiers: { idempotencyKey, operation } }, remaining) =>
      Effect.fail(
        new IdempotencyInFlightError({
          operation,
          idempotencyKey,
          reason: blockedBy,
          retryAfter: Duration.millis(Math.max(1, Math.ceil(remaining)))
        })
      ),

    replay: (request, record) =>
      transition.differ(request.fingerprint, record.fingerprint)
        ? mismatch(request)
        : Effect.succeed({ _tag: "Replay", record }),

    // A store that is set up wrongly is an error of the program: never degraded.
    storageFailure: (request, error) => {
      if (isStrict(request)) return Effect.fail(error)
      return error.reason === "Misconfigured" ? Effect.die(error) : undefined
    },

    unknownOutcome: ({ identifiers: { idempotencyKey, operation } }, attempt) =>
      Effect.fail(new IdempotencyOutcomeUnknownError({ operation, idempotencyKey, attempt }))
  }
}
