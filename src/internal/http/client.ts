/** One request of a client that sends keys: its key, its tries, and what the caller gets. */

import * as Headers from "@effect/platform/Headers"
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientError from "@effect/platform/HttpClientError"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import type * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import type { HttpMethod } from "@effect/platform/HttpMethod"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import { pipe } from "effect/Function"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { IdempotencyValidationError } from "../../IdempotencyError.js"
import { formatKeyHeader } from "./keyHeader.js"
import { prepareBody } from "./requestBody.js"
import { type KeyOf, makeKeyOf } from "./requestKey.js"
import { retryAfterOf } from "./retryAfter.js"

type Request = HttpClientRequest.HttpClientRequest
type Response = HttpClientResponse.HttpClientResponse

/** `HttpIdempotencyClientOptions`, with its defaults. */
export interface ClientSettings {
  readonly header: string
  readonly methods: ReadonlySet<HttpMethod>
  readonly schedule: Schedule.Schedule<unknown, unknown>
  readonly maxRetryAfter: Duration.Duration
  readonly key: ((request: Request) => string) | undefined
}

/** What one try ended with, or all of them. */
interface Attempt<E> {
  readonly result: Either.Either<Response, E>
  /** Another try may end differently. */
  readonly isTransient: boolean
  readonly retryAfter: Duration.Duration
}

/** What a recorded answer says will be said again. */
const isReplay = ({ headers }: Response): boolean =>
  Option.contains(Headers.get(headers, "idempotent-replayed"), "true")

const isTransientStatus = (status: number, retryAfter: Duration.Duration | undefined): boolean =>
  status === 429 || status >= 500 || (status === 409 && retryAfter !== undefined)

/** The response that came, be it as an error of a client that refuses some. */
const responseOf = <E>(result: Either.Either<Response, E>): Response | undefined => {
  if (Either.isRight(result)) return result.right
  const error: unknown = result.left
  return HttpClientError.isHttpClientError(error) && error._tag === "ResponseError" && error.reason === "StatusCode"
    ? error.response
    : undefined
}

/** Without a response, whether the server acted on the request is not known. */
const isUnanswered = (error: unknown): boolean =>
  Cause.isTimeoutException(error) ||
  (HttpClientError.isHttpClientError(error) && error._tag === "RequestError" && error.reason === "Transport")

const attemptOf = <E>(result: Either.Either<Response, E>): Effect.Effect<Attempt<E>> => {
  const response = responseOf(result)
  if (response === undefined) {
    const isTransient = Either.isLeft(result) && isUnanswered(result.left)
    return Effect.succeed({ result, isTransient, retryAfter: Duration.zero })
  }
  return Effect.map(retryAfterOf(response), (retryAfter) => ({
    result,
    isTransient: isTransientStatus(response.status, retryAfter) && !isReplay(response),
    retryAfter: retryAfter ?? Duration.zero
  }))
}

const isFinal = <E>({ isTransient, result }: Attempt<E>): boolean => !isTransient && responseOf(result) !== undefined

/** A response that nobody reads would keep its connection until it is collected. */
const discard = <E>({ result }: Attempt<E>): Effect.Effect<void> => {
  const response = responseOf(result)
  return response === undefined
    ? Effect.void
    : pipe(Stream.runDrain(response.stream), Effect.timeout(Duration.seconds(1)), Effect.ignore)
}

/**
 * The caller's schedule, which sees what the last try ended with, and never a wait below what the server asks for.
 * What will be replaced is discarded meanwhile.
 */
const policyOf = ({ schedule }: ClientSettings): Schedule.Schedule<unknown, Attempt<unknown>> =>
  pipe(
    schedule,
    Schedule.mapInput(({ result }: Attempt<unknown>) => Either.merge(result)),
    Schedule.passthrough,
    Schedule.modifyDelayEffect((last, delay) =>
      Effect.as(Effect.fork(discard(last)), Duration.max(delay, last.retryAfter))
    )
  )

const tried = <E, R>(
  once: Effect.Effect<Response, E, R>,
  settings: ClientSettings,
  canRepeat: boolean
): Effect.Effect<Attempt<E>, never, R> => {
  const attempt = Effect.flatMap(Effect.either(once), attemptOf)
  const isLast = ({ isTransient, retryAfter }: Attempt<E>): boolean =>
    !canRepeat || !isTransient || Duration.greaterThan(retryAfter, settings.maxRetryAfter)
  const after = (
    driver: Schedule.ScheduleDriver<unknown, Attempt<unknown>>,
    last: Attempt<E>
  ): Effect.Effect<Attempt<E>, never, R> =>
    isLast(last)
      ? Effect.succeed(last)
      : Effect.matchEffect(driver.next(last), {
          onFailure: () => Effect.succeed(last),
          onSuccess: () => Effect.flatMap(attempt, (next) => after(driver, next))
        })
  return Effect.flatMap(attempt, (first) =>
    isLast(first)
      ? Effect.succeed(first)
      : Effect.flatMap(Schedule.driver(policyOf(settings)), (driver) => after(driver, first))
  )
}

/** A key that no header can hold is a fault of the function that made it. */
const headerOf = (key: string): Effect.Effect<string> =>
  Either.match(formatKeyHeader(key), {
    onLeft: (issue) => Effect.die(new IdempotencyValidationError({ operation: "", issues: [issue] })),
    onRight: Effect.succeed
  })

const send = <E, R>(
  client: HttpClient.HttpClient.With<E, R>,
  settings: ClientSettings,
  keyOf: KeyOf,
  request: Request
): Effect.Effect<Response, E, R> =>
  Effect.flatMap(prepareBody(request.body), ({ body, hash }) => {
    const canRepeat = hash !== undefined
    const withBody = body === request.body ? request : HttpClientRequest.setBody(request, body)
    const trying = (request: Request) => tried(client.execute(request), settings, canRepeat)
    const sending = Headers.has(request.headers, settings.header)
      ? trying(withBody)
      : Effect.acquireUseRelease(
          keyOf(request, hash),
          ({ key }) =>
            Effect.flatMap(headerOf(key), (value) =>
              trying(HttpClientRequest.setHeader(withBody, settings.header, value))
            ),
          ({ end }, exit) => Effect.sync(() => end(Exit.isSuccess(exit) && isFinal(exit.value)))
        )
    return Effect.flatMap(sending, ({ result }) => result)
  })

/** The client, with a key for each call of `execute`: whatever surrounds the effect that it returns sends that one. */
export const withKeys = <E, R>(
  client: HttpClient.HttpClient.With<E, R>,
  settings: ClientSettings
): HttpClient.HttpClient.With<E, R> =>
  HttpClient.makeWith<never, never, E, R>(
    (request) => {
      const keyOf = makeKeyOf(settings.key)
      return Effect.flatMap(request, (request) =>
        settings.methods.has(request.method) ? send(client, settings, keyOf, request) : client.execute(request)
      )
    },
    (request) => Effect.succeed(request)
  )
