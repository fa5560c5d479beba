import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as five from "ioredis"
import * as six from "ioredis-6"
import type { Driver } from "../../src/internal/protocol.js"
import type { RedisClient } from "../../src/internal/redis/client.js"
import type { Constructors, NodeOptions } from "../../src/internal/redis/connection.js"
import { makeRedisDriver } from "../../src/internal/redis/driver.js"
import { makeRedisChanges } from "../../src/internal/redis/subscriber.js"
import { claimBy, freshIds, ids, minute } from "../support/requests.js"

/** Both majors of the client. */
export const majors: ReadonlyArray<{ readonly major: string; readonly ioredis: Constructors }> = [
  { major: "ioredis 5", ioredis: five },
  { major: "ioredis 6", ioredis: six }
]

export { claimBy, freshIds, ids, minute }

const closing = <Client extends { disconnect(): void; on(event: "error", listener: () => void): unknown }>(
  open: () => Client
): Effect.Effect<Client, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const client = open()
      client.on("error", () => {})
      return client
    }),
    (client) => Effect.sync(() => client.disconnect())
  )

/** A user's client of a node: nothing set but what keeps a test short. */
export const nodeClient = (ioredis: Constructors, port: number, options: NodeOptions = {}) =>
  closing(() => new ioredis.Redis({ host: "127.0.0.1", port, maxRetriesPerRequest: 2, ...options }))

export const clusterClient = (ioredis: Constructors, nodes: ReadonlyArray<{ host: string; port: number }>) =>
  closing(() => new ioredis.Cluster([...nodes], {}))

export const driverOver = (
  client: RedisClient,
  keyPrefix = "idempotency:"
): Effect.Effect<Driver, never, Scope.Scope> =>
  Effect.map(makeRedisChanges(client), (changes) => makeRedisDriver(client, keyPrefix, changes).driver)
