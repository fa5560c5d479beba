/**
 * A fast store before a durable one: Redis before SQL.
 *
 * The durable store decides everything; the fast one holds copies of settled records, so that a replay need not ask the
 * durable one. Whatever becomes of the fast store, no result changes: what it loses, or cannot say in time, is asked of
 * the durable one.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { IdempotencyValidationError } from "./IdempotencyError.js"
import { IdempotencyRepository } from "./IdempotencyRepository.js"
import { longestTimer, readOptions } from "./internal/options.js"
import { makeTieredDriver } from "./internal/tieredDriver.js"

type Repository = Context.Tag.Service<IdempotencyRepository>

/**
 * The two stores, each as a layer or as a repository, and how far the fast one is trusted.
 *
 * @since 0.1.0
 * @category models
 */
export interface TieredIdempotencyRepositoryOptions<E1 = never, R1 = never, E2 = never, R2 = never> {
  /** Holds copies. It may lose any of them, and all. */
  readonly fast: Layer.Layer<IdempotencyRepository, E1, R1> | Repository
  /** Decides. Its failures are failures, except where a copy of a settled record answers. */
  readonly durable: Layer.Layer<IdempotencyRepository, E2, R2> | Repository
  /**
   * How long a copy lives at most; 60 seconds by default. So long may an old result be replayed after a reset or a
   * removal whose copy could not be removed from the fast store, or was just being written to it by another process.
   */
  readonly fastTimeToLive?: Duration.DurationInput | undefined
  /**
   * How long the fast store is waited for; 100 milliseconds by default, 24 days at most. One that did not answer is
   * left alone for a second.
   */
  readonly fastTimeout?: Duration.DurationInput | undefined
  /** How long an operation on records, or of an operator, may take; 1 second by default. */
  readonly operationTimeout?: Duration.DurationInput | undefined
}

class Fast extends Context.Tag("effect-idempotency/TieredIdempotencyRepository/Fast")<Fast, Repository>() {}
class Durable extends Context.Tag("effect-idempotency/TieredIdempotencyRepository/Durable")<Durable, Repository>() {}

/** The store under a tag of its own. A layer stays the same layer: what else uses it shares its store. */
const as = <I, E, R>(
  tag: Context.Tag<I, Repository>,
  store: Layer.Layer<IdempotencyRepository, E, R> | Repository
): Layer.Layer<I, E, R> =>
  "driver" in store
    ? Layer.succeed(tag, store)
    : Layer.map(store, (context) => Context.make(tag, Context.get(context, IdempotencyRepository)))

const layerWith = <E1 = never, R1 = never, E2 = never, R2 = never>({
  durable,
  fast,
  fastTimeout,
  fastTimeToLive,
  operationTimeout
}: TieredIdempotencyRepositoryOptions<E1, R1, E2, R2>): Layer.Layer<
  IdempotencyRepository,
  IdempotencyValidationError | E1 | E2,
  R1 | R2
> =>
  Layer.scoped(
    IdempotencyRepository,
    Effect.gen(function* () {
      const settings = yield* readOptions(({ duration }) => ({
        fastTimeToLive: duration("fastTimeToLive", fastTimeToLive ?? "60 seconds"),
        fastTimeout: duration("fastTimeout", fastTimeout ?? "100 millis", longestTimer)
      }))
      const [copies, records] = [yield* Fast, yield* Durable]
      if (copies.driver === records.driver) {
        // Removing a copy would remove the record.
        const issues = ["fast and durable are one store: a layer that is given twice is built once"]
        return yield* new IdempotencyValidationError({ operation: "", issues })
      }
      return yield* IdempotencyRepository.make(yield* makeTieredDriver(copies.driver, records.driver, settings), {
        operationTimeout
      })
    })
  ).pipe(Layer.provide([as(Fast, fast), as(Durable, durable)]))

/**
 * The layer of a fast store before a durable one.
 *
 * The fast store serves replays; everything else is the durable store's, one round trip each. Fingerprints are compared
 * on copies as on records. A copy is kept for at most `fastTimeToLive` and not beyond its record, as far as the clock of
 * this process agrees with the durable store's: the difference between the two, within `fastTimeToLive`, is how much
 * longer an expired result may be replayed.
 *
 * `get`, `getMany` and `claims.read` may be answered from copies too; `inspect` asks the durable store.
 *
 * @example
 * ```ts
 * import * as Layer from "effect/Layer"
 * import {
 *   Idempotency,
 *   IdempotencyDomainService,
 *   IdempotencyMetrics,
 *   MemoryIdempotencyRepository,
 *   TieredIdempotencyRepository
 * } from "effect-idempotency"
 * import { RedisIdempotencyRepository } from "effect-idempotency/redis"
 *
 * const repository = TieredIdempotencyRepository.layerWith({
 *   fast: MemoryIdempotencyRepository.layerWith({ capacity: 100_000 }),
 *   durable: RedisIdempotencyRepository.layerClient({ url: "redis://localhost:6380" }),
 *   fastTimeToLive: "30 seconds"
 * })
 *
 * const engine = Idempotency.layer.pipe(
 *   Layer.provide([repository, IdempotencyDomainService.layer, IdempotencyMetrics.layer])
 * )
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const TieredIdempotencyRepository: {
  /**
   * The two stores as one. `IdempotencyValidationError` if an option is out of its bounds, or if both are the same
   * store.
   *
   * @since 0.1.0
   * @category layers
   */
  readonly layerWith: typeof layerWith
} = { layerWith }
