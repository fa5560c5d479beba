/** A store that has a reason why nothing can be claimed: what no client can help is the server's fault, and nothing runs. */
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import { HttpIdempotency } from "../../src/http/HttpIdempotency.js"
import { Idempotency } from "../../src/Idempotency.js"
import { IdempotencyDomainService } from "../../src/IdempotencyDomainService.js"
import { IdempotencyMetrics } from "../../src/IdempotencyMetrics.js"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import { makeMemoryDriver } from "../../src/internal/memoryDriver.js"
import { freshKey } from "./fixture.js"
import { send } from "./rawClient.js"
import { listen } from "./support.js"

/** Over a store that claims only for callers that do not go without it, as one with `durability` does. */
const engine = Idempotency.layer.pipe(
  Layer.provide([
    Layer.effect(
      IdempotencyRepository,
      IdempotencyRepository.make({
        ...makeMemoryDriver(10).driver,
        objection: ({ onStorageFailure }) =>
          Effect.succeed(onStorageFailure === "proceed" ? "not for those that proceed" : undefined)
      })
    ),
    IdempotencyDomainService.layer,
    IdempotencyMetrics.layerNoop
  ])
)

const options = { scope: "global", operation: "charges" } as const

it.scopedLive("no handler runs where the store objects", () =>
  Effect.gen(function* () {
    let runs = 0
    const app = Effect.sync(() => HttpServerResponse.text(`${++runs}`))
    const refused = yield* listen(app.pipe(HttpIdempotency.middleware(options)))
    expect((yield* send(refused, { key: freshKey() })).status).toBe(500)
    expect(runs).toBe(0)
    const admitted = yield* listen(app.pipe(HttpIdempotency.middleware({ ...options, onStorageFailure: "fail" })))
    expect((yield* send(admitted, { key: freshKey() })).text).toBe("1")
  }).pipe(Effect.provide(engine))
)

it.scopedLive("a layer says so when it is built", () =>
  Effect.gen(function* () {
    const built = yield* Effect.exit(Layer.build(Layer.provide(HttpIdempotency.layerRouter(options).layer, engine)))
    expect(Exit.isFailure(built) && String(built.cause)).toContain("not for those that proceed")
  })
)
