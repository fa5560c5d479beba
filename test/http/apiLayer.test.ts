/** The layer around a whole `HttpApi`: beside what the suites of all mounts say of it. */
import * as HttpApi from "@effect/platform/HttpApi"
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import { describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { HttpIdempotency } from "../../src/http/HttpIdempotency.js"
import { HttpIdempotencyProblem } from "../../src/http/HttpIdempotencyProblem.js"
import { Idempotency } from "../../src/Idempotency.js"
import { IdempotencyKey } from "../../src/IdempotencyKey.js"
import { identifiersOf, singleProcess } from "../support/engineProcess.js"
import { unavailable } from "../support/faultyRepository.js"
import { serveApi } from "./apiMounts.js"
import { expectProblem, expectReplay, freshKey, problems, until } from "./fixture.js"
import { cut, type Sent, send, sendAndHold } from "./rawClient.js"

class Tenants extends Context.Tag("test/Tenants")<Tenants, { readonly of: (name: string) => string | undefined }>() {}
class Stranger extends Schema.TaggedError<Stranger>()("Stranger", {}) {}
class Refused extends Schema.TaggedError<Refused>()("Refused", {}) {}

const Site = HttpApi.make("site")
  .add(
    HttpApiGroup.make("orders")
      .add(
        HttpApiEndpoint.post("place", "/orders")
          .setPayload(Schema.Struct({ item: Schema.String }))
          .addSuccess(Schema.Struct({ run: Schema.Int }), { status: 201 })
          .addError(Refused, { status: 422 })
      )
      .add(
        HttpApiEndpoint.patch("amend")`/orders/${HttpApiSchema.param("id", Schema.String)}`.addSuccess(
          Schema.Struct({ run: Schema.Int, id: Schema.String })
        )
      )
      .prefix("/v1")
  )
  .addError(Stranger, { status: 401 })
  .addError(HttpIdempotencyProblem.response)

const start = (
  place: (run: number) => Effect.Effect<{ readonly run: number }, Refused> = (run) => Effect.succeed({ run })
) =>
  Effect.gen(function* () {
    const { process, store } = yield* singleProcess({ storageTimeout: "150 millis", breakerThreshold: 1000 })
    let runs = 0
    const engine = yield* process.run(Effect.map(Idempotency, (service) => Layer.succeed(Idempotency, service)))
    const orders = HttpApiBuilder.group(Site, "orders", (handlers) =>
      handlers
        .handle("place", () => Effect.suspend(() => place(++runs)))
        .handle("amend", ({ path }) => Effect.sync(() => ({ run: ++runs, id: path.id })))
    )
    const around = HttpIdempotency.layerApi(Site, {
      scope: ({ headers }) =>
        Effect.flatMap(Tenants, (tenants) => {
          const tenant = tenants.of(headers["x-tenant"] ?? "")
          return tenant === undefined ? Effect.fail(new Stranger()) : Effect.succeed(tenant)
        }),
      onResponse: ({ status }) => (status === 400 || status === 404 ? "release" : "replay"),
      required: true
    }).pipe(
      Layer.provide(Layer.succeed(Tenants, { of: (name) => (name === "tenant-1" ? name : undefined) })),
      Layer.provide(engine)
    )
    const url = yield* serveApi(HttpApiBuilder.api(Site).pipe(Layer.provide(orders)), around)
    return {
      url,
      process,
      store,
      runs: () => runs,
      send: (sent: Sent) =>
        send(url, { path: "/v1/orders", body: '{"item":"a"}', headers: { "x-tenant": "tenant-1" }, ...sent })
    }
  })

/** The record of a key of the tenant, by the method and the pattern. */
const recordOf = (key: string, method: string, pattern: string) =>
  identifiersOf({
    operation: `http.${IdempotencyKey.fromUntrusted(method, pattern)}`,
    key: IdempotencyKey.fromUntrusted("tenant-1", key)
  })

describe("the layer of an API", () => {
  it.scopedLive("takes the operation from the endpoint that matches", () =>
    Effect.gen(function* () {
      const site = yield* start()
      const key = freshKey()
      const placed = yield* site.send({ key })
      expect([placed.status, placed.text]).toEqual([201, '{"run":1}'])
      expect(yield* site.store.stateOf(recordOf(key, "POST", "/v1/orders"))).toBe("Completed")
      const amended = yield* site.send({ key, method: "PATCH", path: "/v1/orders/7?x=1" })
      expect(amended.text).toBe('{"run":2,"id":"7"}')
      expect(yield* site.store.stateOf(recordOf(key, "PATCH", "/v1/orders/:id"))).toBe("Completed")
      expectReplay(yield* site.send({ key }), placed)
      expectReplay(yield* site.send({ key, method: "PATCH", path: "/v1/orders/7?x=1" }), amended)
      expectProblem(yield* site.send({ key, method: "PATCH", path: "/v1/orders/8" }), problems.reused)
      expectProblem(yield* site.send({}), problems.missing)
    })
  )

  it.scopedLive("leaves what is no endpoint to others", () =>
    Effect.gen(function* () {
      const site = yield* start()
      for (const sent of [{ path: "/v1/nowhere" }, { path: "/orders" }, { method: "GET" }, { path: "/v1/orders/7" }]) {
        const reply = yield* site.send({ key: freshKey(), ...sent })
        expect([reply.status, reply.text]).toEqual([404, ""])
      }
      expect(site.process.faults.calls()).toEqual([])
    })
  )

  it.scopedLive("answers what scope fails with as the API declares it, and claims nothing", () =>
    Effect.gen(function* () {
      const site = yield* start()
      const refused = yield* site.send({ key: freshKey(), headers: {} })
      expect([refused.status, JSON.parse(refused.text)]).toEqual([401, { _tag: "Stranger" }])
      expect(site.process.faults.calls()).toEqual([])
    })
  )

  it.scopedLive("releases the key of a request that does not decode", () =>
    Effect.gen(function* () {
      const site = yield* start()
      const key = freshKey()
      const refused = yield* site.send({ key, body: "{}" })
      expect([refused.status, JSON.parse(refused.text)._tag]).toEqual([400, "HttpApiDecodeError"])
      expect(yield* site.store.stateOf(recordOf(key, "POST", "/v1/orders"))).not.toBe("Completed")
      expect((yield* site.send({ key })).status).toBe(201)
    })
  )

  it.scopedLive("records a declared error as the API encodes it, though its client has left", () =>
    Effect.gen(function* () {
      const finish = Effect.unsafeMakeLatch(false)
      const site = yield* start(() => Effect.zipRight(finish.await, Effect.fail(new Refused())))
      const key = freshKey()
      const outgoing = yield* sendAndHold(site.url, {
        path: "/v1/orders",
        body: '{"item":"a"}',
        headers: { "x-tenant": "tenant-1" },
        key
      })
      yield* until(() => site.runs() === 1)
      yield* cut(outgoing)
      yield* Effect.sleep("30 millis")
      yield* finish.open
      yield* until(() => site.process.underWay().owners === 0)
      const replay = yield* site.send({ key })
      expect([replay.status, replay.text]).toEqual([422, '{"_tag":"Refused"}'])
      expect(replay.headers["idempotent-replayed"]).toBe("true")
      expect(site.runs()).toBe(1)
    })
  )

  it.scopedLive("handles requests without the store", () =>
    Effect.gen(function* () {
      const site = yield* start()
      yield* site.process.faults.plan("all", unavailable)
      expect((yield* site.send({ key: freshKey() })).status).toBe(201)
    })
  )
})
