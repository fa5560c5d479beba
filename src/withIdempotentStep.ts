/**
 * Recovery points inside a protected effect.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type { IdempotencyResultUnavailableError, IdempotencyValidationError } from "./IdempotencyError.js"
import { IdempotentExecution } from "./IdempotentExecution.js"
import { runStep } from "./internal/step.js"
import type { Recordable } from "./Jsonable.js"
import type { IdempotencyResult } from "./withIdempotency.js"

/**
 * Inside a protected effect: the step's result is recorded under the key of the execution that it runs in. When that
 * effect runs again (after a crash, a take-over, a later failure), finished steps are replayed, not run.
 *
 * `name` has 1–255 characters, no lone surrogates, and is used once per run: a second finished or running step of that
 * name is an `IdempotencyValidationError`, as is a step after the hundredth; nothing runs then. A recorded step that
 * cannot be decoded is an `IdempotencyResultUnavailableError`. The result is JSON by type, or has a `success` schema. A
 * result that cannot be recorded (the store fails, or the steps of a key exceed 256 Ki characters) is given and logged:
 * that step is then at-least-once. Where nothing is claimed (no key, `strategy: "optimistic"`, a degraded run) steps just
 * run.
 *
 * After: Brandur Leach, "Implementing Stripe-like Idempotency Keys in Postgres" (2017), recovery points.
 *
 * @example
 * ```ts
 * import * as Effect from "effect/Effect"
 * import { withIdempotency, withIdempotentStep } from "effect-idempotency"
 *
 * const checkout = Effect.gen(function* () {
 *   const charge = yield* Effect.succeed({ id: "ch-1" }).pipe(withIdempotentStep("charge"))
 *   const parcel = yield* Effect.succeed({ id: "p-1" }).pipe(withIdempotentStep("ship"))
 *   return { charge: charge.id, parcel: parcel.id }
 * }).pipe(withIdempotency("checkout", "order-1"))
 * ```
 *
 * @since 0.1.0
 * @category combinators
 */
export const withIdempotentStep =
  <Success extends Schema.Schema.Any | undefined = never>(
    name: string,
    options?: { readonly success?: Success | undefined }
  ): (<A, E, R>(
    self: Effect.Effect<A, E, R> & Recordable<Success, A>
  ) => Effect.Effect<
    IdempotencyResult<Success, A>,
    E | IdempotencyValidationError | IdempotencyResultUnavailableError,
    R | IdempotentExecution | Schema.Schema.Context<Success>
  >) =>
  <A, E, R>(self: Effect.Effect<A, E, R>) =>
    // A step gives what the effect gave, or what its codec made of the record: the result's type either way.
    Effect.flatMap(
      IdempotentExecution,
      () =>
        runStep(self, name, options?.success) as Effect.Effect<
          IdempotencyResult<Success, A>,
          E | IdempotencyValidationError | IdempotencyResultUnavailableError,
          R | Schema.Schema.Context<Success>
        >
    )
