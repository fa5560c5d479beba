/**
 * `Idempotency-Key` on HTTP servers and clients.
 *
 * @since 0.1.0
 */

export * from "./http/HttpIdempotency.js"
export * from "./http/HttpIdempotencyApi.js"
export * from "./http/HttpIdempotencyClient.js"
export * from "./http/HttpIdempotencyProblem.js"
