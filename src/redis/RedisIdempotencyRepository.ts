/**
 * Records in Redis 6.2 or later, or Valkey: one node, what Sentinel watches, or a Cluster, through `ioredis` 5 or 6.
 *
 * A record is one string under `{keyPrefix}{operation}:{key}`, or `{keyPrefix}{operation}:{scope}:{key}`, whose time to
 * live is the record's retention. Every operation on a claim is one script, judged by the server's clock. Set
 * `maxmemory-policy` to `noeviction`: a claim that is evicted can run twice.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import type * as ConfigError from "effect/ConfigError"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as ioredis from "ioredis"
import type { IdempotencyStorageError } from "../IdempotencyError.js"
import { IdempotencyRepository } from "../IdempotencyRepository.js"
import type * as client from "../internal/redis/client.js"
import type * as connection from "../internal/redis/connection.js"
import { makeOver, makeOwning } from "../internal/redis/make.js"

/**
 * A client of `ioredis`, in either major, of which the store uses only this: a `Redis` or a `Cluster`.
 *
 * @since 0.1.0
 * @category models
 */
export type RedisClient = client.RedisClient

/**
 * Options of the layers that connect themselves, for one node: those of `ioredis`, over safe defaults.
 *
 * @since 0.1.0
 * @category models
 */
export type RedisNodeOptions = connection.NodeOptions

/**
 * Options of the layers that connect themselves, for a Cluster: those of `ioredis`, over safe defaults.
 *
 * @since 0.1.0
 * @category models
 */
export type RedisClusterOptions = connection.ClusterOptions

/**
 * What every layer of the store can be told.
 *
 * @since 0.1.0
 * @category models
 */
export interface RedisIdempotencyRepositoryOptions<
  Startup extends "log" | "fail" = "log" | "fail",
  Eviction extends "warn" | "fail" = "warn" | "fail"
> {
  /**
   * What the keys begin with; `idempotency:` by default. In a Cluster a hash tag in it (`{payments}:`) puts all keys in
   * one slot: then `saveMany` can roll back, and one node bears the load.
   */
  readonly keyPrefix?: string | undefined
  /**
   * What becomes of a server that cannot be reached, or refuses, when the layer is built: `log` (the default), and
   * each operation fails until it can be; or `fail`, the layer with `IdempotencyStorageError`.
   */
  readonly startup?: Startup | undefined
  /** What becomes of a server that evicts keys when its memory is full: `warn` (the default) or `fail`. */
  readonly eviction?: Eviction | undefined
  /** How long the layer tries at most to reach the server while it is built; 2 seconds by default. */
  readonly startupTimeout?: Duration.DurationInput | undefined
  /** How long an operation on records, or of an operator, may take; 1 second by default. */
  readonly operationTimeout?: Duration.DurationInput | undefined
  /** Whether replicas confirm claims and completions; none do by default. Not for a Cluster. */
  readonly durability?: RedisDurability | undefined
}

/**
 * Claims and completions wait until replicas have them (`WAIT`, on a connection of its own), so that a failover to one
 * of these loses none. It narrows what a failover may lose, and does not end it: a primary that is cut off can be
 * replaced by a replica that was not among them.
 *
 * Every call then needs `onStorageFailure: "fail"`; others fail with `IdempotencyValidationError`. A claim that is not
 * confirmed fails with `IdempotencyStorageError` (`Rejected`), the effect does not run, and the key is released. The
 * result of an effect that ran is given even if its record is not confirmed: this is counted as an error `Unconfirmed`.
 *
 * @since 0.1.0
 * @category models
 */
export interface RedisDurability {
  /** How many have to confirm, 1 or more. With several replicas, ask for as many as a failover may choose from. */
  readonly replicas: number
  /** How long a call waits for them: below a third of the engine's `storageTimeout`, which is 1 second by default. */
  readonly timeout: Duration.DurationInput
}

/**
 * Where a layer connects to: the URL of a node (`redis://`, `rediss://`), the options of `ioredis` for a node or for
 * Sentinel, or some nodes of a Cluster. What `options` leaves open is safe: an outage shows at once (nothing is queued
 * while there is no connection), what was sent is sent again once after a reconnection, a connection that no longer
 * answers is replaced within 5 seconds, and the client reconnects for as long as the layer lives.
 *
 * @since 0.1.0
 * @category models
 */
export type RedisTarget = connection.Target

/**
 * A client of the caller's, or where to connect to.
 *
 * @since 0.1.0
 * @category models
 */
export type RedisSource = { readonly redis: RedisClient } | RedisTarget

/**
 * What `layerConfig` reads: the URL of a node, and the options of the layer.
 *
 * @since 0.1.0
 * @category models
 */
