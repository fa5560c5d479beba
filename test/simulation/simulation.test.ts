/**
 * Thousands of small worlds, each from its seed: engines, callers, operators, bad networks.
 *
 * `SIMULATION_SEED=42 npx vitest run test/simulation` plays one and prints what happened in it;
 * `SIMULATION_SEEDS=20000` plays so many, `SIMULATION_FROM=100000` others.
 */
import { describe, expect, it } from "vitest"
import { isProof } from "../support/proof.js"
import { violations } from "./invariants.js"
import { mutations } from "./mutations.js"
import type { Mutation } from "./played.js"
import { play } from "./simulation.js"

const numberFrom = (name: string): number | undefined => {
  const text = process.env[name]
  if (text === undefined) return undefined
  const value = Number(text)
  if (!Number.isSafeInteger(value)) throw new Error(`${name} is not a whole number`)
  return value
}

/** As many as are played one after the other before the event loop has its turn. */
const batch = 250
const from = numberFrom("SIMULATION_FROM") ?? 1
const seeds = numberFrom("SIMULATION_SEEDS") ?? (isProof ? 20_000 : 5000)
const only = numberFrom("SIMULATION_SEED")

const report = (seed: number): string | undefined => {
  const wrong = violations(play(seed))
  return wrong.length === 0
    ? undefined
    : [`SIMULATION_SEED=${seed} npx vitest run test/simulation`, ...wrong.map((one) => `  ${one}`)].join("\n")
}

const firstFound = (mutation: Mutation, limit: number): number | undefined => {
  for (let seed = 1; seed <= limit; seed++) if (violations(play(seed, { mutation })).length > 0) return seed
  return undefined
}

const playOne = (seed: number) =>
  it(`the simulation keeps every promise with seed ${seed}`, () => {
    const played = play(seed, { isTraced: true })
    console.log(played.trace.join("\n"))
    expect(violations(played)).toEqual([])
  })

const playAll = () => {
  it(`keeps every promise with ${seeds} seeds`, { timeout: 60_000 + seeds * 50 }, async () => {
    const failures: Array<string> = []
    for (let seed = from; seed < from + seeds && failures.length < 10; seed++) {
      const failure = report(seed)
      if (failure !== undefined) failures.push(failure)
      if (seed % batch === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    expect(failures.join("\n"), "these seeds broke a promise").toBe("")
  })

  it("plays the same for the same seed", { timeout: 60_000 }, () => {
    for (let seed = 1; seed <= 50; seed++) {
      expect(play(seed, { isTraced: true }).trace).toEqual(play(seed, { isTraced: true }).trace)
    }
  })

  it("meets all that can become of a call", { timeout: 60_000 }, () => {
    const met = new Set<string>()
    for (let seed = 1; seed <= 250; seed++) {
      for (const { exit } of play(seed).calls) {
        if (exit === undefined) continue
        if (exit._tag === "Success") met.add(exit.value._tag)
        else if (exit.cause._tag === "Fail" && exit.cause.error instanceof Error) met.add(exit.cause.error.name)
        else met.add(exit.cause._tag)
      }
    }
    const all = [
      "Executed",
      "Replayed",
      "Unprotected",
      "Interrupt",
      "Die",
      "IdempotencyFingerprintMismatchError",
      "IdempotencyInFlightError",
      "IdempotencyOutcomeUnknownError",
      "IdempotencyResultUnavailableError",
      "IdempotencyStorageError"
    ]
    expect(all.filter((one) => !met.has(one))).toEqual([])
  })
}

if (only !== undefined) {
  playOne(only)
} else {
  describe("the simulation", playAll)

  // A test that cannot fail proves nothing.
  describe("the simulation finds", () => {
    for (const [name, mutation] of Object.entries(mutations)) {
      it(name, { timeout: 60_000 }, () => {
        const seed = firstFound(mutation, 1000)
        expect(seed, "no seed found it").toBeDefined()
        expect(report(seed ?? 0), "without the fault, too").toBeUndefined()
      })
    }
  })
}
