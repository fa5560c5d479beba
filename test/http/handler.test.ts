/** What a handler finds, and what of it reaches the client: on a bare app and on routers, over a socket. */
import * as FileSystem from "@effect/platform/FileSystem"
import * as HttpApp from "@effect/platform/HttpApp"
import * as HttpMiddleware from "@effect/platform/HttpMiddleware"
import * as HttpRouter from "@effect/platform/HttpRouter"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as NodeContext from "@effect/platform-node/NodeContext"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import { HttpIdempotency } from "../../src/http/HttpIdempotency.js"
import { IdempotentExecution } from "../../src/IdempotentExecution.js"
import { layerMemory } from "../../src/layerMemory.js"
import { withIdempotentStep } from "../../src/withIdempotentStep.js"
import { expectReplay, freshKey, settled, until } from "./fixture.js"
import { cut, send, sendAndHold, sendText } from "./rawClient.js"
import { listen } from "./support.js"

const options = { scope: "global", operation: "charges" } as const

const request = HttpServerRequest.HttpServerRequest

describe("a handler", () => {
  it.scopedLive("reads the body in every way, as often as it likes", () =>
    Effect.gen(function* () {
      const app = Effect.gen(function* () {
        const { arrayBuffer, json, modify, multipart, stream, text, urlParamsBody } = yield* request
        const kind = (yield* request).headers["x-kind"]
        const bytes = Buffer.from(yield* arrayBuffer).toString()
        const chunks = Buffer.concat([...(yield* Stream.runCollect(stream))]).toString()
        const again = yield* modify({ url: "/other" }).text
        expect([yield* text, bytes, chunks, yield* text]).toEqual([again, again, again, again])
        if (kind === "json") return HttpServerResponse.unsafeJson(yield* json)
        if (kind === "form") return HttpServerResponse.unsafeJson(Object.fromEntries(yield* urlParamsBody))
        const { field, file } = yield* multipart
        const [persisted] = Array.isArray(file) ? file : []
        const { readFileString } = yield* FileSystem.FileSystem
        const content = typeof persisted === "object" ? yield* readFileString(persisted.path) : undefined
        return HttpServerResponse.unsafeJson({ field, content })
      })
      const url = yield* listen(app.pipe(HttpIdempotency.middleware(options)))
      const post = (kind: string, body: RequestInit["body"], contentType?: string) =>
        Effect.promise(async () => {
          const headers = {
            "x-kind": kind,
            "idempotency-key": freshKey(),
            ...(contentType && { "content-type": contentType })
          }
          return (await fetch(url, { method: "POST", headers, body: body ?? null })).json()
        })
      expect(yield* post("json", '{"a":1}', "application/json")).toEqual({ a: 1 })
      expect(yield* post("json", null)).toBe(null)
      expect(yield* post("form", new URLSearchParams({ a: "1", b: "é" }))).toEqual({ a: "1", b: "é" })
      const form = new FormData()
      form.append("field", "value")
      form.append("file", new Blob(["content"]), "file.txt")
      expect(yield* post("multipart", form)).toEqual({ field: "value", content: "content" })
    }).pipe(Effect.provide([layerMemory, NodeContext.layer]))
  )

  it.scopedLive("gets the bytes of its body and no others, though they came in pieces", () =>
    Effect.gen(function* () {
      const app = Effect.gen(function* () {
        const { arrayBuffer } = yield* request
        return HttpServerResponse.text(Buffer.from(yield* arrayBuffer).toString("latin1"))
      })
      // By then all pieces are there, and Node.js joins them in a buffer that others share.
      const scope = () => Effect.as(Effect.sleep("30 millis"), "tenant")
      const url = yield* listen(app.pipe(HttpIdempotency.middleware({ ...options, scope })))
      const lines = ["POST / HTTP/1.1", "host: x", `idempotency-key: ${freshKey()}`, "connection: close"]
      const reply = yield* sendText(
        url,
        [...lines, "transfer-encoding: chunked", "", "1", "a", "1", "b", "0", "", ""].join("\r\n")
      )
      expect(reply.split("\r\n\r\n")[1]).toBe("ab")
    }).pipe(Effect.provide(layerMemory))
  )

  it.scopedLive("has an execution, with a key or without, and steps", () =>
    Effect.gen(function* () {
      let steps = 0
      let runs = 0
      const app = Effect.gen(function* () {
        const { attempt, childKey } = yield* IdempotentExecution
        const step = yield* Effect.sync(() => ++steps).pipe(withIdempotentStep("step"))
        return HttpServerResponse.text(`${attempt} ${step} ${childKey("gateway")}`, {
          status: ++runs === 1 ? 500 : 200
        })
      })
      const url = yield* listen(app.pipe(HttpIdempotency.middleware(options)))
      const key = freshKey()
      const first = (yield* send(url, { key })).text.split(" ")
      const second = (yield* send(url, { key })).text.split(" ")
      expect(first.slice(0, 2)).toEqual(["1", "1"])
      // The step is not run again, and the gateway gets the same key.
      expect(second).toEqual(["2", "1", first[2]])
      expect((yield* send(url)).text.split(" ")[2]).not.toBe(first[2])
    }).pipe(Effect.provide(layerMemory))
  )

  it.scopedLive("has its resources and its fibers until its stream has been sent", () =>
    Effect.gen(function* () {
      let isOpen = false
      const go = Effect.unsafeMakeLatch(false)
      const app = Effect.gen(function* () {
        yield* Effect.acquireRelease(
          Effect.sync(() => {
            isOpen = true
          }),
          () =>
            Effect.sync(() => {
              isOpen = false
            })
        )
        const queue = yield* Queue.unbounded<string>()
        yield* Effect.fork(
          Effect.zipRight(
            go.await,
            Effect.suspend(() => Queue.offerAll(queue, isOpen ? ["a", "b"] : [])).pipe(
              Effect.zipRight(Queue.shutdown(queue).pipe(Effect.delay("20 millis")))
            )
          )
        )
        return HttpServerResponse.stream(Stream.encodeText(Stream.fromQueue(queue)))
      })
      const url = yield* listen(app.pipe(HttpIdempotency.middleware(options)))
      const key = freshKey()
      const sending = yield* Effect.fork(send(url, { key }))
      yield* until(() => isOpen)
      yield* Effect.sleep("50 millis")
      yield* go.open
      const first = yield* sending
      expect(first.text).toBe("ab")
      yield* settled
      yield* until(() => !isOpen)
      expectReplay(yield* send(url, { key }), first)
    }).pipe(Effect.provide(layerMemory))
  )

  it.scopedLive("keeps its resources when its client goes away", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const finish = Effect.unsafeMakeLatch(false)
      const app = Effect.gen(function* () {
        yield* Effect.addFinalizer(() => Effect.sync(() => log.push("closed")))
        log.push("started")
        yield* finish.await
        log.push("finished")
        return HttpServerResponse.empty()
      })
      const url = yield* listen(app.pipe(HttpIdempotency.middleware(options)))
      const outgoing = yield* sendAndHold(url, { key: freshKey() })
      yield* until(() => log.length === 1)
      yield* cut(outgoing)
      yield* Effect.sleep("50 millis")
      yield* finish.open
      yield* until(() => log.length === 3)
      expect(log).toEqual(["started", "finished", "closed"])
      yield* settled
    }).pipe(Effect.provide(layerMemory))
  )

  it.scopedLive("is protected once, by the outermost middleware", () =>
    Effect.gen(function* () {
      let runs = 0
      const operations = new Set<string>()
      const app = Effect.gen(function* () {
        operations.add((yield* IdempotentExecution).operation)
        return HttpServerResponse.text(`${++runs}`)
      })
      const router = HttpRouter.empty.pipe(
        HttpRouter.post("/charges", app),
        HttpRouter.use(HttpIdempotency.middleware({ scope: "global" }))
      )
      const url = yield* listen(router.pipe(HttpIdempotency.middleware(options)))
      const key = freshKey()
      const first = yield* send(url, { key })
      expectReplay(yield* send(url, { key }), first)
      expect([runs, ...operations]).toEqual([1, "charges"])
    }).pipe(Effect.provide(layerMemory))
  )
})

