/**
 * Ten orders on a Redis stream, one of them sent twice and one that cannot be shipped; a worker that is killed in the
 * middle of them, and one that takes over. On the Redis of `REDIS_URL`, or on localhost.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { fileURLToPath } from "node:url"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import { layerRedis } from "effect-idempotency/redis"
import { Redis } from "ioredis"
import { OutOfStock, shipAll } from "./consumer.js"
import { makeOrders, type Order } from "./orders.js"

const url = process.env["REDIS_URL"] || "redis://localhost:6379"
const run = Date.now().toString(36)

const workerScript = fileURLToPath(new URL("./worker.ts", import.meta.url))

const say = (who: string, lines: ReadonlyArray<string>) => {
  for (const line of lines) console.log(`${who} │ ${line}`)
}

const worker1 = Effect.promise(async () => {
  const worker = spawn(process.execPath, ["--import", "tsx", workerScript, url, run], {
    stdio: ["ignore", "pipe", "inherit"]
  })
  let told = ""
  worker.stdout.setEncoding("utf8").on("data", (text: string) => {
    told += text
  })
  await once(worker, "close")
  say("worker-1", told.trimEnd().split("\n"))
})

const example = (redis: Redis) =>
  Effect.gen(function* () {
    const orders = makeOrders(redis, run)
    yield* orders.createGroup
    for (let n = 1; n <= 10; n++) yield* orders.publish(`order-${n}`, n === 9 ? "unicorn" : "lamp")
    yield* orders.publish("order-2", "lamp")
    console.log(`\n11 deliveries of 10 orders on orders:${run}; order-2 was sent twice, order-9 cannot be shipped.\n`)
    yield* worker1

    const ship = (order: Order) =>
      order.item === "unicorn" ? Effect.fail(new OutOfStock()) : Effect.asVoid(orders.ship(order))
    let left = yield* orders.pending
    while (left > 0) {
      // A stream knows no negative acknowledgement: what is left pending comes again once it was idle for so long.
      const deliveries = yield* orders.readAbandoned("worker-2", 1000, 100)
      say("worker-2", yield* shipAll(orders, deliveries, ship))
      yield* Effect.sleep("250 millis")
      left = yield* orders.pending
    }

    const shipped = yield* orders.shipped
    const dead = yield* orders.dead
    console.log("\norder     │  shipped")
    for (let n = 1; n <= 10; n++) {
      const id = `order-${n}`
      const times = Number(shipped[id] ?? 0)
      console.log(`${id.padEnd(8)}  │  ${times}×${dead.includes(id) ? ", a dead letter" : ""}`)
    }
    console.log("")
    yield* orders.clear
  }).pipe(Effect.provide(layerRedis({ redis, startup: "fail" })))

await Effect.runPromise(
  Effect.acquireUseRelease(
    Effect.sync(() => new Redis(url)),
    example,
    (redis) => Effect.sync(() => redis.disconnect())
  ).pipe(Logger.withMinimumLogLevel(LogLevel.Error))
)
