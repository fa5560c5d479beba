/** What the types of protected APIs promise, and what they refuse. */
import * as HttpApi from "@effect/platform/HttpApi"
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import type * as HttpApiClient from "@effect/platform/HttpApiClient"
import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import type { HttpApiDecodeError } from "@effect/platform/HttpApiError"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import type * as HttpClientError from "@effect/platform/HttpClientError"
import { describe, expectTypeOf, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import { HttpIdempotency, type HttpIdempotencyProblem, type HttpIdempotentEndpoint } from "../../src/http.js"
import type { Idempotency } from "../../src/Idempotency.js"
import { IdempotentExecution } from "../../src/IdempotentExecution.js"
import type { Authentication, Declined, Duplicate, Shop, Suspended, shopLayer, Unauthorized } from "./shop.js"

class Database extends Context.Tag("test/Database")<Database, { readonly tenant: Effect.Effect<string> }>() {}
class Known extends Schema.TaggedError<Known>()("Known", {}) {}
class Stranger extends Schema.TaggedError<Stranger>()("Stranger", {}) {}

const group = HttpApiGroup.make("group")
  .add(HttpApiEndpoint.post("one", "/one").pipe(HttpIdempotency.endpoint()))
  .add(HttpApiEndpoint.post("two", "/two"))
const api = HttpApi.make("api").add(group).addError(Known, { status: 403 })

type Group = HttpApiGroup.ApiGroup<"api", "group">

const both = (handlers: HttpApiBuilder.Handlers.FromGroup<HttpApiDecodeError | Known, never, typeof group>) =>
  handlers.handle("one", () => Effect.void).handle("two", () => Effect.void)

describe("the types of an API", () => {
  it("have the problems among a client's errors", () => {
    type Client = Effect.Effect.Success<ReturnType<typeof HttpApiClient.make<"shop", Groups, ApiError, never>>>
    type Groups = typeof Shop extends HttpApi.HttpApi<"shop", infer G, infer _E, infer _R> ? G : never
    type ApiError = HttpApiDecodeError | Suspended
    type Charge = ReturnType<Client["payments"]["charge"]>
    expectTypeOf<Parameters<Client["payments"]["charge"]>[0]["payload"]>().toEqualTypeOf<{ readonly amount: number }>()
    expectTypeOf<Effect.Effect.Error<Charge>>().toEqualTypeOf<
      | HttpIdempotencyProblem
      | Declined
      | Duplicate
      | Suspended
      | Unauthorized
      | HttpApiDecodeError
      | HttpClientError.HttpClientError
      | ParseResult.ParseError
    >()
    expectTypeOf<Effect.Effect.Context<Charge>>().toEqualTypeOf<never>()
    expectTypeOf<Effect.Effect.Error<ReturnType<Client["payments"]["note"]>>>().toEqualTypeOf<
      Suspended | Unauthorized | HttpApiDecodeError | HttpClientError.HttpClientError | ParseResult.ParseError
    >()
  })

  it("need the engine, and what scope needs beside what the group has", () => {
    expectTypeOf<Layer.Layer.Context<ReturnType<typeof shopLayer>>>().toEqualTypeOf<Idempotency | Authentication>()
    const needy = HttpApiBuilder.group(api, "group", (handlers) =>
      both(handlers).pipe(
        HttpIdempotency.handlers({
          scope: () => Effect.flatMap(Database, ({ tenant }) => tenant),
          fingerprint: (request) => Effect.mapError(request.json, () => new Known())
        })
      )
    )
    expectTypeOf(needy).toEqualTypeOf<Layer.Layer<Group, never, Idempotency | Database>>()
  })

  it("do not let a declared endpoint go unprotected", () => {
    const forgotten = HttpApiBuilder.group(api, "group", both)
    expectTypeOf(forgotten).toEqualTypeOf<Layer.Layer<Group, never, HttpIdempotentEndpoint>>()
    const whole = HttpApiGroup.make("whole").add(HttpApiEndpoint.post("one", "/one")).pipe(HttpIdempotency.group())
    const live = HttpApiBuilder.group(HttpApi.make("api").add(whole), "whole", (handlers) =>
      handlers.handle("one", () => Effect.asVoid(IdempotentExecution))
    )
    expectTypeOf<Layer.Layer.Context<typeof live>>().toEqualTypeOf<HttpIdempotentEndpoint>()
  })

  it("let handlers ask for the execution where there is one", () => {
    const asking = HttpApiBuilder.group(api, "group", (handlers) =>
      handlers
        .handle("one", () => Effect.asVoid(IdempotentExecution))
        .handle("two", () => Effect.void)
        .pipe(HttpIdempotency.handlers({ scope: "global" }))
    )
    expectTypeOf(asking).toEqualTypeOf<Layer.Layer<Group, never, Idempotency>>()
    const wrong = HttpApiBuilder.group(api, "group", (handlers) =>
      handlers
        .handle("one", () => Effect.void)
        .handle("two", () => Effect.asVoid(IdempotentExecution))
        .pipe(HttpIdempotency.handlers({ scope: "global" }))
    )
    expectTypeOf(wrong).toEqualTypeOf<Layer.Layer<Group, never, Idempotency | IdempotentExecution>>()
  })

  it("ask for scope's errors to be declared", () => {
    HttpApiBuilder.group(api, "group", (handlers) =>
      both(handlers).pipe(HttpIdempotency.handlers({ scope: () => Effect.fail(new Known()) }))
    )
    HttpApiBuilder.group(api, "group", (handlers) =>
      both(handlers).pipe(
        // @ts-expect-error: nobody has declared a stranger
        HttpIdempotency.handlers({ scope: () => Effect.fail(new Stranger()) })
      )
    )
    HttpIdempotency.layerApi(api, { scope: () => Effect.fail(new Known()) })
    // @ts-expect-error: nobody has declared a stranger
    HttpIdempotency.layerApi(api, { scope: () => Effect.fail(new Stranger()) })
    // @ts-expect-error: without the API nothing is declared
    HttpIdempotency.layerApi({ operation: "op", scope: () => Effect.fail(new Known()) })
  })

  it("make a layer around an API that needs the engine and scope's services", () => {
    expectTypeOf(
      HttpIdempotency.layerApi(api, { scope: () => Effect.flatMap(Database, ({ tenant }) => tenant) })
    ).toEqualTypeOf<Layer.Layer<never, never, Idempotency | Database>>()
    expectTypeOf(HttpIdempotency.layerApi({ scope: "global", operation: "op" })).toEqualTypeOf<
      Layer.Layer<never, never, Idempotency>
    >()
    // @ts-expect-error: without the API the operation has to be named
    HttpIdempotency.layerApi({ scope: "global" })
  })

  it("refuse what cannot be", () => {
    // @ts-expect-error: whose key it is must be said
    HttpIdempotency.handlers({})
    // @ts-expect-error: the endpoint says whether a key is required
    HttpIdempotency.handlers({ scope: "global", required: true })
    // @ts-expect-error: at-most-once cannot proceed without the store
    HttpIdempotency.handlers({ scope: "global", guarantee: "at-most-once", onStorageFailure: "proceed" })
    // @ts-expect-error: at-most-once cannot proceed without the store
    HttpIdempotency.layerApi(api, { scope: "global", guarantee: "at-most-once", onStorageFailure: "proceed" })
    // @ts-expect-error: a misspelt option
    HttpIdempotency.endpoint({ requird: true })
    // @ts-expect-error: a group has several operations
    HttpIdempotency.group({ operation: "op" })
  })
})
