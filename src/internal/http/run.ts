/**
 * A handler that owns its key. It runs in a fiber of the engine's layer, which its request waits for: a client that
 * goes away ends the request, not the handler. What the platform is about to send is recorded by a pre-response hook of
 * the request; what no hook saw, by the handler's own fiber once the request is over.
 */
import * as HttpApp from "@effect/platform/HttpApp"
import * as HttpServerError from "@effect/platform/HttpServerError"
import type * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { pipe } from "effect/Function"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { Engine } from "../engine/engine.js"
import type { Loss } from "../engine/leases.js"
import type { ExecutionRequest, Ownership } from "../engine/request.js"
import { logsAbout, traceAttempt, traceOutcome, traceReplay } from "../tracing.js"
import { differ } from "../transition.js"
import { owning, type Provided } from "./execution.js"
import type { Rules } from "./options.js"
import { problemResponse } from "./problem.js"
import { replayed } from "./replay.js"
import { makeSettling } from "./settling.js"

type Response = HttpServerResponse.HttpServerResponse

/** A handler, and what its end makes the platform send, for a client that is no longer there to make it. */
export interface Handler<A, E, R> {
  readonly self: Effect.Effect<A, E, R>
  /** Asked before the key is claimed, of the request with its body read; its failure answers. */
  readonly validate?: ((request: HttpServerRequest.HttpServerRequest) => Effect.Effect<void, E>) | undefined
  /** Nothing, where that cannot be told: the handler has then ended without a response. */
  readonly respond: (exit: Exit.Exit<A, E>) => Effect.Effect<Response | undefined>
}

/** A request that has been let in. */
export interface Call<A, E, R> {
  readonly engine: Engine
  readonly policy: Rules
  readonly handler: Handler<A, E, R>
  /** The request with its body read. */
  readonly request: HttpServerRequest.HttpServerRequest
  /** The request's. */
  readonly scope: Scope.Scope
  readonly execution: ExecutionRequest
}

/** What the platform makes of the rejected promise of a web handler: a failure that would answer with 400. */
const isRejection = (failure: unknown): failure is HttpServerError.RequestError =>
  failure instanceof HttpServerError.RequestError && failure.reason === "Transport"

/** Why a handler's end is no response, if it is none: it died, or was interrupted. */
const stopOf = <A, E>(exit: Exit.Exit<A, E>): Cause.Cause<never> | undefined => {
  if (Exit.isSuccess(exit)) return undefined
  const failure = Cause.failureOption(exit.cause)
  if (Option.isSome(failure)) return isRejection(failure.value) ? Cause.die(failure.value.cause) : undefined
  // To die with a response is a way to respond.
  return Array.from(Cause.defects(exit.cause)).some(HttpServerResponse.isServerResponse)
    ? undefined
    : Cause.stripFailures(exit.cause)
}

/** Begins a call, be it again. */
export type Begin<A, E, R> = (call: Call<A, E, R>) => Effect.Effect<A | Response, E, Exclude<R, Provided>>

/** What a client gets whose request the engine stopped: the key is another's, or the store has been away too long. */
const lost = <A, E, R>(
  call: Call<A, E, R>,
  loss: Loss,
  begin: Begin<A, E, R>
): Effect.Effect<A | Response, E, Exclude<R, Provided>> => {
  const { engine, execution, policy } = call
  const { fingerprint, identifiers, lease, trace } = execution
  if (loss._tag === "Unreachable") {
    traceOutcome(trace, "IdempotencyOutcomeUnknownError")
    return Effect.succeed(problemResponse({ code: "idempotency_outcome_unknown" }, policy.problemType))
  }
  const { record } = loss
  const isOther = differ(record?.fingerprint, fingerprint)
  if (record === undefined || isOther) {
    // Whoever holds the key now is waited for like anybody else; a run that may have happened is not repeated.
    if (!isOther && execution.inFlight === "wait" && execution.guarantee === "at-least-once") {
      return begin({ ...call, execution: { ...execution, blockedBy: "TakenOver" } })
    }
    traceOutcome(trace, "IdempotencyInFlightError")
    const problem = { code: "idempotency_request_in_flight", retryAfter: Duration.millis(lease) } as const
    return Effect.succeed(problemResponse(problem, policy.problemType))
  }
  traceReplay(trace, record.token)
  return Effect.zipRight(engine.metrics.recordCollision(identifiers.operation), replayed(call, record.outcome))
}

