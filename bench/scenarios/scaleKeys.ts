/** What the number of stored keys, and the size of results, do to a call. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { compareFirst, compareReplay, type Store, type Subject } from "../comparisons.js"
import { engineOver, oursOver, runOver } from "../ours.js"
import { type Bench, makeBench, raw, redisLayer } from "../redisStore.js"
import type { Measured } from "../rounds.js"
import { ours, type Row, rowsOf } from "../rows.js"
import type { Setting } from "../scenario.js"
import { resultOf } from "../work.js"

const populate = `for n = ARGV[1], ARGV[2] do
  redis.call('SET', 'idempotency:stored:' .. n, ARGV[3], 'PX', 86400000)
end`
const batch = 10_000

const fill = async ({ redis }: Bench, count: number): Promise<void> => {
  // As long as a record is that completed with 200 bytes.
  const value = `${"-".repeat(120)}\n${JSON.stringify(resultOf(200))}`
  for (let from = 1; from <= count; from += batch)
    await redis.eval(populate, 0, from, Math.min(count, from + batch - 1), value)
}

/** Beside the keys that are there already: nothing is emptied, and what is counted is what was added. */
const besides = (subject: Subject, { redis }: Bench): Subject => {
  let before = 0
  const store: Store = {
    empty: Effect.promise(async () => {
      before = await redis.dbsize()
    }),
    records: () => Effect.promise(async () => (await redis.dbsize()) - before)
  }
  return { ...subject, store }
}

const holding = (stored: number): Effect.Effect<Subject, never, Scope.Scope> =>
  Effect.gen(function* () {
    const bench = yield* makeBench
    yield* Effect.promise(() => fill(bench, stored))
    const run = yield* runOver(engineOver(yield* redisLayer(bench)))
    const [subject] = oursOver(run, bench.store, 200)
    return besides(subject, bench)
  })

const counts = [1000, 100_000, 1_000_000]
const fewest = `${counts[0]} stored keys`
export const storedNames = counts
  .slice(1)
  .flatMap((count) => [`scale/${count} stored keys, first`, `scale/${count} stored keys, replay`])

/** Each number of keys against the fewest, on a server each. */
export const storedKeys = ({ effort }: Setting): Effect.Effect<ReadonlyArray<Row>, never, Scope.Scope> =>
  Effect.gen(function* () {
    const concurrency = 100
    const [fewestHeld, ...others] = yield* Effect.forEach(counts, holding)
    if (fewestHeld === undefined) return []
    const limit: Subject = { ...fewestHeld, name: fewest, role: "limit" }
    const rowsBy = (kind: string, measured: ReadonlyArray<Measured>): ReadonlyArray<Row> => {
      const [held, ...rest] = measured
      return rest.flatMap((each, index) => {
        const scenario = `scale/${counts[index + 1]} stored keys, ${kind}`
        return held === undefined ? [] : rowsOf(scenario, concurrency, [held, { ...each, name: ours }])
      })
    }
    const comparison = { limit, others, concurrency, effort }
    return [...rowsBy("first", yield* compareFirst(comparison)), ...rowsBy("replay", yield* compareReplay(comparison))]
  })

// The engine records no more than 1 MiB.
const sizes = [1024, 10_240, 102_400, 1_048_576]
const sizeName = (bytes: number, kind: string) => `scale/results of ${bytes / 1024} KiB, ${kind}`
export const sizeNames = sizes.flatMap((bytes) => [sizeName(bytes, "first"), sizeName(bytes, "replay")])

export const resultSizes = ({ effort, wants }: Setting): Effect.Effect<ReadonlyArray<Row>, never, Scope.Scope> =>
  Effect.gen(function* () {
    const rows: Array<Row> = []
    for (const bytes of sizes) {
      for (const [kind, compared] of [
        ["first", compareFirst],
        ["replay", compareReplay]
      ] as const) {
        const name = sizeName(bytes, kind)
        if (!wants(name)) continue
        const measured = Effect.gen(function* () {
          const bench = yield* makeBench
          const run = yield* runOver(engineOver(yield* redisLayer(bench)))
          const [subject] = oursOver(run, bench.store, bytes)
          const limit = yield* raw(bench, bytes)
          return yield* compared({ limit, others: [subject], concurrency: 4, effort })
        })
        rows.push(...rowsOf(name, 4, yield* Effect.scoped(measured)))
      }
    }
    return rows
  })
