/** No server answers, and the breaker is open: what a degraded call costs beyond its body. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import { withIdempotencyOutcome } from "effect-idempotency"
import { RedisIdempotencyRepository } from "effect-idempotency/redis"
import { freePort } from "../../test/support/servers.js"
import { compareFirst, type Store, type Subject } from "../comparisons.js"
import { fibers, runPromises } from "../drive.js"
import { bothWays, engineOver, runOver } from "../ours.js"
import type { Measured } from "../rounds.js"
import { figure, type Row } from "../rows.js"
import type { Scenario } from "../scenario.js"
import type { Spread } from "../statistics.js"
import { makeBody } from "../work.js"

const name = "outage/degraded call"

/** There is no store to ask: each call says itself that it went without one. */
const noStore: Store = { empty: Effect.void, records: (keys) => Effect.succeed(keys.length) }

const bare = (drive: typeof fibers): Subject => {
  const body = makeBody(200)
  const execute = drive(Effect.runPromise, (_key: string) => body.effect)
  return { name: "the bare effect", role: "limit", body, store: noStore, first: execute, replay: execute }
}

const microsOf = ({ operationsPerSecond: { max, median, min } }: Measured) => ({
  median: 1e6 / median,
  min: 1e6 / max,
  max: 1e6 / min
})

/** Whole microseconds between the two: the spread is the widest that their rounds allow. */
const added = (call: Measured, limit: Measured): Spread => {
  const [whole, body] = [microsOf(call), microsOf(limit)]
  const [median, min, max] = [whole.median - body.median, whole.min - body.max, whole.max - body.min]
  return { median, min, max, deviation: (max - min) / 2 }
}

export const outage: Scenario = {
  topic: "outage",
  names: [name],
  run: ({ concurrencies, effort }) =>
    Effect.gen(function* () {
      const port = yield* Effect.promise(() => freePort())
      const repository = RedisIdempotencyRepository.layerClient({ url: `redis://127.0.0.1:${port}` })
      const engine = engineOver(repository, { storageTimeout: "1 second" })
      // What it says of the outage is no figure.
      const run = yield* runOver(Layer.provideMerge(engine, Logger.minimumLogLevel(LogLevel.None)))
      const [byFibers, byPromises] = bothWays(run, noStore, 200, (body, key) =>
        Effect.flatMap(withIdempotencyOutcome(body.effect, "bench", key), (outcome) =>
          outcome._tag === "Unprotected" ? Effect.succeed(outcome.value) : Effect.die("the call was protected")
        )
      )
      // These meet the outage, and open the breaker.
      const keyOf = (index: number) => `opening-${index}`
      yield* Effect.promise(() => byFibers.first({ count: 20, concurrency: 10, keyOf, timeEvery: 1 }))
      const rows: Array<Row> = []
      for (const concurrency of concurrencies) {
        for (const [limit, subject] of [
          [bare(fibers), byFibers],
          [bare(runPromises), byPromises]
        ] as const) {
          const comparison = { limit, others: [subject], concurrency, effort, timeEvery: 16 }
          const [body, call] = yield* compareFirst(comparison)
          if (body === undefined || call === undefined) continue
          rows.push({
            ...figure(name, concurrency, call.name, "added", added(call, body)),
            operationsPerSecond: call.operationsPerSecond.median,
            p50: call.p50,
            p99: call.p99
          })
        }
      }
      return rows
    })
}
