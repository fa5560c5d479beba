/** The client over real sockets: which requests get a key, and that it stays the same. */
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import * as HttpBody from "@effect/platform/HttpBody"
import * as HttpClient from "@effect/platform/HttpClient"
import type * as HttpClientError from "@effect/platform/HttpClientError"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import { describe, expect, expectTypeOf, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { HttpIdempotencyClient } from "../../src/http/HttpIdempotencyClient.js"
import { atOnce, connect, distinct, once } from "../support/keyedClient.js"
import type { Answer } from "../support/scriptedServer.js"

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

const clients: ReadonlyArray<readonly [name: string, layer: Layer.Layer<HttpClient.HttpClient>]> = [
  ["node:http", NodeHttpClient.layer],
  ["fetch", FetchHttpClient.layer]
]

for (const [name, layer] of clients) {
  it.layer(layer)(`over ${name}`, (it) => {
    it.scoped("every unsafe request gets a key of its own, as a structured-field string", () =>
      Effect.gen(function* () {
        const { server, client } = yield* connect()
        yield* client.post("/a?b=1", { body: HttpBody.unsafeJson({ amount: 1 }), headers: { "x-trace": "t" } })
        yield* client.post("/a?b=1", { body: HttpBody.unsafeJson({ amount: 1 }) })
        yield* client.put("/a")
        yield* client.patch("/a")
        yield* client.del("/a")
        expect(server.received.map(({ method }) => method)).toEqual(["POST", "POST", "PUT", "PATCH", "DELETE"])
        for (const key of server.keys()) expect(key).toMatch(uuid)
        expect(distinct(server.keys())).toBe(5)
        const [first] = server.received
        expect(first).toMatchObject({ url: "/a?b=1", headers: { "x-trace": "t", "content-type": "application/json" } })
        expect(first?.body.toString()).toBe('{"amount":1}')
      })
    )

    it.scoped("safe requests get none, and are not sent again", () =>
      Effect.gen(function* () {
        const { server, client } = yield* connect()
        server.answer({ status: 503 })
        expect((yield* client.get("/")).status).toBe(503)
        yield* client.head("/")
        yield* client.options("/")
        expect(server.received.map(({ rawKey }) => rawKey)).toEqual([undefined, undefined, undefined])
      })
    )

    const transient: ReadonlyArray<Answer> = [
      "drop",
      { status: 500 },
      { status: 503 },
      { status: 429 },
      { status: 409, headers: { "retry-after": "0" } }
    ]
    it.scoped("after a dropped reply, 5xx, 429 and 409 with Retry-After the same key is sent again", () =>
      Effect.gen(function* () {
        const { server, client } = yield* connect({ ...atOnce, maxRetries: transient.length })
        server.answer(...transient)
        const response = yield* client.post("/", { body: HttpBody.text("once") })
        expect(yield* response.text).toBe("answer 200")
        expect(server.received).toHaveLength(transient.length + 1)
        expect(distinct(server.keys())).toBe(1)
        for (const { body } of server.received) expect(body.toString()).toBe("once")
      })
    )

    it.scoped("a form is sent as the same bytes each time", () =>
      Effect.gen(function* () {
        const { server, client } = yield* connect()
        server.answer("drop", { status: 503 })
        const form = new FormData()
        form.append("note", "grüße")
        form.append("file", new File([new Uint8Array([0, 255, 13, 10])], "a.bin", { type: "image/png" }))
        const send = client.post("/", { body: HttpBody.formData(form) })
        yield* send
        yield* send
        expect(server.received).toHaveLength(4)
        expect(distinct(server.keys())).toBe(1)
        const types = server.received.map(({ headers }) => headers["content-type"] ?? "")
        expect(distinct(types)).toBe(1)
        expect(distinct(server.received.map(({ body }) => body.toString("latin1")))).toBe(1)
        const sent = new Response(server.received[0]?.body, { headers: { "content-type": types[0] ?? "" } })
        const read = yield* Effect.promise(() => sent.formData())
        expect(read.get("note")).toBe("grüße")
        const file = read.get("file")
        if (!(file instanceof File)) throw new Error("the file is missing")
        expect([file.name, file.type]).toEqual(["a.bin", "image/png"])
        expect(new Uint8Array(yield* Effect.promise(() => file.arrayBuffer()))).toEqual(
          new Uint8Array([0, 255, 13, 10])
        )
      })
    )
  })
}

it.layer(NodeHttpClient.layer)("HttpIdempotencyClient", (it) => {
  describe("keys", () => {
    it.scoped("a key that the request has stays, and is sent again", () =>
      Effect.gen(function* () {
        const { server, client } = yield* connect()
        server.answer({ status: 503 })
        yield* client.post("/", { headers: { "Idempotency-Key": "mine" } })
        expect(server.received.map(({ rawKey }) => rawKey)).toEqual(["mine", "mine"])
      })
    )

    it.scoped("the header, the methods and the key are the caller's to choose", () =>
      Effect.gen(function* () {
        let calls = 0
        const { server, plain } = yield* connect()
        server.answer("drop")
        const client = HttpIdempotencyClient.withIdempotencyKey(plain, {
          ...atOnce,
          header: "X-Request-Key",
          methods: ["POST"],
          key: ({ url }) => `${url} "${++calls}"`
        })
        const send = client.post("/order")
        yield* send
        yield* send
        yield* client.put("/order")
        expect(server.received.map(({ headers }) => headers["x-request-key"])).toEqual([
          ...Array.from({ length: 3 }, () => '"/order \\"1\\""'),
          undefined
        ])
        expect(server.received.every(({ rawKey }) => rawKey === undefined)).toBe(true)
        expect(calls).toBe(1)
      })
    )

    it.scoped("a key that no header can hold is a defect, and nothing is sent", () =>
      Effect.gen(function* () {
        const { server, client } = yield* connect({ key: () => "é" })
        const exit = yield* Effect.exit(client.post("/"))
        const defect = Exit.isFailure(exit) ? Cause.dieOption(exit.cause) : Option.none()
        expect(defect).toMatchObject(Option.some({ _tag: "IdempotencyValidationError" }))
        expect(server.received).toHaveLength(0)
      })
    )

    it("keeps the client's errors and requirements", () => {
      type Client = HttpClient.HttpClient.With<HttpClientError.HttpClientError | "mine", Layer.Layer<never>>
      const withKey = HttpIdempotencyClient.withIdempotencyKey
      expectTypeOf((self: Client) => withKey(self)).returns.toEqualTypeOf<Client>()
      expectTypeOf((self: Client) => self.pipe(withKey({ maxRetries: 1 }))).returns.toEqualTypeOf<Client>()
      expectTypeOf((self: HttpClient.HttpClient) => self.pipe(withKey())).returns.toExtend<HttpClient.HttpClient>()
    })
  })

  describe("the caller's own retries", () => {
    it.scoped("around the effect, and around the client, send the same key", () =>
      Effect.gen(function* () {
        const { server, client } = yield* connect(once)
        server.answer("drop", "drop")
        yield* Effect.retry(client.post("/"), { times: 2 })
        server.answer("drop")
        yield* client.pipe(HttpClient.retry({ times: 1 })).post("/")
        const [first, second] = [server.keys().slice(0, 3), server.keys().slice(3)]
        expect([distinct(first), distinct(second), distinct(server.keys())]).toEqual([1, 1, 2])
      })
    )

    it.scoped("after an answer that was cut short, send the same key", () =>
      Effect.gen(function* () {
        const { server, client } = yield* connect(once)
        server.answer("truncated")
        const text = client.post("/").pipe(Effect.flatMap((response) => response.text))
        expect(yield* Effect.retry(text, { times: 1 })).toBe("answer 200")
        expect(server.received).toHaveLength(2)
        expect(distinct(server.keys())).toBe(1)
      })
    )

    it.scoped("after an interruption, send the same key; what changes the request after us does not matter", () =>
      Effect.gen(function* () {
        const { server, client } = yield* connect(once)
        server.answer("hang")
        let token = 0
        const send = client
          .pipe(HttpClient.mapRequest((request) => HttpClientRequest.bearerToken(request, `token-${++token}`)))
          .post("/")
        const fiber = yield* Effect.fork(send)
        while (server.received.length === 0)
          yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
        yield* Fiber.interrupt(fiber)
        yield* send
        expect(server.received.map(({ headers }) => headers.authorization)).toEqual([
          "Bearer token-1",
          "Bearer token-2"
        ])
        expect(distinct(server.keys())).toBe(1)
      })
    )

    it.scoped("which call again send a new key, and so does a repetition that calls again", () =>
      Effect.gen(function* () {
        const { server, client } = yield* connect(once)
        const request = HttpClientRequest.post("/")
        yield* Effect.repeatN(
          Effect.suspend(() => client.execute(request)),
          2
        )
        expect(distinct(server.keys())).toBe(3)
        yield* Effect.repeatN(client.execute(request), 2)
        expect([server.received.length, distinct(server.keys())]).toEqual([6, 4])
      })
    )
  })
})
