/**
 * One request: scope, key, body, claim, then the handler, or what another run of it has answered.
 *
 * `self` is whatever makes the response in the end: an app, or a handler whose value others encode. What is recorded is
 * the response that the platform is about to send.
 */
import * as HttpRouter from "@effect/platform/HttpRouter"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import type * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { IdempotencyKey } from "../../IdempotencyKey.js"
import { IdempotentExecution } from "../../IdempotentExecution.js"
import { currentRun } from "../currentRun.js"
import type { Engine } from "../engine/engine.js"
import type { Flight } from "../engine/flights.js"
import type { Beginning, ExecutionRequest } from "../engine/request.js"
import { objectionTo, plan } from "../plan.js"
import { inExecutionSpan, isTraced, traceOutcome, traceReplay } from "../tracing.js"
import { isBuffered, readBody, withBody } from "./body.js"
import { type Provided, unprotected, within } from "./execution.js"
import type { Policy } from "./options.js"
import { type Problem, problemOfBegin, problemResponse } from "./problem.js"
import { replayed } from "./replay.js"
import { type Call, type Handler, run } from "./run.js"

export type { Handler } from "./run.js"

type Request = HttpServerRequest.HttpServerRequest
type Response = HttpServerResponse.HttpServerResponse

const routeOf = (context: Context.Context<never>): HttpRouter.RouteContext | undefined =>
  Option.getOrUndefined(Context.getOption(context, HttpRouter.RouteContext))

/** What is protected: as the options say, or the method and the route's pattern. */
const operationOf = (
  policy: { readonly operation: string | undefined },
  request: Request,
  route: HttpRouter.RouteContext | undefined
): string => {
  if (policy.operation !== undefined) return policy.operation
  if (route !== undefined) return `http.${IdempotencyKey.fromUntrusted(request.method, route.route.path)}`
  throw new Error("HttpIdempotency: where no route is known, the option `operation` is needed")
}

const planned = <E, R>(
  engine: Engine,
  policy: Policy<E, R>,
  operation: string,
  key: string,
  fingerprint: unknown,
  parent: Flight | undefined
) =>
  plan(engine, operation, key, { ...policy.execution, ...(fingerprint === undefined ? {} : { fingerprint }) }, parent)

/** No client can help it. */
const admitted = (engine: Engine, execution: ExecutionRequest): Effect.Effect<void> =>
  Effect.flatMap(objectionTo(engine, execution), (objection) =>
    objection === undefined ? Effect.void : Effect.die(objection)
  )

/** Whether engine and store take the options: what is wrong with them is wrong for every request. */
export const checkOptions = <E, R>(engine: Engine, policy: Policy<E, R>): Effect.Effect<void> =>
  Either.match(planned(engine, policy, policy.operation ?? "http", "key", undefined, undefined), {
    onLeft: Effect.die,
    onRight: (execution) => (execution === undefined ? Effect.void : admitted(engine, execution))
  })

/** Where interruption is off; its waits are the request's to interrupt. */
const beginning = (engine: Engine, execution: ExecutionRequest): Beginning =>
  Effect.withFiberRuntime((fiber) => engine.begin(execution, { fiber, restore: Effect.interruptible }))

