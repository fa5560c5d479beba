/** The table for reading. */
import { goalOf, isReached, peersAhead, textOf } from "./goals.js"
import { type Measure, measures, type Row } from "./rows.js"

const digits = (value: number): string => {
  if (!Number.isFinite(value)) return "-"
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString("en")
  return value.toFixed(Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2)
}

const orNothing = (value: number | undefined): string => (value === undefined ? "" : digits(value))

const whole = new Set<Measure>(["executions", "commands", "connections", "calls"])

const columns: ReadonlyArray<readonly [title: string, align: "left" | "right", text: (row: Row) => string]> = [
  ["callers", "right", ({ concurrency }) => String(concurrency)],
  ["what", "left", ({ contender, role }) => (role === "limit" ? `${contender} (limit)` : contender)],
  ["median", "right", ({ measure, value }) => (whole.has(measure) ? String(value.median) : digits(value.median))],
  ["", "left", ({ measure }) => measures[measure]],
  ["min – max", "left", ({ value }) => `${digits(value.min)} – ${digits(value.max)}`],
  ["goal", "left", (row) => goalText(row)],
  ["ops/s", "right", (row) => orNothing(row.operationsPerSecond)],
  ["p50 ms", "right", (row) => orNothing(row.p50)],
  ["p99 ms", "right", (row) => orNothing(row.p99)],
  ["trips", "right", (row) => orNothing(row.roundTrips)],
  ["bytes", "right", (row) => orNothing(row.bytesPerRecord)]
]

const goalText = (row: Row): string => {
  const goal = goalOf(row)
  return goal === undefined ? "" : `${textOf(goal)} ${isReached(goal, row) ? "reached" : "NOT REACHED"}`
}

/** A limit is 1 of itself: it is shown for its figures, in the rows of throughput. */
const isShown = ({ measure, role }: Row): boolean => role !== "limit" || measure === "ratio"

export const tableOf = (rows: ReadonlyArray<Row>): string => {
  const shown = rows.filter(isShown)
  const widths = columns.map(([title, , text]) => Math.max(title.length, ...shown.map((row) => text(row).length)))
  const line = (texts: ReadonlyArray<string>): string =>
    texts
      .map((text, at) => (columns[at]?.[1] === "right" ? text.padStart(widths[at] ?? 0) : text.padEnd(widths[at] ?? 0)))
      .join("  ")
      .trimEnd()
  const header = line(columns.map(([title]) => title))
  const lines: Array<string> = []
  for (const scenario of new Set(shown.map((row) => row.scenario))) {
    lines.push("", scenario, header)
    for (const row of shown) if (row.scenario === scenario) lines.push(line(columns.map(([, , text]) => text(row))))
  }
  return lines.join("\n")
}

/** Which goals were reached, and which peer was ahead of ours. */
export const summaryOf = (rows: ReadonlyArray<Row>): string => {
  const judged = rows.flatMap((row) => {
    const goal = goalOf(row)
    return goal === undefined ? [] : [{ row, goal }]
  })
  const missed = judged.filter(({ goal, row }) => !isReached(goal, row))
  const behind = rows.map((row) => ({ row, peers: peersAhead(row, rows) })).filter(({ peers }) => peers.length > 0)
  return [
    `${judged.length - missed.length} of ${judged.length} goals reached`,
    ...missed.map(
      ({ goal, row }) =>
        `  not reached: ${row.scenario}, ${row.concurrency} callers: ${digits(goal.of === "max" ? row.value.max : row.value.median)} ${measures[row.measure]}, goal ${textOf(goal)}`
    ),
    ...behind.map(
      ({ peers, row }) =>
        `  behind peers: ${row.contender} in ${row.scenario}, ${row.concurrency} callers: ${peers.join(", ")}`
    )
  ].join("\n")
}
