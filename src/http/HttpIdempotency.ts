/**
 * `Idempotency-Key` on HTTP servers.
 *
 * @since 0.1.0
 */
import type * as HttpApp from "@effect/platform/HttpApp"
import * as HttpLayerRouter from "@effect/platform/HttpLayerRouter"
import type { HttpMethod } from "@effect/platform/HttpMethod"
import type * as HttpRouter from "@effect/platform/HttpRouter"
import * as HttpServerError from "@effect/platform/HttpServerError"
import type * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import type * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import type { DurationInput } from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { Idempotency } from "../Idempotency.js"
import type { IdempotentExecution } from "../IdempotentExecution.js"
import type { Engine } from "../internal/engine/engine.js"
import { endpoint, group } from "../internal/http/apiDeclaration.js"
import { handlers } from "../internal/http/apiHandlers.js"
import { layerApi } from "../internal/http/apiLayer.js"
import { decodeOptions, type Policy } from "../internal/http/options.js"
import type { ProblemCode } from "../internal/http/problem.js"
import { checkOptions, protect } from "../internal/http/protect.js"
import type { Json } from "../Jsonable.js"

/**
 * What a refusal is, for programs: the member `code` of its `application/problem+json`.
 *
 * @since 0.1.0
 * @category models
 */
export type HttpIdempotencyProblemCode = ProblemCode

/**
 * At-most-once refuses without the store, and cannot be told to proceed.
 *
 * @since 0.1.0
 * @category models
 */
export type HttpIdempotencyGuarantee =
  | {
      readonly guarantee?: "at-least-once" | undefined
      readonly onStorageFailure?: "proceed" | "fail" | undefined
    }
  | {
      readonly guarantee: "at-most-once"
      readonly onStorageFailure?: "fail" | undefined
    }

/**
 * How requests are protected. Only `scope` is required, and `operation` where there is no route.
 *
 * @since 0.1.0
 * @category models
 */
export interface HttpIdempotencyOptions<
  Operation extends string | undefined = string | undefined,
  E = never,
  R = never,
  FingerprintE = never,
  FingerprintR = never
> {
  /**
   * Whose key it is: the tenant or the principal, from what the server knows of the request (its session, its
   * certificate), never from the key alone; or `"global"`, to say that there is one tenant. Runs first: its failure
   * answers the request, and nothing is claimed.
   */
  readonly scope: "global" | ((request: HttpServerRequest.HttpServerRequest) => Effect.Effect<string, E, R>)
  /**
   * What is protected, 1–100 characters without `:`; part of the identity. By default a hash of method and route
   * pattern: without it, the result needs the router's `RouteContext`.
   */
  readonly operation?: Operation
  /** Requests of other methods pass through untouched. `POST` and `PATCH` by default. */
  readonly methods?: ReadonlyArray<HttpMethod> | undefined
  /** What becomes of a request without a key: it passes through unprotected (the default), or is refused with 400. */
  readonly required?: boolean | undefined
  /** The request header. `Idempotency-Key` by default. */
  readonly header?: string | undefined
  /**
   * `lenient` (the default) takes a structured-field string and a bare value, `"k"` and `k` being one key; `strict` the
   * string alone. A key has 1–255 printable ASCII characters. A schema is asked after `lenient`, and its value is the
   * key.
   */
  readonly keyFormat?: "lenient" | "strict" | Schema.Schema.AnyNoContext | undefined
  /**
   * What the key stands for: by default method, path with query, content type and the raw bytes of the body. A later
   * request with another one is refused with 422. The function's request has its body read: as JSON, as bytes, as form.
   */
  readonly fingerprint?:
    | ((
        request: HttpServerRequest.HttpServerRequest
      ) => Json | Uint8Array | Effect.Effect<unknown, FingerprintE, FingerprintR>)
    | undefined
  /**
   * What becomes of the key once the response is final: it is recorded and replayed, the key is released for the next
   * request, or it is held as of unknown outcome. By default 2xx are replayed and others release; under at-most-once,
   * 5xx hold. A defect or an interruption is no response: it releases, under at-most-once it holds.
   */
  readonly onResponse?: ((response: HttpServerResponse.HttpServerResponse) => "replay" | "release" | "hold") | undefined
  /** What a request does while the first one is running: `fail` with 409 (the default), or `wait` for its response. */
  readonly inFlight?: "wait" | "fail" | undefined
  /** How long it waits before it gets 409: 30 seconds by default. */
  readonly waitTimeout?: DurationInput | undefined
  /** How long a response is kept, within the bounds of `IdempotencyDomainService`; its default if absent. */
  readonly timeToLive?: DurationInput | undefined
  /** How long a server that stopped answering blocks the key: 30 seconds by default, renewed while the handler runs. */
  readonly lease?: DurationInput | undefined
  /** Whether a request that may have been handled is handled again. `at-least-once` by default. */
  readonly guarantee?: "at-least-once" | "at-most-once" | undefined
  /** Without the store: handle requests all the same (`proceed`, the default), or refuse them with 503. */
  readonly onStorageFailure?: "proceed" | "fail" | undefined
  /**
   * The response headers that are recorded: by default `content-language`, `location`, `etag`, `link` and
   * `cache-control`. `content-type` and `content-encoding`, without which the body cannot be read, always are;
   * `set-cookie`, `date`, `content-length`, `www-authenticate` and what concerns connections, rate limits and traces
   * never. Where a recorded response or a problem is sent in place of one that was just made, headers that are not
   * recorded are that one's, but for those that speak of its content, its result or its caching.
   */
  readonly headers?: ReadonlyArray<string> | undefined
  /** A larger request with a key is refused with 413. 1 MiB by default. */
  readonly maxRequestBytes?: number | undefined
  /** A larger response reaches its client whole, and is recorded as not replayable. 1 MiB by default. */
  readonly maxResponseBytes?: number | undefined
  /** The response header that is `true` on replays, and only there. `Idempotent-Replayed` by default. */
  readonly replayedHeader?: string | undefined
  /** The `type` of a problem: the URI of its documentation. `about:blank` by default. */
  readonly problemType?: ((code: HttpIdempotencyProblemCode) => string) | undefined
}

