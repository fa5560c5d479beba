/** The payments API: what its server implements, and its client and its documentation are derived from. */
import * as HttpApi from "@effect/platform/HttpApi"
import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as Schema from "effect/Schema"
import { HttpIdempotency } from "effect-idempotency/http"

export const Order = Schema.Struct({ id: Schema.NonEmptyString, amount: Schema.Int.pipe(Schema.positive()) })
export type Order = typeof Order.Type

export const Receipt = Schema.Struct({ chargeId: Schema.String, amount: Schema.Int })

export class CardDeclined extends Schema.TaggedError<CardDeclined>()("CardDeclined", { reason: Schema.String }) {}

const charge = HttpApiEndpoint.post("charge", "/charges")
  .setPayload(Order)
  .addSuccess(Receipt, { status: 201 })
  .addError(CardDeclined, { status: 402 })
  .pipe(HttpIdempotency.endpoint({ required: true }))

const chargesOf = HttpApiEndpoint.get("chargesOf")`/charges/${HttpApiSchema.param("order", Schema.String)}`.addSuccess(
  Schema.Array(Receipt)
)

export const PaymentsApi = HttpApi.make("payments").add(HttpApiGroup.make("payments").add(charge).add(chargesOf))
