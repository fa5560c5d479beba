/** One protected call: plan, begin, run, settle or abandon, and what the caller is told. */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as FiberRef from "effect/FiberRef"
import * as Option from "effect/Option"
import type * as RuntimeFlags from "effect/RuntimeFlags"
import { Idempotency } from "../Idempotency.js"
import { IdempotencyOutcomeUnknownError, type IdempotencyStorageError } from "../IdempotencyError.js"
import { IdempotencyKey } from "../IdempotencyKey.js"
import { startIn } from "./call.js"
import { inExecution, runIn } from "./currentRun.js"
import * as eager from "./eager.js"
import type { Engine } from "./engine/engine.js"
import type { Flight } from "./engine/flights.js"
import type { Loss } from "./engine/leases.js"
import {
  type BeginError,
  type Begun,
  type ExecutionRequest,
  type Ownership,
  type Settlement,
  takenOver
} from "./engine/request.js"
import { executionOf } from "./execution.js"
import { inOwnFiber } from "./ownFiber.js"
import { type AnyOptions, type KeyInput, objectionTo, plan } from "./plan.js"
import { type AnyEffect, type Call, decoded, failureOf, replay, successOf, type Telling } from "./results.js"
import { resultUnavailable } from "./storedRecord.js"
import { inExecutionSpan, isTraced, type Trace, traceAttempt, traceOutcome } from "./tracing.js"
import { differ } from "./transition.js"

/* What a run ends with. */

/** A call whose effect has yet to run, with the flags that its caller runs with. */
interface Execution<out A> extends Call<A> {
  readonly runtimeFlags: RuntimeFlags.RuntimeFlags
}

/** How an effect that has succeeded is told, by its value. */
type Tell<A> = (value: unknown) => A

/** What the caller gets once its own outcome was settled. */
const settled = <A>(
  call: Call<A>,
  { attempt }: Ownership,
  settlement: Settlement,
  own: (tell: Tell<A>) => AnyEffect<A>
): AnyEffect<A> => {
  const { request, telling } = call
  switch (settlement._tag) {
    case "Replaced":
      return replay(call, settlement.record)
    case "Unprotected":
      traceOutcome(request.trace, "Unprotected")
      return own((value) => telling.unprotected(value, settlement.reason))
    case "Recorded":
      return own((value) => telling.executed(value, settlement.attempt))
    case "Kept":
      return own((value) => telling.executed(value, attempt))
  }
}

const succeeded = <A>(call: Call<A>, ownership: Ownership, value: unknown): AnyEffect<A> =>
  eager.flatMap(successOf(call, value), (outcome) =>
    eager.flatMap(ownership.settle(outcome, call), (settlement) =>
      settled(call, ownership, settlement, (tell) => Effect.succeed(tell(value)))
    )
  )

/** What the effect failed with may look like an error of this library's. */
const ownFailure = ({ request }: Call<unknown>, cause: Cause.Cause<unknown>): AnyEffect<never> => {
  traceOutcome(request.trace, "Failed")
  return Effect.failCause(cause)
}

const failed = <A>(call: Call<A>, ownership: Ownership, cause: Cause.Cause<unknown>, error: unknown): AnyEffect<A> => {
  const isUnknown = Either.try({
    try: () => call.options.isOutcomeUnknown?.(error) === true,
    catch: (defect) => defect
  })
  if (Either.isLeft(isUnknown)) return stopped(call, ownership, Cause.die(isUnknown.left), true)
  if (isUnknown.right) return Effect.zipRight(ownership.abandon("hold"), ownFailure(call, cause))
  return eager.flatMap(failureOf(call, error), (outcome) =>
    outcome === undefined
      ? Effect.zipRight(ownership.abandon("release"), ownFailure(call, cause))
      : eager.flatMap(ownership.settle(outcome, call), (settlement) =>
          settled(call, ownership, settlement, () => ownFailure(call, cause))
        )
  )
}

