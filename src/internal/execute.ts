/** One protected call: plan, begin, run, settle or abandon, and what the caller is told. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
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
import type { AnySchema } from "./codecs.js"
import { inExecution, runIn } from "./currentRun.js"
import type { Engine } from "./engine/engine.js"
import type { Flight, Recorded } from "./engine/flights.js"
import type { Loss } from "./engine/leases.js"
import type { BeginError, Begun, ExecutionRequest, Ownership, Restore, Settlement } from "./engine/request.js"
import { executionOf } from "./execution.js"
import { inOwnFiber } from "./ownFiber.js"
import { type AnyOptions, type KeyInput, plan } from "./plan.js"
import type { Outcome } from "./protocol.js"
import { resultUnavailable } from "./storedRecord.js"
import { differ } from "./transition.js"

export type AnyEffect<A = unknown> = Effect.Effect<A, unknown, unknown>
export type AnyOutcome = IdempotencyOutcome<unknown>

/** A call on its way: the same for all of its attempts. */
export interface Call {
  readonly engine: Engine
  readonly request: ExecutionRequest
  readonly options: AnyOptions
  readonly self: AnyEffect
  readonly restore: Restore
}

/* What is recorded. */

const isInstance = (value: unknown): boolean => {
  try {
    if (typeof value !== "object" || value === null || Array.isArray(value)) return false
    const prototype = Object.getPrototypeOf(value)
    return prototype !== Object.prototype && prototype !== null
  } catch {
    // A proxy may refuse to be looked at.
    return false
  }
}

/** What types cannot see: an instance without methods loses its class. */
const warnOfInstance = ({ engine, request, options }: Call, value: unknown): Effect.Effect<void> | undefined => {
  if (options.success !== undefined || !isInstance(value)) return
  const { operation } = request.identifiers
  return engine.isFirst(`instance of ${operation}`)
    ? Effect.logWarning(
        `idempotency: results of "${operation}" are class instances and are replayed as plain objects: give a success schema`
      )
    : undefined
}

const isTooLarge = (encoded: string, maxBytes: number): boolean =>
  encoded.length > maxBytes || (encoded.length * 3 > maxBytes && Buffer.byteLength(encoded) > maxBytes)

const unavailable: Outcome = { _tag: "Unavailable" }

const notRecorded = ({ request }: Call, why: unknown): Effect.Effect<Outcome> =>
  Effect.as(
    Effect.logWarning(
      `idempotency: a result of "${request.identifiers.operation}" is not recorded; later callers will not get it`,
      why
    ),
    unavailable
  )

/** The outcome to record: unavailable where the result cannot be encoded or is too large. */
const encoded = (call: Call, tag: "Success" | "Failure", text: string): Effect.Effect<Outcome> => {
  const { maxResultBytes } = call.engine.settings
  return isTooLarge(text, maxResultBytes)
    ? notRecorded(call, `it is larger than ${maxResultBytes} bytes`)
    : Effect.succeed({ _tag: tag, encoded: text })
}

export const successOf = (call: Call, value: unknown): Effect.Effect<Outcome, never, unknown> => {
  const outcome = Effect.matchCauseEffect(call.engine.codecs.of(call.options.success).encode(value), {
    onFailure: (cause) => notRecorded(call, Cause.squash(cause)),
    onSuccess: (text) => encoded(call, "Success", text)
  })
  const warning = warnOfInstance(call, value)
  return warning === undefined ? outcome : Effect.zipLeft(outcome, warning)
}

/** The failure to record, if the `error` schema encodes it. */
const failureOf = (call: Call, error: unknown): Effect.Effect<Outcome | undefined, never, unknown> =>
  call.options.error === undefined
    ? Effect.succeed(undefined)
    : Effect.matchCauseEffect(call.engine.codecs.of(call.options.error).encode(error), {
        onFailure: () => Effect.succeed(undefined),
        onSuccess: (text) => encoded(call, "Failure", text)
      })

