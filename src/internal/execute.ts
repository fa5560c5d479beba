/** One protected call: plan, begin, run, settle or abandon, and what the caller is told. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import { pipe } from "effect/Function"
import * as Option from "effect/Option"
import { Idempotency } from "../Idempotency.js"
import {
  IdempotencyInFlightError,
  IdempotencyOutcomeUnknownError,
  type IdempotencyStorageError,
  IdempotencyValidationError
} from "../IdempotencyError.js"
import { IdempotencyKey } from "../IdempotencyKey.js"
import { IdempotencyOutcome } from "../IdempotencyOutcome.js"
import { inExecution, runIn } from "./currentRun.js"
import type { Engine } from "./engine/engine.js"
import type { Flight } from "./engine/flights.js"
import type { Loss } from "./engine/leases.js"
import type { BeginError, Begun, ExecutionRequest, Ownership, Settlement } from "./engine/request.js"
import { executionOf } from "./execution.js"
import { inOwnFiber } from "./ownFiber.js"
import { type AnyOptions, type KeyInput, plan } from "./plan.js"
import { type AnyEffect, type AnyOutcome, type Call, decoded, failureOf, replay, successOf } from "./results.js"
import { resultUnavailable } from "./storedRecord.js"
import { inExecutionSpan, isTraced, type Trace, traceAttempt, traceOutcome } from "./tracing.js"
import { differ } from "./transition.js"

/* What a run ends with. */

/** What the caller gets once its own outcome was settled. */
const settled = (
  call: Call,
  { attempt }: Ownership,
  settlement: Settlement,
  own: (outcome: (value: unknown) => AnyOutcome) => AnyEffect<AnyOutcome>
): AnyEffect<AnyOutcome> => {
  switch (settlement._tag) {
    case "Replaced":
      return replay(call, settlement.record)
    case "Unprotected":
      return own((value) => IdempotencyOutcome.Unprotected({ value, reason: settlement.reason }))
    case "Recorded":
      return own((value) => IdempotencyOutcome.Executed({ value, attempt: settlement.attempt }))
    case "Kept":
      return own((value) => IdempotencyOutcome.Executed({ value, attempt }))
  }
}

const succeeded = (call: Call, ownership: Ownership, value: unknown): AnyEffect<AnyOutcome> =>
  pipe(
    successOf(call, value),
    Effect.flatMap((outcome) => ownership.settle(outcome, call.restore)),
    Effect.flatMap((settlement) => settled(call, ownership, settlement, (as) => Effect.succeed(as(value))))
  )

/** What the effect failed with may look like an error of this library's. */
const ownFailure = ({ request }: Call, cause: Cause.Cause<unknown>): AnyEffect<never> => {
  traceOutcome(request.trace, "Failed")
  return Effect.failCause(cause)
}

const failed = (
  call: Call,
  ownership: Ownership,
  cause: Cause.Cause<unknown>,
  error: unknown
): AnyEffect<AnyOutcome> => {
  const isUnknown = Either.try({
    try: () => call.options.isOutcomeUnknown?.(error) === true,
    catch: (defect) => defect
  })
  if (Either.isLeft(isUnknown)) return stopped(call, ownership, Cause.die(isUnknown.left), true)
  if (isUnknown.right) return Effect.zipRight(ownership.abandon("hold"), ownFailure(call, cause))
  return Effect.flatMap(failureOf(call, error), (outcome) =>
    outcome === undefined
      ? Effect.zipRight(ownership.abandon("release"), ownFailure(call, cause))
      : Effect.flatMap(ownership.settle(outcome, call.restore), (settlement) =>
          settled(call, ownership, settlement, () => ownFailure(call, cause))
        )
  )
}

/** A defect or an interruption: under at-most-once the effect may have happened, unless it never started. */
const stopped = (
  { request }: Call,
  ownership: Ownership,
  cause: Cause.Cause<unknown>,
  hasStarted: boolean
): AnyEffect<AnyOutcome> =>
  Effect.zipRight(
    ownership.abandon(hasStarted && request.guarantee === "at-most-once" ? "hold" : "release"),
    Effect.failCause(cause)
  )

/** The engine stopped the effect: its key is another's, or the store has been away for a whole lease. */
const lost = (call: Call, ownership: Ownership, loss: Loss): AnyEffect<AnyOutcome> => {
  const { request } = call
  const { idempotencyKey, operation } = request.identifiers
  if (loss._tag === "Unreachable") {
    return request.guarantee === "at-most-once"
      ? Effect.zipRight(
          ownership.abandon("hold"),
          Effect.fail(new IdempotencyOutcomeUnknownError({ operation, idempotencyKey, attempt: ownership.attempt }))
        )
      : Effect.zipRight(ownership.abandon("release"), Effect.fail<IdempotencyStorageError>(loss.error))
  }
  const { record } = loss
  const isOther = differ(record?.fingerprint, request.fingerprint)
  return Effect.zipRight(
    ownership.abandon("release"),
    Effect.suspend(() => {
      if (record !== undefined && !isOther) {
        return Effect.zipRight(call.engine.metrics.recordCollision(operation), replay(call, record))
      }
      // Whoever holds the key now is waited for like anybody else; a run that may have happened is not repeated.
      return isOther || request.inFlight === "fail" || request.guarantee === "at-most-once"
        ? Effect.fail(
            new IdempotencyInFlightError({
              operation,
              idempotencyKey,
              reason: "TakenOver",
              retryAfter: Duration.millis(request.lease)
            })
          )
        : attempt({ ...call, request: { ...request, blockedBy: "TakenOver" } })
    })
  )
}

