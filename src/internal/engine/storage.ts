/** The repository's claims as the engine calls them: within deadlines, retried, behind a circuit breaker. */
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { pipe } from "effect/Function"
import * as Predicate from "effect/Predicate"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { IdempotencyStorageError } from "../../IdempotencyError.js"
import type { IdempotencyMetrics } from "../../IdempotencyMetrics.js"
import type { IdempotencyRepository } from "../../IdempotencyRepository.js"
import { type AnyFiber, nowIn } from "../call.js"
import * as eager from "../eager.js"
import { type Completed, readStored } from "../protocol.js"
import { inStorageSpan } from "../tracing.js"
import { makeBreaker } from "./breaker.js"
import { makeDeadlines } from "./deadlines.js"
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
  /**
   * The same; where it is called while the breaker is open, answered from a copy of the settled record, or refused.
   * Never for what an owner does.
   */
  readonly unlessOpen: <A>(
    asker: Asker,
    method: string,
    call: Effect.Effect<A, IdempotencyStorageError>,
    ofCopy?: OfCopy<A>
  ) => Effect.Effect<A, IdempotencyStorageError>
  /**
   * `within`, for the fiber that runs: it has begun, and may have ended. `onUnknown` hears of attempts that failed
   * `applied: "unknown"`, whatever the next one's answer.
   */
  readonly start: <A>(
    fiber: AnyFiber,
    asker: Asker,
    method: string,
    call: Effect.Effect<A, IdempotencyStorageError>,
    onUnknown?: () => void
  ) => Effect.Effect<A, IdempotencyStorageError>
  /** `unlessOpen`, likewise. */
  readonly startUnlessOpen: <A>(
    fiber: AnyFiber,
    asker: Asker,
    method: string,
    call: Effect.Effect<A, IdempotencyStorageError>,
    onUnknown?: () => void,
    ofCopy?: OfCopy<A>
  ) => Effect.Effect<A, IdempotencyStorageError>
}

/** What a call would have been answered with, had the store been asked for the record that there is a copy of. */
type OfCopy<A> = (copy: Completed) => A

/** Operations are few, but nobody is kept from making them up. */
const mostRefusals = 1_000

export const isRefusal = ({ applied, reason }: IdempotencyStorageError): boolean =>
  reason === "Rejected" && applied === "no"

export const isRetryable = (error: IdempotencyStorageError): boolean => error.reason !== "Misconfigured"