/** What says which route it is: needed where nothing else says what is protected. */
type RouteOf<Operation> = [Operation] extends [string] ? never : HttpRouter.RouteContext

/** What the middleware provides to an app. */
type Provided = HttpServerRequest.HttpServerRequest | IdempotentExecution | Scope.Scope

const protectApp = <E, R, EP, RP>(engine: Engine, policy: Policy<EP, RP>, app: HttpApp.Default<E, R>) =>
  protect(engine, policy, {
    self: app,
    respond: Exit.match({
      onFailure: (cause) => Effect.map(HttpServerError.causeResponse(cause), ([response]) => response),
      onSuccess: Effect.succeed
    })
  })

const middleware = <
  const Operation extends string | undefined = undefined,
  EP = never,
  RP = never,
  FingerprintE = never,
  FingerprintR = never
>(
  options: HttpIdempotencyOptions<Operation, EP, RP, FingerprintE, FingerprintR> & HttpIdempotencyGuarantee
): (<E, R>(
  app: HttpApp.Default<E, R>
) => HttpApp.Default<
  E | EP | FingerprintE,
  Exclude<R, Provided> | RP | FingerprintR | Idempotency | RouteOf<Operation> | Scope.Scope
>) => {
  const policy = decodeOptions<EP | FingerprintE, RP | FingerprintR>(options)
  return (app) => Effect.flatMap(Idempotency, (engine) => protectApp(engine, policy, app))
}

const layerRouter = <EP = never, RP = never, FingerprintE = never, FingerprintR = never>(
  options: HttpIdempotencyOptions<string | undefined, EP, RP, FingerprintE, FingerprintR> & HttpIdempotencyGuarantee
): HttpLayerRouter.Middleware<{
  provides: IdempotentExecution
  handles: never
  error: EP | FingerprintE
  requires: Exclude<RP | FingerprintR, HttpLayerRouter.Provided>
  layerError: never
  layerRequires: Idempotency
}> => {
  const policy = decodeOptions<EP | FingerprintE, RP | FingerprintR>(options)
  return HttpLayerRouter.middleware<{ provides: IdempotentExecution }>()(
    Effect.gen(function* () {
      const engine = yield* Idempotency
      yield* checkOptions(engine, policy)
      return (app: HttpApp.Default<HttpLayerRouter.unhandled, IdempotentExecution>) => protectApp(engine, policy, app)
    })
  )
}

