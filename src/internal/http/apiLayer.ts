/** A layer around a whole `HttpApi`. */
import * as HttpApi from "@effect/platform/HttpApi"
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import type * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import type * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import type * as HttpApp from "@effect/platform/HttpApp"
import type { HttpMethod } from "@effect/platform/HttpMethod"
import * as HttpRouter from "@effect/platform/HttpRouter"
import * as HttpServerError from "@effect/platform/HttpServerError"
import type { HttpServerRequest } from "@effect/platform/HttpServerRequest"
import * as HttpServerRespondable from "@effect/platform/HttpServerRespondable"
import type * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Layer from "effect/Layer"
import type * as AST from "effect/SchemaAST"
import type * as Scope from "effect/Scope"
import type { HttpIdempotencyGuarantee, HttpIdempotencyOptions } from "../../http/HttpIdempotency.js"
import { Idempotency } from "../../Idempotency.js"
import { failureEncoder } from "./apiResponse.js"
import { decodeOptions, type ServerOptions } from "./options.js"
import { checkOptions, protect } from "./protect.js"
import type { Handler } from "./run.js"

interface Reflected {
  readonly endpoints: ReadonlyArray<HttpApiEndpoint.HttpApiEndpoint<string, HttpMethod>>
  readonly errors: ReadonlyArray<AST.AST>
}

const reflect = <Id extends string, Groups extends HttpApiGroup.HttpApiGroup.Any, E, R>(
  api: HttpApi.HttpApi<Id, Groups, E, R>
): Reflected => {
  const endpoints: Array<HttpApiEndpoint.HttpApiEndpoint<string, HttpMethod>> = []
  const errors: Array<AST.AST> = [api.errorSchema.ast]
  HttpApi.reflect(api, {
    onGroup: ({ group }) => errors.push(group.errorSchema.ast),
    onEndpoint: ({ endpoint }) => {
      endpoints.push(endpoint)
      errors.push(endpoint.errorSchema.ast)
    }
  })
  return { endpoints, errors }
}

/** The protected app for each endpoint, so that the route says which one it is; whatever else there is, as it is. */
const routed = <E, R>(
  endpoints: Reflected["endpoints"],
  app: HttpApp.Default,
  protectedApp: HttpApp.Default<E, R>
): HttpApp.Default<E, HttpRouter.HttpRouter.ExcludeProvided<R> | HttpRouter.HttpRouter.Provided> => {
  const router = HttpRouter.fromIterable(
    endpoints.map(({ method, path }) => HttpRouter.makeRoute(method, path, protectedApp))
  )
  return Effect.catchAll(HttpRouter.all(router, "*", app), (error) =>
    error instanceof HttpServerError.RouteNotFound ? HttpServerRespondable.toResponse(error) : Effect.fail(error)
  )
}

const make = <E, R>(options: ServerOptions<E, R>, reflected: Reflected | undefined) => {
  const policy = decodeOptions(options)
  const respond = failureEncoder(reflected?.errors ?? [])
  return Effect.gen(function* () {
    const engine = yield* Idempotency
    yield* checkOptions(engine, policy)
    return (app: HttpApp.Default): HttpApp.Default<E, R | HttpRouter.HttpRouter.Provided> => {
      const handler: Handler<HttpServerResponse.HttpServerResponse, never, HttpServerRequest | Scope.Scope> = {
        self: app,
        respond: Exit.match({ onFailure: respond, onSuccess: Effect.succeed })
      }
      const protectedApp = protect(engine, policy, handler)
      return reflected === undefined ? protectedApp : routed(reflected.endpoints, app, protectedApp)
    }
  })
}

/** What the layer needs: the engine, and what `scope` and `fingerprint` need beside the request. */
type Needs<R> = Exclude<HttpRouter.HttpRouter.ExcludeProvided<R> | Idempotency, Scope.Scope>

export function layerApi<Id extends string, Groups extends HttpApiGroup.HttpApiGroup.Any, E, ER, R = never, FR = never>(
  api: HttpApi.HttpApi<Id, Groups, E, ER>,
  options: HttpIdempotencyOptions<string | undefined, NoInfer<E>, R, NoInfer<E>, FR> & HttpIdempotencyGuarantee
): Layer.Layer<never, never, Needs<R | FR>>
export function layerApi<R = never, FR = never>(
  options: HttpIdempotencyOptions<string, never, R, never, FR> &
    HttpIdempotencyGuarantee & { readonly operation: string }
): Layer.Layer<never, never, Needs<R | FR>>
export function layerApi(
  ...args:
    | readonly [api: HttpApi.HttpApi.AnyWithProps, options: ServerOptions<unknown, unknown>]
    | readonly [options: ServerOptions<never, unknown>]
): Layer.Layer<never, never, unknown> {
  if (args.length === 1) return HttpApiBuilder.middleware(make(args[0], undefined), { withContext: true })
  const [api, options] = args
  return HttpApiBuilder.middleware(api, make(options, reflect(api)), { withContext: true })
}