describe("a response", () => {
  it.scopedLive("is recorded as it is in the end", () =>
    Effect.gen(function* () {
      // The hook of the handler, and what is made of the response outside.
      const app = HttpApp.appendPreResponseHandler((_, response) =>
        Effect.succeed(HttpServerResponse.setHeader(response, "etag", '"by a hook"'))
      ).pipe(Effect.as(HttpServerResponse.text("own")))
      const url = yield* listen(
        app.pipe(
          HttpIdempotency.middleware(options),
          Effect.map((response) => HttpServerResponse.setStatus(response, 202)),
          HttpMiddleware.cors()
        )
      )
      const key = freshKey()
      const first = yield* send(url, { key })
      const second = yield* send(url, { key })
      expect([first.status, first.headers["etag"]]).toEqual([202, '"by a hook"'])
      expectReplay(second, first)
      expect(second.headers["access-control-allow-origin"]).toBe("*")
    }).pipe(Effect.provide(layerMemory))
  )

  it.scopedLive("that a failure is made into is recorded if the server says so", () =>
    Effect.gen(function* () {
      let runs = 0
      const app = Effect.suspend(() => Effect.fail(`declined ${++runs}`))
      const url = yield* listen(
        app.pipe(
          HttpIdempotency.middleware({ ...options, onResponse: () => "replay" }),
          Effect.catchAll((text) => HttpServerResponse.text(text, { status: 402 }))
        )
      )
      const key = freshKey()
      const first = yield* send(url, { key })
      expect([first.status, first.text]).toEqual([402, "declined 1"])
      expectReplay(yield* send(url, { key }), first)
    }).pipe(Effect.provide(layerMemory))
  )

  it.scopedLive("with which a handler dies is a response", () =>
    Effect.gen(function* () {
      const url = yield* listen(
        Effect.die(HttpServerResponse.text("died", { status: 203 })).pipe(HttpIdempotency.middleware(options))
      )
      const key = freshKey()
      const first = yield* send(url, { key })
      expectReplay(yield* send(url, { key }), first)
    }).pipe(Effect.provide(layerMemory))
  )

  it.scopedLive("may have any kind of body", () =>
    Effect.gen(function* () {
      const form = new FormData()
      form.append("a", "1")
      const bodies: Record<string, () => HttpServerResponse.HttpServerResponse> = {
        "raw text": () => HttpServerResponse.raw("text"),
        "raw bytes": () => HttpServerResponse.raw(new Uint8Array([1, 2])),
        "a raw iterable": () => HttpServerResponse.raw(Stream.toAsyncIterable(Stream.make("a", "b"))),
        "raw nothing": () => HttpServerResponse.raw(null),
        "form data": () => HttpServerResponse.formData(form),
        "a file of the web": () => HttpServerResponse.raw(new Blob(["blob"], { type: "text/x" })),
        parameters: () => HttpServerResponse.raw(new URLSearchParams({ a: "1" })),
        "a web response": () => HttpServerResponse.raw(new Response("web", { status: 202 }))
      }
      const app = Effect.map(
        request,
        ({ headers }) => bodies[headers["x-kind"] ?? ""]?.() ?? HttpServerResponse.empty()
      )
      const url = yield* listen(app.pipe(HttpIdempotency.middleware(options)))
      for (const kind of Object.keys(bodies)) {
        const sent = { key: freshKey(), headers: { "x-kind": kind } }
        const first = yield* send(url, sent)
        expectReplay(yield* send(url, sent), first)
        if (kind !== "raw nothing") expect(first.body.length).toBeGreaterThan(0)
      }
      yield* settled
    }).pipe(Effect.provide(layerMemory))
  )

  it.scopedLive("is recorded when its client goes away while others work on it", () =>
    Effect.gen(function* () {
      const isMade = Effect.unsafeMakeLatch(false)
      const url = yield* listen(
        Effect.succeed(HttpServerResponse.text("own")).pipe(
          HttpIdempotency.middleware(options),
          Effect.tap(() => Effect.zipRight(isMade.open, Effect.interruptible(Effect.never)))
        )
      )
      const key = freshKey()
      const outgoing = yield* sendAndHold(url, { key })
      yield* isMade.await
      yield* cut(outgoing)
      yield* settled
      const fine = yield* listen(
        Effect.succeed(HttpServerResponse.text("again")).pipe(HttpIdempotency.middleware(options))
      )
      const replay = yield* send(fine, { key })
      expect([replay.text, replay.headers["idempotent-replayed"]]).toEqual(["own", "true"])
    }).pipe(Effect.provide(layerMemory))
  )

  it.scopedLive("whose stream others do not send is recorded all the same", () =>
    Effect.gen(function* () {
      const instead = HttpApp.appendPreResponseHandler(() => Effect.succeed(HttpServerResponse.text("another")))
      const app = Effect.succeed(HttpServerResponse.stream(Stream.make("a", "b").pipe(Stream.encodeText)))
      const url = yield* listen(Effect.zipLeft(app.pipe(HttpIdempotency.middleware(options)), instead))
      const key = freshKey()
      expect((yield* send(url, { key })).text).toBe("another")
      yield* settled
      const fine = yield* listen(app.pipe(HttpIdempotency.middleware(options)))
      const replay = yield* send(fine, { key })
      expect([replay.text, replay.headers["idempotent-replayed"]]).toEqual(["ab", "true"])
    }).pipe(Effect.provide(layerMemory))
  )

  it.scopedLive("that another time-out gives does not end the handler, or its key", () =>
    Effect.gen(function* () {
      const finish = Effect.unsafeMakeLatch(false)
      let runs = 0
      const app = Effect.suspend(() => {
        runs++
        return Effect.as(finish.await, HttpServerResponse.text("late"))
      })
      const url = yield* listen(
        app.pipe(
          HttpIdempotency.middleware(options),
          Effect.interruptible,
          Effect.timeout("50 millis"),
          Effect.catchTag("TimeoutException", () => HttpServerResponse.text("time-out", { status: 504 }))
        )
      )
      const key = freshKey()
      expect((yield* send(url, { key })).status).toBe(504)
      expect((yield* send(url, { key })).status).toBe(409)
      yield* finish.open
      yield* settled
      expect((yield* send(url, { key })).text).toBe("late")
      expect(runs).toBe(1)
    }).pipe(Effect.provide(layerMemory))
  )
})