/** The effect with what an integration surrounds it with. */
export const surrounded = ({ around }: AnyOptions, self: AnyEffect, attempt: number): AnyEffect =>
  around === undefined ? self : around(self, attempt)

const run = (call: Call, ownership: Ownership): AnyEffect<AnyOutcome> => {
  const { engine, options, request, restore, self } = call
  const { idempotencyKey, operation, scope } = request.identifiers
  traceAttempt(request.trace, ownership.attempt)
  let hasStarted = false
  const started = Effect.suspend(() => {
    hasStarted = true
    return self
  })
  const body = inOwnFiber(
    surrounded(options, started, ownership.attempt),
    {
      engine,
      ownership,
      flight: ownership.flight ?? request.parent,
      execution: executionOf(operation, idempotencyKey, scope, ownership.attempt),
      trace: request.trace
    },
    ownership,
    restore
  )
  const ended = (exit: Exit.Exit<unknown, unknown>): AnyEffect<AnyOutcome> => {
    if (Exit.isSuccess(exit)) return succeeded(call, ownership, exit.value)
    const loss = ownership.loss()
    if (loss !== undefined && Cause.isInterrupted(exit.cause)) return lost(call, ownership, loss)
    const failure = Cause.failureOption(exit.cause)
    return hasStarted && Option.isSome(failure)
      ? failed(call, ownership, exit.cause, failure.value)
      : stopped(call, ownership, exit.cause, hasStarted)
  }
  const { metrics } = engine
  return pipe(
    // A caller that was interrupted while it claimed does not start.
    restore(metrics.recordExecution(operation)),
    Effect.zipRight(metrics.recordInFlight(operation, 1)),
    Effect.zipRight(body),
    Effect.zipLeft(metrics.recordInFlight(operation, -1)),
    Effect.matchCauseEffect({ onFailure: (cause) => ended(Exit.failCause(cause)), onSuccess: ended })
  )
}

const entered = (call: Call, begun: Begun): AnyEffect<AnyOutcome> => {
  switch (begun._tag) {
    case "Own":
      return run(call, begun.ownership)
    case "Replay":
      return replay(call, begun.record)
    case "Shared":
      return decoded(call, begun.outcome, "Unprotected", (value) =>
        IdempotencyOutcome.Unprotected({ value, reason: begun.reason })
      )
  }
}

/** A caller whose type cannot express an unknown outcome is told that there is no result for it. */
const expressed = ({ options, request }: Call, error: BeginError): unknown =>
  error._tag === "IdempotencyOutcomeUnknownError" &&
  request.guarantee !== "at-most-once" &&
  options.isOutcomeUnknown === undefined
    ? resultUnavailable(request.identifiers, error)
    : error

const attempt = (call: Call): AnyEffect<AnyOutcome> =>
  Effect.matchEffect(call.engine.begin(call.request, call.restore), {
    onFailure: (error) => Effect.fail(expressed(call, error)),
    onSuccess: (begun) => entered(call, begun)
  })

/** Without a key there is nothing to be idempotent about: the effect runs, under a key of its own. */
const unprotected = (
  self: AnyEffect,
  engine: Engine,
  operation: string,
  options: AnyOptions,
  flight: Flight | undefined,
  trace: Trace | undefined
): AnyEffect<AnyOutcome> =>
  Effect.flatMap(IdempotencyKey.random, (key) => {
    const execution = executionOf(operation, key, undefined, 1)
    return Effect.map(
      surrounded(
        options,
        inExecution(self, { engine, ownership: undefined, flight, execution, trace }),
        execution.attempt
      ),
      (value) => IdempotencyOutcome.Unprotected({ value, reason: "NoKey" })
    )
  })

const checked = (
  engine: Engine,
  request: ExecutionRequest,
  options: AnyOptions,
  self: AnyEffect
): AnyEffect<AnyOutcome> => {
  const executed = Effect.uninterruptibleMask((restore) => attempt({ engine, request, options, self, restore }))
  return engine.objection === undefined
    ? executed
    : Effect.flatMap(engine.objection({ ...engine.settings, ...request }), (issue) =>
        issue === undefined
          ? executed
          : Effect.fail(new IdempotencyValidationError({ operation: request.identifiers.operation, issues: [issue] }))
      )
}

export const outcomeTag = ({ _tag }: AnyOutcome): string => _tag

/** `withIdempotencyOutcome`, without its types. */
export const execute = (
  self: AnyEffect,
  operation: string,
  key: KeyInput,
  options: AnyOptions = {}
): AnyEffect<AnyOutcome> =>
  Effect.withFiberRuntime<AnyOutcome, unknown, unknown>((fiber) => {
    const context = fiber.currentContext
    const engine = Context.unsafeGet(context, Idempotency)
    const parent = runIn(context)
    const planned = plan(engine, operation, key, options, parent?.flight)
    if (Either.isLeft(planned)) return Effect.fail(planned.left)
    const request = planned.right
    if (request === undefined) {
      const name = operation.trim()
      const without = (trace?: Trace) => unprotected(self, engine, name, options, parent?.flight, trace)
      return isTraced(fiber) ? inExecutionSpan(engine.store, name, without, outcomeTag) : without()
    }
    if (!isTraced(fiber)) return checked(engine, request, options, self)
    return inExecutionSpan(
      engine.store,
      request.identifiers,
      (trace) => checked(engine, { ...request, trace }, options, self),
      outcomeTag
    )
  })
