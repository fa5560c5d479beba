/** Payloads of every encoding are decoded before the claim, from the bytes that the key is claimed for. */
import { existsSync, readFileSync } from "node:fs"
import * as HttpApi from "@effect/platform/HttpApi"
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as Multipart from "@effect/platform/Multipart"
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { HttpIdempotency } from "../../src/http/HttpIdempotency.js"
import type { Idempotency } from "../../src/Idempotency.js"
import { layerMemory } from "../../src/layerMemory.js"
import { serveApi } from "./apiMounts.js"
import { expectProblem, expectReplay, freshKey, problems, settled, until } from "./fixture.js"
import { cut, send, sendAndHold } from "./rawClient.js"

const file = Schema.Struct({ file: Multipart.SingleFileSchema })
const answers = HttpApiSchema.Text()

const group = HttpApiGroup.make("payloads")
  .add(
    HttpApiEndpoint.post("params", "/params")
      .setPayload(HttpApiSchema.withEncoding(Schema.Struct({ n: Schema.NumberFromString }), { kind: "UrlParams" }))
      .addSuccess(answers)
  )
  .add(HttpApiEndpoint.post("text", "/text").setPayload(HttpApiSchema.Text()).addSuccess(answers))
  .add(HttpApiEndpoint.post("bytes", "/bytes").setPayload(HttpApiSchema.Uint8Array()).addSuccess(answers))
  .add(HttpApiEndpoint.post("parts", "/parts").setPayload(HttpApiSchema.MultipartStream(file)).addSuccess(answers))
  .add(HttpApiEndpoint.post("form", "/form").setPayload(HttpApiSchema.Multipart(file)).addSuccess(answers))
  .pipe(HttpIdempotency.group())
const api = HttpApi.make("api").add(group)

const form = (text: string) =>
  `--x\r\ncontent-disposition: form-data; name="file"; filename="a.txt"\r\ncontent-type: text/plain\r\n\r\n${text}\r\n--x--\r\n`
const formType = "multipart/form-data; boundary=x"

const start = (gate: Effect.Effect<void> = Effect.void) =>
  Effect.gen(function* () {
    let runs = 0
    const context = yield* Effect.context<Idempotency>()
    const told = (what: unknown) => Effect.sync(() => `${++runs}: ${what}`)
    const routes = HttpApiBuilder.group(api, "payloads", (handlers) =>
      handlers
        .handle("params", ({ payload }) => told(payload.n + 1))
        .handle("text", ({ payload }) => told(payload))
        .handle("bytes", ({ payload }) => told(payload.join()))
        .handle("parts", ({ payload }) =>
          payload.pipe(
            Stream.flatMap((part) => (part._tag === "File" ? part.content : Stream.empty)),
            Stream.decodeText(),
            Stream.mkString,
            Effect.orDie,
            Effect.flatMap(told)
          )
        )
        .handle("form", ({ payload }) =>
          Effect.gen(function* () {
            runs++
            yield* gate
            return `${existsSync(payload.file.path)}: ${readFileSync(payload.file.path, "utf8")}`
          })
        )
        .pipe(HttpIdempotency.handlers({ scope: "global" }))
    )
    const provided = HttpApiBuilder.api(api).pipe(Layer.provide(routes), Layer.provide(Layer.succeedContext(context)))
    return { url: yield* serveApi(provided), runs: () => runs }
  })

layer(layerMemory, { excludeTestServices: true })("payloads", (it) => {
  for (const [path, type, body, told, other] of [
    ["/params", "application/x-www-form-urlencoded", "n=4", "1: 5", "n=5"],
    ["/text", "text/plain", "hé", "1: hé", "ha"],
    ["/bytes", "application/octet-stream", new Uint8Array([0, 255]), "1: 0,255", "x"],
    ["/parts", formType, form("hello"), "1: hello", form("bye")]
  ] as const) {
    it.scoped(`of ${path}`, () =>
      Effect.gen(function* () {
        const site = yield* start()
        const sent = { path, body, key: freshKey(), headers: { "content-type": type } }
        const first = yield* send(site.url, sent)
        expect([first.status, first.text]).toEqual([200, told])
        expectReplay(yield* send(site.url, sent), first)
        expectProblem(yield* send(site.url, { ...sent, body: other }), problems.reused)
        expect((yield* send(site.url, { path, body: other, headers: sent.headers })).status).toBe(200)
        expect(site.runs()).toBe(2)
      })
    )
  }

  it.scoped("that are no payload leave the key free", () =>
    Effect.gen(function* () {
      const site = yield* start()
      const sent = {
        path: "/params",
        key: freshKey(),
        headers: { "content-type": "application/x-www-form-urlencoded" }
      }
      expect((yield* send(site.url, { ...sent, body: "n=four" })).status).toBe(400)
      expect((yield* send(site.url, { ...sent, body: "n=4" })).text).toBe("1: 5")
    })
  )

  it.scoped("keep their files though the client leaves", () =>
    Effect.gen(function* () {
      const finish = Effect.unsafeMakeLatch(false)
      const site = yield* start(finish.await)
      const sent = { path: "/form", body: form("hello"), key: freshKey(), headers: { "content-type": formType } }
      const outgoing = yield* sendAndHold(site.url, sent)
      yield* until(() => site.runs() === 1)
      yield* cut(outgoing)
      yield* Effect.sleep("50 millis")
      yield* finish.open
      yield* settled
      const replay = yield* send(site.url, sent)
      expect(replay.headers["idempotent-replayed"]).toBe("true")
      expect(replay.text).toBe("true: hello")
      expect(site.runs()).toBe(1)
    })
  )
})
