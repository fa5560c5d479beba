/**
 * Orders that are shipped once: requests come twice, and a relay crashes after it has delivered messages and before it
 * has marked them, so that they are delivered twice. On the Postgres of `DATABASE_URL`, or on localhost, in the schema
 * `outbox_example`, which each run makes anew.
 */
import * as SqlClient from "@effect/sql/SqlClient"
import { PgClient } from "@effect/sql-pg"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import { layerSql, SqlIdempotencyRepository } from "effect-idempotency/sql"
import * as Orders from "./orders.js"
import { Crash, type Message, relay, relayAll } from "./relay.js"
import * as Shipping from "./shipping.js"

const url = process.env["DATABASE_URL"] || "postgres://postgres@localhost:5432/postgres"
const table = "outbox_example.idempotency_records"

const tables = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`DROP SCHEMA IF EXISTS outbox_example CASCADE`
  yield* sql`CREATE SCHEMA outbox_example`
  yield* SqlIdempotencyRepository.migrationWith({ table })
  yield* Orders.tables
  yield* Shipping.tables
})

const example = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const broker = yield* Queue.unbounded<Message>()

  // Each request comes twice, at the same time.
  const requests = [1, 2, 3, 4, 5].flatMap((n) => [`${n}`, `${n}`])
  yield* Effect.forEach(requests, (id) => Orders.placeOrder(id, "lamp"), { concurrency: "unbounded" })

  yield* Effect.catchTag(relay(broker, Effect.fail(new Crash())), "Crash", () =>
    Effect.sync(() => console.log("\nA relay crashed after it had delivered messages, and before it had marked them."))
  )
  yield* Effect.all([relayAll(broker), relayAll(broker)], { concurrency: "unbounded" })

  const deliveries = yield* Queue.takeAll(broker)
  const exits = yield* Shipping.onMessages(deliveries)
  const outcomes = exits.map((exit) => (Exit.isSuccess(exit) ? exit.value._tag : "failed"))

  const [rows] = yield* sql<{ orders: number; shipments: number }>`
    SELECT (SELECT count(*)::int FROM outbox_example.orders) AS orders,
           (SELECT count(*)::int FROM outbox_example.shipments) AS shipments
  `
  console.log(`
requests    │  ${requests.length}
orders      │  ${rows?.orders}
deliveries  │  ${deliveries.length}
duplicates  │  ${outcomes.filter((outcome) => outcome === "Duplicate").length}
shipments   │  ${rows?.shipments}
`)
})

const program = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* tables
  yield* Effect.provide(example, layerSql({ table }))
  yield* sql`DROP SCHEMA outbox_example CASCADE`
})

await Effect.runPromise(Effect.provide(program, PgClient.layer({ url: Redacted.make(url) })))
