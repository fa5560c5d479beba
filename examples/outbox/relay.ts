/** The relay: from the outbox to the broker, at least once. */
import * as SqlClient from "@effect/sql/SqlClient"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"

export interface Message {
  readonly id: string
  readonly order_id: string
}

export class Crash extends Data.TaggedError("Crash") {}

/**
 * Delivers up to three messages, and gives how many. Relays that run side by side do not meet: each skips what another
 * has locked. A crash after the delivery rolls back the mark, but not the delivery.
 */
export const relay = <E = never>(broker: Queue.Queue<Message>, beforeMark: Effect.Effect<void, E> = Effect.void) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const deliver = Effect.gen(function* () {
      const messages = yield* sql<Message>`
        SELECT id, order_id FROM outbox_example.outbox WHERE NOT delivered ORDER BY id LIMIT 3 FOR UPDATE SKIP LOCKED
      `
      yield* Queue.offerAll(broker, messages)
      yield* beforeMark
      const ids = messages.map(({ id }) => id)
      if (ids.length > 0) yield* sql`UPDATE outbox_example.outbox SET delivered = true WHERE ${sql.in("id", ids)}`
      return ids.length
    })
    return yield* sql.withTransaction(deliver)
  })

/** Goes on until there is nothing left to deliver. */
export const relayAll = (broker: Queue.Queue<Message>) =>
  Effect.repeat(relay(broker), { until: (delivered) => delivered === 0 })
