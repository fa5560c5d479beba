/** What a handler finds around it. */
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import { IdempotencyKey } from "../../IdempotencyKey.js"
import { IdempotentExecution } from "../../IdempotentExecution.js"
import { executionContext } from "../currentRun.js"
import type { Engine } from "../engine/engine.js"
import type { ExecutionRequest, Ownership } from "../engine/request.js"
import { executionOf } from "../execution.js"

/** What is put around a handler. */
export type Provided = HttpServerRequest.HttpServerRequest | IdempotentExecution | Scope.Scope

const ofRequest = (request: HttpServerRequest.HttpServerRequest, scope: Scope.Scope) =>
  Context.add(Context.make(HttpServerRequest.HttpServerRequest, request), Scope.Scope, scope)

const contextOf = (
  request: HttpServerRequest.HttpServerRequest,
  scope: Scope.Scope,
  execution: Context.Tag.Service<IdempotentExecution>
): Context.Context<Provided> => Context.add(ofRequest(request, scope), IdempotentExecution, execution)

/** A handler in the execution that surrounds it. */
export const within = <A, E, R>(
  self: Effect.Effect<A, E, R>,
  request: HttpServerRequest.HttpServerRequest,
  scope: Scope.Scope,
  execution: Context.Tag.Service<IdempotentExecution>
): Effect.Effect<A, E, Exclude<R, Provided>> => Effect.provide(self, contextOf(request, scope, execution))

/** A handler without a key: it has an execution of its own, and nothing is recorded. */
export const unprotected = <A, E, R>(
  self: Effect.Effect<A, E, R>,
  request: HttpServerRequest.HttpServerRequest,
  scope: Scope.Scope,
  operation: string
): Effect.Effect<A, E, Exclude<R, Provided>> =>
  Effect.flatMap(IdempotencyKey.random, (key) =>
    Effect.provide(self, contextOf(request, scope, executionOf(operation, key, undefined, 1)))
  )

/** A handler that owns its key. */
export const owning = <A, E, R>(
  self: Effect.Effect<A, E, R>,
  request: HttpServerRequest.HttpServerRequest,
  scope: Scope.Scope,
  run: { readonly engine: Engine; readonly ownership: Ownership; readonly request: ExecutionRequest }
): Effect.Effect<A, E, Exclude<R, Provided>> => {
  const { engine, ownership, request: asked } = run
  const { idempotencyKey, operation } = asked.identifiers
  const execution = executionOf(operation, idempotencyKey, undefined, ownership.attempt)
  return Effect.suspend(() => {
    const flight = ownership.flight ?? asked.parent
    const context: Context.Context<Provided> = executionContext(ofRequest(request, scope), {
      engine,
      ownership,
      flight,
      execution,
      trace: asked.trace,
      stepNames: undefined
    })
    return Effect.provide(self, context)
  })
}
