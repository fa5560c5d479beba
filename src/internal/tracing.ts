/**
 * Spans, where a tracer is installed. Where none is, each call pays one comparison: a span costs more than a replay over
 * memory. No span holds a key, a scope, a fingerprint or a result, nor the messages of errors, which may repeat them.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DefaultServices from "effect/DefaultServices"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as FiberRef from "effect/FiberRef"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Tracer from "effect/Tracer"
import { IdempotencyError, type IdempotencyStorageError } from "../IdempotencyError.js"
import type { IdempotencyIdentifiers } from "../IdempotencyIdentifiers.js"
import { Call } from "./call.js"
import { sha256Hex } from "./hash.js"
import { type Identity, storedKey } from "./storedKey.js"

/** The span of a protected call, and what is known of how it ends before it has. */
export interface Trace {
  readonly span: Tracer.Span
  /** The end of its tokens that names the span, where there is one to link replays to. */
  readonly token: string | undefined
  /** For an end that the exit alone does not tell: a replay, a run without protection, a failure of the effect. */
  outcome: string | undefined
}

const noTracer = Context.get(DefaultServices.liveServices, Tracer.Tracer)

/** Whether somebody looks at the spans of this fiber. */
export const isTraced = (fiber: Fiber.RuntimeFiber<unknown, unknown>): boolean =>
  fiber.currentTracer !== noTracer && fiber.getFiberRef(FiberRef.currentTracerEnabled)

/** What stands for a key in spans and logs: the first 16 hexadecimal digits of the SHA-256 of its stored form. */
export const keyHash = (identifiers: Identity): string => sha256Hex(storedKey(identifiers)).slice(0, 16)

/** A logger that dies changes nothing of what is logged about. */
const annotated =
  (annotations: () => Readonly<Record<string, string>>) =>
  (log: Effect.Effect<void>): Effect.Effect<void> =>
    Effect.catchAllCause(
      Effect.suspend(() => Effect.annotateLogs(log, annotations())),
      () => Effect.void
    )

/** Says what a log is about. */
export const logsAbout = (about: Identity) =>
  annotated(() => ({ "idempotency.operation": about.operation, "idempotency.key.hash": keyHash(about) }))

/** The same, where no single key is meant. */
export const logsAboutOperation = (operation: string) => annotated(() => ({ "idempotency.operation": operation }))

/** The same, where all operations are. */
export const logsAboutStore = (name: string) => annotated(() => ({ "idempotency.store": name }))

/** A span that ends with the effect, with what is said of its exit in place of the exit. */
const inSpan = <A, E, R>(
  name: string,
  options: Tracer.SpanOptions,
  use: (span: Tracer.Span) => Effect.Effect<A, E, R>,
  said: (span: Tracer.Span, exit: Exit.Exit<A, E>) => Exit.Exit<void, string>
): Effect.Effect<A, E, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(Effect.makeSpan(name, options), (span) =>
      Effect.withFiberRuntime<A, E, R>((fiber) => {
        const now = (): bigint =>
          fiber.getFiberRef(FiberRef.currentTracerTimingEnabled)
            ? Context.get(fiber.currentDefaultServices, Clock.Clock).unsafeCurrentTimeNanos()
            : 0n
        const ended = (exit: Exit.Exit<A, E>): Exit.Exit<A, E> => {
          span.end(now(), said(span, exit))
          return exit
        }
        return Effect.matchCauseEffect(restore(use(span)), {
          onFailure: (cause) => ended(Exit.failCause(cause)),
          onSuccess: (value) => ended(Exit.succeed(value))
        })
      })
    )
  )

const interrupted = Exit.interrupt(FiberId.none)

/* The protected call. */

const isOurs = Schema.is(IdempotencyError)

const outcomeOf = (cause: Cause.Cause<unknown>): string => {
  if (Cause.isInterruptedOnly(cause)) return "Interrupted"
  const failure = Cause.failureOption(cause)
  if (Option.isNone(failure)) return "Died"
  return isOurs(failure.value) ? failure.value._tag : "Failed"
}

