/**
 * What a protected effect may ask about itself.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type { IdempotencyKey } from "./IdempotencyKey.js"

/**
 * The running execution. `withIdempotency` provides it.
 *
 * @example
 * ```ts
 * import * as Effect from "effect/Effect"
 * import { IdempotentExecution, withIdempotency } from "effect-idempotency"
 *
 * const charge = Effect.gen(function* () {
 *   const { attempt, childKey } = yield* IdempotentExecution
 *   // The gateway gets the same key on every attempt.
 *   return { gatewayKey: childKey("gateway"), attempt }
 * }).pipe(withIdempotency("payment.charge", "order-1"))
 * ```
 *
 * @since 0.1.0
 * @category services
 */
export class IdempotentExecution extends Context.Tag("effect-idempotency/IdempotentExecution")<
  IdempotentExecution,
  {
    readonly operation: string
    /** The key; a random one where the caller had none. */
    readonly idempotencyKey: string
    readonly scope: string | undefined
    /**
     * 1 for the first owner of the key, and higher for each one after it: a fencing token for what the effect writes
     * downstream. 0 where the store could not be asked. Under `optimistic`, and without a key, nobody owns anything: it is
     * 1, and fences nothing.
     */
    readonly attempt: number
    /**
     * A key for a call downstream: of operation, scope, key and `name` (43 characters), the same on every attempt.
     * After a definite refusal downstream, use another name.
     */
    readonly childKey: (name: string) => IdempotencyKey
  }
>() {}
