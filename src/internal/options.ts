/** Options of layers, decoded once; everything that is wrong with them is told at once. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { IdempotencyValidationError } from "../IdempotencyError.js"

/** `setTimeout` fires at once beyond 2³¹ − 1 ms: no timer is longer than this. */
export const longestTimer = Duration.toMillis(Duration.days(24))

export interface OptionReader {
  /** Whole milliseconds, rounded up; the bounds are finite. */
  readonly duration: (name: string, input: Duration.DurationInput, max?: number, min?: number) => number
  /** 1 or more. */
  readonly whole: (name: string, value: number, max?: number) => number
}

/** What the reader makes of the options, unless it found fault with any. */
export const readOptions = <A>(read: (reader: OptionReader) => A): Effect.Effect<A, IdempotencyValidationError> =>
  Effect.suspend(() => {
    const issues: Array<string> = []
    const options = read({
      duration: (name, input, max = Number.MAX_SAFE_INTEGER, min = 1) => {
        const millis = Option.match(Duration.decodeUnknown(input), {
          onNone: () => Number.NaN,
          onSome: Duration.toMillis
        })
        if (!(millis >= min && millis <= max)) issues.push(`${name} is not a duration between ${min} ms and ${max} ms`)
        return Math.ceil(millis)
      },
      whole: (name, value, max = Number.MAX_SAFE_INTEGER) => {
        if (!(Number.isSafeInteger(value) && value >= 1 && value <= max)) {
          const range = max === Number.MAX_SAFE_INTEGER ? "of 1 or more" : `between 1 and ${max}`
          issues.push(`${name} is not a whole number ${range}`)
        }
        return value
      }
    })
    return issues.length > 0
      ? Effect.fail(new IdempotencyValidationError({ operation: "", issues }))
      : Effect.succeed(options)
  })
