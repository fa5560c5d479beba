/** One server for every way to mount the middleware, each over a real socket. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { Readable } from "node:stream"
import * as HttpApp from "@effect/platform/HttpApp"
import * as HttpBody from "@effect/platform/HttpBody"
import * as HttpLayerRouter from "@effect/platform/HttpLayerRouter"
import type * as HttpMiddleware from "@effect/platform/HttpMiddleware"
import * as HttpRouter from "@effect/platform/HttpRouter"
import * as HttpServer from "@effect/platform/HttpServer"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Runtime from "effect/Runtime"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import {
  HttpIdempotency,
  type HttpIdempotencyGuarantee,
  type HttpIdempotencyOptions
} from "../../src/http/HttpIdempotency.js"
import type { Idempotency } from "../../src/Idempotency.js"

/** What a handler answers, however it is mounted. */
export interface Answer {
  readonly status?: number
  readonly headers?: Record<string, string>
  readonly body?: string | Uint8Array | Stream.Stream<Uint8Array, unknown>
}

/** What a handler is asked. */
export interface Asked {
  readonly method: string
  readonly url: string
  readonly body: Uint8Array
}

export type Handler = (asked: Asked) => Effect.Effect<Answer, never, Scope.Scope>

/** Scopes and fingerprints may fail with the response to send. */
type Refusal = HttpServerResponse.HttpServerResponse

export type Options = HttpIdempotencyOptions<string | undefined, Refusal, never, Refusal> & HttpIdempotencyGuarantee

/** A way to mount: a server on a free port, for as long as the scope lives. */
export interface Mount {
  readonly name: string
  readonly serve: (handler: Handler, options: Options) => Effect.Effect<string, never, Scope.Scope | Idempotency>
}

const toResponse = ({ body, headers = {}, status = 200 }: Answer): HttpServerResponse.HttpServerResponse => {
  const empty = HttpServerResponse.empty({ status, headers })
  if (body === undefined) return empty
  const contentType = headers["content-type"] ?? ""
  if (typeof body === "string") return HttpServerResponse.setBody(empty, HttpBody.text(body, contentType))
  return HttpServerResponse.setBody(
    empty,
    body instanceof Uint8Array ? HttpBody.uint8Array(body, contentType) : HttpBody.stream(body, contentType)
  )
}

export const app = (handler: Handler) =>
  Effect.gen(function* () {
    const request = yield* HttpServerRequest.HttpServerRequest
    const body = new Uint8Array(yield* Effect.orDie(request.arrayBuffer))
    return toResponse(yield* handler({ method: request.method, url: request.url, body }))
  })

/** Logs nothing. */
export const quiet = Logger.replace(Logger.defaultLogger, Logger.none)

/** A server on a free port. */
export const listen = <E, R>(self: HttpApp.Default<E, R>, middleware?: HttpMiddleware.HttpMiddleware) =>
  Effect.gen(function* () {
    const server = yield* Effect.orDie(NodeHttpServer.make(() => createServer(), { port: 0, host: "127.0.0.1" }))
    yield* middleware === undefined ? server.serve(self) : server.serve(self, middleware)
    return urlOf(server)
  }).pipe(Effect.provide(quiet))

const urlOf = ({ address }: HttpServer.HttpServer): string =>
  address._tag === "TcpAddress" ? `http://127.0.0.1:${address.port}` : address.path

const operation = "charges"

const httpApp: Mount = {
  name: "HttpApp",
  serve: (handler, options) =>
    listen(app(handler).pipe(HttpIdempotency.middleware({ ...options, operation: options.operation ?? operation })))
}

const paths = ["/charges", "/charges/:id", "/refunds"] as const

const httpRouter: Mount = {
  name: "HttpRouter",
  serve: (handler, { operation: _, ...options }) => {
    const [first, second, third] = paths
    const router = HttpRouter.empty.pipe(
      HttpRouter.all(first, app(handler)),
      HttpRouter.all(second, app(handler)),
      HttpRouter.all(third, app(handler)),
      HttpRouter.use(HttpIdempotency.middleware(options))
    )
    return listen(router)
  }
}

