/** Responses that are not what they seem, or cannot be recorded: on Node and under a web handler. */
import * as HttpApp from "@effect/platform/HttpApp"
import * as HttpMiddleware from "@effect/platform/HttpMiddleware"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { HttpIdempotency } from "../../src/http/HttpIdempotency.js"
import type { Idempotency } from "../../src/Idempotency.js"
import { layerMemory } from "../../src/layerMemory.js"
import { singleProcess } from "../support/engineProcess.js"
import { unavailable } from "../support/faultyRepository.js"
import { expectProblem, expectReplay, freshKey, problems, settled } from "./fixture.js"
import { cut, type Reply, type Sent, send, sendAndHold } from "./rawClient.js"
import { listen, quiet } from "./support.js"

type Response = HttpServerResponse.HttpServerResponse
type Protected = HttpApp.Default<never, Idempotency | Scope.Scope>
type Send = (sent: Sent) => Effect.Effect<Reply>

const options = { scope: "global", operation: "charges" } as const

/** Ways to serve an app: what the platform sends is not the same in both. */
const servers: Record<string, (app: Protected) => Effect.Effect<Send, never, Idempotency | Scope.Scope>> = {
  Node: (app) => Effect.map(listen(app), (url) => (sent) => send(url, sent)),
  "a web handler": (app) =>
    Effect.gen(function* () {
      const context = yield* Effect.context<Idempotency>()
      const { dispose, handler } = HttpApp.toWebHandlerLayer(app, Layer.merge(Layer.succeedContext(context), quiet))
      yield* Effect.addFinalizer(() => Effect.promise(dispose))
      return ({ key }) =>
        Effect.promise(async () => {
          const headers = { "idempotency-key": String(key) }
          const response = await handler(new Request("http://shop.example/", { method: "POST", headers, body: "{}" }))
          const body = Buffer.from(await response.arrayBuffer())
          return { status: response.status, headers: Object.fromEntries(response.headers), body, text: `${body}` }
        })
    })
}

for (const [server, serve] of Object.entries(servers)) {
  describe(`a response, by ${server},`, () => {
    const answers: Record<string, () => Response> = {
      "raw text": () => HttpServerResponse.raw("text"),
      "raw text with a type": () => HttpServerResponse.raw("{}", { contentType: "application/json" }),
      "a raw web response without a body": () => HttpServerResponse.raw(new Response(null, { status: 205 })),
      "a raw buffer": () => HttpServerResponse.raw(new Uint8Array([1, 2]).buffer)
    }
    for (const [what, answer] of Object.entries(answers)) {
      it.scopedLive(`that is ${what} comes back as it was`, () =>
        Effect.gen(function* () {
          const ask = yield* serve(Effect.sync(answer).pipe(HttpIdempotency.middleware(options)))
          const key = freshKey()
          const first = yield* ask({ key })
          expectReplay(yield* ask({ key }), first)
        }).pipe(Effect.provide(layerMemory))
      )
    }

    it.scopedLive("that is a raw web response is judged by its own status", () =>
      Effect.gen(function* () {
        let runs = 0
        const app = Effect.sync(() => HttpServerResponse.raw(new Response(`${++runs}`, { status: 503 })))
        const ask = yield* serve(app.pipe(HttpIdempotency.middleware(options)))
        const key = freshKey()
        for (const text of ["1", "2"]) expect(yield* ask({ key })).toMatchObject({ status: 503, text })
      }).pipe(Effect.provide(layerMemory))
    )

    const invalid: Record<string, () => Response> = {
      "of no status": () => HttpServerResponse.fromWeb(Response.error()),
      "of a status that there is not": () => HttpServerResponse.text("no", { status: 99 }),
      "of no status that streams": () => HttpServerResponse.stream(Stream.empty, { status: 99 })
    }
    for (const [what, answer] of Object.entries(invalid)) {
      it.scopedLive(`${what} is not replayed, and the key is not left in flight`, () =>
        Effect.gen(function* () {
          let runs = 0
          const app = Effect.sync(() => {
            runs++
            return answer()
          })
          const ask = yield* serve(app.pipe(HttpIdempotency.middleware({ ...options, onResponse: () => "replay" })))
          const key = freshKey()
          expect((yield* ask({ key })).status).toBe(500)
          yield* settled
          expectProblem(yield* ask({ key }), problems.notReplayable)
          expect(runs).toBe(1)
        }).pipe(Effect.provide(layerMemory))
      )
    }
  })
}

describe("a response that cannot be recorded", () => {
  it.scopedLive("is not replayed, and the key is not left in flight, if its client has gone", () =>
    Effect.gen(function* () {
      const isMade = Effect.unsafeMakeLatch(false)
      const finish = Effect.unsafeMakeLatch(false)
      const app = isMade.open.pipe(Effect.zipRight(finish.await), Effect.as(HttpServerResponse.empty({ status: 99 })))
      const url = yield* listen(app.pipe(HttpIdempotency.middleware({ ...options, onResponse: () => "replay" })))
      const key = freshKey()
      const outgoing = yield* sendAndHold(url, { key })
      yield* isMade.await
      yield* cut(outgoing)
      yield* finish.open
      yield* settled
      expectProblem(yield* send(url, { key }), problems.notReplayable)
    }).pipe(Effect.provide(layerMemory))
  )
})

describe("a problem in place of a response", () => {
  it.scopedLive("says nothing of how long that may be kept, nor of what else it allowed", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess({ storageTimeout: "150 millis", breakerThreshold: 1000 })
      const lasting = { "cache-control": "public, max-age=600", pragma: "x", expires: "0", allow: "GET" }
      const headers = { ...lasting, "cdn-cache-control": "max-age=600", "surrogate-control": "max-age=600" }
      const app = Effect.succeed(HttpServerResponse.text("own", { headers: { ...headers, "x-added": "1" } }))
      const recorded = { ...options, headers: ["location"], onStorageFailure: "fail" } as const
      const url = yield* process.run(listen(app.pipe(HttpIdempotency.middleware(recorded))))
      yield* process.faults.plan("complete", unavailable)
      const reply = yield* send(url, { key: freshKey() })
      expectProblem(reply, problems.unknown)
      for (const name of Object.keys(headers)) expect(reply.headers[name]).toBeUndefined()
      expect(reply.headers["x-added"]).toBe("1")
    })
  )

  it.scopedLive("has what others have added to the response, and nothing of its own", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess({ storageTimeout: "150 millis", breakerThreshold: 1000 })
      const own = HttpServerResponse.text("own", { status: 201, headers: { etag: '"own"', location: "/charges/1" } })
      const app = Effect.succeed(HttpServerResponse.unsafeSetCookie(own, "session", "1"))
      const url = yield* process.run(
        listen(app.pipe(HttpIdempotency.middleware({ ...options, onStorageFailure: "fail" }), HttpMiddleware.cors()))
      )
      yield* process.faults.plan("complete", unavailable)
      const reply = yield* send(url, { key: freshKey() })
      expectProblem(reply, problems.unknown)
      expect(reply.headers["access-control-allow-origin"]).toBe("*")
      expect(reply.headers["content-length"]).toBe(`${reply.body.length}`)
      for (const name of ["etag", "location", "set-cookie"]) expect(reply.headers[name]).toBeUndefined()
    })
  )
})
