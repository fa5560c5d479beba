/** What the types promise, and what they refuse. */
import * as HttpApp from "@effect/platform/HttpApp"
import type * as HttpLayerRouter from "@effect/platform/HttpLayerRouter"
import * as HttpRouter from "@effect/platform/HttpRouter"
import type * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import { describe, expectTypeOf, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { HttpIdempotency, type HttpIdempotencyProblemCode } from "../../src/http/HttpIdempotency.js"
import type { Idempotency } from "../../src/Idempotency.js"
import { IdempotentExecution } from "../../src/IdempotentExecution.js"
import { layerMemory } from "../../src/layerMemory.js"

class Session extends Context.Tag("test/Session")<Session, { readonly tenant: string }>() {}
class Database extends Context.Tag("test/Database")<Database, { readonly query: Effect.Effect<string, "down"> }>() {}

class Unknown {
  readonly _tag = "Unknown"
}

const app = Effect.gen(function* () {
  yield* IdempotentExecution
  return HttpServerResponse.text(yield* Effect.flatMap(Database, ({ query }) => query))
})

const byTenant = () =>
  Effect.filterOrFail(
    Effect.map(Session, ({ tenant }) => tenant),
    (tenant) => tenant !== "",
    () => new Unknown()
  )

describe("the types", () => {
  it("hold what scope and fingerprint fail with and need", () => {
    const protectedApp = app.pipe(
      HttpIdempotency.middleware({ scope: byTenant, operation: "charges", fingerprint: (request) => request.json })
    )
    expectTypeOf<Effect.Effect.Error<typeof protectedApp>>().toEqualTypeOf<
      "down" | Unknown | Effect.Effect.Error<HttpServerRequest.HttpServerRequest["json"]>
    >()
    expectTypeOf<Effect.Effect.Context<typeof protectedApp>>().toEqualTypeOf<
      Session | Database | Idempotency | Scope.Scope | HttpServerRequest.HttpServerRequest
    >()
  })

  it("ask for an operation where there is no route", () => {
    const free = app.pipe(HttpIdempotency.middleware({ scope: "global" }))
    expectTypeOf<HttpRouter.RouteContext>().toExtend<Effect.Effect.Context<typeof free>>()
    const plain = Effect.succeed(HttpServerResponse.empty())
    const undone = plain.pipe(HttpIdempotency.middleware({ scope: "global" }))
    // @ts-expect-error: there is no route
    HttpApp.toWebHandlerLayer(undone, layerMemory)
    HttpApp.toWebHandlerLayer(plain.pipe(HttpIdempotency.middleware({ scope: "global", operation: "op" })), layerMemory)

    const router = HttpRouter.empty.pipe(
      HttpRouter.post("/charges", app),
      HttpRouter.use(HttpIdempotency.middleware({ scope: "global" }))
    )
    expectTypeOf<Effect.Effect.Context<typeof router>>().toEqualTypeOf<
      Database | Idempotency | HttpServerRequest.HttpServerRequest
    >()
  })

  it("make a router's middleware that needs the engine, and scope's services combined", () => {
    const free = HttpIdempotency.layerRouter({ scope: "global" })
    expectTypeOf(free.layer).toEqualTypeOf<
      Layer.Layer<HttpLayerRouter.Request<"Requires", IdempotentExecution>, never, Idempotency>
    >()
    const needy = HttpIdempotency.layerRouter({ scope: byTenant })
    expectTypeOf(
      needy.layer
    ).toEqualTypeOf<"Need to .combine(middleware) that satisfy the missing request dependencies">()
  })

  it("refuse what cannot be", () => {
    // @ts-expect-error: whose key it is must be said
    HttpIdempotency.middleware({ operation: "op" })
    // @ts-expect-error: only "global" is a word
    HttpIdempotency.middleware({ scope: "tenant" })
    // @ts-expect-error: at-most-once cannot proceed without the store
    HttpIdempotency.middleware({ scope: "global", guarantee: "at-most-once", onStorageFailure: "proceed" })
    // @ts-expect-error: a misspelt option
    HttpIdempotency.middleware({ scope: "global", requird: true })
    // @ts-expect-error: a misspelt option
    HttpIdempotency.layerRouter({ scope: "global", requird: true })
    HttpIdempotency.middleware({ scope: "global", guarantee: "at-most-once", onStorageFailure: "fail" })
    HttpIdempotency.middleware({ scope: "global", problemType: (code: HttpIdempotencyProblemCode) => code })
  })
})