/** Whether an effect that was stopped is not to run again: it may have happened, unless it never started. */
const isFinal = ({ request }: Call<unknown>, hasStarted: boolean): boolean =>
  hasStarted && request.guarantee === "at-most-once"

/** A defect or an interruption. */
const stopped = (
  call: Call<unknown>,
  ownership: Ownership,
  cause: Cause.Cause<unknown>,
  hasStarted: boolean
): AnyEffect<never> =>
  Effect.zipRight(ownership.abandon(isFinal(call, hasStarted) ? "hold" : "release"), Effect.failCause(cause))

/** The engine stopped the effect: its key is another's, or the store has been away for a whole lease. */
const lost = <A>(call: Execution<A>, ownership: Ownership, loss: Loss, hasStarted: boolean): AnyEffect<A> => {
  const { request } = call
  const { idempotencyKey, operation } = request.identifiers
  if (loss._tag === "Unreachable") {
    return isFinal(call, hasStarted)
      ? Effect.zipRight(
          ownership.abandon("hold"),
          Effect.fail(new IdempotencyOutcomeUnknownError({ operation, idempotencyKey, attempt: ownership.attempt }))
        )
      : Effect.zipRight(ownership.abandon("release"), Effect.fail<IdempotencyStorageError>(loss.error))
  }
  const { record } = loss
  const isOther = differ(record?.fingerprint, request.fingerprint)
  return Effect.zipRight(
    // Where it is lost in truth, neither changes anything.
    ownership.abandon(isFinal(call, hasStarted) ? "hold" : "release"),
    Effect.suspend(() => {
      if (record !== undefined && !isOther) {
        return Effect.flatMap(call.engine.metrics.recordCollision(operation), () => replay(call, record))
      }
      // Whoever holds the key now is waited for like anybody else; a run that may have happened is not repeated.
      return isOther || request.inFlight === "fail" || isFinal(call, hasStarted)
        ? Effect.fail(takenOver(request))
        : attempt({ ...call, request: { ...request, blockedBy: "TakenOver" } })
    })
  )
}

/** The effect with what an integration surrounds it with. */
export const surrounded = ({ around }: AnyOptions, self: AnyEffect, attempt: number): AnyEffect =>
  around === undefined ? self : around(self, attempt)

/** A caller that was interrupted while it claimed does not start. */
const unlessInterrupted = ({ fiber, restore }: Call<unknown>): AnyEffect<void> =>
  Cause.isEmpty(fiber.getFiberRef(FiberRef.interruptedCause)) ? Effect.void : restore(Effect.void)

const run = <A>(call: Execution<A>, ownership: Ownership): AnyEffect<A> => {
  const { engine, fiber, options, request, self } = call
  const { metrics } = engine
  const { idempotencyKey, operation, scope } = request.identifiers
  let hasStarted = false
  const started = Effect.suspend(() => {
    hasStarted = true
    return self
  })
  const body = () =>
    inOwnFiber(
      surrounded(options, started, ownership.attempt),
      {
        engine,
        ownership,
        flight: ownership.flight ?? request.parent,
        execution: executionOf(operation, idempotencyKey, scope, ownership.attempt),
        trace: request.trace,
        stepNames: undefined
      },
      ownership,
      call,
      call.runtimeFlags
    )
  const measured = eager.flatMap(unlessInterrupted(call), () => {
    traceAttempt(request.trace, ownership.attempt)
    return eager.flatMap(startIn(fiber, metrics.recordExecution(operation)), () =>
      eager.flatMap(startIn(fiber, metrics.recordInFlight(operation, 1)), () =>
        eager.flatMap(body(), (exit) =>
          eager.flatMap(startIn(fiber, metrics.recordInFlight(operation, -1)), () => Effect.succeed(exit))
        )
      )
    )
  })
  const ended = (exit: Exit.Exit<unknown, unknown>): AnyEffect<A> => {
    if (Exit.isSuccess(exit)) return succeeded(call, ownership, exit.value)
    const loss = ownership.loss()
    if (loss !== undefined && Cause.isInterrupted(exit.cause)) return lost(call, ownership, loss, hasStarted)
    const failure = Cause.failureOption(exit.cause)
    return hasStarted && Option.isSome(failure)
      ? failed(call, ownership, exit.cause, failure.value)
      : stopped(call, ownership, exit.cause, hasStarted)
  }
  return eager.matchCauseEffect(measured, { onFailure: (cause) => ended(Exit.failCause(cause)), onSuccess: ended })
}

