/**
 * Something happens to a protected call at its n-th step: it is interrupted, or the engine closes; or its time is over
 * after n milliseconds. Whatever n, the key is left as the tables of the protocol say. This is the short form; the long one takes every step of everything.
 */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Driver } from "../../src/internal/protocol.js"
import { type Mode, sweepThrough } from "../support/sweep.js"
import { anyPolicy, policiesOf, scenarios } from "../support/sweepScenarios.js"

const inOneTurn: Mode = { yieldsAtEveryStep: false, latency: 0 }
const inManyTurns: Mode = { yieldsAtEveryStep: true, latency: 2 }

describe("at every so many steps", () => {
  for (const [index, scenario] of scenarios.entries()) {
    // Another policy and other steps for each, so that together they are more than a few.
    const all = policiesOf(scenario)
    const policy = all[index % all.length] ?? anyPolicy

    it(`${scenario.name}: the caller is interrupted, or the engine closes`, () => {
      const stride = (scenario.isOutage === true ? 397 : 41) + index
      expect(sweepThrough({ scenario, policy, mode: inOneTurn, event: "interrupt" }, stride).problems).toEqual([])
      expect(sweepThrough({ scenario, policy, mode: inManyTurns, event: "close" }, 2 * stride).problems).toEqual([])
    })

    it(`${scenario.name}: the caller's time is over`, () => {
      const stride = scenario.faults === undefined ? 5 : (scenario.isOutage === true ? 397 : 97) + index
      expect(sweepThrough({ scenario, policy, mode: inManyTurns, event: "timeout" }, stride).problems).toEqual([])
    })
  }
})

describe("at every step", () => {
  for (const scenario of scenarios.filter(({ ending, other }) => other === "leads" || ending.hasStep)) {
    it(`${scenario.name}: the caller is interrupted`, () => {
      const { problems } = sweepThrough({ scenario, policy: anyPolicy, mode: inOneTurn, event: "interrupt" })
      expect(problems).toEqual([])
    }, 120_000)
  }
})

describe("the sweep", () => {
  const swept = (mutate: (driver: Driver) => Driver, named = "a first run"): string =>
    scenarios
      .filter(({ name }) => name === named)
      .flatMap((scenario) =>
        policiesOf(scenario).flatMap(
          (policy) => sweepThrough({ scenario, policy, mode: inOneTurn, event: "interrupt", mutate }, 40).problems
        )
      )
      .join("\n")

  for (const verb of ["release", "hold"] as const) {
    it(`finds a store whose ${verb} does nothing`, () => {
      const found = swept((driver) => ({
        ...driver,
        [verb]: () => Effect.succeed({ _tag: verb === "hold" ? "Held" : "Released" })
      }))
      expect(found).toContain("the state is Processing")
    })
  }

  it("finds a store that forgets what it was given", () => {
    const found = swept((driver) => ({
      ...driver,
      complete: () => Effect.succeed({ _tag: "Done", attempt: 1, createdAt: 0, expiresAt: 1 })
    }))
    expect(found).toContain(`should be Success "paid"`)
  })

  it("finds a store that forgets steps", () => {
    const found = swept(
      (driver) => ({ ...driver, saveStep: () => Effect.succeed({ _tag: "Saved" }) }),
      "a body that fails after a step"
    )
    expect(found).toContain("the step has ended, and is not recorded")
  })

  it("finds a store that gives no step back", () => {
    const found = swept(
      (driver) => ({
        ...driver,
        claim: (...asked) =>
          Effect.map(driver.claim(...asked), (reply) => (reply._tag === "Claimed" ? { ...reply, steps: [] } : reply))
      }),
      "a body that fails after a step"
    )
    expect(found).toContain("the step is recorded, and ran again")
  })

  it("finds a call that goes wrong though nothing happens to it", () => {
    const found = swept((driver) => ({ ...driver, claim: () => Effect.die("a broken claim") }))
    expect(found).toContain(`undisturbed: the caller got: defect a broken claim, not Executed "paid"`)
  })
})
