/**
 * The Redis store.
 *
 * @since 0.1.0
 */

export * from "./redis/layerRedis.js"
export * from "./redis/RedisIdempotencyRepository.js"
