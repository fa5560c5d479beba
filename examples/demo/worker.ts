/** A worker process of the demo: it claims an order's key on Redis, prints a line, and hangs until it is killed. */
import * as Effect from "effect/Effect"
import { hang, type Order } from "./payments.js"
import { workerEngine } from "./stores.js"

const [url = "", order = ""] = process.argv.slice(2)
const parsed: Order = JSON.parse(order)
const claimed = Effect.sync(() => process.stdout.write("claimed\n"))

await Effect.runPromise(hang(parsed, claimed).pipe(Effect.provide(workerEngine(url))))
