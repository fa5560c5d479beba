/**
 * `npm run bench`: measures, prints a table, and writes each topic into `bench/results.json` as it ends, which
 * `npm run bench:chart` draws.
 *
 * It measures the build, as it is published: tsx, which runs the sources, adds to each of their functions.
 *
 *     npm run bench -- --quick              in less than two minutes; says little on a busy machine
 *     npm run bench -- --only redis,http    topics: see below
 *     npm run bench -- --scenario replay    scenarios whose name has this in it
 *     npm run bench -- --rounds 15          7 by default
 *     npm run bench -- --callers 1,100      1, 16, 100 and 1000 by default
 *     npm run bench -- --scale              what grows: stored keys, waiters, leases, results, processes
 *
 * The peers, and the library that draws, are installed with `npm ci --prefix bench`; without them all else is measured.
 */
import { cpus } from "node:os"
import { parseArgs } from "node:util"
import * as Effect from "effect/Effect"
import { howToInstall, peersAreInstalled, versions } from "./peers/modules.js"
import { summaryOf, tableOf } from "./report.js"
import { type Machine, writeResults } from "./results.js"
import type { Row } from "./rows.js"
import type { Scenario, Setting } from "./scenario.js"
import { callers } from "./scenarios/callers.js"
import { http } from "./scenarios/http.js"
import { memory } from "./scenarios/memory.js"
import { outage } from "./scenarios/outage.js"
import { owner } from "./scenarios/owner.js"
import { redis } from "./scenarios/redis.js"
import { scale } from "./scenarios/scale.js"
import { postgres, sqlite } from "./scenarios/sql.js"
import { tracing } from "./scenarios/tracing.js"

const everyday: ReadonlyArray<Scenario> = [memory, redis, postgres, sqlite, http, callers, owner, outage, tracing]

const { values: given } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    scale: { type: "boolean", default: false },
    only: { type: "string" },
    scenario: { type: "string" },
    rounds: { type: "string" },
    callers: { type: "string" }
  }
})

const listOf = (text: string | undefined): ReadonlyArray<string> | undefined =>
  text?.split(",").map((part) => part.trim())

const wanted = listOf(given.scenario)
const wants = (name: string): boolean => wanted?.some((part) => name.includes(part)) ?? true
const topics = listOf(given.only)

const scenarios = (given.scale ? scale : everyday).filter(
  ({ names, topic }) => (topics?.includes(topic) ?? true) && names.some(wants)
)
if (scenarios.length === 0) {
  const all = [...everyday, ...scale].map(({ names, topic }) => `  --only ${topic}: ${names.join("; ")}`)
  throw new Error(`no scenario is called that. There are:\n${all.join("\n")}`)
}

const setting: Setting = {
  effort: {
    isQuick: given.quick,
    rounds: Number(given.rounds ?? (given.quick ? 3 : 7)),
    turnMillis: given.quick ? 60 : 300,
    warmUpMillis: given.quick ? 200 : 2000
  },
  concurrencies: listOf(given.callers)?.map(Number) ?? (given.quick ? [1, 100] : [1, 16, 100, 1000]),
  wants,
  withPeers: peersAreInstalled()
}

const machine: Machine = {
  node: process.version,
  cpu: `${cpus().length} × ${cpus()[0]?.model ?? "unknown"}`,
  date: new Date().toISOString(),
  peers: setting.withPeers ? versions() : {}
}

const all = Effect.gen(function* () {
  const rows: Array<Row> = []
  const byTopic = new Map<string, ReadonlyArray<Row>>()
  for (const scenario of scenarios) {
    const start = performance.now()
    const measured = yield* Effect.scoped(scenario.run(setting))
    console.log(tableOf(measured))
    console.error(`\n(${scenario.topic}: ${Math.round((performance.now() - start) / 1000)} s)`)
    rows.push(...measured)
    const ofTopic = [...(byTopic.get(scenario.topic) ?? []), ...measured]
    byTopic.set(scenario.topic, ofTopic)
    writeResults(scenario.topic, { machine, effort: setting.effort, rows: ofTopic })
  }
  return rows
})

if (!setting.withPeers) console.error(`The peers are not installed, and left out. To have them: ${howToInstall}`)
console.log(
  `Ratios to a limit measured in the same process, in ${setting.effort.rounds} interleaved rounds of ${setting.effort.turnMillis} ms turns: median, min – max.\ntrips: reads of the Redis server, or statements of Postgres, per operation; bytes: of a record, beyond payload and key.\nNode.js ${machine.node}, ${machine.cpu}`
)
const rows = await Effect.runPromise(all)
console.log(`\n${summaryOf(rows)}`)
// Peers leave handles open.
process.exit()
