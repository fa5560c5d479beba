/**
 * Everything a first program needs.
 *
 * @since 0.1.0
 */
import * as Layer from "effect/Layer"
import { Idempotency } from "./Idempotency.js"
import type { IdempotencyDomainService } from "./IdempotencyDomainService.js"
import type { IdempotencyMetrics } from "./IdempotencyMetrics.js"
import type { IdempotencyRepository } from "./IdempotencyRepository.js"
import { policyAndMetrics } from "./internal/policyAndMetrics.js"
import { MemoryIdempotencyRepository } from "./MemoryIdempotencyRepository.js"

/**
 * All four services over the memory store. It takes `IdempotencyDomainService` and `IdempotencyMetrics` from beneath if
 * they are provided to it (`layerMemory.pipe(Layer.provide(…))`), else the defaults. A constant: built once, however
 * often it is named in a program.
 *
 * @example
 * ```ts
 * import * as Effect from "effect/Effect"
 * import { layerMemory, withIdempotency } from "effect-idempotency"
 *
 * const program = Effect.succeed("paid").pipe(
 *   withIdempotency("payment.charge", "order-1"),
 *   Effect.provide(layerMemory)
 * )
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const layerMemory: Layer.Layer<
  Idempotency | IdempotencyRepository | IdempotencyDomainService | IdempotencyMetrics
> = Idempotency.layer.pipe(Layer.provideMerge(MemoryIdempotencyRepository.layer), Layer.provideMerge(policyAndMetrics))
