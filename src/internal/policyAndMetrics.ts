import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { IdempotencyDomainService } from "../IdempotencyDomainService.js"
import { IdempotencyMetrics } from "../IdempotencyMetrics.js"

const domainFromBeneath = Layer.unwrapEffect(
  Effect.map(
    Effect.serviceOption(IdempotencyDomainService),
    Option.match({
      onNone: () => IdempotencyDomainService.layer,
      onSome: (service) => Layer.succeed(IdempotencyDomainService, service)
    })
  )
)

/** The metrics from beneath, else Effect `Metric`s. */
export const metricsFromBeneath: Layer.Layer<IdempotencyMetrics> = Layer.unwrapEffect(
  Effect.map(
    Effect.serviceOption(IdempotencyMetrics),
    Option.match({
      onNone: () => IdempotencyMetrics.layer,
      onSome: (service) => Layer.succeed(IdempotencyMetrics, service)
    })
  )
)

/** Policy and metrics of an all-in-one layer: what was provided to it, else the defaults. */
export const policyAndMetrics: Layer.Layer<IdempotencyDomainService | IdempotencyMetrics> = Layer.merge(
  domainFromBeneath,
  metricsFromBeneath
)
