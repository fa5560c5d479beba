/** The example of spans and metrics, as it is run by hand; its dashboard and the guide, against the code. */
import { execFile } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { Metrics as OtelMetrics, Resource } from "@effect/opentelemetry"
import { describe, expect, it } from "@effect/vitest"
import { PrometheusSerializer } from "@opentelemetry/exporter-prometheus"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import ts from "typescript"
import { IdempotencyMetrics } from "../../src/IdempotencyMetrics.js"
import { freePort } from "../support/servers.js"

const run = promisify(execFile)
const root = fileURLToPath(new URL("../..", import.meta.url))
const read = (path: string): string => readFileSync(join(root, path), "utf8")

type Metrics = Context.Tag.Service<IdempotencyMetrics>

/** Every measure once: a new one does not compile until it is here. */
const measures: { readonly [Name in keyof Metrics]: (metrics: Metrics) => Effect.Effect<void> } = {
  recordHit: (metrics) => metrics.recordHit("op"),
  recordMiss: (metrics) => metrics.recordMiss("op"),
  recordCollision: (metrics) => metrics.recordCollision("op"),
  recordError: (metrics) => metrics.recordError("op", "Timeout"),
  recordLatency: (metrics) => metrics.recordLatency("op", "claim", Duration.millis(3)),
  recordBulkHit: (metrics) => metrics.recordBulkHit("op", 1),
  recordBulkMiss: (metrics) => metrics.recordBulkMiss("op", 1),
  recordExecution: (metrics) => metrics.recordExecution("op"),
  recordReplay: (metrics) => metrics.recordReplay("op"),
  recordWait: (metrics) => metrics.recordWait("op", Duration.millis(3)),
  recordTakeover: (metrics) => metrics.recordTakeover("op"),
  recordDegraded: (metrics) => metrics.recordDegraded("op"),
  recordLeaseLost: (metrics) => metrics.recordLeaseLost("op"),
  recordMismatch: (metrics) => metrics.recordMismatch("op"),
  recordInFlight: (metrics) => metrics.recordInFlight("op", 1)
}

interface Exported {
  readonly type: string
  readonly help: string
  readonly tags: ReadonlyArray<string>
  /** The names of its series. */
  readonly series: ReadonlyArray<string>
}

/** Values are of all kinds: the metrics of a process are also those of the tests before. */
const label = String.raw`(\w+)="(?:[^"\\]|\\.)*"`

/** What Prometheus reads of our metrics, by their names here. */
const exported = Effect.gen(function* () {
  const metrics = yield* IdempotencyMetrics
  yield* Effect.forEach(Object.values(measures), (measure) => measure(metrics))
  const producer = yield* OtelMetrics.makeProducer
  const { resourceMetrics } = yield* Effect.promise(() => producer.collect())
  const lines = new PrometheusSerializer().serialize(resourceMetrics).split("\n")
  const found = new Map<string, Exported>()
  for (const line of lines) {
    const [, name, type] = /^# TYPE (idempotency_\w+) (\w+)$/.exec(line) ?? []
    if (name === undefined || type === undefined) continue
    const help = lines.find((other) => other.startsWith(`# HELP ${name} `))?.slice(`# HELP ${name} `.length) ?? ""
    const ofIt = lines.flatMap((other) => {
      const [, series, labels] =
        new RegExp(`^(${name}(?:_bucket|_sum|_count)?)\\{((?:${label},?)*)\\} `).exec(other) ?? []
      return series === undefined || labels === undefined ? [] : [{ series, labels }]
    })
    const tags = ofIt.flatMap(({ labels }) =>
      Array.from(labels.matchAll(new RegExp(label, "g")), ([, tag = ""]) => tag)
    )
    found.set(name.replace(/_total$/, ""), {
      type,
      help,
      tags: [...new Set(tags)].filter((tag) => tag !== "otel_scope_name" && tag !== "le"),
      series: [...new Set(ofIt.map(({ series }) => series))]
    })
  }
  return found
}).pipe(Effect.provide([IdempotencyMetrics.layer, Resource.layer({ serviceName: "test" })]))

