/**
 * What a tracer and Prometheus see of one execution and its replays: `npm run example:observability`.
 *
 * The same order is paid five times. The spans of the four replays are linked to the span of the one execution, and the
 * metrics count them. `dashboard.json` beside this file is a Grafana dashboard of these metrics.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { layerMemory, withIdempotency } from "effect-idempotency"
import { metricsUrl, spans, telemetry } from "./telemetry.js"

const charge = Effect.succeed({ chargeId: "ch-1" }).pipe(Effect.delay("20 millis"), Effect.withSpan("gateway.charge"))

const pay = charge.pipe(withIdempotency("payment.charge", "order-1"), Effect.withSpan("POST /payments"))

const fetchMetrics = Effect.promise(async () => (await fetch(metricsUrl)).text())

const example = Effect.gen(function* () {
  // Three at once: one runs, two wait for it. Then two that find its record.
  yield* Effect.all([pay, pay, pay], { concurrency: "unbounded" })
  yield* Effect.all([pay, pay])

  const metrics = (yield* fetchMetrics).split("\n").filter((line) => /^idempotency_\w+(_total|_count)\{/.test(line))
  console.log(`\nSpans\n\n${spans()}\n\n${metricsUrl}\n\n${metrics.join("\n")}\n`)
})

await Effect.runPromise(Effect.provide(example, Layer.merge(layerMemory, telemetry)))