const httpLayerRouter: Mount = {
  name: "HttpLayerRouter",
  serve: (handler, { operation: _, ...options }) =>
    Effect.gen(function* () {
      const context = yield* Effect.context<Idempotency>()
      const add = HttpLayerRouter.addAll(paths.map((path) => HttpLayerRouter.route("*", path, app(handler))))
      const routes = add.pipe(
        Layer.provide(HttpIdempotency.layerRouter(options).layer),
        Layer.provide(Layer.succeedContext(context))
      )
      const served = HttpLayerRouter.serve(routes, { disableLogger: true, disableListenLog: true }).pipe(
        Layer.provideMerge(Layer.orDie(NodeHttpServer.layer(() => createServer(), { port: 0, host: "127.0.0.1" })))
      )
      const built = yield* Layer.build(Layer.provide(served, quiet))
      return urlOf(Context.get(built, HttpServer.HttpServer))
    })
}

/** What serves web handlers on Node, in small: streams both ways, and a signal when the client goes away. */
const listenWeb = (handler: (request: Request) => Promise<Response>): Effect.Effect<string, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.async<ReturnType<typeof createServer>>((resume) => {
      const server = createServer((incoming, outgoing) => {
        void answer(handler, incoming, outgoing)
      })
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) => Effect.async<void>((resume) => void server.close(() => resume(Effect.void)))
  ).pipe(Effect.map((server) => `http://127.0.0.1:${(server.address() as AddressInfo).port}`))

const answer = async (
  handler: (request: Request) => Promise<Response>,
  incoming: IncomingMessage,
  outgoing: ServerResponse
): Promise<void> => {
  const gone = new AbortController()
  outgoing.on("close", () => outgoing.writableEnded || gone.abort())
  const hasBody = incoming.method !== "GET" && incoming.method !== "HEAD"
  const request = new Request(`http://127.0.0.1${incoming.url}`, {
    method: incoming.method ?? "GET",
    headers: new Headers(Object.entries(incoming.headers).map(([name, value]) => [name, String(value)])),
    signal: gone.signal,
    ...(hasBody ? { body: Readable.toWeb(incoming) as ReadableStream<Uint8Array>, duplex: "half" } : {})
  })
  const response = await handler(request)
  outgoing.writeHead(response.status, Object.fromEntries(response.headers))
  if (response.body === null) return void outgoing.end()
  const body = Readable.fromWeb(response.body as import("node:stream/web").ReadableStream)
  body.on("error", () => outgoing.destroy())
  outgoing.on("close", () => body.destroy())
  body.pipe(outgoing)
}

const webHandler: Mount = {
  name: "web handler",
  serve: (handler, options) =>
    Effect.gen(function* () {
      const context = yield* Effect.context<Idempotency>()
      const runtime = yield* Effect.runtime<never>()
      const web = async (request: Request): Promise<Response> => {
        const asked = {
          method: request.method,
          url: request.url.replace(/^https?:\/\/[^/]*/, ""),
          body: new Uint8Array(await request.arrayBuffer())
        }
        const result = await Runtime.runPromise(runtime)(Effect.scoped(handler(asked)))
        const response = HttpServerResponse.toWeb(toResponse(result))
        // As a handler of one's own would make it: `Response` does not tell how long its body is.
        response.headers.delete("content-length")
        return response
      }
      const served = HttpApp.toWebHandlerLayer(
        HttpApp.fromWebHandler(web).pipe(
          HttpIdempotency.middleware({ ...options, operation: options.operation ?? operation })
        ),
        Layer.merge(Layer.succeedContext(context), quiet)
      )
      yield* Effect.addFinalizer(() => Effect.promise(served.dispose))
      return yield* listenWeb((request) => served.handler(request))
    })
}

export const mounts: ReadonlyArray<Mount> = [httpApp, httpRouter, httpLayerRouter, webHandler]