/** Where interruption is off. */
export const run = <A, E, R>(
  call: Call<A, E, R>,
  ownership: Ownership,
  begin: Begin<A, E, R>
): Effect.Effect<A | Response, E, Exclude<R, Provided>> => {
  const { engine, execution, handler, policy, request, scope } = call
  const { metrics } = engine
  const { operation } = execution.identifiers
  const settling = makeSettling(call, ownership)
  /** Open once the request is over, or its client has gone. */
  const isOver = Effect.unsafeMakeLatch(false)
  let isGone = false
  const unlessGone = Effect.suspend(() => (isGone ? Effect.interrupt : Effect.void))
  let hasStarted = false
  traceAttempt(execution.trace, ownership.attempt)

  /** What happens to the key when the handler ends without a response. */
  const stop = Effect.suspend(() =>
    settling.abandon(hasStarted && ownership.loss()?._tag !== "Lost" ? policy.onStop : "release")
  )

  const settleAlone = (exit: Exit.Exit<A, E>): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (settling.isTaken()) return settling.cutShort
      if (stopOf(exit) !== undefined) return stop
      return Effect.flatMap(handler.respond(exit), (response) =>
        response === undefined ? stop : settling.alone(response)
      )
    })

  const body = Effect.zipRight(
    Effect.sync(() => {
      hasStarted = true
    }),
    handler.self
  )

  /** The handler, then what its request leaves to do. The fibers that the handler has forked live as long. */
  const detached = (finished: Deferred.Deferred<Exit.Exit<A, E>>) =>
    Effect.gen(function* () {
      const own = yield* Scope.make()
      const exit = yield* Effect.exit(
        Effect.interruptible(owning(body, request, own, { engine, ownership, request: execution }))
      )
      yield* metrics.recordInFlight(operation, -1)
      yield* Deferred.succeed(finished, exit)
      // Shutdown does not wait for a response on its way; a lost key does not stop one.
      const overAtShutdown = Effect.suspend(() => (ownership.loss() === undefined ? isOver.open : Effect.void))
      yield* ownership.onInterrupt(Effect.asVoid(overAtShutdown))
      yield* Effect.exit(Effect.interruptible(isOver.await))
      yield* pipe(
        settleAlone(exit),
        Effect.catchAllCause((cause) =>
          Effect.logError(`idempotency: the end of "${operation}" died`, cause).pipe(logsAbout(execution.identifiers))
        ),
        Effect.ensuring(Scope.close(own, exit))
      )
    })

  /** Runs the handler, and waits for it as long as its client does. */
  const handled = Effect.gen(function* () {
    const finished = yield* Deferred.make<Exit.Exit<A, E>>()
    const fiber = yield* engine.fork(detached(finished))
    yield* ownership.onInterrupt(Effect.asVoid(Fiber.interruptFork(fiber)))
    yield* Scope.addFinalizer(
      scope,
      Effect.suspend(() => (isGone ? Effect.void : Effect.zipRight(isOver.open, Fiber.await(fiber))))
    )
    const exit = yield* pipe(
      Effect.interruptible(Deferred.await(finished)),
      Effect.onInterrupt(() =>
        Effect.suspend(() => {
          isGone = true
          // It is sending already, to nobody: some platforms would wait for that for ever.
          return settling.isTaken() ? Effect.zipRight(isOver.open, Fiber.interruptFork(fiber)) : isOver.open
        })
      )
    )
    yield* Fiber.inheritAll(fiber)
    return exit
  })

  return Effect.gen(function* () {
    // For a client that has gone while the key was claimed, nothing is begun.
    yield* Effect.onInterrupt(Effect.interruptible(Effect.void), () => ownership.abandon("release"))
    yield* metrics.recordExecution(operation)
    yield* metrics.recordInFlight(operation, 1)
    // For a handler that sends its response itself, as the one of a server's middleware.
    yield* HttpApp.appendPreResponseHandler((sender, response) =>
      sender === request
        ? Effect.zipLeft(Effect.uninterruptible(settling.final(response)), unlessGone)
        : Effect.succeed(response)
    )
    const exit = yield* handled
    const stopped = stopOf(exit)
    if (stopped !== undefined) {
      const loss = ownership.loss()
      yield* stop
      return yield* loss !== undefined && Cause.isInterrupted(stopped)
        ? lost(call, loss, begin)
        : Effect.failCause(stopped)
    }
    // Last, so that it sees what all others have made of the response.
    yield* HttpApp.appendPreResponseHandler((_, response) =>
      // A client that has gone meanwhile is not written to: some platforms would wait for it for ever.
      Effect.zipLeft(settling.final(response), Effect.interruptible(Effect.void))
    )
    return yield* exit
  })
}