/** Whether a copy may have answered so: it does not tell whether the store would have. */
const mayBeOfCopy = (method: string, reply: unknown): boolean =>
  method === "read" ||
  (method === "claim" &&
    Predicate.hasProperty(reply, "_tag") &&
    (reply._tag === "Settled" || reply._tag === "Mismatch" || reply._tag === "Corrupted"))

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
  metrics: Context.Tag.Service<IdempotencyMetrics>,
  name: string
): Effect.Effect<Storage, never, Scope.Scope> =>
  Effect.gen(function* () {
    const deadlines = yield* makeDeadlines
    const breaker = makeBreaker(claims.partOf, settings, name)

    /** Failures of calls that were given up: the store measures what ends by itself. */
    const givenUp = new WeakSet<IdempotencyStorageError>()

    const failed = ({ identifiers }: Asker, method: string, error: IdempotencyStorageError): Effect.Effect<void> => {
      const counted = breaker.failed(identifiers, error)
      if (!givenUp.has(error)) return counted
      const { operation } = identifiers
      return pipe(
        metrics.recordLatency(operation, method, Duration.millis(settings.attemptTimeout)),
        Effect.zipRight(metrics.recordError(operation, error.reason)),
        Effect.zipRight(counted)
      )
    }

    const attempt = <A>(
      fiber: AnyFiber,
      { identifiers, trace }: Asker,
      method: string,
      call: Effect.Effect<A, IdempotencyStorageError>
    ) => {
      const { operation } = identifiers
      const onTimeout = () => {
        const error = new IdempotencyStorageError({ operation, method, reason: "Timeout", applied: "unknown" })
        givenUp.add(error)
        return error
      }
      return trace?.span.sampled === true
        ? inStorageSpan(trace.span, name, operation, method, call, (traced) =>
            deadlines.within(traced, settings.attemptTimeout, onTimeout)
          )
        : deadlines.start(fiber, call, settings.attemptTimeout, onTimeout)
    }

    const answered = <A>(fiber: AnyFiber, { identifiers }: Asker, method: string, reply: A): Effect.Effect<A> => {
      if (claims.readCopy === undefined || !mayBeOfCopy(method, reply)) breaker.succeeded(identifiers)
      else breaker.mayHaveSucceeded(identifiers, nowIn(fiber))
      return Effect.succeed(reply)
    }

    const once: Storage["once"] = (asker, method, call) =>
      Effect.withFiberRuntime((fiber) =>
        eager.matchEffect(attempt(fiber, asker, method, call), {
          onFailure: (error) => Effect.zipRight(failed(asker, method, error), Effect.fail(error)),
          onSuccess: (reply) => answered(fiber, asker, method, reply)
        })
      )

    const retried = <A>(
      first: IdempotencyStorageError,
      again: Effect.Effect<A, IdempotencyStorageError>,
      onUnknown: (() => void) | undefined
    ): Effect.Effect<A, IdempotencyStorageError> => {
      if (!isRetryable(first)) return Effect.fail(first)
      let last = first
      let unknown = false
      const note = ({ applied }: IdempotencyStorageError): void => {
        if (applied !== "unknown") return
        unknown = true
        onUnknown?.()
      }
      note(first)
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
            note(error)
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

    const start: Storage["start"] = (fiber, asker, method, call, onUnknown) =>
      eager.matchEffect(attempt(fiber, asker, method, call), {
        onFailure: (error) =>
          Effect.zipRight(failed(asker, method, error), retried(error, once(asker, method, call), onUnknown)),
        onSuccess: (reply) => answered(fiber, asker, method, reply)
      })

    /** Made once for each, while nothing but the same is said: an error is most of what a refused call costs. */
    const refusals = new Map<string, IdempotencyStorageError>()
    const refusal = (operation: string, method: string): IdempotencyStorageError => {
      const name = `${method} ${operation}`
      const known = refusals.get(name)
      if (known !== undefined) return known
      const cause = new Error("the store has not answered lately; it is asked again in the background")
      const made = new IdempotencyStorageError({ operation, method, reason: "Unavailable", applied: "no", cause })
      if (refusals.size >= mostRefusals) refusals.clear()
      refusals.set(name, made)
      return made
    }

    yield* breaker.probing((probe) => once(untraced(probe), "read", readStored(claims, [probe])))

    const unasked = <A>(
      { identifiers }: Asker,
      method: string,
      ofCopy: OfCopy<A> | undefined
    ): Effect.Effect<A, IdempotencyStorageError> => {
      const refused = Effect.suspend(() => Effect.fail(refusal(identifiers.operation, method)))
      if (ofCopy === undefined || claims.readCopy === undefined) return refused
      return pipe(
        deadlines.within(claims.readCopy(identifiers), settings.attemptTimeout, () => undefined),
        Effect.merge,
        Effect.flatMap((copy) => (copy === undefined ? refused : Effect.succeed(ofCopy(copy))))
      )
    }

    const startUnlessOpen: Storage["startUnlessOpen"] = (fiber, asker, method, call, onUnknown, ofCopy) =>
      breaker.isOpen(asker.identifiers) ? unasked(asker, method, ofCopy) : start(fiber, asker, method, call, onUnknown)

    /** As an effect: it begins when it is run. */
    const lazily = <A>(
      start: (fiber: AnyFiber) => Effect.Effect<A, IdempotencyStorageError>
    ): Effect.Effect<A, IdempotencyStorageError> => Effect.withFiberRuntime<A, IdempotencyStorageError>(start)

    return {
      claims,
      once,
      within: (asker, method, call) => lazily((fiber) => start(fiber, asker, method, call)),
      unlessOpen: (asker, method, call, ofCopy) =>
        lazily((fiber) => startUnlessOpen(fiber, asker, method, call, undefined, ofCopy)),
      start,
      startUnlessOpen
    }
  })

/** Delays for what goes on in the background until the store answers: from 50 ms, doubling to 1 s, jittered. */
export const patiently: Schedule.Schedule<unknown> = Schedule.exponential("50 millis").pipe(
  Schedule.modifyDelay((_, delay) => Duration.min(delay, Duration.seconds(1))),
  Schedule.jittered
)
