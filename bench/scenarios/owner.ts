/** An owner is killed: how long after its lease the next caller runs. */
import * as Effect from "effect/Effect"
import { withIdempotencyOutcome } from "effect-idempotency"
import { engineOver, protectedBy, runOver } from "../ours.js"
import { sharedNow, workerOf } from "../processes.js"
import { makeBench, redisLayer } from "../redisStore.js"
import { figure, ours } from "../rows.js"
import type { Scenario } from "../scenario.js"
import { spreadOf } from "../statistics.js"
import { ensure } from "../work.js"
import type { OwnerTask } from "./ownerWorker.js"

const name = "owner killed"
/** The shortest for an engine whose deadline is half a second. */
const lease = 1500

export const owner: Scenario = {
  topic: "owner",
  names: [name],
  run: ({ effort }) =>
    Effect.gen(function* () {
      const bench = yield* makeBench
      const run = yield* runOver(engineOver(yield* redisLayer(bench), { storageTimeout: "500 millis" }))
      const trial = (key: string) =>
        Effect.gen(function* () {
          const worker = yield* workerOf<OwnerTask, "claimed">("./scenarios/ownerWorker.ts")
          yield* Effect.promise(() => worker.ask({ url: bench.server.url, key, lease }))
          worker.kill()
          const killed = sharedNow()
          const next = Effect.sync(sharedNow)
          const outcome = yield* Effect.promise(() =>
            run(withIdempotencyOutcome(next, "bench", key, { ...protectedBy, lease }))
          )
          ensure(outcome._tag === "Executed" && outcome.attempt === 2, "the next caller did not take over")
          return outcome.value - killed - lease
        })
      const late: Array<number> = []
      for (let round = 0; round < effort.rounds; round++) late.push(yield* Effect.scoped(trial(`owner-${round}`)))
      return [figure(name, 1, ours, "takeover", spreadOf(late))]
    })
}
