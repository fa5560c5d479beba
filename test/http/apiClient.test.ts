/** What an endpoint's declaration makes of the derived client, and of the OpenAPI document. */
import * as HttpApi from "@effect/platform/HttpApi"
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as OpenApi from "@effect/platform/OpenApi"
import { describe, expect, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { HttpIdempotency } from "../../src/http/HttpIdempotency.js"
import { HttpIdempotencyProblem } from "../../src/http/HttpIdempotencyProblem.js"
import type { Idempotency } from "../../src/Idempotency.js"
import { type ProblemCode, problemResponse } from "../../src/internal/http/problem.js"
import { bodyOf } from "../../src/internal/http/responseBody.js"
import { layerMemory } from "../../src/layerMemory.js"
import { singleProcess } from "../support/engineProcess.js"
import { unavailable } from "../support/faultyRepository.js"
import { serveApi } from "./apiMounts.js"
import { expectProblem, freshKey, problems, until } from "./fixture.js"
import { type Sent, send } from "./rawClient.js"
import { Duplicate, receipt, Shop, startShop, tenant } from "./shop.js"

const codes: ReadonlyArray<ProblemCode> = HttpIdempotencyProblem.fields.code.literals

describe("problems", () => {
  it("as servers send them are problems as clients read them", () => {
    const decode = Schema.decodeUnknownSync(Schema.parseJson(HttpIdempotencyProblem.response))
    const encode = Schema.encodeSync(Schema.parseJson(HttpIdempotencyProblem.response))
    expect(codes).toHaveLength(9)
    for (const code of codes) {
      const response = problemResponse({ code }, () => "about:blank")
      const body = bodyOf(response)
      const text = new TextDecoder().decode(body._tag === "Known" ? body.bytes : undefined)
      const problem = decode(text)
      expect(problem).toBeInstanceOf(HttpIdempotencyProblem)
      expect([problem.code, problem.status]).toEqual([code, response.status])
      expect(problem.message).toBe(`${problem.title}: ${problem.detail}`)
      expect(JSON.parse(encode(problem))).toEqual(JSON.parse(text))
    }
  })

  it("of one status are not those of another", () => {
    const response = problemResponse({ code: "idempotency_key_reused" }, () => "about:blank")
    const body = bodyOf(response)
    const json = JSON.parse(new TextDecoder().decode(body._tag === "Known" ? body.bytes : undefined))
    const decode = Schema.decodeUnknownEither(HttpIdempotencyProblem.response)
    expect(Either.isRight(decode(json))).toBe(true)
    for (const wrong of [{ status: 409 }, { code: "idempotency_outcome_unknown" }, { code: "other" }, { title: 1 }]) {
      expect(Either.isLeft(decode({ ...json, ...wrong }))).toBe(true)
    }
  })
})

layer(layerMemory, { excludeTestServices: true })("the derived client", (it) => {
  it.scoped("gets results and replays alike", () =>
    Effect.gen(function* () {
      const shop = yield* startShop()
      const client = yield* shop.client(freshKey())
      const first = yield* client.payments.charge({ payload: { amount: 5 } })
      expect(first).toEqual({ run: 1, amount: 5, attempt: 1 })
      const [second, response] = yield* client.payments.charge({ payload: { amount: 5 }, withResponse: true })
      expect(second).toEqual(first)
      expect(response.headers["idempotent-replayed"]).toBe("true")
      expect(shop.runs()).toBe(1)
    }).pipe(Effect.orDie)
  )

  it.scoped("fails with problems, and with the errors that share their statuses", () =>
    Effect.gen(function* () {
      const finish = Effect.unsafeMakeLatch(false)
      const shop = yield* startShop(
        (run, amount) =>
          amount === 1
            ? Effect.fail(new Duplicate())
            : amount === 2
              ? Effect.zipRight(finish.await, receipt(run, amount))
              : receipt(run, amount),
        { scope: tenant, maxRequestBytes: 20 }
      )
      const charge = (key: string | undefined, amount: number) =>
        Effect.flatMap(shop.client(key), (client) => Effect.flip(client.payments.charge({ payload: { amount } })))
      const problem = (error: unknown) =>
        error instanceof HttpIdempotencyProblem ? [error.status, error.code, error.retryable] : error

      expect(problem(yield* charge(undefined, 5))).toEqual([400, "idempotency_key_missing", false])
      expect(problem(yield* charge("a, b", 5))).toEqual([400, "idempotency_key_invalid", false])
      expect(problem(yield* charge(freshKey(), 1e15))).toEqual([413, "idempotency_request_too_large", false])
      expect(yield* charge(freshKey(), 1)).toEqual(new Duplicate())

      const key = freshKey()
      const client = yield* shop.client(key)
      const running = yield* Effect.fork(client.payments.charge({ payload: { amount: 2 } }))
      yield* until(() => shop.runs() === 2)
      expect(problem(yield* charge(key, 2))).toEqual([409, "idempotency_request_in_flight", true])
      expect(problem(yield* charge(key, 3))).toEqual([422, "idempotency_key_reused", false])
      yield* finish.open
      yield* running
      expect(yield* client.payments.charge({ payload: { amount: 2 } })).toEqual({ run: 2, amount: 2, attempt: 1 })
    }).pipe(Effect.orDie)
  )
})

describe("the derived client, without the store", () => {
  it.scopedLive("fails with the problem", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess({ storageTimeout: "150 millis" })
      const shop = yield* process.run(startShop(receipt, { scope: tenant, onStorageFailure: "fail" }))
      yield* process.faults.plan("all", unavailable)
      const client = yield* shop.client(freshKey())
      const refused = client.payments.charge({ payload: { amount: 5 } }).pipe(
        Effect.as("charged"),
        Effect.catchTag("HttpIdempotencyProblem", ({ code, status }) => Effect.succeed(`${status} ${code}`))
      )
      expect(yield* refused).toBe("503 idempotency_storage_unavailable")
    }).pipe(Effect.orDie)
  )
})

