import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type * as ioredis from "ioredis"
import { IdempotencyStorageError } from "../../IdempotencyError.js"
import type { RedisClient } from "./client.js"
import { isNotConnected, sort } from "./errors.js"

/** Options of `Redis`, as far as both majors of `ioredis` share them. */
export type NodeOptions = Omit<ioredis.RedisOptions, "Connector">

/** Options of `Cluster`, as far as both majors of `ioredis` share them. */
export interface ClusterOptions extends Omit<ioredis.ClusterOptions, "redisOptions"> {
  readonly redisOptions?: Omit<NonNullable<ioredis.ClusterOptions["redisOptions"]>, "Connector">
}

/** Where to connect to, and how: one node or what Sentinel watches, or some nodes of a Cluster. */
export type Target =
  | { readonly url: string | Redacted.Redacted<string>; readonly options?: NodeOptions | undefined }
  | { readonly options: NodeOptions }
  | { readonly nodes: ReadonlyArray<ioredis.ClusterNode>; readonly options?: ClusterOptions | undefined }

interface Closable {
  connect(): Promise<void>
  quit(): Promise<unknown>
  disconnect(): void
  on(event: "error", listener: (error: unknown) => void): unknown
  on(event: "ready", listener: () => void): unknown
}

type OwnedNode = Extract<RedisClient, { readonly duplicate: unknown }> & Closable
type OwnedCluster = Exclude<RedisClient, { readonly duplicate: unknown }> & Closable

/** The constructors of `ioredis`, of either major. */
export interface Constructors {
  readonly Redis: {
    new (options: NodeOptions): OwnedNode
    new (url: string, options: NodeOptions): OwnedNode
  }
  readonly Cluster: new (nodes: Array<ioredis.ClusterNode>, options: ClusterOptions) => OwnedCluster
}

/** A client of our own. */
export interface Owned {
  readonly client: RedisClient
  /** Ends with the first connection, or the first failure to connect; the client goes on trying. */
  readonly connect: Effect.Effect<void, IdempotencyStorageError>
  /** What lies behind the client's word that it is not connected. */
  readonly explain: (error: unknown) => unknown
}

const longestPause = 1000
const closingTime = Duration.seconds(1)

const reconnectAfter = (times: number): number => Math.min(50 * 2 ** Math.min(times - 1, 10), longestPause)

/**
 * An outage shows at once: what cannot be sent fails, what was sent and not answered fails, and a connection that
 * swallows what it is sent is replaced. The client reconnects for as long as it lives, and sends nothing again by itself:
 * after an outage that may be long after its caller has given up.
 */
const safe = {
  connectTimeout: 2000,
  maxRetriesPerRequest: 0,
  socketTimeout: 5000,
  keepAlive: 10_000,
  // After a fail-over the address may lead to the new primary, while the connection leads to the old one.
  reconnectOnError: (error: Error) => error.message.startsWith("READONLY")
} satisfies NodeOptions

const safeNode: NodeOptions = { ...safe, enableOfflineQueue: false, retryStrategy: reconnectAfter }

const construct = ({ Cluster, Redis }: Constructors, target: Target): OwnedNode | OwnedCluster => {
  if ("nodes" in target) {
    const { redisOptions, ...options } = target.options ?? {}
    return new Cluster([...target.nodes], {
      enableOfflineQueue: false,
      clusterRetryStrategy: reconnectAfter,
      ...options,
      redisOptions: { ...safe, ...redisOptions },
      lazyConnect: true
    })
  }
  const options: NodeOptions = { ...safeNode, ...target.options, lazyConnect: true }
  if (!("url" in target)) return new Redis(options)
  return new Redis(Redacted.isRedacted(target.url) ? Redacted.value(target.url) : target.url, options)
}

/** Lets what was sent be answered, for a while. */
const close = (client: Closable): Effect.Effect<void> =>
  Effect.tryPromise(() => client.quit()).pipe(
    // A finalizer is not interruptible, and a timeout only ends what is.
    Effect.interruptible,
    Effect.timeout(closingTime),
    Effect.ignore,
    Effect.ensuring(Effect.sync(() => client.disconnect()))
  )

const notConnected = (cause: unknown): IdempotencyStorageError =>
  new IdempotencyStorageError({ operation: "", method: "connect", reason: sort(cause).reason, applied: "no", cause })

/** Opens a client for the scope. */
export const makeOwned = (constructors: Constructors, target: Target): Effect.Effect<Owned, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => {
        const client = construct(constructors, target)
        let lastFailure: unknown
        const remember = (error: unknown) => {
          lastFailure = error
        }
        client.on("error", remember)
        client.on("ready", () => remember(undefined))
        return { client, whyNotConnected: () => lastFailure }
      }),
      ({ client }) => close(client)
    ),
    ({ client, whyNotConnected }): Owned => ({
      client,
      connect: Effect.tryPromise({
        try: () => client.connect(),
        catch: (error) => notConnected(whyNotConnected() ?? error)
      }),
      explain: (error) => {
        if (!isNotConnected(error)) return error
        const why = whyNotConnected()
        return why !== undefined && sort(why).applied === "no" ? why : error
      }
    })
  )
