/** Where spans and metrics go: here to memory, for the example to print, and to an endpoint that Prometheus reads. */
import { NodeSdk } from "@effect/opentelemetry"
import { PrometheusExporter } from "@opentelemetry/exporter-prometheus"
import { InMemorySpanExporter, type ReadableSpan, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-base"

const port = Number(process.env["METRICS_PORT"] || 9464)

export const metricsUrl = `http://127.0.0.1:${port}/metrics`

/** In production: `new BatchSpanProcessor(new OTLPTraceExporter())`. */
const exporter = new InMemorySpanExporter()

/** Everything that is needed: the library makes spans as soon as there is a tracer, and its metrics are Effect's. */
export const telemetry = NodeSdk.layer(() => ({
  resource: { serviceName: "payments" },
  spanProcessor: new SimpleSpanProcessor(exporter),
  metricReader: new PrometheusExporter({ host: "127.0.0.1", port })
}))

const short = (id: string): string => id.slice(-6)

const line = (span: ReadableSpan): string => {
  const said = ["outcome", "attempt"].flatMap((name) => {
    const value = span.attributes[`idempotency.${name}`]
    return value === undefined ? [] : [`${name} ${String(value)}`]
  })
  const links = span.links.map(({ context }) => `link to span ${short(context.spanId)}`)
  return [`${span.name} [${short(span.spanContext().spanId)}]`, ...said, ...links].join(", ")
}

/** The finished spans, each beneath its parent. */
export const spans = (): string => {
  const finished = exporter.getFinishedSpans()
  const beneath = (parent: string | undefined, indent: string): ReadonlyArray<string> =>
    finished
      .filter((span) => span.parentSpanContext?.spanId === parent)
      .flatMap((span) => [indent + line(span), ...beneath(span.spanContext().spanId, `${indent}  `)])
  return beneath(undefined, "").join("\n")
}
