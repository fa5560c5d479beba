/** The server: its documentation is at /docs. Records are in memory, or on the Redis of `REDIS_URL`. */
import { createServer } from "node:http"
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as HttpApiSwagger from "@effect/platform/HttpApiSwagger"
import type * as HttpServer from "@effect/platform/HttpServer"
import type * as HttpServerError from "@effect/platform/HttpServerError"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { type Idempotency, IdempotentExecution, layerMemory } from "effect-idempotency"
import { HttpIdempotency } from "effect-idempotency/http"
import { layerRedis } from "effect-idempotency/redis"
import { CardDeclined, type Order, PaymentsApi, type Receipt } from "./api.js"

/** Charges cards, slowly, and remembers what it has charged. */
class Gateway extends Context.Tag("example/Gateway")<
  Gateway,
  {
    readonly charge: (order: Order) => Effect.Effect<typeof Receipt.Type, CardDeclined>
    readonly chargesOf: (order: string) => Effect.Effect<ReadonlyArray<typeof Receipt.Type>>
  }
>() {
  static readonly layer = Layer.sync(Gateway, () => {
    const ledger = new Map<string, ReadonlyArray<typeof Receipt.Type>>()
    const chargesOf = (order: string) => ledger.get(order) ?? []
    return {
      charge: ({ amount, id }) =>
        amount > 1000
          ? Effect.fail(new CardDeclined({ reason: "over the limit" }))
          : Effect.sync(() => {
              const receipt = { chargeId: `ch_${id}_${chargesOf(id).length + 1}`, amount }
              ledger.set(id, [...chargesOf(id), receipt])
              return receipt
            }).pipe(Effect.delay("60 millis")),
      chargesOf: (order) => Effect.sync(() => chargesOf(order))
    }
  })
}

const PaymentsLive = HttpApiBuilder.group(PaymentsApi, "payments", (handlers) =>
  Effect.map(Gateway, (gateway) =>
    handlers
      .handle("charge", ({ payload }) =>
        Effect.gen(function* () {
          const { attempt } = yield* IdempotentExecution
          if (attempt > 1) yield* Effect.logInfo(`attempt ${attempt} at order ${payload.id}`)
          return yield* gateway.charge(payload)
        })
      )
      .handle("chargesOf", ({ path }) => gateway.chargesOf(path.order))
      .pipe(HttpIdempotency.handlers({ scope: "global", inFlight: "wait" }))
  )
)

const url = process.env["REDIS_URL"]
export const storeName = url === undefined || url === "" ? "memory" : `Redis at ${new URL(url).host}`

const store: Layer.Layer<Idempotency> =
  url === undefined || url === "" ? layerMemory : Layer.orDie(layerRedis({ url, startup: "fail" }))

/** Listens on the port; 0 for any that is free. */
export const serverLayer = (port: number): Layer.Layer<HttpServer.HttpServer, HttpServerError.ServeError> =>
  HttpApiBuilder.serve().pipe(
    Layer.provide(HttpApiSwagger.layer({ path: "/docs" })),
    Layer.provide(HttpApiBuilder.middlewareOpenApi({ path: "/openapi.json" })),
    Layer.provide(HttpApiBuilder.api(PaymentsApi)),
    Layer.provide(PaymentsLive),
    Layer.provide([Gateway.layer, store]),
    Layer.provideMerge(NodeHttpServer.layer(() => createServer(), { port, host: "127.0.0.1" }))
  )
