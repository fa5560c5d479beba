/** Orders on a JetStream stream, and a pull consumer that has them acknowledged one by one. */
import { AckPolicy, type JsMsg, jetstream, jetstreamManager } from "@nats-io/jetstream"
import { headers, type NatsConnection, nanos } from "@nats-io/transport-node"

/** How long the server waits for an acknowledgement before it delivers a message again. */
const ackWait = 1000

/** For so long the server itself drops a message whose id it has seen. What comes later, it does not know any more. */
const duplicateWindow = 300

export type Orders = Awaited<ReturnType<typeof makeOrders>>

/** The stream and the consumer of a run. */
export const makeOrders = async (connection: NatsConnection, run: string) => {
  const [name, subject, dead] = [`ORDERS_${run}`, `orders.${run}.new`, `orders.${run}.dead`]
  const manager = await jetstreamManager(connection)
  await manager.streams.add({ name, subjects: [`orders.${run}.*`], duplicate_window: nanos(duplicateWindow) })
  await manager.consumers.add(name, {
    durable_name: "shipping",
    filter_subject: subject,
    ack_policy: AckPolicy.Explicit,
    ack_wait: nanos(ackWait)
  })
  const client = jetstream(connection)
  const consumer = await client.consumers.get(name, "shipping")

  return {
    run,
    duplicateWindow,
    /** True if the server dropped it. */
    publish: async (id: string): Promise<boolean> => (await client.publish(subject, id, { msgID: id })).duplicate,
    /** The next delivery; nothing if there is none for a second. */
    next: (): Promise<JsMsg | null> => consumer.next({ expires: 1000 }),
    /** How many messages are not acknowledged yet. */
    left: async (): Promise<number> => {
      const { num_ack_pending, num_pending } = await consumer.info()
      return num_ack_pending + num_pending
    },
    moveAway: async (message: JsMsg): Promise<void> => {
      const origin = headers()
      origin.set("Origin-Msg-Id", idOf(message) ?? "")
      await client.publish(dead, message.data, { headers: origin })
      message.term()
    },
    dead: async (): Promise<number> =>
      (await manager.streams.info(name, { subjects_filter: dead })).state.subjects?.[dead] ?? 0,
    clear: () => manager.streams.delete(name)
  }
}

/** The id that the producer gave: the same when it sends again. */
export const idOf = (message: JsMsg): string | undefined => message.headers?.get("Nats-Msg-Id")