export interface RedisIdempotencyRepositoryConfig extends RedisIdempotencyRepositoryOptions {
  readonly url: string | Redacted.Redacted<string>
}

/**
 * The failure of a layer: only one that was asked to fail can.
 *
 * @since 0.1.0
 * @category models
 */
export type RedisStartupFailure<Startup, Eviction> = "fail" extends Startup | Eviction ? IdempotencyStorageError : never

type Options<Startup extends "log" | "fail", Eviction extends "warn" | "fail"> = RedisIdempotencyRepositoryOptions<
  Startup,
  Eviction
>

// Overloads, because no implementation can show that what was not asked to fail is logged instead.
function layer<Startup extends "log" | "fail" = "log", Eviction extends "warn" | "fail" = "warn">(
  options: { readonly redis: RedisClient } & Options<Startup, Eviction>
): Layer.Layer<IdempotencyRepository, RedisStartupFailure<Startup, Eviction>>
function layer({
  redis,
  ...settings
}: { readonly redis: RedisClient } & RedisIdempotencyRepositoryOptions): Layer.Layer<
  IdempotencyRepository,
  IdempotencyStorageError
> {
  return Layer.scoped(IdempotencyRepository, makeOver(redis, settings))
}

function layerClient<Startup extends "log" | "fail" = "log", Eviction extends "warn" | "fail" = "warn">(
  options: RedisTarget & Options<Startup, Eviction>
): Layer.Layer<IdempotencyRepository, RedisStartupFailure<Startup, Eviction>>
function layerClient(
  options: RedisTarget & RedisIdempotencyRepositoryOptions
): Layer.Layer<IdempotencyRepository, IdempotencyStorageError> {
  return Layer.scoped(IdempotencyRepository, makeOwning(ioredis, options, options))
}

function layerFrom<Startup extends "log" | "fail" = "log", Eviction extends "warn" | "fail" = "warn">(
  options: RedisSource & Options<Startup, Eviction>
): Layer.Layer<IdempotencyRepository, RedisStartupFailure<Startup, Eviction>>
function layerFrom(
  options: RedisSource & RedisIdempotencyRepositoryOptions
): Layer.Layer<IdempotencyRepository, IdempotencyStorageError> {
  return "redis" in options ? layer(options) : layerClient(options)
}

const layerConfig = (
  config: Config.Config.Wrap<RedisIdempotencyRepositoryConfig>
): Layer.Layer<IdempotencyRepository, ConfigError.ConfigError | IdempotencyStorageError> =>
  Layer.unwrapEffect(Effect.map(Config.unwrap(config), (options) => layerClient(options)))

/**
 * The layers of the Redis store.
 *
 * @example
 * ```ts
 * import * as Config from "effect/Config"
 * import { RedisIdempotencyRepository } from "effect-idempotency/redis"
 * import { Redis } from "ioredis"
 *
 * // On a client of your own, which stays yours to close:
 * const shared = RedisIdempotencyRepository.layer({ redis: new Redis("redis://localhost:6380") })
 *
 * // On connections of the layer's:
 * const owned = RedisIdempotencyRepository.layerClient({ url: "redis://localhost:6380", startup: "fail" })
 *
 * const configured = RedisIdempotencyRepository.layerConfig({ url: Config.redacted("REDIS_URL") })
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const RedisIdempotencyRepository: {
  /**
   * On a client that the caller opened and closes. Waiters of this layer share one more connection, made from that
   * client when the first of them comes. Set `maxRetriesPerRequest: 0` on the client, so that an outage is not taken
   * for slowness, and nothing is sent again after one, when its caller has long given up; and a `socketTimeout`, so
   * that a connection on which nothing comes back is replaced: without it, that is an outage until TCP gives it up.
   *
   * @since 0.1.0
   * @category layers
   */
  readonly layer: typeof layer
  /**
   * On connections that are opened with the layer and closed with its scope.
   *
   * @since 0.1.0
   * @category layers
   */
  readonly layerClient: typeof layerClient
  /**
   * {@link layerClient} for the URL of a node, from `Config`.
   *
   * @since 0.1.0
   * @category layers
   */
  readonly layerConfig: typeof layerConfig
  /**
   * {@link layer} or {@link layerClient}, as the options say.
   *
   * @example
   * ```ts
   * import { RedisIdempotencyRepository, type RedisSource } from "effect-idempotency/redis"
   *
   * const repository = (source: RedisSource) => RedisIdempotencyRepository.layerFrom({ ...source, keyPrefix: "payments:" })
   * ```
   *
   * @since 0.1.0
   * @category layers
   */
  readonly layerFrom: typeof layerFrom
} = { layer, layerClient, layerConfig, layerFrom }