/**
 * Servers that honour `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07). The first request with a key is
 * handled, and its response recorded; later ones get that response, byte for byte, with `Idempotent-Replayed: true`.
 * Refusals are `application/problem+json` (RFC 9457) with `type`, `title`, `status`, `detail`, `code` and `retryable`.
 *
 * - A request passes `scope`, then its key is read, then its body, within `maxRequestBytes`; then the key is claimed.
 *   The handler gets a request whose body can be read as often as it likes. Authentication and rate limits belong
 *   outside, and what reads the body there must read it as text or JSON.
 * - A client that goes away does not stop a handler: it runs to its end, and its response is recorded. The server's
 *   shutdown waits for it, then interrupts it.
 * - The response is recorded once it is final, before it is sent. A stream is sent as it is made, and recorded at its
 *   end; one that fails, or whose client goes away, is not replayed.
 *
 * @since 0.1.0
 * @category middleware
 */
export const HttpIdempotency: {
  /**
   * For an `HttpApp`, for `HttpRouter.use`, and for any `(Request) => Promise<Response>`, as Hono, Next.js, Bun, Deno
   * and Workers have. Throws `IdempotencyValidationError` for an `operation` or a limit that cannot be; other options
   * that the engine does not take are a defect of every request with a key.
   *
   * Handlers may ask for `IdempotentExecution`, and record steps with `withIdempotentStep`. The result fails with what
   * `scope` and `fingerprint` fail with, which answers the request, and nothing is claimed.
   *
   * @example
   * ```ts
   * import * as HttpApp from "@effect/platform/HttpApp"
   * import * as HttpRouter from "@effect/platform/HttpRouter"
   * import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
   * import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
   * import * as Context from "effect/Context"
   * import * as Effect from "effect/Effect"
   * import { layerMemory } from "effect-idempotency"
   * import { HttpIdempotency } from "effect-idempotency/http"
   *
   * class Session extends Context.Tag("Session")<Session, { readonly tenant: string }>() {}
   *
   * const router = HttpRouter.empty.pipe(
   *   HttpRouter.post(
   *     "/charges",
   *     Effect.gen(function* () {
   *       const { json } = yield* HttpServerRequest.HttpServerRequest
   *       return yield* HttpServerResponse.json({ charged: yield* json }, { status: 201 })
   *     })
   *   ),
   *   HttpRouter.use(
   *     HttpIdempotency.middleware({ scope: () => Effect.map(Session, ({ tenant }) => tenant), required: true })
   *   )
   * )
   *
   * // A web handler has no routes: the operation is named.
   * const web = HttpApp.toWebHandlerLayer(
   *   HttpApp.fromWebHandler(async (request) => Response.json(await request.json())).pipe(
   *     HttpIdempotency.middleware({ scope: "global", operation: "shop" })
   *   ),
   *   layerMemory
   * )
   * ```
   *
   * @since 0.1.0
   * @category middleware
   */
  readonly middleware: typeof middleware
  /**
   * A middleware of `HttpLayerRouter`, for the routes that its `layer` is provided to. The layer needs `Idempotency`,
   * and dies if the engine does not take the options; what `scope` and `fingerprint` need of a request comes by
   * `.combine`.
   *
   * @example
   * ```ts
   * import * as HttpLayerRouter from "@effect/platform/HttpLayerRouter"
   * import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
   * import * as Layer from "effect/Layer"
   * import { layerMemory } from "effect-idempotency"
   * import { HttpIdempotency } from "effect-idempotency/http"
   *
   * const routes = HttpLayerRouter.add("POST", "/charges", HttpServerResponse.text("charged")).pipe(
   *   Layer.provide(HttpIdempotency.layerRouter({ scope: "global" }).layer),
   *   Layer.provide(layerMemory)
   * )
   * ```
   *
   * @since 0.1.0
   * @category layers
   */
  readonly layerRouter: typeof layerRouter
  /**
   * Says of an endpoint of an `HttpApi` that it takes keys, and `required` that it insists: its OpenAPI document has the
   * header and the problems (400, 409, 413, 422 and 503), and a derived client fails with `HttpIdempotencyProblem`. Put
   * it last, and `handlers` where the endpoint is implemented: without, the API's layer does not compile.
   *
   * @example
   * ```ts
   * import * as HttpApi from "@effect/platform/HttpApi"
   * import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
   * import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
   * import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
   * import * as Effect from "effect/Effect"
   * import * as Layer from "effect/Layer"
   * import * as Schema from "effect/Schema"
   * import { layerMemory } from "effect-idempotency"
   * import { HttpIdempotency } from "effect-idempotency/http"
   *
   * const charge = HttpApiEndpoint.post("charge", "/charges")
   *   .setPayload(Schema.Struct({ amount: Schema.Int }))
   *   .addSuccess(Schema.Struct({ charged: Schema.Int }), { status: 201 })
   *   .pipe(HttpIdempotency.endpoint({ required: true }))
   *
   * const Api = HttpApi.make("shop").add(HttpApiGroup.make("payments").add(charge))
   *
   * const PaymentsLive = HttpApiBuilder.group(Api, "payments", (handlers) =>
   *   handlers
   *     .handle("charge", ({ payload }) => Effect.succeed({ charged: payload.amount }))
   *     .pipe(HttpIdempotency.handlers({ scope: "global" }))
   * )
   *
   * const ApiLive = HttpApiBuilder.api(Api).pipe(Layer.provide(PaymentsLive), Layer.provide(layerMemory))
   * ```
   *
   * @since 0.1.0
   * @category middleware
   */
  readonly endpoint: typeof endpoint
  /**
   * `endpoint` for every `POST` and `PATCH` endpoint that a group has so far, and that does not speak for itself.
   *
   * @example
   * ```ts
   * import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
   * import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
   * import { HttpIdempotency } from "effect-idempotency/http"
   *
   * const payments = HttpApiGroup.make("payments")
   *   .add(HttpApiEndpoint.get("list", "/charges"))
   *   .add(HttpApiEndpoint.post("charge", "/charges"))
   *   .pipe(HttpIdempotency.group({ required: true }))
   * ```
   *
   * @since 0.1.0
   * @category middleware
   */
  readonly group: typeof group
  /**
   * Protects those endpoints of a group that were declared with `endpoint` or `group`; give it the group's handlers,
   * once all are there. What surrounds them stays outside: `HttpApiMiddleware` runs first, and `scope` and `fingerprint`
   * may ask for what it provides to the API or the group. A request is decoded before its key is claimed: one that does
   * not decode leaves nothing behind. What `scope` and `fingerprint` fail with has to be declared on the API or the
   * group, with `addError`; what else they need is required by the group's layer.
   *
   * @example
   * ```ts
   * import * as HttpApi from "@effect/platform/HttpApi"
   * import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
   * import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
   * import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
   * import * as Effect from "effect/Effect"
   * import { HttpIdempotency } from "effect-idempotency/http"
   *
   * const charge = HttpApiEndpoint.post("charge", "/charges").pipe(HttpIdempotency.endpoint())
   * const Api = HttpApi.make("shop").add(HttpApiGroup.make("payments").add(charge))
   *
   * const PaymentsLive = HttpApiBuilder.group(Api, "payments", (handlers) =>
   *   handlers.handle("charge", () => Effect.void).pipe(HttpIdempotency.handlers({ scope: "global", inFlight: "wait" }))
   * )
   * ```
   *
   * @since 0.1.0
   * @category middleware
   */
  readonly handlers: typeof handlers
  /**
   * A layer around a whole `HttpApi` that is served with `HttpApiBuilder`: as `middleware`, with the requests of all
   * endpoints undecoded, so that a request that does not decode releases its key. The operation is derived from the
   * endpoint's method and path pattern; without the API it has to be named. What `scope` fails with is declared on the
   * API; its services are required by the layer. Under `HttpLayerRouter.addHttpApi`, use `layerRouter`.
   *
   * @example
   * ```ts
   * import * as HttpApi from "@effect/platform/HttpApi"
   * import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
   * import * as Layer from "effect/Layer"
   * import { layerMemory } from "effect-idempotency"
   * import { HttpIdempotency, HttpIdempotencyProblem } from "effect-idempotency/http"
   *
   * // The problems are not part of the API by themselves.
   * const Api = HttpApi.make("shop").addError(HttpIdempotencyProblem.response)
   *
   * const ServerLive = HttpApiBuilder.serve().pipe(
   *   Layer.provide(HttpIdempotency.layerApi(Api, { scope: "global" })),
   *   Layer.provide(HttpApiBuilder.api(Api)),
   *   Layer.provide(layerMemory)
   * )
   * ```
   *
   * @since 0.1.0
   * @category layers
   */
  readonly layerApi: typeof layerApi
} = { middleware, layerRouter, endpoint, group, handlers, layerApi }
