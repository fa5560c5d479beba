/**
 * Which way a protected call went.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import type * as DateTime from "effect/DateTime"
import type { IdempotencyStorageError } from "./IdempotencyError.js"

/**
 * `Executed`: the effect ran, and its result is recorded. `Replayed`: it ran before, and this is its recorded result
 * (instants by the store's clock). `Unprotected`: it ran without a key, or the store failed.
 *
 * @since 0.1.0
 * @category models
 */
export type IdempotencyOutcome<A> = Data.TaggedEnum<{
  Executed: { readonly value: A; readonly attempt: number }
  Replayed: { readonly value: A; readonly recordedAt: DateTime.Utc; readonly expiresAt: DateTime.Utc }
  Unprotected: { readonly value: A; readonly reason: "NoKey" | IdempotencyStorageError }
}>

/**
 * The definition that the constructors of {@link IdempotencyOutcome} are made of.
 *
 * @since 0.1.0
 * @category models
 */
export interface IdempotencyOutcomeDefinition extends Data.TaggedEnum.WithGenerics<1> {
  readonly taggedEnum: IdempotencyOutcome<this["A"]>
}

/**
 * Constructors, `$is` and `$match` of {@link IdempotencyOutcome}.
 *
 * @since 0.1.0
 * @category constructors
 */
export const IdempotencyOutcome = Data.taggedEnum<IdempotencyOutcomeDefinition>()
