/** The HTTP middleware over the memory store, beside the same server without it; the load comes from another process. */
import { createServer } from "node:http"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { layerMemory } from "effect-idempotency"
import { HttpIdempotency } from "effect-idempotency/http"
import { atEach, compareFirst, type Store, type Subject } from "../comparisons.js"
import type { Drive, Slice } from "../drive.js"
import { type Worker, workerOf } from "../processes.js"
import type { Role } from "../rounds.js"
import { ours } from "../rows.js"
import type { Scenario } from "../scenario.js"
import { type Body, ensure, makeBody } from "../work.js"
import type { LoadReply, LoadTask } from "./httpLoad.js"

type Load = Worker<LoadTask, LoadReply>

/** What a handler does at least: it reads the request and answers with JSON. */
const handlerOf = (body: Body) =>
  Effect.gen(function* () {
    const request = yield* HttpServerRequest.HttpServerRequest
    yield* request.json
    return yield* HttpServerResponse.json(yield* body.effect)
  })

const listen = Effect.gen(function* () {
  const server = yield* NodeHttpServer.make(() => createServer(), { port: 0, host: "127.0.0.1" })
  ensure(server.address._tag === "TcpAddress", "the server has no port")
  return { server, port: server.address._tag === "TcpAddress" ? server.address.port : 0 }
})

const driveOf =
  (load: Load, port: number, body: Body): Drive =>
  async ({ concurrency, count, keyOf }): Promise<Slice> => {
    const prefix = keyOf(0).replace(/-0$/, "")
    const cpu = process.cpuUsage()
    const sent = await load.ask({ port, prefix, count, concurrency, expected: JSON.stringify(body.result) })
    const { system, user } = process.cpuUsage(cpu)
    // The responses were compared where they arrived.
    return { ...sent, count, cpuMicros: system + user, values: [body.result] }
  }

const subjectOf = (load: Load, role: Role, port: number, body: Body, records: Store["records"]): Subject => {
  const drive = driveOf(load, port, body)
  const name = role === "ours" ? ours : "the bare server"
  return { name, role, body, store: { empty: Effect.void, records }, first: drive, replay: drive }
}

const sampled = 20

/** Some of the requests are sent again: they were recorded if their responses are replayed. */
const recordsAt =
  (port: number): Store["records"] =>
  (keys) =>
    Effect.promise(async () => {
      const step = Math.max(1, Math.floor(keys.length / sampled))
      const some = keys.filter((_, index) => index % step === 0)
      const responses = await Promise.all(
        some.map((key) =>
          fetch(`http://127.0.0.1:${port}/charges`, {
            method: "POST",
            headers: { "content-type": "application/json", "idempotency-key": `"${key}"` },
            body: JSON.stringify({ amount: 12_500, currency: "EUR" })
          })
        )
      )
      for (const response of responses) await response.text()
      const replayed = responses.filter(({ headers }) => headers.get("idempotent-replayed") === "true").length
      return replayed === some.length ? keys.length : replayed
    })

const subjects: Effect.Effect<readonly [limit: Subject, ours: Subject], unknown, Scope.Scope> = Effect.gen(
  function* () {
    const load = yield* workerOf<LoadTask, LoadReply>("./scenarios/httpLoad.ts")
    const bare = { body: makeBody(200), ...(yield* listen) }
    const guarded = { body: makeBody(200), ...(yield* listen) }
    yield* bare.server.serve(handlerOf(bare.body))
    const protect = HttpIdempotency.middleware({ scope: "global", operation: "bench.charge", required: true })
    const engine = yield* Layer.build(layerMemory)
    yield* guarded.server.serve(protect(handlerOf(guarded.body))).pipe(Effect.provide(engine))
    return [
      subjectOf(load, "limit", bare.port, bare.body, (keys) => Effect.succeed(keys.length)),
      subjectOf(load, "ours", guarded.port, guarded.body, recordsAt(guarded.port))
    ]
  }
)

const name = "http/first"

export const http: Scenario = {
  topic: "http",
  names: [name],
  run: (setting) =>
    Effect.gen(function* () {
      const [limit, guarded] = yield* subjects
      return yield* atEach(setting, name, compareFirst, { limit, others: [guarded] })
    })
}
