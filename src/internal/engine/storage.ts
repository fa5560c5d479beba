/** The repository's claims as the engine calls them: within deadlines, retried, behind a circuit breaker. */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { pipe } from "effect/Function"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { IdempotencyStorageError } from "../../IdempotencyError.js"
import { IdempotencyIdentifiers } from "../../IdempotencyIdentifiers.js"
import type { IdempotencyRepository } from "../../IdempotencyRepository.js"
import { inStorageSpan, logsAboutStore } from "../tracing.js"
import { makeDeadlines } from "./deadlines.js"
import { loop } from "./loop.js"
import { type Asker, untraced } from "./request.js"
import type { Settings } from "./settings.js"

export interface Storage {
  readonly claims: IdempotencyRepository.Claims
  /** One attempt, within its deadline. For callers that come back by themselves. */
  readonly once: <A>(
    asker: Asker,
    method: string,
    call: Effect.Effect<A, IdempotencyStorageError>
  ) => Effect.Effect<A, IdempotencyStorageError>
  /**
   * The call with its retries, within `storageTimeout`. Its failure is `applied: "unknown"` if any attempt's was. To be
   * called where interruption is off: the deadlines bound it.
   */
  readonly within: <A>(
    asker: Asker,
    method: string,
    call: Effect.Effect<A, IdempotencyStorageError>
  ) => Effect.Effect<A, IdempotencyStorageError>
  /** The same, refused where it is called while the breaker is open. Never for what an owner does. */
  readonly unlessOpen: Storage["within"]
}

/** Asking for this key shows that the store answers; nothing is ever written under it. */
const probe = Either.getOrThrow(
  IdempotencyIdentifiers.from({ operation: "idempotency.probe", idempotencyKey: "probe" })
)

const isRetryable = (error: IdempotencyStorageError): boolean => error.reason !== "Misconfigured"
const saysStoreIsAway = ({ reason }: IdempotencyStorageError): boolean =>
  reason === "Unavailable" || reason === "Timeout"

const withApplied = (error: IdempotencyStorageError, unknown: boolean): IdempotencyStorageError =>
  !unknown || error.applied === "unknown"
    ? error
    : new IdempotencyStorageError({
        operation: error.operation,
        method: error.method,
        reason: error.reason,
        applied: "unknown",
        cause: error.cause
      })

export const makeStorage = (
  claims: IdempotencyRepository.Claims,
  settings: Settings,
  name: string
): Effect.Effect<Storage, never, Scope.Scope> =>
  Effect.gen(function* () {
    const deadlines = yield* makeDeadlines
    const aboutStore = logsAboutStore(name)
    let failuresInARow = 0
    const opened = Effect.unsafeMakeLatch(false)
    let isOpen = false

    const succeeded = <A>(value: A): Effect.Effect<A> => {
      failuresInARow = 0
      return Effect.succeed(value)
    }
    const failed = (error: IdempotencyStorageError): Effect.Effect<void> => {
      if (!saysStoreIsAway(error)) return succeeded(undefined)
      failuresInARow++
      if (isOpen || failuresInARow < settings.breakerThreshold) return Effect.void
      isOpen = true
      return Effect.zipRight(
        opened.open,
        aboutStore(Effect.logWarning("idempotency: the store does not answer; calls go without it until it does"))
      )
    }

    const attempt = <A>(
      { identifiers, trace }: Asker,
      method: string,
      call: Effect.Effect<A, IdempotencyStorageError>
    ) => {
      const { operation } = identifiers
      const onTimeout = () => new IdempotencyStorageError({ operation, method, reason: "Timeout", applied: "unknown" })
      return trace?.span.sampled === true
        ? inStorageSpan(trace.span, name, operation, method, call, (traced) =>
            deadlines.within(traced, settings.attemptTimeout, onTimeout)
          )
        : deadlines.within(call, settings.attemptTimeout, onTimeout)
    }

    const once: Storage["once"] = (asker, method, call) =>
      Effect.matchEffect(attempt(asker, method, call), {
        onFailure: (error) => Effect.zipRight(failed(error), Effect.fail(error)),
        onSuccess: succeeded
      })

    const retried = <A>(
      first: IdempotencyStorageError,
      again: Effect.Effect<A, IdempotencyStorageError>
    ): Effect.Effect<A, IdempotencyStorageError> => {
      if (!isRetryable(first)) return Effect.fail(first)
      let last = first
      let unknown = first.applied === "unknown"
      let isUnderWay = false
      let isFirst = true
      const next = Effect.suspend(() => {
        if (isFirst) {
          isFirst = false
          return Effect.fail(first)
        }
        isUnderWay = true
        return Effect.tapError(again, (error) =>
          Effect.sync(() => {
            isUnderWay = false
            last = error
            unknown ||= error.applied === "unknown"
          })
        )
      })
      return pipe(
        deadlines.within(
          Effect.retry(next, { schedule: settings.retry, while: isRetryable }),
          settings.storageTimeout - settings.attemptTimeout,
          () => last
        ),
        Effect.mapError((error) => withApplied(error, unknown || isUnderWay))
      )
    }

    const within: Storage["within"] = (asker, method, call) =>
      Effect.matchEffect(attempt(asker, method, call), {
        onFailure: (error) => Effect.zipRight(failed(error), retried(error, once(asker, method, call))),
        onSuccess: succeeded
      })

    const refusal = (operation: string, method: string) =>
      new IdempotencyStorageError({
        operation,
        method,
        reason: "Unavailable",
        applied: "no",
        cause: new Error("the store has not answered lately; it is asked again in the background")
      })

    const close = Effect.suspend(() => {
      isOpen = false
      failuresInARow = 0
      return Effect.zipRight(opened.close, aboutStore(Effect.logInfo("idempotency: the store answers again")))
    })
    const closeWhenItAnswers = pipe(
      opened.await,
      Effect.zipRight(Effect.sleep(settings.breakerProbeInterval)),
      Effect.zipRight(once(untraced(probe.operation), "read", claims.read([probe]))),
      Effect.matchEffect({
        onFailure: (error) =>
          saysStoreIsAway(error)
            ? aboutStore(Effect.logDebug("idempotency: the store still does not answer", Cause.fail(error)))
            : close,
        onSuccess: () => close
      })
    )
    yield* loop("breaker", closeWhenItAnswers)

    return {
      claims,
      once,
      within,
      unlessOpen: (asker, method, call) =>
        isOpen ? Effect.fail(refusal(asker.identifiers.operation, method)) : within(asker, method, call)
    }
  })

/** Delays for what goes on in the background until the store answers: from 50 ms, doubling to 1 s, jittered. */
export const patiently: Schedule.Schedule<unknown> = Schedule.exponential("50 millis").pipe(
  Schedule.modifyDelay((_, delay) => Duration.min(delay, Duration.seconds(1))),
  Schedule.jittered
)
