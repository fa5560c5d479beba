/** One short run of worker processes on a Redis under a nemesis; `nemesis.proof.ts` has the long ones. */
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { judge, makePlay } from "./nemesis.js"
import { faultsOf, sizeOf, stepsOf, storeOf } from "./plan.js"
import { redisServer } from "./stores.js"

const seed = 1

it.scopedLive("three processes on one Redis, cut, killed and robbed of requests: every history is linearizable", () =>
  Effect.gen(function* () {
    expect(storeOf(seed)).toBe("redis")
    const play = yield* makePlay(yield* redisServer)
    const run = yield* play(seed)
    const { calls, unanswered, wrong } = judge(run)
    expect(wrong.join("\n")).toBe("")
    expect(calls).toBeGreaterThan(50)
    expect(run.inflicted).toEqual(run.faults)
    expect(run.inflicted.map(({ what }) => what)).toContain("kill")
    expect(run.lost).toBeGreaterThan(0)
    expect(unanswered, "the nemesis did no harm").toBeGreaterThan(0)
  })
)

it("a seed makes the same plan again, another seed another one", () => {
  const planOf = (of: number) => {
    const size = sizeOf(of)
    const steps = stepsOf(of, size, { worker: 1, life: 0, caller: 1 })
    return JSON.stringify([faultsOf(of, size), Array.from({ length: 200 }, () => steps.next().value)])
  }
  expect(planOf(seed)).toBe(planOf(seed))
  expect(planOf(seed)).not.toBe(planOf(seed + 1))
})
