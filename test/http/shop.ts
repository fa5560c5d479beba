/** An `HttpApi` as users write it, on a free port. */
import { readFileSync } from "node:fs"
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import * as HttpApi from "@effect/platform/HttpApi"
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as HttpApiClient from "@effect/platform/HttpApiClient"
import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiMiddleware from "@effect/platform/HttpApiMiddleware"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as Multipart from "@effect/platform/Multipart"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { HttpIdempotency } from "../../src/http/HttpIdempotency.js"
import type { HttpIdempotencyHandlersOptions } from "../../src/http/HttpIdempotencyApi.js"
import type { Idempotency } from "../../src/Idempotency.js"
import { IdempotentExecution } from "../../src/IdempotentExecution.js"
import { serveApi } from "./apiMounts.js"

export class Session extends Context.Tag("test/Session")<Session, { readonly tenant: string }>() {}

export class Unauthorized extends Schema.TaggedError<Unauthorized>()(
  "Unauthorized",
  {},
  HttpApiSchema.annotations({ status: 401 })
) {}

export class Authentication extends HttpApiMiddleware.Tag<Authentication>()("test/Authentication", {
  failure: Unauthorized,
  provides: Session
}) {
  /** Who is nobody is the default tenant; who is `nobody` is refused. */
  static readonly layer = Layer.succeed(
    Authentication,
    Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ headers }) =>
      headers["x-tenant"] === "nobody"
        ? Effect.fail(new Unauthorized())
        : Effect.succeed({ tenant: headers["x-tenant"] ?? "default" })
    )
  )
}

export class Declined extends Schema.TaggedError<Declined>()("Declined", { reason: Schema.String }) {}

/** Declared on the API, for `scope`. */
export class Suspended extends Schema.TaggedError<Suspended>()("Suspended", { tenant: Schema.String }) {}

/** Another use of a status that problems have. */
export class Duplicate extends Schema.TaggedError<Duplicate>()("Duplicate", {}) {}

export const Receipt = Schema.Struct({ run: Schema.Int, amount: Schema.Int, attempt: Schema.Int })

const charge = HttpApiEndpoint.post("charge", "/charges")
  .setPayload(Schema.Struct({ amount: Schema.Int.pipe(Schema.positive()) }))
  .addSuccess(Receipt, { status: 201 })
  .addError(Declined, { status: 402 })
  .addError(Duplicate, { status: 409 })
  .pipe(HttpIdempotency.endpoint({ required: true }))

const refund = HttpApiEndpoint.post("refund")`/charges/${HttpApiSchema.param("id", Schema.NumberFromString)}/refunds`
  .addSuccess(Schema.Struct({ refunded: Schema.Number, attempt: Schema.Int }))
  .pipe(HttpIdempotency.endpoint({ header: "X-Request-Key", operation: "shop.refund" }))

const upload = HttpApiEndpoint.post("upload", "/uploads")
  .setPayload(HttpApiSchema.Multipart(Schema.Struct({ file: Multipart.SingleFileSchema })))
  .addSuccess(HttpApiSchema.Text())
  .pipe(HttpIdempotency.endpoint())

const search = HttpApiEndpoint.get("search", "/charges").addSuccess(Schema.Int)

const note = HttpApiEndpoint.post("note", "/notes")
  .setPayload(Schema.Struct({ text: Schema.String }))
  .addSuccess(Schema.Int)

export const payments = HttpApiGroup.make("payments")
  .add(charge)
  .add(refund)
  .add(upload)
  .add(search)
  .add(note)
  .middleware(Authentication)

export const Shop = HttpApi.make("shop").add(payments).addError(Suspended, { status: 403 })

export type Options = Omit<HttpIdempotencyHandlersOptions<Suspended, Session>, "guarantee" | "onStorageFailure"> &
  (
    | { readonly guarantee?: "at-least-once"; readonly onStorageFailure?: "proceed" | "fail" }
    | { readonly guarantee: "at-most-once" }
  )

export interface Running {
  readonly url: string
  readonly runs: () => number
  /** The derived client, with this key. */
  readonly client: (key?: string | undefined, headers?: Record<string, string>) => ReturnType<typeof clientOf>
}

const clientOf = (url: string, headers: Record<string, string>) =>
  Effect.provide(
    HttpApiClient.make(Shop, {
      baseUrl: url,
      transformClient: HttpClient.mapRequest(HttpClientRequest.setHeaders(headers))
    }),
    FetchHttpClient.layer
  )

/** What a charge ends with: by default, a receipt that says which run it was. */
export type Charging = (
  run: number,
  amount: number
) => Effect.Effect<typeof Receipt.Type, Declined | Duplicate | Suspended, IdempotentExecution>

export const receipt: Charging = (run, amount) =>
  Effect.map(IdempotentExecution, ({ attempt }) => ({ run, amount, attempt }))

export const tenant = () => Effect.map(Session, (session) => session.tenant)

/** The handlers of the shop, protected with these options. */
export const shopLayer = (charging: Charging, options: Options, ran: () => number) =>
  HttpApiBuilder.group(Shop, "payments", (handlers) =>
    handlers
      .handle("charge", ({ payload }) => Effect.suspend(() => charging(ran(), payload.amount)))
      .handle("refund", ({ path }) =>
        Effect.map(IdempotentExecution, ({ attempt }) => {
          ran()
          return { refunded: path.id, attempt }
        })
      )
      .handle("upload", ({ payload }) => Effect.sync(() => `${ran()}:${readFileSync(payload.file.path, "utf8")}`))
      .handle("search", () => Effect.sync(ran))
      .handle("note", () => Effect.sync(ran))
      .pipe(HttpIdempotency.handlers<Suspended, Session>(options))
  )

export const startShop = (
  charging: Charging = receipt,
  options: Options = { scope: tenant }
): Effect.Effect<Running, never, Idempotency | Scope.Scope> =>
  Effect.gen(function* () {
    let runs = 0
    const context = yield* Effect.context<Idempotency>()
    const api = HttpApiBuilder.api(Shop).pipe(
      Layer.provide(shopLayer(charging, options, () => ++runs)),
      Layer.provide(Authentication.layer),
      Layer.provide(Layer.succeedContext(context))
    )
    const url = yield* serveApi(api)
    return {
      url,
      runs: () => runs,
      client: (key, headers = {}) =>
        clientOf(url, { ...(key === undefined ? {} : { "idempotency-key": key, "x-request-key": key }), ...headers })
    }
  })
