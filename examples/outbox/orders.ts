/** The orders service: an order and the message that tells of it are committed together. */
import * as SqlClient from "@effect/sql/SqlClient"
import * as Effect from "effect/Effect"
import { withIdempotentTransaction } from "effect-idempotency/sql"

export const tables = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`CREATE TABLE outbox_example.orders (id TEXT NOT NULL, item TEXT NOT NULL)`
  yield* sql`CREATE TABLE outbox_example.outbox (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, order_id TEXT NOT NULL, delivered BOOLEAN NOT NULL DEFAULT false
  )`
})

/** A request that is sent again gets the answer of the first, and writes nothing. */
export const placeOrder = (requestId: string, item: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const order = { id: `order-${requestId}`, item }
    yield* sql`INSERT INTO outbox_example.orders ${sql.insert(order)}`
    yield* sql`INSERT INTO outbox_example.outbox ${sql.insert({ order_id: order.id })}`
    return order
  }).pipe(withIdempotentTransaction("orders.place", requestId, { fingerprint: { item } }))
