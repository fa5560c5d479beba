/** Orders on a Redis stream, read by a consumer group; what was shipped is counted on the same server. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Redis } from "ioredis"

/** A delivery. `entry` is its place in the stream; `id` is the producer's, and the same when it sends the order again. */
export interface Order {
  readonly entry: string
  readonly id: string
  readonly item: string
}

const Entries = Schema.Array(Schema.Tuple(Schema.String, Schema.Array(Schema.String)))
const ReadReply = Schema.NullOr(Schema.Array(Schema.Tuple(Schema.String, Entries)))
/** The cursor, the entries, and, since Redis 7, what was deleted from the stream. */
const ClaimReply = Schema.Tuple([Schema.String, Entries], Schema.Unknown)

const ordersOf = (entries: typeof Entries.Type): ReadonlyArray<Order> =>
  entries.map(([entry, fields]) => {
    const field = (name: string) => fields[fields.indexOf(name) + 1] ?? ""
    return { entry, id: field("id"), item: field("item") }
  })

export type Orders = ReturnType<typeof makeOrders>

/** The stream of a run, and its group of consumers. */
export const makeOrders = (redis: Redis, run: string) => {
  const [stream, dead, shipped, group] = [`orders:${run}`, `orders:${run}:dead`, `shipped:${run}`, "shipping"]
  return {
    run,

    createGroup: Effect.promise(() => redis.xgroup("CREATE", stream, group, "$", "MKSTREAM")),

    publish: (id: string, item: string) => Effect.promise(() => redis.xadd(stream, "*", "id", id, "item", item)),

    /** Entries that nobody has got yet. */
    read: (worker: string, count: number) =>
      Effect.promise(() => redis.xreadgroup("GROUP", group, worker, "COUNT", count, "STREAMS", stream, ">")).pipe(
        Effect.flatMap(Schema.decodeUnknown(ReadReply)),
        Effect.map((streams) => ordersOf(streams?.flatMap(([, entries]) => entries) ?? []))
      ),

    /** Entries that somebody got, and has not acknowledged for a while. */
    readAbandoned: (worker: string, idleMillis: number, count: number) =>
      Effect.promise(() => redis.xautoclaim(stream, group, worker, idleMillis, "0", "COUNT", count)).pipe(
        Effect.flatMap(Schema.decodeUnknown(ClaimReply)),
        Effect.map(([, entries]) => ordersOf(entries))
      ),

    acknowledge: ({ entry }: Order) => Effect.promise(() => redis.xack(stream, group, entry)),

    moveAway: ({ entry, id, item }: Order) =>
      Effect.promise(() => redis.multi().xadd(dead, "*", "id", id, "item", item).xack(stream, group, entry).exec()),

    /** How many entries are not acknowledged. */
    pending: Effect.promise(() => redis.xpending(stream, group)).pipe(
      Effect.flatMap(Schema.decodeUnknown(Schema.Tuple([Schema.Number], Schema.Unknown))),
      Effect.map(([count]) => count)
    ),

    /** What is to happen once for each order. */
    ship: ({ id }: Order) => Effect.promise(() => redis.hincrby(shipped, id, 1)),

    shipped: Effect.promise(() => redis.hgetall(shipped)),

    dead: Effect.map(
      Effect.promise(() => redis.xrange(dead, "-", "+")),
      (entries) => ordersOf(entries).map(({ id }) => id)
    ),

    clear: Effect.promise(() => redis.del(stream, dead, shipped))
  }
}
