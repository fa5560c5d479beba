/**
 * Everything a program on Redis needs.
 *
 * @since 0.1.0
 */
import * as Layer from "effect/Layer"
import { Idempotency } from "../Idempotency.js"
import type { IdempotencyDomainService } from "../IdempotencyDomainService.js"
import type { IdempotencyStorageError } from "../IdempotencyError.js"
import type { IdempotencyMetrics } from "../IdempotencyMetrics.js"
import type { IdempotencyRepository } from "../IdempotencyRepository.js"
import { policyAndMetrics } from "../internal/policyAndMetrics.js"
import {
  RedisIdempotencyRepository,
  type RedisIdempotencyRepositoryOptions,
  type RedisSource,
  type RedisStartupFailure
} from "./RedisIdempotencyRepository.js"

type AllServices = Idempotency | IdempotencyRepository | IdempotencyDomainService | IdempotencyMetrics

/**
 * All four services over the Redis store, on a client of the caller's (`{ redis }`) or on connections of the layer's
 * (`{ url }`, `{ options }`, `{ nodes }`). It takes `IdempotencyDomainService` and `IdempotencyMetrics` from beneath if
 * they are provided to it, else the defaults. Keep the layer in a constant: each call makes another.
 *
 * Fails with `IdempotencyStorageError` only if `startup: "fail"` or `eviction: "fail"` asks for it.
 *
 * @example
 * ```ts
 * import * as Effect from "effect/Effect"
 * import { withIdempotency } from "effect-idempotency"
 * import { layerRedis } from "effect-idempotency/redis"
 *
 * const IdempotencyLive = layerRedis({ url: "redis://localhost:6380" })
 *
 * const program = Effect.succeed("paid").pipe(
 *   withIdempotency("payment.charge", "order-1"),
 *   Effect.provide(IdempotencyLive)
 * )
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export function layerRedis<Startup extends "log" | "fail" = "log", Eviction extends "warn" | "fail" = "warn">(
  options: RedisSource & RedisIdempotencyRepositoryOptions<Startup, Eviction>
): Layer.Layer<AllServices, RedisStartupFailure<Startup, Eviction>>
export function layerRedis(
  options: RedisSource & RedisIdempotencyRepositoryOptions
): Layer.Layer<AllServices, IdempotencyStorageError> {
  return Idempotency.layer.pipe(
    Layer.provideMerge(RedisIdempotencyRepository.layerFrom(options)),
    Layer.provideMerge(policyAndMetrics)
  )
}
