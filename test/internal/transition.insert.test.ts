import { describe, expect, it } from "@effect/vitest"
import type { InsertRequest, State } from "../../src/internal/protocol.js"
import { maxSteps, maxStepsLength } from "../../src/internal/protocol.js"
import * as transition from "../../src/internal/transition.js"
import { completed, held, lapsed, now, outcome, processing, released, unknown } from "../support/states.js"

const request: InsertRequest = {
  token: "n",
  outcome,
  fingerprint: "g",
  attempt: 1,
  createdAt: now - 7,
  expiresAt: now + 9,
  retention: 9
}
const record = { _tag: "Completed", token: "n", outcome, fingerprint: "g", createdAt: now - 7, expiresAt: now + 9 }
const insert = (state: State | undefined, attempt = 1) => transition.insert(state, { ...request, attempt }, now)

describe("insert", () => {
  it("writes where nothing is, or nothing lives", () => {
    expect(insert(undefined)).toEqual({ state: { ...record, attempt: 1 }, reply: { _tag: "Inserted" } })
    expect(insert({ ...completed, expiresAt: now })).toEqual({
      state: { ...record, attempt: 1 },
      reply: { _tag: "Inserted" }
    })
  })

  it("goes on counting where a key was given back", () => {
    expect(insert(released)).toEqual({ state: { ...record, attempt: 2 }, reply: { _tag: "Inserted" } })
    expect(insert(released, 5)).toMatchObject({ state: { attempt: 5 } })
  })

  it("sent again finds its own record", () => {
    const own = { ...completed, token: "n" }
    expect(insert(own)).toEqual({ state: own, reply: { _tag: "Inserted" } })
  })

  it("replaces nothing that lives, though the token were its own", () => {
    for (const state of [completed, processing, lapsed, held, unknown, { ...processing, token: "n" }]) {
      expect(insert(state)).toEqual({ state, reply: { _tag: "Collision" } })
    }
  })
})

describe("remove", () => {
  it("takes settled records alone", () => {
    expect(transition.remove(completed, now)).toEqual({ state: undefined, reply: true })
    for (const state of [undefined, processing, lapsed, held, unknown, released]) {
      expect(transition.remove(state, now)).toEqual({ state, reply: false })
    }
  })
})

describe("saveStep", () => {
  const save = (count: number, length: number) => {
    const steps = Array.from({ length: count - 1 }, (_, n) => ({ name: `${n}`.padStart(4, "0"), encoded: "" }))
    const own = steps.reduce((sum, { name }) => sum + name.length, "last".length)
    const last = { token: "a", name: "last", encoded: "x".repeat(Math.max(0, length - own)) }
    return transition.saveStep({ ...processing, steps }, last, now).reply
  }

  it("takes as many steps, and as much, as may be", () => {
    expect(save(maxSteps, 0)).toEqual({ _tag: "Saved" })
    expect(save(maxSteps + 1, 0)).toEqual({ _tag: "TooLarge" })
    expect(save(3, maxStepsLength)).toEqual({ _tag: "Saved" })
    expect(save(3, maxStepsLength + 1)).toEqual({ _tag: "TooLarge" })
  })
})
