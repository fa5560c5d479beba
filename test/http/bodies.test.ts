/** What requests and responses are made of, where no server can be made to send it. */
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as HttpBody from "@effect/platform/HttpBody"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import * as HttpServerError from "@effect/platform/HttpServerError"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import { sha256 } from "../../src/internal/hash.js"
import { failureEncoder, responseEncoder } from "../../src/internal/http/apiResponse.js"
import { targetOf } from "../../src/internal/http/fingerprint.js"
import { prepareBody } from "../../src/internal/http/requestBody.js"
import { bodyOf } from "../../src/internal/http/responseBody.js"
import { retryAfterOf } from "../../src/internal/http/retryAfter.js"

const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes)

/** All that a response sends. */
const sent = (response: HttpServerResponse.HttpServerResponse) =>
  Effect.gen(function* () {
    const body = bodyOf(response)
    const contentType = body.response.headers["content-type"]
    if (body._tag === "Known") return { contentType, text: text(body.bytes) }
    const chunks = Chunk.toReadonlyArray(yield* Stream.runCollect(body.stream))
    return { contentType, text: text(Buffer.concat(chunks)) }
  })

describe("a value as a response", () => {
  const answer = <A, I>(schema: Schema.Schema<A, I>, value: unknown) => responseEncoder(schema.ast)(value)

  it.effect("is empty where there is nothing to say", () =>
    Effect.gen(function* () {
      const response = yield* answer(HttpApiSchema.NoContent, undefined)
      expect(response.status).toBe(204)
      expect(response.body._tag).toBe("Empty")
    })
  )

  it.effect("is of the kind that its schema says", () =>
    Effect.gen(function* () {
      const bytes = yield* answer(HttpApiSchema.Uint8Array(), Buffer.from("bytes"))
      expect(yield* sent(bytes)).toMatchObject({ text: "bytes" })
      expect(bytes.headers["content-type"] ?? bytes.body.contentType).toBe("application/octet-stream")

      const plain = yield* answer(HttpApiSchema.Text(), "a text")
      expect(yield* sent(plain)).toMatchObject({ text: "a text" })
      expect(plain.headers["content-type"] ?? plain.body.contentType).toBe("text/plain")

      const form = Schema.Struct({ a: Schema.String, b: Schema.NumberFromString }).pipe(
        HttpApiSchema.withEncoding({ kind: "UrlParams" })
      )
      const params = yield* answer(form, { a: "x y", b: 2 })
      expect(yield* sent(params)).toMatchObject({ text: "a=x+y&b=2" })
    })
  )

  it.effect("that its schema refuses is a defect", () =>
    Effect.gen(function* () {
      const cause = yield* Effect.flip(Effect.sandbox(answer(Schema.String, 1)))
      expect(Cause.isDie(cause)).toBe(true)
    })
  )
})

describe("a failure as a response", () => {
  class Gone extends Schema.TaggedError<Gone>()("Gone", {}, HttpApiSchema.annotations({ status: 410 })) {}
  class Plain extends Schema.TaggedError<Plain>()("Plain", {}) {}
  const encode = failureEncoder([Schema.Literal("known").pipe(HttpApiSchema.withEncoding({ kind: "Text" })).ast])

  it.effect("is by the API's schemas, by its own, or by what it says of itself", () =>
    Effect.gen(function* () {
      expect((yield* encode(Cause.fail("known")))?.status).toBe(500)
      expect((yield* encode(Cause.fail(new Gone())))?.status).toBe(410)
      const request = HttpServerRequest.fromWeb(new Request("http://localhost/"))
      const unreadable = new HttpServerError.RequestError({ request, reason: "Decode" })
      expect((yield* encode(Cause.fail(unreadable)))?.status).toBe(400)
    })
  )

  it.effect("is none where nobody can tell", () =>
    Effect.gen(function* () {
      for (const error of [new Plain(), new Error("x"), "text", 1, null, undefined]) {
        expect(yield* encode(Cause.fail(error))).toBe(undefined)
      }
    })
  )
})

