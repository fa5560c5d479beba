/** What grows: stored keys, results, waiters, leases, processes. Only with `--scale`. */
import { monitorEventLoopDelay } from "node:perf_hooks"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { withIdempotency } from "effect-idempotency"
import { engineOver, protectedBy, runOver } from "../ours.js"
import { workerOf } from "../processes.js"
import { makeBench, redisLayer, scriptCalls } from "../redisStore.js"
import { figure, ours, type Row } from "../rows.js"
import type { Scenario, Setting } from "../scenario.js"
import { ratiosOf, spreadOf } from "../statistics.js"
import { ensure, ensureEqual, makeBody } from "../work.js"
import { resultSizes, sizeNames, storedKeys, storedNames } from "./scaleKeys.js"
import type { ScaleReply, ScaleTask } from "./scaleWorker.js"

type Rows = Effect.Effect<ReadonlyArray<Row>, unknown, Scope.Scope>

const waiters = 1000
const waitersName = `scale/${waiters} waiters`
const waitMillis = 3000

/** The owner's engine and that of the waiters know nothing of each other, as two processes. */
const waiting = ({ effort }: Setting): Rows =>
  Effect.gen(function* () {
    const bench = yield* makeBench
    const owner = yield* runOver(engineOver(yield* redisLayer(bench)))
    const others = yield* runOver(engineOver(yield* redisLayer(bench)))
    const trial = async (key: string): Promise<number> => {
      const body = makeBody(200)
      const call = withIdempotency(Effect.delay(body.effect, waitMillis), "bench", key, protectedBy)
      const owned = owner(call)
      await Effect.runPromise(Effect.sleep("100 millis"))
      const before = await scriptCalls(bench.redis)
      const results = await others(
        Effect.all(
          Array.from({ length: waiters }, () => call),
          { concurrency: "unbounded" }
        )
      )
      ensureEqual(await owned, body.result, key)
      for (const result of results) ensureEqual(result, body.result, key)
      ensure(body.executions() === 1, `${body.executions()} executions of one key`)
      // The owner's completion is among them.
      return ((await scriptCalls(bench.redis)) - before - 1) / (waitMillis / 1000)
    }
    yield* Effect.promise(() => trial("warm"))
    const rates: Array<number> = []
    for (let round = 0; round < effort.rounds; round++) rates.push(yield* Effect.promise(() => trial(`wait-${round}`)))
    return [figure(waitersName, waiters, ours, "perSecond", spreadOf(rates))]
  })

const leases = 10_000
const leasesName = `scale/${leases} leases renewed`
const lease = 30_000
const renewals = 2
const atOnce = 200

/** All are held for several leases: what is not renewed in time is lost, and fails the run. */
const renewing = (): Rows =>
  Effect.gen(function* () {
    const bench = yield* makeBench
    const run = yield* runOver(engineOver(yield* redisLayer(bench)))
    const body = makeBody(200)
    let started = 0
    const failures: Array<unknown> = []
    const groups: Array<{ readonly end: Effect.Effect<void>; readonly ended: Promise<unknown> }> = []
    // They begin and end in groups, as calls do: it is their renewal that is measured.
    while (groups.length < leases / atOnce) {
      const from = groups.length * atOnce
      const latch = yield* Effect.makeLatch(false)
      const hold = Effect.zipRight(
        Effect.sync(() => started++),
        Effect.zipRight(latch.await, body.effect)
      )
      const group = Array.from({ length: atOnce }, (_, n) =>
        withIdempotency(hold, "bench", `lease-${from + n}`, { ...protectedBy, lease })
      )
      const all = run(Effect.all(group, { concurrency: "unbounded", discard: true }))
      groups.push({ end: Effect.asVoid(latch.open), ended: all.catch((error: unknown) => failures.push(error)) })
      yield* Effect.repeat(Effect.sleep("5 millis"), { until: () => started === from + atOnce || failures.length > 0 })
    }
    yield* Effect.sleep(lease / 3)
    const before = yield* Effect.promise(() => scriptCalls(bench.redis))
    const delay = monitorEventLoopDelay({ resolution: 1 })
    delay.enable()
    yield* Effect.sleep((renewals * lease) / 3)
    delay.disable()
    const calls = (yield* Effect.promise(() => scriptCalls(bench.redis))) - before
    for (const { end, ended } of groups) {
      yield* end
      yield* Effect.promise(() => ended)
    }
    if (failures.length > 0) throw failures[0]
    const records = yield* bench.store.records([])
    ensure(records === leases && body.executions() === leases, `${records} records of ${leases} leases`)
    const stall = { median: delay.percentile(50) / 1e6, min: delay.min / 1e6, max: delay.max / 1e6, deviation: 0 }
    return [
      figure(leasesName, leases, `${ours}, calls in a third of the lease`, "calls", spreadOf([calls / renewals])),
      figure(leasesName, leases, `${ours}, delay of the event loop`, "millis", stall)
    ]
  })

const processCounts = [2, 4, 8]
const processesName = (count: number) => `scale/${count} processes`

/** First executions in all processes together, ours and raw in turns. */
const sharing = (count: number, { effort }: Setting): Rows =>
  Effect.gen(function* () {
    const bench = yield* makeBench
    const concurrency = 16
    const each = effort.isQuick ? 200 : 2000
    const workers = yield* Effect.all(
      Array.from({ length: count }, () => workerOf<ScaleTask, ScaleReply>("./scenarios/scaleWorker.ts")),
      { concurrency: "unbounded" }
    )
    const rate = async (kind: ScaleTask["kind"], round: number): Promise<number> => {
      await bench.redis.flushall()
      const task = { port: bench.server.port, kind, count: each, concurrency }
      const start = performance.now()
      await Promise.all(workers.map(({ ask }, n) => ask({ ...task, prefix: `${kind}-${round}-${n}` })))
      const millis = performance.now() - start
      const records = await bench.redis.dbsize()
      ensure(records === count * each, `${records} records of ${count * each} keys`)
      return (count * each * 1000) / millis
    }
    const [limits, rates]: [Array<number>, Array<number>] = [[], []]
    for (let round = -2; round < effort.rounds; round++) {
      const [limit, own] = [
        yield* Effect.promise(() => rate("raw", round)),
        yield* Effect.promise(() => rate("ours", round))
      ]
      if (round < 0) continue
      limits.push(limit)
      rates.push(own)
    }
    const row = figure(processesName(count), count * concurrency, ours, "ratio", spreadOf(ratiosOf(rates, limits)))
    return [{ ...row, operationsPerSecond: spreadOf(rates).median }]
  })

const scenario = (topic: string, names: ReadonlyArray<string>, run: (setting: Setting) => Rows): Scenario => ({
  topic,
  names,
  run
})

export const scale: ReadonlyArray<Scenario> = [
  scenario("keys", storedNames, storedKeys),
  scenario("results", sizeNames, resultSizes),
  scenario("waiters", [waitersName], waiting),
  scenario("leases", [leasesName], renewing),
  ...processCounts.map((count) => scenario("processes", [processesName(count)], (setting) => sharing(count, setting)))
]
