/** Handlers of web requests, whatever made them. */
import * as HttpApp from "@effect/platform/HttpApp"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import { Hono } from "hono"
import { HttpIdempotency } from "../../src/http/HttpIdempotency.js"
import { layerMemory } from "../../src/layerMemory.js"
import { freshKey } from "./fixture.js"

const quiet = Layer.merge(layerMemory, Logger.replace(Logger.defaultLogger, Logger.none))

const options = { scope: "global", operation: "charges" } as const

const ask = (
  body: RequestInit["body"],
  init: { readonly key?: string; readonly path?: string; readonly headers?: object } = {}
) =>
  new Request(`http://shop.example${init.path ?? "/charges"}`, {
    method: "POST",
    body: body ?? null,
    headers: { ...(init.key !== undefined && { "idempotency-key": init.key }), ...init.headers }
  })

const protect = (handler: (request: Request) => Promise<Response>) =>
  HttpApp.toWebHandlerLayer(HttpApp.fromWebHandler(handler).pipe(HttpIdempotency.middleware(options)), quiet)

describe("a web handler", () => {
  it("of Hono is protected, with its cookies, headers and statuses", async () => {
    let runs = 0
    const hono = new Hono()
    hono.post("/charges", async (context) => {
      const { amount } = await context.req.json()
      context.header("set-cookie", "session=1")
      context.header("location", `/charges/${++runs}`)
      return context.json({ run: runs, amount }, 201)
    })
    hono.post("/refunds", (context) => context.text("refunded"))
    const { dispose, handler } = protect(async (request) => hono.fetch(request))
    const key = freshKey()
    const first = await handler(ask('{"amount":100}', { key }))
    const second = await handler(ask('{"amount":100}', { key }))
    expect([first.status, second.status]).toEqual([201, 201])
    expect(await first.json()).toEqual({ run: 1, amount: 100 })
    expect(await second.json()).toEqual({ run: 1, amount: 100 })
    expect(second.headers.get("location")).toBe("/charges/1")
    expect(second.headers.get("content-type")).toBe(first.headers.get("content-type"))
    expect([first.headers.get("set-cookie"), second.headers.get("set-cookie")]).toEqual(["session=1", null])
    expect([first.headers.get("idempotent-replayed"), second.headers.get("idempotent-replayed")]).toEqual([
      null,
      "true"
    ])
    // The path is part of the request, wherever the server is.
    expect((await handler(ask('{"amount":100}', { key, path: "/refunds" }))).status).toBe(422)
    expect((await handler(ask("{}", { key: freshKey(), path: "/nowhere" }))).status).toBe(404)
    await dispose()
  })

  it("gets the body whole, as a form or in bytes, or none at all", async () => {
    const { dispose, handler } = protect(async (request) => {
      if (request.headers.get("content-type")?.startsWith("multipart/form-data")) {
        const form = await request.formData()
        return Response.json(Object.fromEntries(form))
      }
      return new Response(await request.arrayBuffer(), { headers: { "x-has-body": `${request.body !== null}` } })
    })
    const bytes = Uint8Array.from({ length: 256 }, (_, byte) => byte)
    const form = new FormData()
    form.append("a", "1")
    expect(await (await handler(ask(form, { key: freshKey() }))).json()).toEqual({ a: "1" })
    for (const body of [bytes, null]) {
      const key = freshKey()
      for (const _ of [1, 2]) {
        const response = await handler(ask(body, { key }))
        expect(new Uint8Array(await response.arrayBuffer())).toEqual(body ?? new Uint8Array(0))
      }
    }
    await dispose()
  })

  it("is not stopped by its client, nor told of it", async () => {
    const gone = new AbortController()
    let finish = () => {}
    let wasAborted: boolean | undefined
    const finished = new Promise<void>((resolve) => {
      finish = resolve
    })
    const { dispose, handler } = protect(async (request) => {
      await finished
      wasAborted = request.signal.aborted
      return new Response("done")
    })
    const key = freshKey()
    const abandoned = handler(new Request(ask("{}", { key }), { signal: gone.signal }))
    await new Promise((resolve) => setTimeout(resolve, 50))
    gone.abort()
    expect((await abandoned).status).toBe(499)
    expect((await handler(ask("{}", { key }))).status).toBe(409)
    finish()
    await expect.poll(async () => (await handler(ask("{}", { key }))).status).toBe(200)
    expect(wasAborted).toBe(false)
    expect(await (await handler(ask("{}", { key }))).text()).toBe("done")
    await dispose()
  })

  it("that rejects answers with 500, and its key is free", async () => {
    let runs = 0
    const { dispose, handler } = protect(async () => {
      if (++runs === 1) throw new Error("broken")
      return new Response("fine")
    })
    const key = freshKey()
    expect((await handler(ask("{}", { key }))).status).toBe(500)
    expect(await (await handler(ask("{}", { key }))).text()).toBe("fine")
    await dispose()
  })

  it("has its handlers finished by dispose", async () => {
    let isDone = false
    const { dispose, handler } = protect(async () => {
      await new Promise((resolve) => setTimeout(resolve, 100))
      isDone = true
      return new Response("done")
    })
    const gone = new AbortController()
    const abandoned = handler(new Request(ask("{}", { key: freshKey() }), { signal: gone.signal }))
    await new Promise((resolve) => setTimeout(resolve, 30))
    gone.abort()
    await abandoned
    await dispose()
    expect(isDone).toBe(true)
  })

  it("may be an app that answers with a raw buffer or a web response", async () => {
    for (const raw of [() => new Uint8Array([1, 2]).buffer, () => new Response(new Uint8Array([1, 2]))]) {
      const { dispose, handler } = HttpApp.toWebHandlerLayer(
        Effect.sync(() => HttpServerResponse.raw(raw(), { headers: { etag: '"1"' } })).pipe(
          HttpIdempotency.middleware(options)
        ),
        quiet
      )
      const key = freshKey()
      for (const replayed of [null, "true"]) {
        const response = await handler(ask("{}", { key }))
        expect(response.headers.get("idempotent-replayed")).toBe(replayed)
        expect(response.headers.get("etag")).toBe('"1"')
        expect(new Uint8Array(await response.arrayBuffer())).toEqual(new Uint8Array([1, 2]))
      }
      await dispose()
    }
  })
})
