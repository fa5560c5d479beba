/** The shipping service: a message is remembered together with the shipment that it causes. */
import * as SqlClient from "@effect/sql/SqlClient"
import * as Effect from "effect/Effect"
import { IdempotentConsumer } from "effect-idempotency/consumer"
import type { Message } from "./relay.js"

export const tables = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql`CREATE TABLE outbox_example.shipments (order_id TEXT NOT NULL)`
)

const ship = ({ order_id }: Message) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => sql`INSERT INTO outbox_example.shipments ${sql.insert({ order_id })}`
  ).pipe(Effect.asVoid)

/** Ships what was ordered, once for each message, however often it is delivered. */
export const onMessages = (messages: Iterable<Message>) =>
  IdempotentConsumer.processBatch("shipping", messages, {
    id: ({ id }) => id,
    concurrency: 4,
    transactional: true
  })(ship)
