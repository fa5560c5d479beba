import type * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { IdempotencyEngineOptions } from "../../Idempotency.js"
import type { IdempotencyValidationError } from "../../IdempotencyError.js"
import { longestTimer, readOptions } from "../options.js"

/** The engine's options, decoded once; durations in milliseconds. */
export interface Settings {
  readonly storageTimeout: number
  readonly attemptTimeout: number
  readonly retry: Schedule.Schedule<unknown>
  readonly maxResultBytes: number
  readonly unknownRetention: number
  readonly breakerThreshold: number
  readonly breakerProbeInterval: number
  readonly shutdownGrace: number
  readonly maxBackgroundCompletions: number
}

const defaultRetry = Schedule.exponential("50 millis").pipe(Schedule.jittered, Schedule.intersect(Schedule.recurs(3)))

/** The options with their defaults, or everything that is wrong with them. */
export const decodeSettings = (
  options: IdempotencyEngineOptions
): Effect.Effect<Settings, IdempotencyValidationError> =>
  readOptions(({ duration, whole }) => {
    const storageTimeout = duration("storageTimeout", options.storageTimeout ?? "1 second", longestTimer / 3)
    return {
      storageTimeout,
      attemptTimeout: Math.max(1, Math.floor(storageTimeout / 3)),
      retry: options.retry ?? defaultRetry,
      maxResultBytes: whole("maxResultBytes", options.maxResultBytes ?? 1_048_576),
      unknownRetention: duration("unknownRetention", options.unknownRetention ?? "30 days"),
      breakerThreshold: whole("breakerThreshold", options.breakerThreshold ?? 5),
      breakerProbeInterval: duration("breakerProbeInterval", options.breakerProbeInterval ?? "1 second", longestTimer),
      shutdownGrace: duration("shutdownGrace", options.shutdownGrace ?? "10 seconds", longestTimer),
      maxBackgroundCompletions: whole("maxBackgroundCompletions", options.maxBackgroundCompletions ?? 1000)
    }
  })
