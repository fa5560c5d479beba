/**
 * The engine: what protects effects.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Context from "effect/Context"
import type { DurationInput } from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Schedule } from "effect/Schedule"
import type { IdempotencyDomainService } from "./IdempotencyDomainService.js"
import type { IdempotencyValidationError } from "./IdempotencyError.js"
import type { IdempotencyMetrics } from "./IdempotencyMetrics.js"
import type { IdempotencyRepository } from "./IdempotencyRepository.js"
import { type Engine, makeEngine } from "./internal/engine/engine.js"
import { decodeSettings } from "./internal/engine/settings.js"

/**
 * How the engine treats the store.
 *
 * @since 0.1.0
 * @category models
 */
export interface IdempotencyEngineOptions {
  /**
   * How long an operation of the store may take with its retries; each attempt has a third of it. 1 second by
   * default. A `lease` is at least three times as long.
   */
  readonly storageTimeout?: DurationInput | undefined
  /** When a failed attempt is tried again: by default exponentially from 50 ms, jittered, 3 times. */
  readonly retry?: Schedule<unknown> | undefined
  /**
   * A larger encoded result is recorded as unavailable; 1 MiB by default. Responses over HTTP have `maxResponseBytes`
   * instead.
   */
  readonly maxResultBytes?: number | undefined
  /** How long a run of unknown outcome blocks its key; 30 days by default. */
  readonly unknownRetention?: DurationInput | undefined
  /** So many attempts in a row without an answer open the circuit breaker; 5 by default. */
  readonly breakerThreshold?: number | undefined
  /** How often the store is asked, while the breaker is open, whether it answers again; 1 second by default. */
  readonly breakerProbeInterval?: DurationInput | undefined
  /** When the layer closes: how long running effects may take to end before they are interrupted; 10 s by default. */
  readonly shutdownGrace?: DurationInput | undefined
  /** How many completions and releases may go on in the background at once; 1000 by default. */
  readonly maxBackgroundCompletions?: number | undefined
}

/**
 * The engine, as a service: it owns everything that lives as long as its layer (single flight, renewals, deadlines,
 * breaker, background completions), and ends it in order: no new claims, then owners finish within `shutdownGrace`,
 * then they are interrupted and release or hold their keys. Its members are for `withIdempotency` and its relatives.
 *
 * @since 0.1.0
 * @category services
 */
export class Idempotency extends Context.Tag("effect-idempotency/Idempotency")<Idempotency, Engine>() {
  /**
   * With the defaults of {@link IdempotencyEngineOptions}.
   *
   * @since 0.1.0
   * @category layers
   */
  static readonly layer: Layer.Layer<
    Idempotency,
    never,
    IdempotencyRepository | IdempotencyDomainService | IdempotencyMetrics
  > = Layer.scoped(Idempotency, Effect.flatMap(Effect.orDie(decodeSettings({})), makeEngine))

  /**
   * With other options; `IdempotencyValidationError` names every one that is out of bounds.
   *
   * @example
   * ```ts
   * import * as Layer from "effect/Layer"
   * import { Idempotency, layerMemory } from "effect-idempotency"
   *
   * const engine = Idempotency.layerWith({ storageTimeout: "500 millis", maxResultBytes: 65_536 }).pipe(
   *   Layer.provide(layerMemory)
   * )
   * ```
   *
   * @since 0.1.0
   * @category layers
   */
  static readonly layerWith = (
    options: IdempotencyEngineOptions
  ): Layer.Layer<
    Idempotency,
    IdempotencyValidationError,
    IdempotencyRepository | IdempotencyDomainService | IdempotencyMetrics
  > =>
    Layer.scoped(
      Idempotency,
      Effect.flatMap(
        Effect.suspend(() => decodeSettings(options)),
        makeEngine
      )
    )

  /**
   * {@link Idempotency.layerWith}, from `Config`.
   *
   * @example
   * ```ts
   * import * as Config from "effect/Config"
   * import * as Layer from "effect/Layer"
   * import { Idempotency, layerMemory } from "effect-idempotency"
   *
   * const engine = Idempotency.layerConfig({ storageTimeout: Config.duration("IDEMPOTENCY_TIMEOUT") }).pipe(
   *   Layer.provide(layerMemory)
   * )
   * ```
   *
   * @since 0.1.0
   * @category layers
   */
  static readonly layerConfig = (
    config: Config.Config.Wrap<Omit<IdempotencyEngineOptions, "retry">>
  ): Layer.Layer<
    Idempotency,
    IdempotencyValidationError | ConfigError,
    IdempotencyRepository | IdempotencyDomainService | IdempotencyMetrics
  > =>
    Layer.scoped(
      Idempotency,
      Effect.flatMap(Config.unwrap(config), (options) => Effect.flatMap(decodeSettings(options), makeEngine))
    )
}