const document = OpenApi.fromApi(Shop)
const operation = (path: string) => document.paths[path]?.post

const problemContent = (status: number) => ({
  "application/problem+json": { schema: { $ref: `#/components/schemas/IdempotencyProblem${status}` } }
})

describe("the OpenAPI document", () => {
  it("has the header", () => {
    expect(operation("/charges")?.parameters).toEqual([
      {
        name: "Idempotency-Key",
        in: "header",
        required: true,
        description: expect.stringContaining("same key"),
        schema: { type: "string", minLength: 1 }
      }
    ])
    expect(
      operation("/charges/{id}/refunds")?.parameters.map(({ in: place, name, required }) => ({ name, place, required }))
    ).toEqual([
      { name: "id", place: "path", required: true },
      { name: "X-Request-Key", place: "header", required: false }
    ])
  })

  it("has the problems, beside what shares their statuses", () => {
    const responses = operation("/charges")?.responses
    expect(Object.keys(responses ?? {}).map(Number)).toEqual([201, 400, 401, 402, 403, 409, 413, 422, 503])
    expect(responses?.[400]?.content).toEqual({
      "application/json": { schema: { $ref: "#/components/schemas/HttpApiDecodeError" } },
      ...problemContent(400)
    })
    expect(responses?.[409]?.content).toEqual({
      "application/json": { schema: { $ref: "#/components/schemas/Duplicate" } },
      ...problemContent(409)
    })
    for (const status of [413, 422, 503]) expect(responses?.[status]?.content).toEqual(problemContent(status))
    for (const status of [409, 503]) expect(responses?.[status]).toHaveProperty("headers.Retry-After.schema.minimum", 1)
    expect(responses?.[413]?.description).toBe("The request is too large to be protected")
  })

  it("has the problems' schemas", () => {
    expect(document.components.schemas["IdempotencyProblem409"]).toEqual({
      type: "object",
      description: "A request with this Idempotency-Key is outstanding, or its outcome cannot be told",
      required: ["type", "title", "detail", "retryable", "status", "code"],
      properties: {
        type: { type: "string", description: "URI of the problem's documentation, or about:blank" },
        title: { type: "string" },
        detail: { type: "string" },
        retryable: { type: "boolean", description: expect.stringContaining("sent again") },
        status: { type: "number", enum: [409] },
        code: {
          type: "string",
          enum: ["idempotency_request_in_flight", "idempotency_outcome_unknown", "idempotency_result_not_replayable"]
        }
      },
      additionalProperties: false
    })
  })

  it("has nothing of the sort for other endpoints", () => {
    expect(operation("/notes")?.parameters).toEqual([])
    expect(Object.keys(operation("/notes")?.responses ?? {})).toEqual(["200", "400", "401", "403"])
    expect(document.paths["/charges"]?.get?.parameters).toEqual([])
  })

  it("keeps a header that is declared, and what others make of the document", () => {
    const put = HttpApiEndpoint.put("put", "/put")
      .setHeaders(Schema.Struct({ "idempotency-key": Schema.UUID }))
      .annotate(OpenApi.Transform, (spec) => ({ ...spec, "x-own": Object.keys(spec["responses"]) }))
      .pipe(HttpIdempotency.endpoint({ required: true }))
    const spec = OpenApi.fromApi(HttpApi.make("own").add(HttpApiGroup.make("own").add(put)))
    const own = spec.paths["/put"]?.put
    expect(own?.parameters.map(({ name }) => name)).toEqual(["idempotency-key"])
    expect(own).toHaveProperty("x-own", ["204", "400", "409", "413", "422", "503"])
  })
})

