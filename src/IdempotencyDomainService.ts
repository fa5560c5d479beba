/**
 * Policy: how long results are kept, and which records are good.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import {
  IdempotencyInvalidTtlError,
  IdempotencyRecordExpiredError,
  IdempotencyValidationError
} from "./IdempotencyError.js"
import { IdempotencyRecord } from "./IdempotencyRecord.js"
import type { Json } from "./Jsonable.js"

/**
 * The bounds of a record's time to live. Each is at least a second and finite, `max ≥ min`, and the default lies
 * within the two. Defaults: 30 minutes, 60 seconds, 24 hours.
 *
 * @since 0.1.0
 * @category models
 */
export interface IdempotencyDomainServiceOptions {
  readonly defaultTimeToLive?: Duration.DurationInput | undefined
  readonly minTimeToLive?: Duration.DurationInput | undefined
  readonly maxTimeToLive?: Duration.DurationInput | undefined
}

/**
 * Makes and validates records within the bounds of their time to live.
 *
 * @since 0.1.0
 * @category services
 */
export class IdempotencyDomainService extends Context.Tag("effect-idempotency/IdempotencyDomainService")<
  IdempotencyDomainService,
  {
    readonly defaultTimeToLive: Duration.Duration
    readonly minTimeToLive: Duration.Duration
    readonly maxTimeToLive: Duration.Duration
    /**
     * A record that starts now. `IdempotencyValidationError` for a bad operation, key, scope or result;
     * `IdempotencyInvalidTtlError` for a time to live outside the bounds.
     */
    readonly createRecord: (
      operation: string,
      idempotencyKey: string,
      result: Json | undefined,
      options?: { readonly timeToLive?: Duration.DurationInput | undefined; readonly scope?: string | undefined }
    ) => Effect.Effect<IdempotencyRecord, IdempotencyValidationError | IdempotencyInvalidTtlError>
    /** The record, if it has not expired; else `IdempotencyRecordExpiredError`. */
    readonly validateRecord: (
      record: IdempotencyRecord
    ) => Effect.Effect<IdempotencyRecord, IdempotencyRecordExpiredError>
  }
>() {
  /**
   * 30 minutes by default, at least 60 seconds, at most 24 hours.
   *
   * @since 0.1.0
   * @category layers
   */
  static readonly layer: Layer.Layer<IdempotencyDomainService> = Layer.effect(
    IdempotencyDomainService,
    Effect.orDie(Effect.suspend(() => make({})))
  )

  /**
   * With other bounds; `IdempotencyValidationError` names every bound that breaks the rules.
   *
   * @example
   * ```ts
   * import * as Layer from "effect/Layer"
   * import { IdempotencyDomainService, layerMemory } from "effect-idempotency"
   *
   * const IdempotencyLive = layerMemory.pipe(
   *   Layer.provide(IdempotencyDomainService.layerWith({ defaultTimeToLive: "2 hours", maxTimeToLive: "7 days" }))
   * )
   * ```
   *
   * @since 0.1.0
   * @category layers
   */
  static readonly layerWith = (
    options: IdempotencyDomainServiceOptions
  ): Layer.Layer<IdempotencyDomainService, IdempotencyValidationError> =>
    Layer.effect(
      IdempotencyDomainService,
      Effect.suspend(() => make(options))
    )

  /**
   * {@link IdempotencyDomainService.layerWith}, from `Config`.
   *
   * @example
   * ```ts
   * import * as Config from "effect/Config"
   * import { IdempotencyDomainService } from "effect-idempotency"
   *
   * const policy = IdempotencyDomainService.layerConfig({ defaultTimeToLive: Config.duration("RESULTS_KEPT") })
   * ```
   *
   * @since 0.1.0
   * @category layers
   */
  static readonly layerConfig = (
    config: Config.Config.Wrap<IdempotencyDomainServiceOptions>
  ): Layer.Layer<IdempotencyDomainService, IdempotencyValidationError | ConfigError> =>
    Layer.effect(
      IdempotencyDomainService,
      Effect.flatMap(Config.unwrap(config), (options) => make(options))
    )
}

/**
 * The time to live in milliseconds: the one asked for, if it lies within the bounds, else the default.
 *
 * @internal
 */
export const timeToLiveMillis = (
  bounds: Pick<Context.Tag.Service<IdempotencyDomainService>, "defaultTimeToLive" | "minTimeToLive" | "maxTimeToLive">,
  operation: string,
  asked: Duration.DurationInput | undefined
): Either.Either<number, IdempotencyInvalidTtlError | IdempotencyValidationError> => {
  if (asked === undefined) return Either.right(Duration.toMillis(bounds.defaultTimeToLive))
  const decoded = Duration.decodeUnknown(asked)
  if (Option.isNone(decoded)) {
    return Either.left(new IdempotencyValidationError({ operation, issues: ["the time to live is not a duration"] }))
  }
  const [min, max] = [bounds.minTimeToLive, bounds.maxTimeToLive]
  return Duration.between(decoded.value, { minimum: min, maximum: max })
    ? Either.right(Math.ceil(Duration.toMillis(decoded.value)))
    : Either.left(new IdempotencyInvalidTtlError({ operation, timeToLive: decoded.value, min, max }))
}

const make = (
  options: IdempotencyDomainServiceOptions
): Effect.Effect<Context.Tag.Service<IdempotencyDomainService>, IdempotencyValidationError> => {
  const issues: Array<string> = []
  const bound = (name: string, input: Duration.DurationInput): Duration.Duration => {
    const duration = Option.getOrElse(Duration.decodeUnknown(input), () => Duration.zero)
    if (!(Duration.isFinite(duration) && Duration.greaterThanOrEqualTo(duration, "1 second"))) {
      issues.push(`${name} is not a finite duration of at least a second`)
    }
    return duration
  }
  const bounds = {
    defaultTimeToLive: bound("defaultTimeToLive", options.defaultTimeToLive ?? "30 minutes"),
    minTimeToLive: bound("minTimeToLive", options.minTimeToLive ?? "60 seconds"),
    maxTimeToLive: bound("maxTimeToLive", options.maxTimeToLive ?? "24 hours")
  }
  const { defaultTimeToLive, maxTimeToLive, minTimeToLive } = bounds
  if (Duration.lessThan(maxTimeToLive, minTimeToLive)) issues.push("maxTimeToLive is less than minTimeToLive")
  if (!Duration.between(defaultTimeToLive, { minimum: minTimeToLive, maximum: maxTimeToLive })) {
    issues.push("defaultTimeToLive is not between minTimeToLive and maxTimeToLive")
  }
  if (issues.length > 0) return Effect.fail(new IdempotencyValidationError({ operation: "", issues }))

  return Effect.succeed({
    ...bounds,
    createRecord: (operation, idempotencyKey, result, { scope, timeToLive } = {}) =>
      Effect.flatMap(timeToLiveMillis(bounds, String(operation).trim(), timeToLive), (millis) =>
        IdempotencyRecord.create({ operation, idempotencyKey, scope, result, timeToLive: millis })
      ),
    validateRecord: (record) =>
      Effect.flatMap(record.isExpired, (expired) => {
        const { operation, idempotencyKey } = record
        return expired
          ? Effect.fail(new IdempotencyRecordExpiredError({ operation, idempotencyKey }))
          : Effect.succeed(record)
      })
  })
}
