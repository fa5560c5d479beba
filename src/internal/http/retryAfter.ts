import * as Headers from "@effect/platform/Headers"
import type * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"

/** A date of RFC 9110, section 5.6.7, in any of its three forms; milliseconds. */
const parseDate = (text: string): number | undefined => {
  if (!/^(Mon|Tue|Wed|Thu|Fri|Sat|Sun)/.test(text)) return undefined
  // The form of asctime has no zone, and all three are in UTC.
  const millis = Date.parse(text.endsWith("GMT") ? text : `${text} GMT`)
  return Number.isNaN(millis) ? undefined : millis
}

const dateIn = (headers: Headers.Headers): number | undefined =>
  Option.getOrUndefined(Option.flatMapNullable(Headers.get(headers, "date"), parseDate))

/**
 * How long a response asks to be left alone (RFC 9110, section 10.2.3), if it says so in a form that can be read. A
 * date counts from the response's own `Date`, so that clocks need not agree.
 */
export const retryAfterOf = ({
  headers
}: HttpClientResponse.HttpClientResponse): Effect.Effect<Duration.Duration | undefined> =>
  Effect.map(Clock.currentTimeMillis, (now) => {
    const value = Option.getOrElse(Headers.get(headers, "retry-after"), () => "").trim()
    if (/^\d+$/.test(value)) return Duration.seconds(Number(value))
    const date = parseDate(value)
    return date === undefined ? undefined : Duration.millis(date - (dateIn(headers) ?? now))
  })