/** What is asked of the engine for a request, or why that cannot be asked. */
const enter = <A, E, R, EP, RP>(
  engine: Engine,
  policy: Policy<EP, RP>,
  handler: Handler<A, E, R>,
  request: Request,
  scope: Scope.Scope,
  operation: string,
  key: string
) =>
  Effect.gen(function* () {
    const refuse = (problem: Problem): Response => problemResponse(problem, policy.problemType)
    const read = yield* Effect.either(readBody(request, policy.maxRequestBytes))
    if (Either.isLeft(read)) return refuse({ code: "idempotency_request_unreadable" })
    const body = read.right
    if (body === undefined) return refuse({ code: "idempotency_request_too_large" })

    const buffered = withBody(request, body)
    if (handler.validate !== undefined) yield* handler.validate(buffered)
    const fingerprint = yield* policy.fingerprintOf(buffered, body)
    const parent = yield* currentRun
    const asked = planned(engine, policy, operation, key, fingerprint, parent?.flight)
    if (Either.isLeft(asked)) {
      // With other options or another key it would have been the same: only the fingerprint is the client's.
      yield* checkOptions(engine, policy)
      return refuse({ code: "idempotency_request_unreadable" })
    }
    const execution = asked.right
    if (execution === undefined) return refuse({ code: "idempotency_key_missing" })
    yield* admitted(engine, execution)

    const begin = (call: Call<A, E, R>): Effect.Effect<A | Response, E, Exclude<R, Provided>> =>
      Effect.uninterruptible(
        Effect.matchEffect(beginning(engine, call.execution), {
          onFailure: (error) => {
            traceOutcome(call.execution.trace, error._tag)
            return Effect.succeed(refuse(problemOfBegin(error, Duration.millis(engine.settings.breakerProbeInterval))))
          },
          onSuccess: (begun): Effect.Effect<A | Response, E, Exclude<R, Provided>> => {
            switch (begun._tag) {
              case "Own":
                return run(call, begun.ownership, again)
              case "Replay":
                traceReplay(call.execution.trace, begun.record.token)
                return replayed(call, begun.record.outcome)
              case "Shared":
                traceOutcome(call.execution.trace, "Unprotected")
                return replayed(call, begun.outcome)
            }
          }
        })
      )
    /** What a handler has read of a web request's body, no other reads. */
    const again = (call: Call<A, E, R>) => begin({ ...call, request: withBody(request, body) })
    const call: Call<A, E, R> = { engine, policy, handler, request: buffered, scope, execution }
    return yield* Effect.withFiberRuntime<A | Response, E, Exclude<R, Provided>>((fiber) =>
      isTraced(fiber)
        ? inExecutionSpan(engine.store, execution.identifiers, (trace) =>
            begin({ ...call, execution: { ...execution, trace } })
          )
        : begin(call)
    )
  })

/** The handler, once per key. */
export const protect = <A, E, R, EP, RP>(
  engine: Engine,
  policy: Policy<EP, RP>,
  handler: Handler<A, E, R>
): Effect.Effect<A | Response, E | EP, Exclude<R, Provided> | RP | HttpServerRequest.HttpServerRequest | Scope.Scope> =>
  Effect.contextWithEffect((context: Context.Context<HttpServerRequest.HttpServerRequest | Scope.Scope>) => {
    const request = Context.get(context, HttpServerRequest.HttpServerRequest)
    const scope = Context.get(context, Scope.Scope)
    const value = request.headers[policy.header]
    const surrounding = Context.getOption(context, IdempotentExecution)
    // One protection of a request is enough: its key is the outer one's.
    if (isBuffered(request) && Option.isSome(surrounding)) {
      return within(handler.self, request, scope, surrounding.value)
    }
    if (!policy.methods.has(request.method) || (value === undefined && !policy.isRequired)) {
      return unprotected(handler.self, request, scope, policy.operation ?? "http")
    }
    const operation = operationOf(policy, request, routeOf(context))
    return Effect.flatMap(
      policy.scopeOf(request),
      (tenant): Effect.Effect<A | Response, E | EP, Exclude<R, Provided> | RP> => {
        const parsed = policy.keyOf(value)
        switch (parsed._tag) {
          case "Missing":
            return Effect.succeed(problemResponse({ code: "idempotency_key_missing" }, policy.problemType))
          case "Invalid":
            return Effect.succeed(
              problemResponse({ code: "idempotency_key_invalid", detail: parsed.detail }, policy.problemType)
            )
          case "Key":
            return enter(
              engine,
              policy,
              handler,
              request,
              scope,
              operation,
              IdempotencyKey.fromUntrusted(tenant, parsed.key)
            )
        }
      }
    )
  })
