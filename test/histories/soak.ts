/**
 * Nemesis runs for as long as asked: `SOAK_MINUTES=60 npm run test:soak` (5 minutes unless told).
 *
 * Each prints its seed, and `NEMESIS_SEED=7 npm run test:soak` makes the same calls and faults on the same kind of
 * store again. What the machine makes of them differs from time to time: with `SOAK_MINUTES` as well, the seed is played
 * again and again.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { judge, makePlay } from "./nemesis.js"
import { firstLong, storeOf } from "./plan.js"
import { postgresServer, redisServer } from "./stores.js"

const numberFrom = (name: string): number | undefined => {
  const text = process.env[name]
  if (text === undefined || text === "") return undefined
  const value = Number(text)
  if (!Number.isFinite(value) || value < 0) throw new Error(`${name} is not a number`)
  return value
}

const only = numberFrom("NEMESIS_SEED")
const minutes = numberFrom("SOAK_MINUTES") ?? (only === undefined ? 5 : 0)

const soak = Effect.gen(function* () {
  const wants = (store: string) => only === undefined || storeOf(only) === store
  const onRedis = wants("redis") ? yield* makePlay(yield* redisServer) : undefined
  const onPostgres = wants("postgres") ? yield* makePlay(yield* postgresServer) : undefined
  const start = yield* Clock.currentTimeMillis
  const first = only ?? firstLong + (start % 1_000_000_000)
  let failures = 0
  let runs = 0
  do {
    const seed = only ?? first + runs
    const store = storeOf(seed)
    const play = store === "redis" ? onRedis : onPostgres
    if (play === undefined) continue
    const run = yield* play(seed)
    const began = performance.now()
    const { calls, unanswered, visited, wrong } = judge(run)
    const took = Math.round(performance.now() - began)
    runs++
    if (wrong.length > 0) failures++
    console.log(
      `seed ${seed}, ${store}: ${calls} calls, ${unanswered} unanswered; ${visited} states in ${took} ms: ${wrong.length === 0 ? "linearizable" : "WRONG"}`
    )
    for (const one of wrong) console.log(one)
  } while ((yield* Clock.currentTimeMillis) - start < minutes * 60_000)
  console.log(`${runs} runs, ${failures} with wrong histories`)
  return failures
})

process.exitCode = (await Effect.runPromise(Effect.scoped(soak))) === 0 ? 0 : 1
