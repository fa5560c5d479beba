/** Options of layers, decoded once; everything that is wrong with them is told at once. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { IdempotencyValidationError } from "../IdempotencyError.js"

/** `setTimeout` fires at once beyond 2³¹ − 1 ms. */
export const longestTimer = Duration.toMillis(Duration.days(24))

export interface OptionReader {
  /** Whole milliseconds, rounded up; `max` is finite. */
  readonly duration: (name: string, input: Duration.DurationInput, max?: number) => number
  readonly whole: (name: string, value: number) => number
}

/** What the reader makes of the options, unless it found fault with any. */
export const readOptions = <A>(read: (reader: OptionReader) => A): Effect.Effect<A, IdempotencyValidationError> =>
  Effect.suspend(() => {
    const issues: Array<string> = []
    const options = read({
      duration: (name, input, max = Number.MAX_SAFE_INTEGER) => {
        const millis = Option.match(Duration.decodeUnknown(input), {
          onNone: () => Number.NaN,
          onSome: Duration.toMillis
        })
        if (!(millis >= 1 && millis <= max)) issues.push(`${name} is not a duration between 1 ms and ${max} ms`)
        return Math.ceil(millis)
      },
      whole: (name, value) => {
        if (!(Number.isSafeInteger(value) && value >= 1)) issues.push(`${name} is not a whole number of 1 or more`)
        return value
      }
    })
    return issues.length > 0
      ? Effect.fail(new IdempotencyValidationError({ operation: "", issues }))
      : Effect.succeed(options)
  })