describe("the middleware", () => {
  it.scopedLive("takes a body that was read outside, if that was as text", () =>
    Effect.gen(function* () {
      const app = Effect.flatMap(request, ({ text }) => Effect.flatMap(text, HttpServerResponse.text))
      const protectedApp = app.pipe(HttpIdempotency.middleware(options))
      const asText = yield* listen(
        Effect.zipRight(
          Effect.flatMap(request, ({ text }) => text),
          protectedApp
        )
      )
      const key = freshKey()
      const first = yield* send(asText, { key, body: "signed" })
      expect(first.text).toBe("signed")
      expectReplay(yield* send(asText, { key, body: "signed" }), first)
      expect((yield* send(asText, { key, body: "other" })).status).toBe(422)

      const asStream = yield* listen(
        Effect.zipRight(
          Effect.flatMap(request, ({ stream }) => Stream.runDrain(stream)),
          protectedApp
        )
      )
      expect((yield* send(asStream, { key: freshKey() })).status).toBe(500)
    }).pipe(Effect.provide(layerMemory))
  )

  it("refuses options that no request could be served with", () => {
    const make = (more: object) => () => HttpIdempotency.middleware({ ...options, ...more })
    expect(make({ operation: "a:b" })).toThrow("colon")
    expect(make({ maxRequestBytes: -1 })).toThrow("maxRequestBytes")
    expect(make({ maxResponseBytes: 0.5 })).toThrow("maxResponseBytes")
    expect(make({ maxRequestBytes: 0 })).not.toThrow()
  })

  it.scopedLive("answers with 500 if the engine does not take its options", () =>
    Effect.gen(function* () {
      const app = Effect.succeed(HttpServerResponse.empty())
      const url = yield* listen(app.pipe(HttpIdempotency.middleware({ ...options, lease: "1 millis" })))
      expect((yield* send(url, { key: freshKey() })).status).toBe(500)
      expect((yield* send(url)).status).toBe(204)
    }).pipe(Effect.provide(layerMemory))
  )
})