/* What is replayed. */

/** What is decoded at once needs nothing of its caller; a schema's own effects are the caller's to interrupt. */
const decode = (
  { engine, restore }: Call,
  schema: AnySchema | undefined,
  encoded: string
): Effect.Effect<unknown, unknown, unknown> => {
  const decoding = engine.codecs.of(schema).decode(encoded)
  return Either.isEither(decoding) ? decoding : restore(decoding)
}

const decoded = <A>(call: Call, outcome: Outcome, onSuccess: (value: unknown) => A): AnyEffect<A> => {
  const { options, request } = call
  const unavailableBecause = (cause?: unknown) => resultUnavailable(request.identifiers, cause)
  switch (outcome._tag) {
    case "Unavailable":
      return Effect.fail(unavailableBecause())
    case "Success":
      return Effect.mapBoth(decode(call, options.success, outcome.encoded), {
        onFailure: unavailableBecause,
        onSuccess
      })
    case "Failure":
      return options.error === undefined
        ? Effect.fail(
            unavailableBecause(new Error("a failure was recorded, and there is no error schema to decode it"))
          )
        : Effect.matchEffect(decode(call, options.error, outcome.encoded), {
            onFailure: (cause) => Effect.fail(unavailableBecause(cause)),
            onSuccess: Effect.fail
          })
  }
}

export const replay = (call: Call, record: Recorded): AnyEffect<AnyOutcome> =>
  Effect.zipRight(
    call.engine.metrics.recordReplay(call.request.identifiers.operation),
    decoded(call, record.outcome, (value) =>
      IdempotencyOutcome.Replayed({
        value,
        recordedAt: DateTime.unsafeMake(record.createdAt),
        expiresAt: DateTime.unsafeMake(record.expiresAt)
      })
    )
  )

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
  if (isUnknown.right) return Effect.zipRight(ownership.abandon("hold"), Effect.failCause(cause))
  return Effect.flatMap(failureOf(call, error), (outcome) =>
    outcome === undefined
      ? Effect.zipRight(ownership.abandon("release"), Effect.failCause(cause))
      : Effect.flatMap(ownership.settle(outcome, call.restore), (settlement) =>
          settled(call, ownership, settlement, () => Effect.failCause(cause))
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
      execution: executionOf(operation, idempotencyKey, scope, ownership.attempt)
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
      return decoded(call, begun.outcome, (value) => IdempotencyOutcome.Unprotected({ value, reason: begun.reason }))
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
  flight: Flight | undefined
): AnyEffect<AnyOutcome> =>
  Effect.flatMap(IdempotencyKey.random, (key) => {
    const execution = executionOf(operation, key, undefined, 1)
    return Effect.map(
      surrounded(options, inExecution(self, { engine, ownership: undefined, flight, execution }), execution.attempt),
      (value) => IdempotencyOutcome.Unprotected({ value, reason: "NoKey" })
    )
  })

/** `withIdempotencyOutcome`, without its types. */
export const execute = (
  self: AnyEffect,
  operation: string,
  key: KeyInput,
  options: AnyOptions = {}
): AnyEffect<AnyOutcome> =>
  Effect.withFiberRuntime(({ currentContext: context }) => {
    const engine = Context.unsafeGet(context, Idempotency)
    const parent = runIn(context)
    const planned = plan(engine, operation, key, options, parent?.flight)
    if (Either.isLeft(planned)) return Effect.fail(planned.left)
    const request = planned.right
    if (request === undefined) return unprotected(self, engine, operation.trim(), options, parent?.flight)
    const executed = Effect.uninterruptibleMask((restore) => attempt({ engine, request, options, self, restore }))
    return engine.objection === undefined
      ? executed
      : Effect.flatMap(engine.objection({ ...engine.settings, ...request }), (issue) =>
          issue === undefined
            ? executed
            : Effect.fail(new IdempotencyValidationError({ operation: request.identifiers.operation, issues: [issue] }))
        )
  })
