import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as five from "ioredis"
import * as six from "ioredis-6"
import type { IdempotencyStorageError } from "../../src/IdempotencyError.js"
import type { Driver, Entry, InsertRequest, ListRequest, Page } from "../../src/internal/protocol.js"
import type { RedisClient } from "../../src/internal/redis/client.js"
import type { ClusterOptions, Constructors, NodeOptions } from "../../src/internal/redis/connection.js"
import { makeRedisDriver } from "../../src/internal/redis/driver.js"
import { makeRedisChanges } from "../../src/internal/redis/subscriber.js"
import { storedKey } from "../../src/internal/storedKey.js"
import { scopedClient } from "../support/redisServers.js"
import { claimBy, freshIds, ids, minute } from "../support/requests.js"

/** Both majors of the client. */
export const majors: ReadonlyArray<{ readonly major: string; readonly ioredis: Constructors }> = [
  { major: "ioredis 5", ioredis: five },
  { major: "ioredis 6", ioredis: six }
]

export { claimBy, freshIds, ids, minute }

/** A user's client of a node: nothing set but what keeps a test short. */
export const nodeClient = (ioredis: Constructors, port: number, options: NodeOptions = {}) =>
  scopedClient(() => new ioredis.Redis({ host: "127.0.0.1", port, maxRetriesPerRequest: 2, ...options }))

export const clusterClient = (
  ioredis: Constructors,
  nodes: ReadonlyArray<{ host: string; port: number }>,
  options: ClusterOptions = {}
) => scopedClient(() => new ioredis.Cluster([...nodes], options))

export const driverOver = (
  client: RedisClient,
  keyPrefix = "idempotency:"
): Effect.Effect<Driver, never, Scope.Scope> =>
  Effect.map(makeRedisChanges(client), (changes) => makeRedisDriver(client, keyPrefix, changes).driver)

export const insertBy = (token: string, encoded = "1"): InsertRequest => ({
  token,
  outcome: { _tag: "Success", encoded },
  fingerprint: undefined,
  attempt: 1,
  createdAt: 0,
  expiresAt: 9e12,
  retention: 9e5
})

/** All pages of a list. */
export const pagesOf = (
  driver: Driver,
  request: Partial<ListRequest> = {}
): Effect.Effect<ReadonlyArray<Page>, IdempotencyStorageError> =>
  Effect.suspend(() => {
    const from = (cursor: string | undefined): Effect.Effect<ReadonlyArray<Page>, IdempotencyStorageError> => {
      const asked: ListRequest = {
        operation: undefined,
        keyPrefix: undefined,
        state: undefined,
        limit: 100,
        ...request,
        cursor
      }
      return Effect.flatMap(driver.list?.(asked) ?? Effect.dieMessage("no list"), (reply) => {
        if (reply._tag === "BadCursor") return Effect.dieMessage("a bad cursor")
        return reply.cursor === undefined
          ? Effect.succeed([reply])
          : Effect.map(from(reply.cursor), (more) => [reply, ...more])
      })
    }
    return from(request.cursor)
  })

export const entriesOf = (pages: ReadonlyArray<Page>): ReadonlyArray<Entry> => pages.flatMap(({ entries }) => entries)

/** The stored keys of all pages, sorted. */
export const keysOf = (pages: ReadonlyArray<Page>): ReadonlyArray<string> =>
  entriesOf(pages)
    .map(({ identifiers }) => storedKey(identifiers))
    .sort()
