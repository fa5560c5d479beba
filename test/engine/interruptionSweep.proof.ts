/**
 * The long form of the sweep: every step of every way that a call can go, in one of the ways that fibers take turns; in
 * the others, and where the store is faulty, every so many steps from one that a seed chooses:
 * `SWEEP_SEED=42 PROOF=1 npx vitest run test/engine/interruptionSweep` takes the same ones again.
 */
import { describe, expect, it } from "@effect/vitest"
import * as Hash from "effect/Hash"
import { type Event, type Mode, type Sweep, sweepThrough } from "../support/sweep.js"
import { nameOf, policiesOf, type Scenario, scenarios } from "../support/sweepScenarios.js"

const inOneTurn: Mode = { yieldsAtEveryStep: false, latency: 0 }
const inManyTurns: Mode = { yieldsAtEveryStep: true, latency: 2 }

/** What happens, how fibers run, and at one in how many steps (of a time-out: milliseconds). */
const sweeps: ReadonlyArray<readonly [event: Event, mode: Mode, stride: number]> = [
  ["interrupt", inOneTurn, 1],
  ["interrupt", inManyTurns, 1],
  ["interrupt", { yieldsAtEveryStep: true, latency: 0 }, 7],
  ["interrupt", { yieldsAtEveryStep: false, latency: 2 }, 7],
  ["close", inOneTurn, 1],
  ["close", inManyTurns, 11],
  ["timeout", inManyTurns, 1],
  ["timeout", { yieldsAtEveryStep: false, latency: 0 }, 1]
]

const seed = Number(process.env["SWEEP_SEED"] ?? Date.now() % 2 ** 31)

/** Which of so many first steps a sweep begins at. */
const firstOf = (stride: number, sweep: Omit<Sweep, "mutate">): number =>
  Math.abs(Hash.string(`${seed} ${JSON.stringify(sweep)}`)) % stride

/** Sweeps are synchronous: in between, the test runner has its turn. */
const eventLoop = () => new Promise<void>((resolve) => setImmediate(resolve))

/** What lasts seconds takes thousands of steps, most of them those of one retry or another. */
const strideOf = (event: Event, stride: number, { faults, isOutage }: Scenario): number => {
  if (event === "timeout") return faults === undefined ? stride : 97
  if (isOutage === true) return 12 * stride + 1
  return faults === undefined ? stride : 3 * stride
}

for (const scenario of scenarios) {
  describe(scenario.name, () => {
    for (const policy of policiesOf(scenario)) {
      it(nameOf(policy), async () => {
        const problems: Array<string> = []
        let points = 0
        for (const [event, mode, stride] of sweeps) {
          await eventLoop()
          const sweep = { scenario, policy, mode, event }
          const every = strideOf(event, stride, scenario)
          const swept = sweepThrough(sweep, every, firstOf(every, sweep))
          points += swept.points
          problems.push(...swept.problems)
        }
        const again = `SWEEP_SEED=${seed} PROOF=1 npx vitest run test/engine/interruptionSweep`
        expect(problems.length === 0 ? "" : [again, ...problems].join("\n")).toBe("")
        // What is refused at once takes the fewest: a dozen a sweep.
        expect(points).toBeGreaterThan(10 * sweeps.length)
      }, 120_000)
    }
  })
}
