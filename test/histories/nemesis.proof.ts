/**
 * Eight worker processes on ten keys of a real server, under a nemesis. `npm run test:soak` plays other seeds, for as
 * long as asked.
 */
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import type { Operation } from "./history.js"
import { judge, makePlay, type Run } from "./nemesis.js"
import { firstLong, storeOf } from "./plan.js"
import { postgresServer, redisServer } from "./stores.js"

const seedsFor = (store: string, count: number): ReadonlyArray<number> =>
  Array.from({ length: 3 * count + 3 }, (_, index) => firstLong + index)
    .filter((seed) => storeOf(seed) === store)
    .slice(0, count)

/** A verb with the tag of its answer. */
const answerOf = ({ call, returned }: Operation): ReadonlyArray<string> => {
  if (returned === undefined) return []
  const { reply } = returned
  return [`${call.verb} ${Predicate.hasProperty(reply, "_tag") ? String(reply._tag) : "nothing"}`]
}

const answersOf = ({ histories }: Run): ReadonlyArray<string> =>
  histories.flatMap(({ operations }) => operations.flatMap(answerOf))

/** What there is to be told, but for what only a rare coincidence brings. */
const common = [
  ...["Claimed", "AlreadyMine", "InFlight", "Unknown", "Settled", "Mismatch"].map((tag) => `claim ${tag}`),
  ...["Renewed", "Lost"].map((tag) => `renew ${tag}`),
  ...["Done", "Superseded", "Mismatch"].map((tag) => `complete ${tag}`),
  ...["Released", "NotHeld"].map((tag) => `release ${tag}`),
  ...["Held", "NotHeld"].map((tag) => `hold ${tag}`),
  ...["Saved", "NotHeld"].map((tag) => `saveStep ${tag}`),
  ...["Processing", "Unknown", "Completed", "Released", "nothing"].map((tag) => `read ${tag}`),
  "resolve NotUnknown",
  "reset Reset"
]
const rarer = ["renew Gone", "resolve Resolved", "resolve InFlight", "reset InFlight"]

/** So many runs at least, and at most five times as many until every one of these answers is met. */
const proof = (name: string, server: typeof redisServer, least: number, answers: ReadonlyArray<string>) =>
  it.scopedLive(
    `${least} runs on ${name}: every history is linearizable, and all answers are among them`,
    () =>
      Effect.gen(function* () {
        const play = yield* makePlay(yield* server)
        const missing = new Set(answers)
        for (const [index, seed] of seedsFor(name.toLowerCase(), 5 * least).entries()) {
          if (index >= least && missing.size === 0) break
          const run = yield* play(seed)
          const { calls, unanswered, visited, wrong } = judge(run)
          console.log(`seed ${seed} on ${name}: ${calls} calls, ${unanswered} unanswered, ${visited} states visited`)
          expect(wrong.join("\n")).toBe("")
          expect(run.inflicted).toEqual(run.faults)
          expect(unanswered, "the nemesis did no harm").toBeGreaterThan(0)
          for (const answer of answersOf(run)) missing.delete(answer)
        }
        expect([...missing]).toEqual([])
      }),
    { timeout: 60_000 + 5 * least * 30_000 }
  )

proof("Redis", redisServer, 10, [...common, ...rarer])
proof("Postgres", postgresServer, 5, common)
