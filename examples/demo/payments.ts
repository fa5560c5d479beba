/** A small payment service: what the demo protects. */
import { appendFileSync, existsSync, readFileSync } from "node:fs"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { IdempotentExecution, withIdempotencyOutcome } from "effect-idempotency"

export interface Order {
  readonly id: string
  readonly amount: number
}

export interface Receipt {
  readonly chargeId: string
  readonly amount: number
}

/** Charges cards, slowly, and keeps a ledger file that every process of the demo appends to. */
export class Gateway extends Context.Tag("demo/Gateway")<
  Gateway,
  {
    readonly charge: (order: Order) => Effect.Effect<Receipt>
    /** How often the card of an order was charged, in all processes. */
    readonly chargesOf: (order: Order) => Effect.Effect<number>
  }
>() {
  static readonly layer = (ledger: string): Layer.Layer<Gateway> =>
    Layer.succeed(Gateway, {
      charge: (order) =>
        Effect.sync(() => {
          appendFileSync(ledger, `${order.id}\n`)
          return { chargeId: `ch_${order.id}`, amount: order.amount }
        }).pipe(Effect.delay("60 millis")),
      chargesOf: (order) =>
        Effect.sync(() =>
          existsSync(ledger)
            ? readFileSync(ledger, "utf8")
                .split("\n")
                .filter((line) => line === order.id).length
            : 0
        )
    })
}

/** The lease of the demo: short, so that nobody waits long for a killed worker. */
export const lease = "2 seconds"

/** Charges an order once. */
export const pay = (order: Order) =>
  Effect.flatMap(Gateway, (gateway) => gateway.charge(order)).pipe(
    withIdempotencyOutcome("payment.charge", order.id, { fingerprint: { amount: order.amount }, lease })
  )

/** A worker that never finishes: it claims the order's key, says so, and hangs. */
export const hang = (order: Order, claimed: Effect.Effect<void>) =>
  Effect.flatMap(IdempotentExecution, () => Effect.zipRight(claimed, Effect.never)).pipe(
    withIdempotencyOutcome("payment.charge", order.id, { fingerprint: { amount: order.amount }, lease })
  )
