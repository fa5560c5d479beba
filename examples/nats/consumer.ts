/** What a worker does with a delivery: acknowledge it, refuse it for a while, or move it away. */
import type { JsMsg } from "@nats-io/jetstream"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Idempotency } from "effect-idempotency"
import { IdempotentConsumer, MessageOutcome } from "effect-idempotency/consumer"
import { idOf, type Orders } from "./orders.js"

export class OutOfStock extends Data.TaggedError("OutOfStock") {}

/** Ships an order, each id once; then acknowledges, unless the acknowledgement gets lost. */
export const onMessage = (
  orders: Orders,
  message: JsMsg,
  ship: Effect.Effect<void, OutOfStock>,
  isAckLost: boolean
): Effect.Effect<string, never, Idempotency> =>
  ship.pipe(
    IdempotentConsumer.process("shipping", idOf(message), {
      // The orders of every run have the same ids.
      scope: orders.run,
      maxAttempts: 3
    }),
    Effect.map((outcome) => {
      if (!isAckLost) message.ack()
      const told = MessageOutcome.$match(outcome, { Processed: () => "shipped", Duplicate: () => "shipped before" })
      return `${told}, ${isAckLost ? "the acknowledgement gets lost" : "acknowledged"}`
    }),
    Effect.catchTags({
      MessagePoisonedError: ({ maxAttempts }) =>
        Effect.as(
          Effect.promise(() => orders.moveAway(message)),
          `tried ${maxAttempts} times: moved to the dead letters`
        ),
      IdempotencyInFlightError: ({ retryAfter }) =>
        Effect.sync(() => {
          message.nak(Duration.toMillis(retryAfter))
          return "in flight elsewhere: later again"
        })
    }),
    Effect.catchAll(({ _tag }) =>
      Effect.sync(() => {
        message.nak(100)
        return `failed with ${_tag}: soon again`
      })
    )
  )
