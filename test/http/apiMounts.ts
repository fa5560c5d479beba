/** The ways to mount on an `HttpApi`, for the suites of all mounts, over a real socket. */
import { createServer } from "node:http"
import * as HttpApi from "@effect/platform/HttpApi"
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import type { HttpApiDecodeError } from "@effect/platform/HttpApiError"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as HttpLayerRouter from "@effect/platform/HttpLayerRouter"
import * as HttpServer from "@effect/platform/HttpServer"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import type * as Scope from "effect/Scope"
import { HttpIdempotency } from "../../src/http/HttpIdempotency.js"
import type { HttpIdempotentEndpoint } from "../../src/http/HttpIdempotencyApi.js"
import type { Idempotency } from "../../src/Idempotency.js"
import { app, type Handler, type Mount, type Options } from "./support.js"

const quiet = Logger.replace(Logger.defaultLogger, Logger.none)
const node = Layer.orDie(NodeHttpServer.layer(() => createServer(), { port: 0, host: "127.0.0.1" }))

/** The URL of what the layer serves, on a free port. */
export const listening = (
  served: Layer.Layer<never, never, HttpServer.HttpServer | NodeServices>
): Effect.Effect<string, never, Scope.Scope> =>
  Effect.map(Layer.build(served.pipe(Layer.provideMerge(node), Layer.provide(quiet))), (context) => {
    const { address } = Context.get(context, HttpServer.HttpServer)
    return address._tag === "TcpAddress" ? `http://127.0.0.1:${address.port}` : address.path
  })

type NodeServices = Layer.Layer.Success<typeof node>

/** An API served by its builder. */
export const serveApi = (
  api: Layer.Layer<HttpApi.Api>,
  around: Layer.Layer<never> = Layer.empty
): Effect.Effect<string, never, Scope.Scope> =>
  listening(HttpApiBuilder.serve().pipe(Layer.provide(around), Layer.provide(api)))

const methods = ["GET", "POST", "PUT", "PATCH"] as const
const paths = ["/charges", "/charges/:id", "/refunds"] as const

type Method = (typeof methods)[number]

/** An endpoint for every method and path, of those that the suites use; the methods that are asked for take keys. */
const endpointsOf = (options: Options | undefined) =>
  methods.flatMap((method: Method) =>
    paths.map((path) => {
      const plain = HttpApiEndpoint.make(method)(`${method} ${path}`, path).addSuccess(HttpApiSchema.Text())
      return (options?.methods ?? ["POST", "PATCH"]).includes(method) && options !== undefined
        ? plain.pipe(HttpIdempotency.endpoint({ required: options.required, header: options.header }))
        : plain
    })
  )

const apiOf = (options: Options | undefined) => {
  const [first, ...others] = endpointsOf(options)
  if (first === undefined) throw new Error("no endpoints")
  const group = others.reduce((all, endpoint) => all.add(endpoint), HttpApiGroup.make("all").add(first))
  const api = HttpApi.make("site").add(group)
  type Handlers = HttpApiBuilder.Handlers<never, never, HttpIdempotentEndpoint, typeof first>
  const implemented =
    (handler: Handler) => (handlers: HttpApiBuilder.Handlers.FromGroup<HttpApiDecodeError, never, typeof group>) =>
      others
        .reduce<Handlers>((some, { name }) => some.handleRaw(name, () => app(handler)), handlers)
        .handleRaw(first.name, () => app(handler))
  return { api, implemented }
}

/** Scopes and fingerprints of the suites fail with a response; an API has only errors that were declared. */
const dyingWithResponses = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A> =>
  Effect.catchAll(effect, (error) => Effect.die(error))

const ownOptions = ({ fingerprint, operation: _, scope, ...options }: Options) => ({
  ...options,
  scope: scope === "global" ? scope : (request: Parameters<typeof scope>[0]) => dyingWithResponses(scope(request)),
  ...(fingerprint === undefined
    ? {}
    : {
        fingerprint: (request: Parameters<typeof fingerprint>[0]) => {
          const made = fingerprint(request)
          return Effect.isEffect(made) ? dyingWithResponses(made) : made
        }
      })
})

const engine = Effect.map(Effect.context<Idempotency>(), (context) => Layer.succeedContext(context))

const builderLayer = (name: string, isDerived: boolean): Mount => ({
  name,
  serve: (handler, options) =>
    Effect.gen(function* () {
      const { api, implemented } = apiOf(undefined)
      const own = ownOptions(options)
      // No endpoint is declared here, and none is protected by this.
      const routes = HttpApiBuilder.group(api, "all", (handlers) =>
        implemented(handler)(handlers).pipe(HttpIdempotency.handlers({ scope: "global" }))
      )
      const around = isDerived
        ? HttpIdempotency.layerApi(api, own)
        : HttpIdempotency.layerApi({ ...own, operation: options.operation ?? "charges" })
      return yield* serveApi(
        HttpApiBuilder.api(api).pipe(Layer.provide(routes), Layer.provide(yield* engine)),
        around.pipe(Layer.provide(yield* engine))
      )
    })
})

const protectedApi = (handler: Handler, options: Options) => {
  const { api, implemented } = apiOf(options)
  const routes = HttpApiBuilder.group(api, "all", (handlers) =>
    implemented(handler)(handlers).pipe(HttpIdempotency.handlers(ownOptions(options)))
  )
  return { api, routes }
}

const handlers: Mount = {
  name: "HttpApi handlers by their Router",
  serve: (handler, options) =>
    Effect.gen(function* () {
      const { api, routes } = protectedApi(handler, options)
      return yield* serveApi(HttpApiBuilder.api(api).pipe(Layer.provide(routes), Layer.provide(yield* engine)))
    })
}

const addedHandlers: Mount = {
  name: "HttpApi handlers in HttpLayerRouter",
  serve: (handler, options) =>
    Effect.gen(function* () {
      const { api, routes } = protectedApi(handler, options)
      const added = HttpLayerRouter.addHttpApi(api).pipe(Layer.provide(routes), Layer.provide(yield* engine))
      return yield* listening(HttpLayerRouter.serve(added, { disableLogger: true, disableListenLog: true }))
    })
}

export const apiMounts: ReadonlyArray<Mount> = [
  builderLayer("HttpApi, its layer", false),
  builderLayer("HttpApi, its layer by its Router", true),
  handlers,
  addedHandlers
]
