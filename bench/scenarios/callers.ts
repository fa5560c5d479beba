/** A hundred callers of one fresh key: in one process, and in four. */
import * as Effect from "effect/Effect"
import type { Redis } from "ioredis"
import { engineOver, runOver } from "../ours.js"
import { sharedNow, workerOf } from "../processes.js"
import { type Bench, connectedClients, makeBench, redisLayer } from "../redisStore.js"
import { figure, type Measure, ours, type Row } from "../rows.js"
import type { Scenario, Setting } from "../scenario.js"
import { type Spread, spreadOf } from "../statistics.js"
import { ensure } from "../work.js"
import { type CallersReply, type CallersTask, callOnce } from "./oneKey.js"

const callersInAll = 100
const processes = 4
const names = { one: "callers/one process", four: "callers/4 processes" }

/** What clients send while the work is done; what scripts run is not among it. */
const commandsDuring = async <A>(
  redis: Redis,
  work: () => Promise<A>
): Promise<readonly [A, ReadonlyArray<string>]> => {
  const monitor = await redis.monitor()
  const marker = `end-${sharedNow()}`
  const sent: Array<string> = []
  const ended = new Promise<void>((resolve) => {
    monitor.on("monitor", (_time: string, args: ReadonlyArray<string>, source: string) => {
      if (args.includes(marker)) return resolve()
      if (source !== "lua") sent.push(args[0] ?? "")
    })
  })
  const result = await work()
  await redis.echo(marker)
  await ended
  monitor.disconnect()
  return [result, sent]
}

/** Trials are cheap, and their worst is what counts. */
const trialsOf = ({ effort }: Setting): number => effort.rounds * 5

interface Trial {
  readonly executions: number
  readonly lastAnswer: number
  readonly other: number
}

const rowsOf = (scenario: string, trials: ReadonlyArray<Trial>, other: Measure): ReadonlyArray<Row> => {
  const row = (measure: Measure, value: Spread) => figure(scenario, callersInAll, ours, measure, value)
  return [
    row("executions", spreadOf(trials.map(({ executions }) => executions))),
    row(other, spreadOf(trials.map((trial) => trial.other))),
    row("lastAnswer", spreadOf(trials.map(({ lastAnswer }) => lastAnswer)))
  ]
}

const inOneProcess = (bench: Bench, setting: Setting) =>
  Effect.gen(function* () {
    const run = yield* runOver(engineOver(yield* redisLayer(bench)))
    const task = { callers: callersInAll, bodyMillis: 20 }
    // The scripts are known to the server, and the code is warm, before anything counts.
    yield* Effect.promise(() => callOnce(run, { ...task, key: "warm" }))
    const trials: Array<Trial> = []
    for (let trial = 0; trial < trialsOf(setting); trial++) {
      const [reply, commands] = yield* Effect.promise(() =>
        commandsDuring(bench.redis, () => callOnce(run, { ...task, key: `one-${trial}` }))
      )
      const { bodyEnded, executions, lastAnswer } = reply
      trials.push({ executions, lastAnswer: lastAnswer - bodyEnded, other: commands.length })
    }
    return rowsOf(names.one, trials, "commands")
  })

const pause = (millis: number) => new Promise((resolve) => setTimeout(resolve, millis))

const inFourProcesses = (bench: Bench, setting: Setting) =>
  Effect.gen(function* () {
    const workers = yield* Effect.all(
      Array.from({ length: processes }, () => workerOf<CallersTask, CallersReply>("./scenarios/callersWorker.ts")),
      { concurrency: "unbounded" }
    )
    const without = yield* Effect.promise(() => connectedClients(bench.redis))
    const bodyMillis = 100
    const once = async (key: string): Promise<Trial> => {
      const task = { url: bench.server.url, key, callers: callersInAll / processes, bodyMillis }
      const replies = Promise.all(workers.map(({ ask }) => ask(task)))
      await pause(bodyMillis / 2)
      const connections = (await connectedClients(bench.redis)) - without
      const ended = await replies
      const bodyEnded = Math.max(...ended.map((reply) => reply.bodyEnded))
      return {
        executions: ended.reduce((sum, { executions }) => sum + executions, 0),
        lastAnswer: Math.max(...ended.map((reply) => reply.lastAnswer)) - bodyEnded,
        other: connections
      }
    }
    for (let warm = 0; warm < 3; warm++) yield* Effect.promise(() => once(`warm-${warm}`))
    const trials: Array<Trial> = []
    for (let trial = 0; trial < trialsOf(setting); trial++)
      trials.push(yield* Effect.promise(() => once(`four-${trial}`)))
    return rowsOf(names.four, trials, "connections")
  })

export const callers: Scenario = {
  topic: "callers",
  names: Object.values(names),
  run: (setting) =>
    Effect.gen(function* () {
      const bench = yield* makeBench
      const rows: Array<Row> = []
      if (setting.wants(names.one)) rows.push(...(yield* inOneProcess(bench, setting)))
      if (setting.wants(names.four)) rows.push(...(yield* inFourProcesses(bench, setting)))
      const [ran] = rows
      ensure(ran?.value.min === 1 && ran.value.max === 1, "a key was executed more than once, or never")
      return rows
    })
}
