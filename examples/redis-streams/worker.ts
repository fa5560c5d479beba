/** A worker in a process of its own that is killed in the middle of its batch: nothing it did is acknowledged. */
import * as Effect from "effect/Effect"
import { layerRedis } from "effect-idempotency/redis"
import { Redis } from "ioredis"
import { shipAll } from "./consumer.js"
import { makeOrders, type Order } from "./orders.js"

const [, , url = "", run = ""] = process.argv
const redis = new Redis(url)
const orders = makeOrders(redis, run)

const ship = (order: Order) =>
  order.id === "order-6"
    ? // Later than the record of the order before. What is killed between its effect and its record is run again.
      Effect.sync(() => {
        console.log("order-6: killed before it was shipped")
        process.kill(process.pid, "SIGKILL")
      }).pipe(Effect.delay("200 millis"))
    : Effect.zipRight(
        orders.ship(order),
        Effect.sync(() => console.log(`${order.id}: shipped`))
      )

await Effect.runPromise(
  orders.read("worker-1", 100).pipe(
    Effect.flatMap((deliveries) => shipAll(orders, deliveries, ship)),
    Effect.provide(layerRedis({ redis })),
    Effect.ensuring(Effect.sync(() => redis.disconnect()))
  )
)
