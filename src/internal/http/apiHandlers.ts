/** The handlers of an `HttpApi`'s group, each behind the claim of its key, with its request decoded before. */
import type * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import type * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import { HttpApiDecodeError } from "@effect/platform/HttpApiError"
import type * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as HttpMethod from "@effect/platform/HttpMethod"
import type * as HttpRouter from "@effect/platform/HttpRouter"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import type * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Multipart from "@effect/platform/Multipart"
import * as UrlParams from "@effect/platform/UrlParams"
import * as Chunk from "effect/Chunk"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { HttpIdempotencyGuarantee } from "../../http/HttpIdempotency.js"
import type {
  HttpIdempotencyDeclared,
  HttpIdempotencyHandlersOptions,
  HttpIdempotentEndpoint
} from "../../http/HttpIdempotencyApi.js"
import { Idempotency } from "../../Idempotency.js"
import { IdempotencyKey } from "../../IdempotencyKey.js"
import { declarationOf } from "./apiDeclaration.js"
import { failureEncoder, responseEncoder } from "./apiResponse.js"
import { decodeOptions, type Policy, type ServerOptions } from "./options.js"
import { protect } from "./protect.js"
import type { Handler } from "./run.js"

type Request = HttpServerRequest.HttpServerRequest
type Endpoint = HttpApiEndpoint.HttpApiEndpoint.AnyWithProps
type Item = HttpApiBuilder.Handlers.Item<unknown, unknown>

/** What a request's payload is decoded from, as the platform reads it. */
const payloadIn = (request: Request, limits: Multipart.withLimits.Options | undefined) => {
  const contentType = contentTypeOf(request)
  if (contentType.includes("application/json")) return Effect.orDie(request.json)
  if (isForm(request)) {
    // Not `request.multipart`, whose files go with the first scope that asks for it.
    const persisted = Multipart.toPersisted(request.multipartStream)
    return Effect.orDie(limits === undefined ? persisted : Multipart.withLimits(persisted, limits))
  }
  if (contentType.includes("x-www-form-urlencoded")) {
    return Effect.map(Effect.orDie(request.urlParamsBody), UrlParams.toRecord)
  }
  if (contentType.startsWith("text/")) return Effect.orDie(request.text)
  return Effect.map(Effect.orDie(request.arrayBuffer), (buffer) => new Uint8Array(buffer))
}

interface Payload {
  readonly payload?: unknown
}

/** How the payload of an endpoint comes about. */
type PayloadOf = (request: Request) => Effect.Effect<Payload, unknown, unknown>

const isForm = (request: Request): boolean => contentTypeOf(request).includes("multipart/form-data")

const contentTypeOf = ({ headers }: Request): string =>
  (headers["content-type"] ?? "application/json").toLowerCase().trim()

/** Payloads without a body are the platform's to decode, before the handler is called; so are those of raw handlers. */
const payloadReader = (endpoint: Endpoint, isRaw: boolean): PayloadOf | undefined => {
  if (isRaw || Option.isNone(endpoint.payloadSchema) || !HttpMethod.hasBody(endpoint.method)) return undefined
  const schema = endpoint.payloadSchema.value
  const streamLimits = HttpApiSchema.getMultipartStream(schema.ast)
  if (streamLimits !== undefined) {
    return ({ multipartStream }) =>
      Effect.succeed({ payload: Multipart.withLimitsStream(multipartStream, streamLimits) })
  }
  const decode = Schema.decodeUnknown(schema)
  const limits = HttpApiSchema.getMultipart(schema.ast)
  return (request) =>
    Effect.map(Effect.flatMap(payloadIn(request, limits), decode), (payload: unknown) => ({ payload }))
}

/** The operation of an endpoint: as it says, or as a router's middleware would derive it. */
export const endpointOperation = ({ method, path }: { readonly method: string; readonly path: string }): string =>
  `http.${IdempotencyKey.fromUntrusted(method, path)}`

const protectedItem = (
  item: Item,
  endpoint: Endpoint,
  group: HttpApiGroup.HttpApiGroup.AnyWithProps,
  policy: Policy<unknown, unknown>
): Item => {
  const reader = payloadReader(endpoint, item.withFullRequest)
  const read: PayloadOf = reader ?? (() => Effect.succeed({}))
  const encodeSuccess = responseEncoder(endpoint.successSchema.ast)
  const encodeFailure = failureEncoder([endpoint.errorSchema.ast, group.errorSchema.ast, HttpApiDecodeError.ast])
  return {
    ...item,
    // The payload is decoded here, from the bytes that the key is claimed for.
    withFullRequest: item.withFullRequest || reader !== undefined,
    handler: (asked) =>
      Effect.contextWithEffect((context: Context.Context<unknown>) => {
        // Encoded here, not by the platform: to that, what has run and does not encode is a bad request.
        const handle = (request: Request, payload: Payload) =>
          Effect.flatMap(item.handler({ ...asked, ...payload, request }), encodeSuccess)
        let validated: Payload | undefined
        const self = Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
          Effect.flatMap(validated === undefined ? read(request) : Effect.succeed(validated), (payload) =>
            handle(request, payload)
          )
        )
        const handler: Handler<HttpServerResponse.HttpServerResponse, unknown, unknown> = {
          self,
          validate: (request) =>
            Effect.map(Effect.provide(Effect.scoped(read(request)), context), (payload) => {
              // The files of a form are gone by now: the handler gets others.
              if (!isForm(request)) validated = payload
            }),
          respond: Exit.match({
            onFailure: encodeFailure,
            onSuccess: Effect.succeed
          })
        }
        return Effect.flatMap(Idempotency, (engine) => protect(engine, policy, handler))
      })
  }
}

const policyOf = (
  options: Omit<ServerOptions<unknown, unknown>, "operation" | "methods" | "required" | "header">,
  endpoint: Endpoint
): Policy<unknown, unknown> | undefined => {
  const declaration = declarationOf(endpoint)
  if (declaration === undefined) return undefined
  return decodeOptions({
    ...options,
    methods: [endpoint.method],
    required: declaration.required,
    header: declaration.header,
    operation: declaration.operation ?? endpointOperation(endpoint)
  })
}

/** What a group may ask of a request: neither `scope` nor `fingerprint` has to be given it. */
type Given<Provides> = Provides | HttpRouter.HttpRouter.DefaultServices | HttpRouter.HttpRouter.Provided

export const handlers =
  <E = never, R = never, FingerprintE = never, FingerprintR = never>(
    options: HttpIdempotencyHandlersOptions<E, R, FingerprintE, FingerprintR> & HttpIdempotencyGuarantee
  ) =>
  <ApiE, Provides, RX, Endpoints extends HttpApiEndpoint.HttpApiEndpoint.Any>(
    self: HttpApiBuilder.Handlers<ApiE, Provides, RX, Endpoints> & HttpIdempotencyDeclared<E | FingerprintE, ApiE>
  ): HttpApiBuilder.Handlers<
    ApiE,
    Provides,
    Exclude<RX, HttpIdempotentEndpoint> | Exclude<R | FingerprintR, Given<Provides>> | Idempotency,
    Endpoints
  > => {
    const items = Chunk.map(self.handlers, (item): Item => {
      const endpoint = Object.values(self.group.endpoints).find((each) => each === item.endpoint)
      const policy = endpoint === undefined ? undefined : policyOf(options, endpoint)
      return endpoint === undefined || policy === undefined ? item : protectedItem(item, endpoint, self.group, policy)
    })
    // The platform has no constructor for what its own methods return.
    return Object.assign(Object.create(Object.getPrototypeOf(self)), { group: self.group, handlers: items })
  }
