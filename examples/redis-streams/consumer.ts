/** A worker of the group: what it does with a batch of deliveries. */
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type { Idempotency } from "effect-idempotency"
import { IdempotentConsumer } from "effect-idempotency/consumer"
import type { Order, Orders } from "./orders.js"

export class OutOfStock extends Data.TaggedError("OutOfStock") {}

/** Ships orders, each id once, and says what became of each delivery. */
export const shipAll = (
  orders: Orders,
  deliveries: ReadonlyArray<Order>,
  ship: (order: Order) => Effect.Effect<void, OutOfStock>
): Effect.Effect<ReadonlyArray<string>, never, Idempotency> =>
  IdempotentConsumer.processBatch("shipping", deliveries, {
    id: ({ id }) => id,
    // The orders of every run have the same ids.
    scope: orders.run,
    // One after the other, so that the crash comes in the middle; the batch is claimed as a whole all the same.
    concurrency: 1,
    maxAttempts: 3,
    // Short, so that nobody waits long for what a crashed worker held.
    lease: "3 seconds"
  })(ship).pipe(
    Effect.flatMap((exits) =>
      Effect.forEach(deliveries, (order, index) => {
        const exit = exits[index] ?? Exit.die("an exit for each delivery")
        if (Exit.isSuccess(exit)) {
          return Effect.as(orders.acknowledge(order), `${order.id}: ${exit.value._tag}, acknowledged`)
        }
        const failure = Option.getOrUndefined(Cause.failureOption(exit.cause))
        switch (failure?._tag) {
          case "MessagePoisonedError":
            return Effect.as(orders.moveAway(order), `${order.id}: poisoned, moved to the dead letters`)
          case "IdempotencyInFlightError":
            return Effect.succeed(`${order.id}: in flight elsewhere, left pending`)
          default:
            return Effect.succeed(`${order.id}: ${failure?._tag ?? Cause.pretty(exit.cause)}, left pending`)
        }
      })
    )
  )