/**
 * A protected call in its span, executed unless the trace knows better. The span is given to the effect and to the calls
 * of the store, and not to all between them: tracers take their time at each step of a fiber that has a span.
 */
export const inExecutionSpan = <A, E, R>(
  store: string,
  about: IdempotencyIdentifiers | string,
  use: (trace: Trace) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> => {
  const operation = typeof about === "string" ? about : about.operation
  const attributes = { "idempotency.operation": operation, "idempotency.store": store }
  let trace: Trace
  return inSpan(
    "idempotency.execute",
    { attributes, captureStackTrace: false },
    (span) => {
      // Of a span that nobody will see, the hash is not needed.
      if (typeof about !== "string" && span.sampled) span.attribute("idempotency.key.hash", keyHash(about))
      trace = { span, token: tokenOf(span), outcome: undefined }
      return use(trace)
    },
    (span, exit) => {
      const outcome = trace.outcome ?? (Exit.isSuccess(exit) ? "Executed" : outcomeOf(exit.cause))
      span.attribute("idempotency.outcome", outcome)
      if (Exit.isSuccess(exit)) return Exit.void
      return Cause.isInterruptedOnly(exit.cause) ? interrupted : Exit.fail(outcome)
    }
  )
}

/** The call owns its key, or runs without one that others could own. */
export const traceAttempt = (trace: Trace | undefined, attempt: number): void => {
  if (trace !== undefined && attempt > 0) trace.span.attribute("idempotency.attempt", attempt)
}

/** The call ends as its exit does not tell. */
export const traceOutcome = (trace: Trace | undefined, outcome: string): void => {
  if (trace !== undefined) trace.outcome = outcome
}

/* Where a result comes from: the token of an owner that is traced names its span, and is stored with its result. */

/** Nothing, if nobody will see the span, or it has no name that others know. */
const tokenOf = ({ sampled, spanId, traceId }: Tracer.Span): string | undefined => {
  const trace = `.${traceId}.${spanId}`
  return sampled && named.test(trace) ? trace : undefined
}

const named = /\.(?!0{32})([0-9a-f]{32})\.(?!0{16})([0-9a-f]{16})$/

/** Links a replay to the span of the execution whose result it gives, if the token, which may be anybody's, names one. */
export const linkToOwner = (trace: Trace | undefined, token: string): void => {
  if (trace === undefined) return
  const [, traceId, spanId] = named.exec(token) ?? []
  if (traceId === undefined || spanId === undefined) return
  trace.span.addLinks([
    {
      _tag: "SpanLink",
      span: Tracer.externalSpan({ traceId, spanId, sampled: true }),
      attributes: { "idempotency.link": "execution" }
    }
  ])
}

/** The call ends with what the token's owner has recorded. */
export const traceReplay = (trace: Trace | undefined, token: string): void => {
  traceOutcome(trace, "Replayed")
  linkToOwner(trace, token)
}

/* The store's calls. */

/** A call of the store in its span, and within whatever bounds it; beneath the fiber's span, if no other is given. */
export const inStorageSpan = <A>(
  parent: Tracer.Span | undefined,
  store: string,
  operation: string,
  method: string,
  call: Effect.Effect<A, IdempotencyStorageError>,
  bounded: (call: Effect.Effect<A, IdempotencyStorageError>) => Effect.Effect<A, IdempotencyStorageError>
): Effect.Effect<A, IdempotencyStorageError> =>
  inSpan(
    `idempotency.storage.${method}`,
    {
      parent,
      kind: "client",
      attributes: { "idempotency.operation": operation, "idempotency.store": store },
      captureStackTrace: false
    },
    // What needs no fiber has no spans of its own.
    (span) => bounded(call instanceof Call ? call : Effect.withParentSpan(call, span)),
    (span, exit) => {
      if (Exit.isSuccess(exit)) return Exit.void
      if (Cause.isInterruptedOnly(exit.cause)) return interrupted
      const failure = Cause.failureOption(exit.cause)
      const reason = Option.isSome(failure) ? failure.value.reason : "Died"
      span.attribute("error.type", reason)
      return Exit.fail(reason)
    }
  )
