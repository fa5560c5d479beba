/**
 * Which way a delivery went.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"

/**
 * `Processed`: the handler ran for this delivery, without protection if the message had no id or the store failed.
 * `Duplicate`: the message was processed before, and this is the recorded result. Both are to be acknowledged.
 *
 * @since 0.1.0
 * @category models
 */
export type MessageOutcome<A> = Data.TaggedEnum<{
  Processed: { readonly value: A }
  Duplicate: { readonly value: A }
}>

/**
 * The definition that the constructors of {@link MessageOutcome} are made of.
 *
 * @since 0.1.0
 * @category models
 */
export interface MessageOutcomeDefinition extends Data.TaggedEnum.WithGenerics<1> {
  readonly taggedEnum: MessageOutcome<this["A"]>
}

/**
 * Constructors, `$is` and `$match` of {@link MessageOutcome}.
 *
 * @example
 * ```ts
 * import { MessageOutcome } from "effect-idempotency/consumer"
 *
 * const told = MessageOutcome.$match({
 *   Processed: ({ value }) => `shipped: ${value}`,
 *   Duplicate: ({ value }) => `shipped before: ${value}`
 * })
 *
 * const text: string = told(MessageOutcome.Processed({ value: "parcel-1" }))
 * ```
 *
 * @since 0.1.0
 * @category constructors
 */
export const MessageOutcome = Data.taggedEnum<MessageOutcomeDefinition>()
