import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Scope from "effect/Scope"
import * as five from "ioredis"
import * as six from "ioredis-6"
import { IdempotencyIdentifiers } from "../../src/IdempotencyIdentifiers.js"
import type { ClaimRequest, Driver } from "../../src/internal/protocol.js"
import type { RedisClient } from "../../src/internal/redis/client.js"
import type { Constructors, NodeOptions } from "../../src/internal/redis/connection.js"
import { makeRedisDriver } from "../../src/internal/redis/driver.js"
import { makeRedisChanges } from "../../src/internal/redis/subscriber.js"

/** Both majors of the client. */
export const majors: ReadonlyArray<{ readonly major: string; readonly ioredis: Constructors }> = [
  { major: "ioredis 5", ioredis: five },
  { major: "ioredis 6", ioredis: six }
]

export const ids = (idempotencyKey: string, operation = "payment.charge", scope?: string): IdempotencyIdentifiers =>
  Either.getOrThrow(IdempotencyIdentifiers.from({ operation, idempotencyKey, scope }))

let count = 0
/** Identifiers that no other test uses. */
export const freshIds = (): IdempotencyIdentifiers => ids(`key-${process.pid}-${count++}`)

export const minute = 60_000

export const claimBy = (token: string, terms: Partial<ClaimRequest> = {}): ClaimRequest => ({
  token,
  fingerprint: undefined,
  guarantee: "at-least-once",
  lease: minute,
  retention: 30 * minute,
  unknownRetention: 60 * minute,
  ...terms
})

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
