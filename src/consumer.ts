/**
 * Messages that are delivered more than once, processed once.
 *
 * @since 0.1.0
 */

export * from "./consumer/ConsumerOptions.js"
export * from "./consumer/IdempotentConsumer.js"
export * from "./consumer/MessageOutcome.js"
export * from "./consumer/MessagePoisonedError.js"
