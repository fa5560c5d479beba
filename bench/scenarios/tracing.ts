/** What spans and metrics cost together: ours with a tracer and metrics, beside ours without either. */
import { NodeSdk } from "@effect/opentelemetry"
import {
  AlwaysOnSampler,
  BatchSpanProcessor,
  type Sampler,
  type SpanExporter,
  TraceIdRatioBasedSampler
} from "@opentelemetry/sdk-trace-base"
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import {
  type Idempotency,
  IdempotencyMetrics,
  type IdempotencyRepository,
  MemoryIdempotencyRepository,
  withIdempotency
} from "effect-idempotency"
import { atEach, compareFirst, compareReplay, type Store } from "../comparisons.js"
import type { Run } from "../drive.js"
import { bothWays, engineOver, protectedBy, runOver, storageTimeout } from "../ours.js"
import { makeBench, redisLayer } from "../redisStore.js"
import { ours, type Row } from "../rows.js"
import type { Scenario } from "../scenario.js"
import { makeStore } from "./memory.js"

/** What becomes of spans once they are made is another's work. */
const dropping: SpanExporter = {
  export: (_, done) => done({ code: 0 }),
  shutdown: () => Promise.resolve()
}

const tracer = (sampler: Sampler) =>
  NodeSdk.layer(() => ({
    resource: { serviceName: "bench" },
    spanProcessor: new BatchSpanProcessor(dropping),
    tracerConfig: { sampler }
  }))

type Engine = Layer.Layer<Idempotency | IdempotencyRepository>

interface Way {
  readonly name: string
  readonly role: "limit" | "ours"
  readonly metrics: Layer.Layer<IdempotencyMetrics>
  readonly telemetry: Layer.Layer<never>
  /** What surrounds each call. */
  readonly around?: <A, E, R>(call: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}

const withMetrics = { role: "ours", metrics: IdempotencyMetrics.layer } as const
const always = Layer.discard(tracer(new AlwaysOnSampler()))
const seldom = Layer.discard(tracer(new TraceIdRatioBasedSampler(0.01)))
const inSpan: Way["around"] = (call) => Effect.withSpan(call, "caller")

const ways: ReadonlyArray<Way> = [
  { name: "no tracer, no metrics", role: "limit", metrics: IdempotencyMetrics.layerNoop, telemetry: Layer.empty },
  { name: `${ours}, metrics alone`, ...withMetrics, telemetry: Layer.empty },
  { name: ours, ...withMetrics, telemetry: always },
  { name: `${ours}, 1 trace in 100`, ...withMetrics, telemetry: seldom },
  { name: `${ours}, in a span of the caller's`, ...withMetrics, telemetry: always, around: inSpan },
  // What tracing costs that is not ours.
  {
    name: "a span of the caller's, none of ours",
    ...withMetrics,
    telemetry: always,
    around: (call) => Effect.withSpan(Effect.withTracerEnabled(call, false), "caller")
  }
]

interface On {
  readonly run: Run<Idempotency>
  readonly store: Store
}

/** The same store and engine for each of the ways. */
const subjectsOver = (
  repository: Effect.Effect<Layer.Layer<IdempotencyRepository>, never, Scope.Scope>,
  on: (engine: Engine) => Effect.Effect<On, never, Scope.Scope>
) =>
  Effect.forEach(ways, ({ around = identity, metrics, name, role, telemetry }) =>
    Effect.gen(function* () {
      const engine = engineOver(yield* repository, { storageTimeout }, metrics)
      const { run, store } = yield* on(Layer.provideMerge(engine, telemetry))
      const [subject] = bothWays(run, store, 200, (body, key) =>
        around(withIdempotency(body.effect, "bench", key, protectedBy))
      )
      return { ...subject, name, role }
    })
  )

const onMemory = subjectsOver(Effect.succeed(MemoryIdempotencyRepository.layer), (engine) => makeStore(engine))

const onRedis = Effect.flatMap(makeBench, (bench) =>
  subjectsOver(redisLayer(bench), (engine) => Effect.map(runOver(engine), (run) => ({ run, store: bench.store })))
)

const scenarios = {
  "tracing/memory first": { subjects: onMemory, compared: compareFirst, timeEvery: 16 },
  "tracing/memory replay 200 B": { subjects: onMemory, compared: compareReplay, timeEvery: 16 },
  "tracing/redis first": { subjects: onRedis, compared: compareFirst, timeEvery: 1 },
  "tracing/redis replay 200 B": { subjects: onRedis, compared: compareReplay, timeEvery: 1 }
}

export const tracing: Scenario = {
  topic: "tracing",
  names: Object.keys(scenarios),
  run: (setting) =>
    Effect.gen(function* () {
      const rows: Array<Row> = []
      for (const [name, { compared, subjects, timeEvery }] of Object.entries(scenarios)) {
        if (!setting.wants(name)) continue
        const [limit, ...others] = yield* subjects
        if (limit !== undefined) {
          rows.push(...(yield* atEach(setting, name, compared, { limit, others, timeEvery }, ["cpu"])))
        }
      }
      return rows
    })
}
