/**
 * The contract that every store of this library keeps, as a suite of tests.
 *
 * @since 0.1.0
 */
import { layer as withLayer } from "@effect/vitest"
import * as Array from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import { describe } from "vitest"
import type { IdempotencyRepository } from "../IdempotencyRepository.js"
import { repositoryContractCases } from "../internal/testing/cases.js"
import { agreesWithModel } from "../internal/testing/model.js"

/**
 * How the suite meets a store.
 *
 * @since 0.1.0
 * @category models
 */
export interface RepositoryContractOptions {
  /**
   * Makes the store's time pass. Left out, the suite runs live and sleeps, for a store with a clock of its own. Given,
   * the cases run under the test services: for a store on the `Clock` it is `TestClock.adjust`.
   */
  readonly advance?: ((duration: Duration.Duration) => Effect.Effect<void>) | undefined
  /** How many random runs the model test makes: 30 by default where the suite sleeps, else 100. */
  readonly modelRuns?: number | undefined
  /** The seed of the model test, to repeat a failure: it prints its seed. Random by default. */
  readonly seed?: number | undefined
  /**
   * How long a case, a random run of the model test, and the layer's start may take; 30 seconds by default. All runs of
   * the model test together may take six times that.
   */
  readonly timeout?: Duration.DurationInput | undefined
}

/**
 * Declares, with vitest, a suite that a store passes if it keeps the protocol: every operation on every state, bulk
 * operations, identities, retention, races, and random sequences against the model. The layer is built once; each case
 * uses keys of its own, so that one server can serve many suites at once. Call it at the top of a test file, or inside
 * `describe`. Needs `vitest` and `@effect/vitest`.
 *
 * @example
 * ```ts
 * import * as TestClock from "effect/TestClock"
 * import { MemoryIdempotencyRepository } from "effect-idempotency"
 * import { repositoryContract } from "effect-idempotency/testing"
 *
 * repositoryContract("memory", MemoryIdempotencyRepository.layer, { advance: TestClock.adjust })
 * ```
 *
 * @since 0.1.0
 * @category testing
 */
export const repositoryContract = <E>(
  name: string,
  layer: Layer.Layer<IdempotencyRepository, E>,
  options: RepositoryContractOptions = {}
): void => {
  const advance = options.advance ?? Effect.sleep
  const timeout = Duration.toMillis(options.timeout ?? "30 seconds")
  const runs = options.modelRuns ?? (options.advance === undefined ? 30 : 100)

  const declare = (
    test: (name: string, run: () => Effect.Effect<void, unknown, IdempotencyRepository>, timeout: number) => void
  ) => {
    for (const [group, cases] of Object.entries(Array.groupBy(repositoryContractCases, ({ group }) => group))) {
      describe(group, () => {
        for (const { name, run } of cases) test(name, () => run(advance), timeout)
      })
    }
    test(
      "random operations agree with the model",
      () => agreesWithModel(advance, { runs, seed: options.seed, timeout }),
      timeout * 6
    )
  }

  // What sleeps may sleep together: no case sees another's keys.
  const suite = options.advance === undefined ? describe.concurrent : describe
  suite(name, () =>
    options.advance === undefined
      ? withLayer(layer, { excludeTestServices: true, timeout })((it) =>
          declare((name, run, limit) => it.effect(name, run, limit))
        )
      : withLayer(layer, { timeout })((it) => declare((name, run, limit) => it.effect(name, run, limit)))
  )
}
