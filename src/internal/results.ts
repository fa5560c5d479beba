/** What is recorded of a protected call's result, and what a later caller gets of it. */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import type { IdempotencyStorageError } from "../IdempotencyError.js"
import { IdempotencyOutcome } from "../IdempotencyOutcome.js"
import { startIn } from "./call.js"
import type { AnySchema } from "./codecs.js"
import * as eager from "./eager.js"
import type { Engine } from "./engine/engine.js"
import type { Recorded } from "./engine/flights.js"
import type { Caller, ExecutionRequest } from "./engine/request.js"
import type { AnyOptions } from "./plan.js"
import type { Outcome } from "./protocol.js"
import { resultUnavailable, undecodable } from "./storedRecord.js"
import { linkToOwner, logsAbout, logsAboutOperation, traceOutcome } from "./tracing.js"

export type AnyEffect<A = unknown> = Effect.Effect<A, unknown, unknown>

/** What a caller is told, by the way that it went. */
export interface Telling<out A> {
  readonly executed: (value: unknown, attempt: number) => A
  readonly replayed: (value: unknown, record: Recorded) => A
  readonly unprotected: (value: unknown, reason: "NoKey" | IdempotencyStorageError) => A
}

/** For who asks for the value alone. */
export const valueAlone: Telling<unknown> = { executed: identity, replayed: identity, unprotected: identity }

/** For who wants to know which way it went. */
export const whichWay: Telling<IdempotencyOutcome<unknown>> = {
  executed: (value, attempt) => IdempotencyOutcome.Executed({ value, attempt }),
  replayed: (value, { createdAt, expiresAt }) =>
    IdempotencyOutcome.Replayed({
      value,
      recordedAt: DateTime.unsafeMake(createdAt),
      expiresAt: DateTime.unsafeMake(expiresAt)
    }),
  unprotected: (value, reason) => IdempotencyOutcome.Unprotected({ value, reason })
}

/** A call on its way: the same for all of its attempts. */
export interface Call<out A> extends Caller {
  readonly engine: Engine
  readonly request: ExecutionRequest
  readonly options: AnyOptions
  readonly self: AnyEffect
  readonly telling: Telling<A>
}

type AnyCall = Call<unknown>

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
const warnOfInstance = ({ engine, request, options }: AnyCall, value: unknown): Effect.Effect<void> | undefined => {
  if (options.success !== undefined || !isInstance(value)) return
  const { operation } = request.identifiers
  return engine.isFirst(`instance of ${operation}`)
    ? Effect.logWarning(
        `idempotency: results of "${operation}" are class instances and are replayed as plain objects: give a success schema`
      ).pipe(logsAboutOperation(operation))
    : undefined
}

const isTooLarge = (encoded: string, maxBytes: number): boolean =>
  encoded.length > maxBytes || (encoded.length * 3 > maxBytes && Buffer.byteLength(encoded) > maxBytes)

const unavailable: Outcome = { _tag: "Unavailable" }

const notRecorded = ({ request }: AnyCall, why: string): Effect.Effect<Outcome> =>
  Effect.as(
    Effect.logWarning(
      `idempotency: a result of "${request.identifiers.operation}" is not recorded; later callers will not get it: ${why}`
    ).pipe(logsAbout(request.identifiers)),
    unavailable
  )

/** The outcome to record: unavailable where the result cannot be encoded or is too large. */
const encoded = (call: AnyCall, tag: "Success" | "Failure", text: string): Effect.Effect<Outcome> => {
  const { maxResultBytes } = call.engine.settings
  return isTooLarge(text, maxResultBytes)
    ? notRecorded(call, `it is larger than ${maxResultBytes} bytes`)
    : Effect.succeed({ _tag: tag, encoded: text })
}

export const successOf = (call: AnyCall, value: unknown): Effect.Effect<Outcome, never, unknown> => {
  const encoding = eager.suspend(() => call.engine.codecs.of(call.options.success).encode(value))
  const outcome = eager.matchCauseEffect(encoding, {
    // What a schema says of a value repeats the value.
    onFailure: () => notRecorded(call, "JSON does not hold it, or its schema does not encode it"),
    onSuccess: (text) => encoded(call, "Success", text)
  })
  const warning = warnOfInstance(call, value)
  return warning === undefined ? outcome : Effect.zipLeft(outcome, warning)
}

/** The failure to record, if the `error` schema encodes it. */
export const failureOf = (call: AnyCall, error: unknown): Effect.Effect<Outcome | undefined, never, unknown> => {
  const { error: schema } = call.options
  if (schema === undefined) return Effect.succeed(undefined)
  const encoding = eager.suspend(() => call.engine.codecs.of(schema).encode(error))
  return eager.matchCauseEffect(encoding, {
    onFailure: () => Effect.succeed(undefined),
    onSuccess: (text) => encoded(call, "Failure", text)
  })
}

/* What is replayed. */

/** What is decoded at once needs nothing of its caller; a schema's own effects are the caller's to interrupt. */
const decode = ({ engine, restore }: AnyCall, schema: AnySchema | undefined, encoded: string): AnyEffect => {
  const decoding = engine.codecs.of(schema).decode(encoded)
  return eager.hasEnded(decoding) ? decoding : restore(decoding)
}

/** A recorded result, told as what it is to this caller. */
export const decoded = <A>(
  call: Call<A>,
  outcome: Outcome,
  way: "Replayed" | "Unprotected",
  tell: (value: unknown) => A
): AnyEffect<A> => {
  const { options, request } = call
  const unavailableBecause = (cause?: unknown) => resultUnavailable(request.identifiers, cause)
  switch (outcome._tag) {
    case "Unavailable":
      return Effect.fail(unavailableBecause())
    case "Success":
      return eager.matchEffect(decode(call, options.success, outcome.encoded), {
        onFailure: () => Effect.fail(undecodable(request.identifiers)),
        onSuccess: (value) => {
          traceOutcome(request.trace, way)
          return Effect.succeed(tell(value))
        }
      })
    case "Failure":
      return options.error === undefined
        ? Effect.fail(
            unavailableBecause(new Error("a failure was recorded, and there is no error schema to decode it"))
          )
        : eager.matchEffect(decode(call, options.error, outcome.encoded), {
            onFailure: () => Effect.fail(undecodable(request.identifiers)),
            onSuccess: (error) => {
              traceOutcome(request.trace, way)
              return Effect.fail(error)
            }
          })
  }
}

export const replay = <A>(call: Call<A>, record: Recorded): AnyEffect<A> => {
  const { engine, fiber, request, telling } = call
  linkToOwner(request.trace, record.token)
  return eager.flatMap(startIn(fiber, engine.metrics.recordReplay(request.identifiers.operation)), () =>
    decoded(call, record.outcome, "Replayed", (value) => telling.replayed(value, record))
  )
}