describe("the body of a request", () => {
  const hashOf = (body: HttpBody.HttpBody) => Effect.map(prepareBody(body), ({ hash }) => hash)

  it.effect("is told by its bytes, whatever holds them", () =>
    Effect.gen(function* () {
      const bytes = new TextEncoder().encode("a=1")
      const padded = new TextEncoder().encode("--a=1--")
      const all = ["a=1", bytes, bytes.buffer, new DataView(padded.buffer, 2, 3), new URLSearchParams({ a: "1" })]
      for (const body of all) expect(yield* hashOf(HttpBody.raw(body))).toBe(sha256("a=1"))
      expect(yield* hashOf(HttpBody.uint8Array(bytes))).toBe(sha256("a=1"))
      expect(yield* hashOf(HttpBody.empty)).toBe(sha256(""))
    })
  )

  it.effect("is not known before it is sent where it comes bit by bit, or is of no known kind", () =>
    Effect.gen(function* () {
      expect(yield* hashOf(HttpBody.raw(new ReadableStream()))).toBe(undefined)
      expect(yield* hashOf(HttpBody.stream(Stream.empty))).toBe(undefined)
    })
  )

  it.effect("is a form with one boundary, each time, and another for another content", () =>
    Effect.gen(function* () {
      const form = (value: string) => {
        const data = new FormData()
        data.append("field", value)
        return prepareBody(HttpBody.formData(data))
      }
      const first = yield* form("1")
      expect(first.hash).not.toBe(undefined)
      expect(yield* form("1")).toEqual(first)
      expect((yield* form("2")).body.contentType).not.toBe(first.body.contentType)
    })
  )
})

describe("the body of a response", () => {
  const raw = (body: unknown) => sent(HttpServerResponse.raw(body))

  it.effect("is read from whatever holds it", () =>
    Effect.gen(function* () {
      const bytes = new TextEncoder().encode("text")
      async function* chunks() {
        yield "te"
        yield new TextEncoder().encode("xt")
      }
      const all = ["text", bytes, bytes.buffer, new Blob(["text"]), new Response("text"), chunks()]
      for (const body of all) expect(yield* raw(body)).toMatchObject({ text: "text" })
      expect(yield* raw(new URLSearchParams({ a: "b c" }))).toMatchObject({
        contentType: "application/x-www-form-urlencoded;charset=UTF-8",
        text: "a=b+c"
      })
      expect(yield* raw(new Blob(["text"], { type: "text/x" }))).toMatchObject({ contentType: "text/x" })
      expect(yield* raw("text")).toMatchObject({ contentType: "text/plain;charset=UTF-8" })
      expect(yield* sent(HttpServerResponse.raw("{}", { contentType: "text/x" }))).toMatchObject({
        contentType: "text/x"
      })
    })
  )

  it.effect("may be nothing", () =>
    Effect.gen(function* () {
      for (const body of [null, undefined, new Response(null)]) expect((yield* raw(body)).text).toBe("")
    })
  )

  it.effect("is a defect if it cannot be read", () =>
    Effect.gen(function* () {
      const cause = yield* Effect.flip(Effect.sandbox(raw({ not: "a body" })))
      expect(Cause.pretty(cause)).toContain("a response has a raw body that cannot be read")
    })
  )
})

describe("Retry-After", () => {
  const retryAfter = (headers: Record<string, string>) =>
    retryAfterOf(
      HttpClientResponse.fromWeb(HttpClientRequest.get("http://localhost/"), new Response(null, { headers }))
    )

  it.effect("counts from the response's Date, and from now where it has none that can be read", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(Date.UTC(2026, 0, 1, 0, 0, 0))
      const at = "Thu, 01 Jan 2026 00:00:30 GMT"
      expect(yield* retryAfter({ "retry-after": at })).toEqual(Duration.seconds(30))
      expect(yield* retryAfter({ "retry-after": at, date: "yesterday" })).toEqual(Duration.seconds(30))
      expect(yield* retryAfter({ "retry-after": at, date: "Thu, 01 Jan 2026 00:00:20 GMT" })).toEqual(
        Duration.seconds(10)
      )
    })
  )
})

describe("the target of a request", () => {
  const target = (originalUrl: string) => {
    const request = HttpServerRequest.fromWeb(new Request("http://localhost/"))
    return targetOf(Object.create(request, { originalUrl: { value: originalUrl } }))
  }

  it("is the path with its query", () => {
    expect(target("/a?b=c")).toBe("/a?b=c")
    expect(target("http://localhost/a?b=c")).toBe("/a?b=c")
    expect(target("http://localhost")).toBe("/")
  })
})
