/** What is aimed at, as data. They are set for `fibers`, the way a program on Effect makes its calls. */
import { type Measure, ours, type Row } from "./rows.js"

export interface Goal {
  readonly scenario: string
  /** Of any concurrency, if absent. */
  readonly concurrency?: number
  readonly measure: Measure
  readonly atLeast?: number
  readonly atMost?: number
  /** Which of the rounds has to reach it: the median, by default. */
  readonly of?: "max"
}

const both = (scenario: string, one: number, hundred: number): ReadonlyArray<Goal> => [
  { scenario, concurrency: 1, measure: "ratio", atLeast: one },
  { scenario, concurrency: 100, measure: "ratio", atLeast: hundred }
]

export const goals: ReadonlyArray<Goal> = [
  ...both("redis/first", 0.8, 1.2),
  ...both("redis/replay 200 B", 0.85, 1),
  ...both("redis/replay 10 KiB", 0.9, 1),
  ...both("redis/replay, local cache", 3, 1.5),
  { scenario: "redis/first", concurrency: 1, measure: "cpu", atMost: 1.4 },
  { scenario: "redis/first", concurrency: 100, measure: "cpu", atMost: 1.4 },
  { scenario: "redis/first", measure: "bytes", atMost: 256 },
  { scenario: "memory/first", concurrency: 1, measure: "ratio", atLeast: 0.6 },
  { scenario: "memory/replay 200 B", concurrency: 1, measure: "ratio", atLeast: 0.6 },
  ...["postgres", "sqlite"].flatMap((database) => [
    ...both(`${database}/first, same transaction`, 0.85, 0.85),
    ...both(`${database}/replay 200 B, same transaction`, 0.9, 0.9)
  ]),
  { scenario: "http/first", measure: "ratio", atLeast: 0.85 },
  // A limit without a tracer and without metrics: 15 % more time with both.
  { scenario: "tracing/redis first", measure: "ratio", atLeast: 0.87 },
  { scenario: "tracing/redis replay 200 B", measure: "ratio", atLeast: 0.87 },
  { scenario: "outage/degraded call", measure: "added", atMost: 50 },
  { scenario: "callers/one process", measure: "executions", atMost: 1, of: "max" },
  { scenario: "callers/one process", measure: "commands", atMost: 3, of: "max" },
  { scenario: "callers/one process", measure: "lastAnswer", atMost: 5 },
  { scenario: "callers/4 processes", measure: "executions", atMost: 1, of: "max" },
  { scenario: "callers/4 processes", measure: "lastAnswer", atMost: 20, of: "max" },
  // A client and a subscription for each process, however many wait.
  { scenario: "callers/4 processes", measure: "connections", atMost: 8, of: "max" },
  { scenario: "owner killed", measure: "takeover", atMost: 250, of: "max" },
  { scenario: "scale/100000 stored keys, first", measure: "ratio", atLeast: 0.9 },
  { scenario: "scale/1000000 stored keys, first", measure: "ratio", atLeast: 0.9 },
  { scenario: "scale/100000 stored keys, replay", measure: "ratio", atLeast: 0.9 },
  { scenario: "scale/1000000 stored keys, replay", measure: "ratio", atLeast: 0.9 },
  { scenario: "scale/1000 waiters", measure: "perSecond", atMost: 10, of: "max" }
]

export const goalOf = (row: Row): Goal | undefined =>
  row.contender !== ours
    ? undefined
    : goals.find(
        ({ concurrency = row.concurrency, measure, scenario }) =>
          scenario === row.scenario && measure === row.measure && concurrency === row.concurrency
      )

export const isReached = (goal: Goal, { value }: Row): boolean => {
  const judged = goal.of === "max" ? value.max : value.median
  return judged >= (goal.atLeast ?? Number.NEGATIVE_INFINITY) && judged <= (goal.atMost ?? Number.POSITIVE_INFINITY)
}

export const textOf = ({ atLeast, atMost, of }: Goal): string =>
  `${atLeast === undefined ? `≤ ${atMost}` : `≥ ${atLeast}`}${of === "max" ? " (all)" : ""}`

/** The peers that were as fast as ours in the same rounds, or faster: the goal is that there are none. */
export const peersAhead = (row: Row, rows: ReadonlyArray<Row>): ReadonlyArray<string> =>
  row.role !== "ours" || row.measure !== "ratio"
    ? []
    : rows
        .filter(
          ({ concurrency, measure, role, scenario }) =>
            role === "peer" && measure === "ratio" && scenario === row.scenario && concurrency === row.concurrency
        )
        .filter(({ value }) => value.median >= row.value.median)
        .map(({ contender }) => contender)
