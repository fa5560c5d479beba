/**
 * Idempotency keys on the requests of an `HttpClient`.
 *
 * @since 0.1.0
 */
import * as HttpClient from "@effect/platform/HttpClient"
import type * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import type { HttpMethod } from "@effect/platform/HttpMethod"
import * as Duration from "effect/Duration"
import { dual, pipe } from "effect/Function"
import * as Predicate from "effect/Predicate"
import * as Schedule from "effect/Schedule"
import { type ClientSettings, withKeys } from "../internal/http/client.js"

/**
 * How requests get their key and are sent again. Every member is optional.
 *
 * @since 0.1.0
 * @category models
 */
export interface HttpIdempotencyClientOptions {
  /** The request header. `Idempotency-Key` by default. */
  readonly header?: string | undefined
  /** Which requests get a key and are sent again: by default all unsafe ones (`POST`, `PUT`, `PATCH`, `DELETE`). */
  readonly methods?: ReadonlyArray<HttpMethod> | undefined
  /**
   * The key of a request, 1–255 printable ASCII characters (others are a defect, `IdempotencyValidationError`); the
   * header holds it as a structured-field string. Called once per call of `execute`, and used in place of the random or
   * derived key. For keys that outlive the process outside of a protected effect: an order's identifier, say.
   */
  readonly key?: ((request: HttpClientRequest.HttpClientRequest) => string) | undefined
  /**
   * When to send again; its input is the response or the failure of the last try. A `Retry-After` longer than its delay
   * replaces it. By default 250 ms, doubled each time up to 10 s, jittered.
   */
  readonly schedule?: Schedule.Schedule<unknown, unknown> | undefined
  /** How often a request is sent again at most: 4 times by default; 0 for the keys alone. */
  readonly maxRetries?: number | undefined
  /** A response that asks for a longer wait is not waited for, but returned. 1 minute by default, 24 days at most. */
  readonly maxRetryAfter?: Duration.DurationInput | undefined
}

const defaultSchedule: Schedule.Schedule<unknown> = pipe(
  Schedule.exponential("250 millis"),
  Schedule.modifyDelay((_, delay) => Duration.min(delay, Duration.seconds(10))),
  Schedule.jittered
)

/** The longest that a timer can wait. */
const longestSleep = Duration.millis(2 ** 31 - 1)

const settingsOf = ({
  header = "Idempotency-Key",
  key,
  maxRetries = 4,
  maxRetryAfter = "1 minute",
  methods = ["POST", "PUT", "PATCH", "DELETE"],
  schedule = defaultSchedule
}: HttpIdempotencyClientOptions = {}): ClientSettings => ({
  header,
  key,
  maxRetryAfter: Duration.min(Duration.decode(maxRetryAfter), longestSleep),
  methods: new Set(methods),
  schedule: Schedule.intersect(schedule, Schedule.recurs(maxRetries))
})

/**
 * Clients that send idempotency keys.
 *
 * @since 0.1.0
 * @category combinators
 */
export const HttpIdempotencyClient: {
  /**
   * Gives every unsafe request without one an `Idempotency-Key`
   * (draft-ietf-httpapi-idempotency-key-header-07; a string of RFC 9651), and sends it again, under the same key, after
   * a transport error, a timeout of the client within, 409 with `Retry-After`, 429 and 5xx. What is marked
   * `Idempotent-Replayed: true` is recorded and not asked for again. When the tries run out, the caller gets what the
   * last one ended with: errors and requirements are those of the client. Only for servers that honour the header: to
   * others, every try is a request of its own.
   *
   * **One call of `execute` (or `post`, …) is one intended request**, however often the effect that it returns is run:
   * `Effect.retry`, `HttpClient.retry` and races around it send the same key, and so does `Effect.repeat`. To send a
   * request again on purpose, call again: `Effect.repeat(Effect.suspend(() => client.execute(request)))`. To retry, do
   * not: `Effect.retry` around a generator that calls `execute` makes a new request each time. Apply this last, over
   * the whole client: in combinators that wrap it as `HttpClient.followRedirects` does, each run is a call.
   *
   * **Within a protected effect** the key is `childKey` of method, URL, SHA-256 of the body, the surrounding
   * `withIdempotentStep`, and the number among identical requests: a crash and a re-run of the effect send the same
   * keys for the same requests, and two identical requests do not share one. A request without a final answer leaves
   * its number, so that here an identical call after it sends the same key. What a re-run sends otherwise (a time in
   * the body, say) has another key: give such requests a `childKey` of a name.
   *
   * Bodies: form data are encoded once, in memory, with a boundary that depends on the content alone. A stream gets a
   * key, but is not sent again here, as it may be readable only once, and is told from others by method, URL and order.
   *
   * @example
   * ```ts
   * import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
   * import * as HttpClient from "@effect/platform/HttpClient"
   * import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
   * import * as Effect from "effect/Effect"
   * import { HttpIdempotencyClient } from "effect-idempotency/http"
   *
   * const program = Effect.gen(function* () {
   *   const client = (yield* HttpClient.HttpClient).pipe(
   *     HttpClient.mapRequest(HttpClientRequest.prependUrl("https://payments.example")),
   *     HttpIdempotencyClient.withIdempotencyKey({ maxRetries: 5 })
   *   )
   *   return yield* client.post("/charges")
   * }).pipe(Effect.provide(FetchHttpClient.layer))
   * ```
   *
   * @since 0.1.0
   * @category combinators
   */
  readonly withIdempotencyKey: {
    <E, R>(
      self: HttpClient.HttpClient.With<E, R>,
      options?: HttpIdempotencyClientOptions
    ): HttpClient.HttpClient.With<E, R>
    (
      options?: HttpIdempotencyClientOptions
    ): <E, R>(self: HttpClient.HttpClient.With<E, R>) => HttpClient.HttpClient.With<E, R>
  }
} = {
  withIdempotencyKey: dual(
    (args) => Predicate.hasProperty(args[0], HttpClient.TypeId),
    <E, R>(
      self: HttpClient.HttpClient.With<E, R>,
      options?: HttpIdempotencyClientOptions
    ): HttpClient.HttpClient.With<E, R> => withKeys(self, settingsOf(options))
  )
}
