/**
 * Something happens to a protected call at its n-th step: it is interrupted, or the engine closes. Whatever n, the key is
 * left as the tables of the protocol say. This is the short form; the long one takes every step of everything.
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
    it(`${scenario.name}: the caller is interrupted, or the engine closes`, () => {
      // Another policy and other steps for each, so that together they are more than a few.
      const all = policiesOf(scenario)
      const policy = all[index % all.length] ?? anyPolicy
      const stride = (scenario.isOutage === true ? 397 : 41) + index
      expect(sweepThrough({ scenario, policy, mode: inOneTurn, event: "interrupt" }, stride).problems).toEqual([])
      expect(sweepThrough({ scenario, policy, mode: inManyTurns, event: "close" }, 2 * stride).problems).toEqual([])
    })
  }
})

describe("at every step", () => {
  for (const scenario of scenarios.filter(({ other }) => other === "leads")) {
    it(`${scenario.name}: the caller is interrupted`, () => {
      const { problems } = sweepThrough({ scenario, policy: anyPolicy, mode: inOneTurn, event: "interrupt" })
      expect(problems).toEqual([])
    })
  }
})

describe("the sweep", () => {
  const swept = (mutate: (driver: Driver) => Driver): string =>
    scenarios
      .slice(0, 1)
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
})
