/**
 * The record of an execution that has ended.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { IdempotencyValidationError } from "./IdempotencyError.js"
import { IdempotencyIdentifiers } from "./IdempotencyIdentifiers.js"
import { IdempotencyKey, OperationName } from "./IdempotencyKey.js"
import { isJson } from "./internal/hash.js"
import type { Json } from "./Jsonable.js"

const isJsonResult = (value: unknown): value is Json | undefined => value === undefined || isJson(value)

const fingerprintPattern = /^[\w-]{1,128}$/

const JsonResult: Schema.Schema<Json | undefined> = Schema.declare(isJsonResult, {
  identifier: "JsonResult",
  description: "a JSON value, or undefined for an effect without a result"
})

/**
 * What an execution left behind: immutable and validated. `result` is the encoded JSON of its success, or of its
 * recorded failure, as `outcome` says; `unavailable` means that it ran and its result could not be stored.
 * The record may be given until `expiresAt`, exclusive, by the store's clock.
 *
 * @since 0.1.0
 * @category models
 */
export class IdempotencyRecord extends Schema.Class<IdempotencyRecord>("effect-idempotency/IdempotencyRecord")({
  operation: OperationName,
  idempotencyKey: IdempotencyKey,
  scope: Schema.optional(IdempotencyKey),
  outcome: Schema.optionalWith(Schema.Literal("success", "failure", "unavailable"), { default: () => "success" }),
  result: JsonResult,
  createdAt: Schema.DateTimeUtc,
  expiresAt: Schema.DateTimeUtc,
  fingerprint: Schema.optional(Schema.String.pipe(Schema.pattern(fingerprintPattern))),
  attempt: Schema.optionalWith(Schema.NonNegativeInt, { default: () => 1 })
}) {
  /**
   * A record that starts now (by the `Clock`) and may be given for `timeToLive` (finite, at least a millisecond).
   * `IdempotencyValidationError` names what is wrong.
   *
   * @example
   * ```ts
   * import * as Effect from "effect/Effect"
   * import { IdempotencyRecord, IdempotencyRepository } from "effect-idempotency"
   *
   * // What another system has done already is not done again.
   * const program = Effect.gen(function* () {
   *   const record = yield* IdempotencyRecord.create({
   *     operation: "payment.charge",
   *     idempotencyKey: "order-1",
   *     result: { chargeId: "ch_1" },
   *     timeToLive: "1 hour"
   *   })
   *   const { save } = yield* IdempotencyRepository
   *   yield* save(record)
   * })
   * ```
   *
   * @since 0.1.0
   * @category constructors
   */
  static create(input: {
    readonly operation: string
    readonly idempotencyKey: string
    readonly scope?: string | undefined
    readonly result: Json | undefined
    readonly timeToLive: Duration.DurationInput
    readonly fingerprint?: string | undefined
  }): Effect.Effect<IdempotencyRecord, IdempotencyValidationError> {
    return Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const operation = String(input.operation).trim()
      const refuse = (...issues: ReadonlyArray<string>) =>
        Effect.fail(new IdempotencyValidationError({ operation, issues }))
      const millis = Duration.decodeUnknown(input.timeToLive).pipe((duration) =>
        duration._tag === "Some" ? Duration.toMillis(duration.value) : Number.NaN
      )
      if (!(millis >= 1 && now + millis <= lastInstant))
        return refuse("the time to live is not a positive, finite duration")
      if (!isJsonResult(input.result)) return refuse("the result is not JSON")
      if (input.fingerprint !== undefined && !fingerprintPattern.test(input.fingerprint))
        return refuse("the fingerprint is not 1 to 128 letters, digits, underscores or dashes")
      return Effect.map(
        IdempotencyIdentifiers.from(input),
        (ids) =>
          // Every part is checked above: a schema's own words would repeat the result that they refuse.
          new IdempotencyRecord(
            {
              ...ids,
              result: input.result,
              createdAt: DateTime.unsafeMake(now),
              expiresAt: DateTime.unsafeMake(now + millis),
              fingerprint: input.fingerprint
            },
            { disableValidation: true }
          )
      )
    })
  }

  /** Operation, scope and key. */
  get identifiers(): IdempotencyIdentifiers {
    const { operation, idempotencyKey, scope } = this
    return new IdempotencyIdentifiers(
      scope === undefined ? { operation, idempotencyKey } : { operation, idempotencyKey, scope },
      { disableValidation: true }
    )
  }

  /** Whether `expiresAt` has come, by the `Clock`. */
  get isExpired(): Effect.Effect<boolean> {
    return Effect.map(Clock.currentTimeMillis, (now) => now >= this.expiresAt.epochMillis)
  }

  /** How long the record may still be given, by the `Clock`; zero once it has expired. */
  get remainingTimeToLive(): Effect.Effect<Duration.Duration> {
    return Effect.map(Clock.currentTimeMillis, (now) => Duration.millis(Math.max(0, this.expiresAt.epochMillis - now)))
  }
}

/** The last instant that a `Date` can hold (ECMAScript, time values). */
const lastInstant = 8.64e15
