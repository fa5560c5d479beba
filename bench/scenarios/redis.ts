/** Redis: first executions and replays, beside raw commands and the peers. */
import * as Effect from "effect/Effect"
import { atEach, compareFirst, compareReplay } from "../comparisons.js"
import { engineOver, oursOver, runOver } from "../ours.js"
import { expressIdempotency } from "../peers/expressIdempotency.js"
import { nodeIdempotency } from "../peers/nodeIdempotency.js"
import { persistedCache } from "../peers/persistedCache.js"
import { powertools } from "../peers/powertools.js"
import { type Bench, cachedLayer, makeBench, raw, redisLayer } from "../redisStore.js"
import type { Row } from "../rows.js"
import type { Scenario, Setting } from "../scenario.js"

const oursOn = (bench: Bench, bytes: number) =>
  Effect.gen(function* () {
    const run = yield* runOver(engineOver(yield* redisLayer(bench)))
    return oursOver(run, bench.store, bytes)
  })

const peersOn = ({ server, store }: Bench, bytes: number, { withPeers }: Setting) =>
  withPeers
    ? Effect.all([
        powertools(server.url, store, bytes),
        nodeIdempotency(server.url, store, bytes),
        expressIdempotency(server.url, store, bytes)
      ])
    : Effect.succeed([])

const first = "redis/first"
const replays = { "redis/replay 200 B": 200, "redis/replay 10 KiB": 10_240 }
const cached = "redis/replay, local cache"

export const redis: Scenario = {
  topic: "redis",
  names: [first, ...Object.keys(replays), cached],
  run: (setting) =>
    Effect.gen(function* () {
      const bench = yield* makeBench
      const rows: Array<Row> = []
      if (setting.wants(first)) {
        const others = [...(yield* oursOn(bench, 200)), ...(yield* peersOn(bench, 200, setting))]
        rows.push(
          ...(yield* atEach(setting, first, compareFirst, { limit: yield* raw(bench, 200), others }, ["cpu", "bytes"]))
        )
      }
      for (const [scenario, bytes] of Object.entries(replays)) {
        if (!setting.wants(scenario)) continue
        const cache = yield* persistedCache({ port: bench.server.port, inMemory: false }, bench.store, bytes)
        const others = [...(yield* oursOn(bench, bytes)), cache, ...(yield* peersOn(bench, bytes, setting))]
        rows.push(...(yield* atEach(setting, scenario, compareReplay, { limit: yield* raw(bench, bytes), others })))
      }
      if (setting.wants(cached)) {
        const run = yield* runOver(engineOver(yield* cachedLayer(bench)))
        const others = [
          ...oursOver(run, bench.store, 200),
          yield* persistedCache({ port: bench.server.port, inMemory: true }, bench.store, 200)
        ]
        rows.push(...(yield* atEach(setting, cached, compareReplay, { limit: yield* raw(bench, 200), others })))
      }
      return rows
    })
}
