/**
 * Records in this process: for tests, for single processes, and as a model of what a store does.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import { IdempotencyValidationError } from "./IdempotencyError.js"
import { IdempotencyRepository } from "./IdempotencyRepository.js"
import { makeMemoryDriver } from "./internal/memoryDriver.js"

/**
 * How much is kept. `capacity` is the number of keys, 1 or more, unbounded by default. When it is reached, the longest
 * settled record is dropped to make room; a claim or an unknown outcome never is: if there is nothing else, new keys
 * are refused with `IdempotencyStorageError` (`Rejected`).
 *
 * @since 0.1.0
 * @category models
 */
export interface MemoryIdempotencyRepositoryOptions {
  readonly capacity?: number | undefined
}

const sweepEvery = Duration.minutes(5)

const makeRepository = (capacity: number) =>
  Effect.gen(function* () {
    const { driver, sweep } = makeMemoryDriver(capacity)
    yield* sweep.pipe(
      Effect.repeat(Schedule.spaced(sweepEvery)),
      Effect.delay(sweepEvery),
      Effect.interruptible,
      Effect.annotateLogs("fiber", "idempotency.memory.sweep"),
      Effect.forkScoped
    )
    return yield* IdempotencyRepository.make(driver)
  })

/**
 * The layers of the memory store. Time is that of the `Clock`, so that `TestClock` drives leases and retention.
 *
 * @example
 * ```ts
 * import * as Layer from "effect/Layer"
 * import {
 *   Idempotency,
 *   IdempotencyDomainService,
 *   IdempotencyMetrics,
 *   MemoryIdempotencyRepository
 * } from "effect-idempotency"
 *
 * const engine = Idempotency.layer.pipe(
 *   Layer.provide([
 *     MemoryIdempotencyRepository.layer,
 *     IdempotencyDomainService.layer,
 *     IdempotencyMetrics.layer
 *   ])
 * )
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const MemoryIdempotencyRepository: {
  /**
   * Unbounded; records go when they expire.
   *
   * @since 0.1.0
   * @category layers
   */
  readonly layer: Layer.Layer<IdempotencyRepository>
  /**
   * With a bound on the number of keys; `IdempotencyValidationError` if it is not a whole number of 1 or more.
   *
   * @example
   * ```ts
   * import { MemoryIdempotencyRepository } from "effect-idempotency"
   *
   * const repository = MemoryIdempotencyRepository.layerWith({ capacity: 10_000 })
   * ```
   *
   * @since 0.1.0
   * @category layers
   */
  readonly layerWith: (
    options: MemoryIdempotencyRepositoryOptions
  ) => Layer.Layer<IdempotencyRepository, IdempotencyValidationError>
} = {
  layer: Layer.scoped(IdempotencyRepository, makeRepository(Number.POSITIVE_INFINITY)),
  layerWith: ({ capacity = Number.POSITIVE_INFINITY }) =>
    Layer.scoped(
      IdempotencyRepository,
      capacity === Number.POSITIVE_INFINITY || (Number.isInteger(capacity) && capacity >= 1)
        ? makeRepository(capacity)
        : Effect.fail(
            new IdempotencyValidationError({ operation: "", issues: ["capacity is not a whole number of 1 or more"] })
          )
    )
}