const entered = <A>(call: Execution<A>, begun: Begun): AnyEffect<A> => {
  switch (begun._tag) {
    case "Own":
      return run(call, begun.ownership)
    case "Replay":
      return replay(call, begun.record)
    case "Shared":
      return decoded(call, begun.outcome, "Unprotected", (value) => call.telling.unprotected(value, begun.reason))
  }
}

/** A caller whose type cannot express an unknown outcome is told that there is no result for it. */
const expressed = ({ options, request }: Call<unknown>, error: BeginError): unknown =>
  error._tag === "IdempotencyOutcomeUnknownError" &&
  request.guarantee !== "at-most-once" &&
  options.isOutcomeUnknown === undefined
    ? resultUnavailable(request.identifiers, error)
    : error

const attempt = <A>(call: Execution<A>): AnyEffect<A> =>
  eager.matchEffect(call.engine.begin(call.request, call), {
    onFailure: (error) => Effect.fail(expressed(call, error)),
    onSuccess: (begun) => entered(call, begun)
  })

/** Without a key there is nothing to be idempotent about: the effect runs, under a key of its own. */
const unprotected = <A>(
  self: AnyEffect,
  engine: Engine,
  operation: string,
  options: AnyOptions,
  telling: Telling<A>,
  flight: Flight | undefined,
  trace: Trace | undefined
): AnyEffect<A> =>
  Effect.flatMap(IdempotencyKey.random, (key) => {
    const execution = executionOf(operation, key, undefined, 1)
    return Effect.map(
      surrounded(
        options,
        inExecution(self, { engine, ownership: undefined, flight, execution, trace }),
        execution.attempt
      ),
      (value) => {
        traceOutcome(trace, "Unprotected")
        return telling.unprotected(value, "NoKey")
      }
    )
  })

/** Unless the store objects. */
const admitted = <A>(engine: Engine, request: ExecutionRequest, executed: AnyEffect<A>): AnyEffect<A> =>
  engine.objection === undefined
    ? executed
    : Effect.flatMap(objectionTo(engine, request), (objection) =>
        objection === undefined ? executed : Effect.fail(objection)
      )

/** `withIdempotency` and its like, without their types. */
export const execute = <A>(
  self: AnyEffect,
  operation: string,
  key: KeyInput,
  options: AnyOptions,
  telling: Telling<A>
): AnyEffect<A> =>
  Effect.withFiberRuntime<A, unknown, unknown>((fiber, { runtimeFlags }) => {
    const context = fiber.currentContext
    const engine = Context.unsafeGet(context, Idempotency)
    const parent = runIn(context)
    const planned = plan(engine, operation, key, options, parent?.flight)
    if (Either.isLeft(planned)) return Effect.fail(planned.left)
    const request = planned.right
    if (request === undefined) {
      const name = operation.trim()
      const without = (trace?: Trace) => unprotected(self, engine, name, options, telling, parent?.flight, trace)
      return isTraced(fiber) ? inExecutionSpan(engine.store, name, without) : without()
    }
    const protect = (request: ExecutionRequest) =>
      admitted(
        engine,
        request,
        Effect.uninterruptibleMask((restore) =>
          attempt({ engine, request, options, self, telling, fiber, restore, runtimeFlags })
        )
      )
    return isTraced(fiber)
      ? inExecutionSpan(engine.store, request.identifiers, (trace) => protect({ ...request, trace }))
      : protect(request)
  })
