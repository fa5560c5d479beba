/** What the scenarios hand to the report: one row per figure. */
import type { Measured, Role } from "./rounds.js"
import type { Spread } from "./statistics.js"

export interface Row {
  /** `redis/first`, `memory/replay`, `redis/100 callers of one key`: what goals are set for. */
  readonly scenario: string
  readonly concurrency: number
  readonly contender: string
  readonly role: Role
  readonly measure: Measure
  readonly value: Spread
  readonly operationsPerSecond?: number | undefined
  /** Milliseconds. */
  readonly p50?: number | undefined
  readonly p99?: number | undefined
  readonly roundTrips?: number | undefined
  readonly bytesPerRecord?: number | undefined
}

/** What a figure says, and in which unit. Of `ratio` more is better, of all others less. */
export const measures = {
  ratio: "× limit",
  cpu: "× CPU of limit",
  added: "µs added",
  executions: "executions",
  commands: "commands",
  lastAnswer: "ms after the body",
  takeover: "ms after the lease",
  connections: "connections",
  perSecond: "storage operations/s",
  calls: "calls",
  bytes: "bytes",
  millis: "ms"
} as const

export type Measure = keyof typeof measures

/** A figure that no other of its scenario is needed for. */
export const figure = (
  scenario: string,
  concurrency: number,
  contender: string,
  measure: Measure,
  value: Spread,
  role: Role = "ours"
): Row => ({ scenario, concurrency, contender, role, measure, value })

/** The name of what goals are set for; other ways of calling it are measured beside it. */
export const ours = "effect-idempotency"
export const oursByPromise = `${ours}, runPromise per call`

/** The rows of a comparison: throughput, and CPU and bytes where they are asked for. */
export const rowsOf = (
  scenario: string,
  concurrency: number,
  measured: ReadonlyArray<Measured>,
  also: ReadonlyArray<"cpu" | "bytes"> = []
): ReadonlyArray<Row> =>
  measured.flatMap((each): ReadonlyArray<Row> => {
    const { bytesPerRecord, name, p50, p99, role, roundTrips } = each
    const row = (measure: Measure, value: Spread): Row => figure(scenario, concurrency, name, measure, value, role)
    const operationsPerSecond = each.operationsPerSecond.median
    const bytes =
      bytesPerRecord === undefined || !also.includes("bytes")
        ? []
        : [row("bytes", { median: bytesPerRecord, min: bytesPerRecord, max: bytesPerRecord, deviation: 0 })]
    return [
      { ...row("ratio", each.ratio), operationsPerSecond, p50, p99, roundTrips, bytesPerRecord },
      ...(also.includes("cpu") ? [row("cpu", each.cpuRatio)] : []),
      ...bytes
    ]
  })
