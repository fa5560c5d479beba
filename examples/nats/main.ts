/**
 * Orders on NATS JetStream: one is sent again after the server has forgotten its id, one whose acknowledgement gets
 * lost, one that takes longer than the server waits, and one that cannot be shipped. On the server of `NATS_URL`, or on
 * localhost; records are in memory, or on the Redis of `REDIS_URL`.
 */
import type { JsMsg } from "@nats-io/jetstream"
import { connect } from "@nats-io/transport-node"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import { layerMemory } from "effect-idempotency"
import { layerRedis } from "effect-idempotency/redis"
import { OutOfStock, onMessage } from "./consumer.js"
import { makeOrders, type Orders } from "./orders.js"

const natsUrl = process.env["NATS_URL"] || "nats://localhost:4222"
const redisUrl = process.env["REDIS_URL"]
const run = Date.now().toString(36)

const store = redisUrl === undefined || redisUrl === "" ? layerMemory : layerRedis({ url: redisUrl })

const ids = ["plain", "sent-again", "ack-lost", "slow", "unicorn"]

const publish = (orders: Orders) =>
  Effect.gen(function* () {
    for (const id of ids) yield* Effect.promise(() => orders.publish(id))
    const isDropped = yield* Effect.promise(() => orders.publish("sent-again"))
    console.log(`sent-again, again at once: ${isDropped ? "dropped" : "taken"} by the server`)
    yield* Effect.sleep(3 * orders.duplicateWindow)
    const isDroppedLater = yield* Effect.promise(() => orders.publish("sent-again"))
    console.log(`sent-again, again later: ${isDroppedLater ? "dropped" : "taken"} by the server\n`)
  })

const example = (orders: Orders) =>
  Effect.gen(function* () {
    const shipped = new Map<string, number>()
    const lost = new Set(["ack-lost"])

    const ship = (id: string) =>
      id === "unicorn"
        ? Effect.fail(new OutOfStock())
        : Effect.sync(() => {
            shipped.set(id, (shipped.get(id) ?? 0) + 1)
          }).pipe(Effect.delay(id === "slow" ? "1500 millis" : "10 millis"))

    const handle = (worker: string, message: JsMsg) =>
      Effect.gen(function* () {
        const id = message.string()
        const told = yield* onMessage(orders, message, ship(id), lost.delete(id))
        console.log(`${worker} │ ${id}, delivery ${message.info.deliveryCount}: ${told}`)
      })

    const work = (worker: string) =>
      Effect.gen(function* () {
        while ((yield* Effect.promise(orders.left)) > 0) {
          const message = yield* Effect.promise(orders.next)
          if (message !== null) yield* handle(worker, message)
        }
      })

    yield* publish(orders)
    yield* Effect.all([work("worker-1"), work("worker-2")], { concurrency: "unbounded" })

    console.log("\norder       │  shipped")
    for (const id of ids) console.log(`${id.padEnd(10)}  │  ${shipped.get(id) ?? 0}×`)
    console.log(`dead letters: ${yield* Effect.promise(orders.dead)}\n`)
    yield* Effect.promise(orders.clear)
  })

await Effect.runPromise(
  Effect.acquireUseRelease(
    Effect.promise(() => connect({ servers: natsUrl })),
    (connection) =>
      Effect.flatMap(
        Effect.promise(() => makeOrders(connection, run)),
        example
      ),
    (connection) => Effect.promise(() => connection.close())
  ).pipe(Effect.provide(store), Logger.withMinimumLogLevel(LogLevel.Error))
)