describe("a group", () => {
  const group = HttpApiGroup.make("group")
    .add(HttpApiEndpoint.get("read", "/g").addSuccess(HttpApiSchema.Text()))
    .add(HttpApiEndpoint.post("create", "/g").addSuccess(HttpApiSchema.Text()))
    .add(HttpApiEndpoint.patch("change", "/g").pipe(HttpIdempotency.endpoint({ header: "X-Key" })))
    .add(HttpApiEndpoint.del("remove", "/g"))
    .pipe(HttpIdempotency.group({ required: true }))
    .add(HttpApiEndpoint.post("later", "/later"))

  it("declares its POST and PATCH endpoints that do not speak for themselves, so far", () => {
    const spec = OpenApi.fromApi(HttpApi.make("api").add(group))
    const headers = Object.entries(spec.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, { parameters }]) => [
        `${method} ${path}`,
        parameters.map(({ name, required }) => `${name} ${required}`)
      ])
    )
    expect(Object.fromEntries(headers)).toEqual({
      "get /g": [],
      "post /g": ["Idempotency-Key true"],
      "patch /g": ["X-Key false"],
      "delete /g": [],
      "post /later": []
    })
  })

  layer(layerMemory, { excludeTestServices: true })((it) => {
    it.scoped("has them protected, and no other", () =>
      Effect.gen(function* () {
        let runs = 0
        const run = Effect.sync(() => `${++runs}`)
        const api = HttpApi.make("api").add(group)
        const routes = HttpApiBuilder.group(api, "group", (handlers) =>
          handlers
            .handle("read", () => run)
            .handle("create", () => run)
            .handle("change", () => Effect.asVoid(run))
            .handle("remove", () => Effect.asVoid(run))
            .handle("later", () => Effect.asVoid(run))
            .pipe(HttpIdempotency.handlers({ scope: "global" }))
        )
        const context = yield* Effect.context<Idempotency>()
        const url = yield* serveApi(
          HttpApiBuilder.api(api).pipe(Layer.provide(routes), Layer.provide(Layer.succeedContext(context)))
        )
        const key = freshKey()
        const twice = (sent: Sent) =>
          Effect.gen(function* () {
            const before = runs
            const first = yield* send(url, { key, ...sent })
            const second = yield* send(url, { key, ...sent })
            return [first.status, second.headers["idempotent-replayed"], runs - before]
          })
        expect(yield* twice({ path: "/g" })).toEqual([200, "true", 1])
        expect(yield* twice({ path: "/g", method: "PATCH", headers: { "x-key": key } })).toEqual([204, "true", 1])
        expect(yield* twice({ path: "/g", method: "GET" })).toEqual([200, undefined, 2])
        expect(yield* twice({ path: "/g", method: "DELETE" })).toEqual([204, undefined, 2])
        expect(yield* twice({ path: "/later" })).toEqual([204, undefined, 2])
        expectProblem(yield* send(url, { path: "/g" }), problems.missing)
      })
    )
  })
})
