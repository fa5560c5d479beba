/**
 * A message that is not tried any more.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"

/**
 * A message was attempted `maxAttempts` times without being processed; its handler was not run for this delivery, and
 * is not for later ones. Move the message to where somebody looks at it, then acknowledge it. `attempt` is what this
 * delivery would have been, and grows with each one.
 *
 * Not one of `IdempotencyError`, so that `Effect.catchIf(isIdempotencyError, …)`, after which messages are usually
 * delivered again, leaves it.
 *
 * @since 0.1.0
 * @category errors
 */
export class MessagePoisonedError extends Schema.TaggedError<MessagePoisonedError>(
  "effect-idempotency/MessagePoisonedError"
)("MessagePoisonedError", {
  operation: Schema.String,
  messageId: Schema.String,
  attempt: Schema.Int,
  maxAttempts: Schema.Int
}) {
  override get message(): string {
    return `A message of consumer "${this.operation}" was attempted ${this.maxAttempts} times without being processed, and is not attempted again: move it to a dead-letter queue, then acknowledge it`
  }
}