/** The cells of the rows of a table, by its heading; nothing beside the texts in backquotes is read. */
const table = (document: string, heading: string): ReadonlyArray<ReadonlyArray<string>> => {
  const lines = document.split("\n")
  const rows: Array<ReadonlyArray<string>> = []
  for (let at = lines.findIndex((line) => line.startsWith(heading)) + 2; lines[at]?.startsWith("|"); at++) {
    rows.push(
      (lines[at] ?? "")
        .split("|")
        .slice(1, -1)
        .map((cell) => cell.trim())
    )
  }
  return rows
}

const quoted = (cell: string | undefined): ReadonlyArray<string> =>
  Array.from((cell ?? "").matchAll(/`([^`]+)`/g), ([, text = ""]) => text)

const guide = read("docs/observability.md")

describe("the example of spans and metrics", () => {
  it.scopedLive(
    "shows one execution and its replays, the spans of these linked to the other's, and ends by itself",
    () =>
      Effect.gen(function* () {
        const port = yield* Effect.promise(() => freePort())
        const { stderr, stdout } = yield* Effect.promise(() =>
          run(join(root, "node_modules", ".bin", "tsx"), ["examples/observability/main.ts"], {
            cwd: root,
            env: { ...process.env, METRICS_PORT: String(port) },
            timeout: 25_000
          })
        )
        expect(stderr).toBe("")
        const count = (series: string) => new RegExp(`^${series}\\{[^}]*\\} (\\d+)$`, "m").exec(stdout)?.[1]
        expect(count("idempotency_executions_total")).toBe("1")
        expect(count("idempotency_replays_total")).toBe("4")
        expect(count("idempotency_wait_ms_count")).toBe("2")
        const executes = stdout.split("\n").filter((line) => line.includes("idempotency.execute"))
        const [, owner] = /\[(\w+)\], outcome Executed, attempt 1$/.exec(executes[0] ?? "") ?? []
        expect(owner).toMatch(/^[0-9a-f]{6}$/)
        expect(executes.slice(1).map((line) => line.replace(/^.*?, /, ""))).toEqual(
          Array(4).fill(`outcome Replayed, link to span ${owner}`)
        )
        expect(stdout).toMatch(
          /idempotency\.storage\.claim .*\n {4}gateway\.charge .*\n {4}idempotency\.storage\.complete/
        )
      }),
    30_000
  )
})

const Dashboard = Schema.parseJson(
  Schema.Struct({
    panels: Schema.Array(
      Schema.Struct({
        id: Schema.Int,
        title: Schema.String,
        gridPos: Schema.Struct({ x: Schema.Int, y: Schema.Int, w: Schema.Int, h: Schema.Int }),
        targets: Schema.Array(Schema.Struct({ refId: Schema.String, expr: Schema.String }))
      })
    ),
    templating: Schema.Struct({ list: Schema.Array(Schema.Struct({ name: Schema.String })) })
  })
)

const seriesIn = (expression: string): ReadonlyArray<string> => expression.match(/idempotency_\w+/g) ?? []

describe("the dashboard", () => {
  const dashboard = Schema.decode(Dashboard)(read("examples/observability/dashboard.json"))

  it.effect("asks only for series that there are, and for every metric", () =>
    Effect.gen(function* () {
      const { panels } = yield* dashboard
      const metrics = [...(yield* exported).values()]
      const asked = panels.flatMap(({ targets }) => targets.flatMap(({ expr }) => seriesIn(expr)))
      const there = metrics.flatMap(({ series }) => series)
      expect(asked.filter((series) => !there.includes(series))).toEqual([])
      expect(metrics.filter(({ series }) => !series.some((one) => asked.includes(one)))).toEqual([])
      expect(metrics.length).toBe(13)
    })
  )

  it.effect("groups by tags that its series have", () =>
    Effect.gen(function* () {
      const { panels } = yield* dashboard
      const metrics = [...(yield* exported).values()]
      for (const { expr } of panels.flatMap(({ targets }) => targets)) {
        const [, by = ""] = /by \(([^)]*)\)/.exec(expr) ?? []
        const tags = by.split(",").map((tag) => tag.trim())
        for (const series of seriesIn(expr)) {
          const known = metrics.find((metric) => metric.series.includes(series))?.tags ?? []
          expect([expr, tags.filter((tag) => tag !== "" && tag !== "le" && !known.includes(tag))]).toEqual([expr, []])
        }
      }
    })
  )

  it.effect("can be narrowed to operations, and no panel lies on another", () =>
    Effect.gen(function* () {
      const { panels, templating } = yield* dashboard
      expect(templating.list.map(({ name }) => name)).toEqual(["datasource", "operation"])
      for (const { expr } of panels.flatMap(({ targets }) => targets)) {
        expect(expr.match(/operation=~"\$operation"/g)?.length).toBe(seriesIn(expr).length)
      }
      expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length)
      const cells = panels.flatMap(({ gridPos: { h, w, x, y } }) =>
        Array.from({ length: w * h }, (_, index) => `${x + (index % w)} ${y + Math.floor(index / w)}`)
      )
      expect(new Set(cells).size).toBe(cells.length)
    })
  )
})

describe("the guide", () => {
  it.effect("lists every metric with its type, tags and meaning", () =>
    Effect.gen(function* () {
      const rows = table(guide, "| metric | type |").map(([metric, type, unit, tags, counts]) => ({
        name: quoted(metric)[0],
        type,
        unit,
        tags: quoted(tags),
        help: counts
      }))
      const metrics = Array.from(yield* exported, ([name, { help, tags, type }]) => ({
        name,
        type,
        unit: name.endsWith("_ms") ? "milliseconds" : "1",
        tags,
        help
      }))
      const byName = (one: { readonly name: string | undefined }, other: { readonly name: string | undefined }) =>
        (one.name ?? "").localeCompare(other.name ?? "")
      expect(rows.toSorted(byName)).toEqual(metrics.toSorted(byName))
    })
  )

  it.effect("alerts on series that there are", () =>
    Effect.gen(function* () {
      const there = [...(yield* exported).values()].flatMap(({ series }) => series)
      const expressions = table(guide, "| alert | expression |").map(([, expression]) => quoted(expression)[0] ?? "")
      expect(expressions.length).toBeGreaterThan(5)
      expect(expressions.flatMap(seriesIn).filter((series) => !there.includes(series))).toEqual([])
    })
  )

  it("lists every log with its level", () => {
    const levels = { logError: "error", logWarning: "warning", logInfo: "info", logDebug: "debug" }
    const logs = new Set<string>()
    for (const file of readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" })) {
      const source = file.endsWith(".ts") ? read(`src/${file}`) : ""
      if (!source.includes("Effect.log")) continue
      const visit = (node: ts.Node): void => {
        if (ts.isCallExpression(node)) {
          const [, level] = /^Effect\.(log(?:Error|Warning|Info|Debug))$/.exec(node.expression.getText()) ?? []
          const [message] = node.arguments
          const text =
            message === undefined
              ? undefined
              : ts.isStringLiteralLike(message)
                ? message.text
                : ts.isTemplateExpression(message)
                  ? message.templateSpans.reduce((all, { literal }) => `${all}…${literal.text}`, message.head.text)
                  : undefined
          for (const [name, label] of Object.entries(levels)) {
            if (name === level && text !== undefined) logs.add(`${label} ${text}`)
          }
        }
        ts.forEachChild(node, visit)
      }
      visit(ts.createSourceFile(file, source, ts.ScriptTarget.ES2022, true))
    }
    const listed = table(guide, "| level | message |").flatMap(([level, messages]) =>
      quoted(messages).map((message) => `${level} idempotency: ${message}`)
    )
    expect(listed.toSorted()).toEqual([...logs].toSorted())
  })
})
