import { expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { maxSteps, maxStepsLength } from "../protocol.js"
import { type ContractCase, group, moment } from "./contractCase.js"

export const releaseCases: ReadonlyArray<ContractCase> = group("release")({
  "an owner frees its key": ({ claim, ids, read, release }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      expect(yield* release(ids(), "a")).toEqual({ _tag: "Released" })
      expect(yield* read(ids())).toMatchObject({ _tag: "Released", attempt: 1 })
    }),

  "sent twice, it is the same release": ({ claim, ids, release }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      yield* release(ids(), "a")
      expect(yield* release(ids(), "a")).toEqual({ _tag: "Released" })
      yield* claim(ids(), "b")
      expect(yield* release(ids(), "a")).toEqual({ _tag: "NotHeld" })
    }),

  "the attempt survives any number of releases": ({ claim, ids, release }) =>
    Effect.gen(function* () {
      for (const [index, token] of ["a", "b", "c", "d"].entries()) {
        expect(yield* claim(ids(), token)).toMatchObject({ _tag: "Claimed", attempt: index + 1 })
        yield* release(ids(), token)
      }
    }),

  "only its own token frees a key": ({ claim, ids, read, release }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      expect(yield* release(ids(), "b")).toEqual({ _tag: "NotHeld" })
      expect(yield* read(ids())).toMatchObject({ _tag: "Processing", token: "a" })
      expect((yield* claim(ids(), "b"))._tag).toBe("InFlight")
    }),

  "an owner that was taken over frees nothing": ({ claim, ids, lapse, read, release }) =>
    Effect.gen(function* () {
      yield* lapse(ids(), "a")
      yield* claim(ids(), "b")
      expect(yield* release(ids(), "a")).toEqual({ _tag: "NotHeld" })
      expect(yield* read(ids())).toMatchObject({ _tag: "Processing", token: "b" })
    }),

  "an absent key stays absent": ({ ids, read, release }) =>
    Effect.gen(function* () {
      expect(yield* release(ids(), "a")).toEqual({ _tag: "NotHeld" })
      expect(yield* read(ids())).toBeUndefined()
    }),

  "a settled record stays": ({ claim, complete, ids, release }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      yield* complete(ids(), "a")
      expect(yield* release(ids(), "a")).toEqual({ _tag: "NotHeld" })
      expect((yield* claim(ids(), "b"))._tag).toBe("Settled")
    }),

  "an owner whose lapse was noticed frees its key": ({ claim, ids, lapse, release }) =>
    Effect.gen(function* () {
      yield* lapse(ids(), "a", { guarantee: "at-most-once" })
      yield* claim(ids(), "b")
      expect(yield* release(ids(), "a")).toEqual({ _tag: "Released" })
      expect(yield* claim(ids(), "b")).toMatchObject({ _tag: "Claimed", attempt: 2 })
    }),

  "a held key is not freed": ({ claim, hold, ids, release }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      yield* hold(ids(), "a")
      expect(yield* release(ids(), "a")).toEqual({ _tag: "NotHeld" })
      expect(yield* claim(ids(), "b")).toEqual({ _tag: "Unknown", attempt: 1 })
    })
})

export const holdCases: ReadonlyArray<ContractCase> = group("hold")({
  "an owner makes its outcome unknown": ({ claim, hold, ids, read }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a", { fingerprint: "f" })
      expect(yield* hold(ids(), "a")).toEqual({ _tag: "Held" })
      expect(yield* read(ids())).toMatchObject({
        _tag: "Unknown",
        reason: "held",
        token: "a",
        attempt: 1,
        fingerprint: "f"
      })
    }),

  "sent twice, it is the same": ({ claim, hold, ids }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      yield* hold(ids(), "a")
      expect(yield* hold(ids(), "a")).toEqual({ _tag: "Held" })
    }),

  "only its own token holds a key": ({ claim, hold, ids, read }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      expect(yield* hold(ids(), "b")).toEqual({ _tag: "NotHeld" })
      expect(yield* read(ids())).toMatchObject({ _tag: "Processing", token: "a" })
    }),

  "after a lapse that nobody noticed it holds": ({ claim, hold, ids, lapse }) =>
    Effect.gen(function* () {
      yield* lapse(ids(), "a")
      expect(yield* hold(ids(), "a")).toEqual({ _tag: "Held" })
      expect(yield* claim(ids(), "b")).toEqual({ _tag: "Unknown", attempt: 1 })
    }),

  "an absent, released or settled key is not held": ({ claim, complete, hold, ids, read, release }) =>
    Effect.gen(function* () {
      const [released, settled] = [ids({ key: "-released" }), ids({ key: "-settled" })]
      yield* claim(released, "a")
      yield* release(released, "a")
      yield* complete(settled, "a")
      for (const of of [ids(), released, settled]) expect(yield* hold(of, "a")).toEqual({ _tag: "NotHeld" })
      expect(yield* read(ids())).toBeUndefined()
      expect(yield* read(released)).toMatchObject({ _tag: "Released" })
      expect(yield* read(settled)).toMatchObject({ _tag: "Completed" })
    })
})

export const stepCases: ReadonlyArray<ContractCase> = group("saveStep")({
  "a step is kept in order, to the letter": ({ claim, ids, read, saveStep }) =>
    Effect.gen(function* () {
      const steps = [
        { name: "z", encoded: "" },
        { name: 'a "quoted" {%} ü😀', encoded: '{"list":[],"map":{}}' },
        { name: "10", encoded: "null" }
      ]
      yield* claim(ids(), "a")
      for (const { encoded, name } of steps) {
        expect(yield* saveStep(ids(), "a", name, encoded)).toEqual({ _tag: "Saved" })
      }
      expect(yield* read(ids())).toMatchObject({ _tag: "Processing", steps })
    }),

  "sent twice, the first result stays": ({ claim, ids, read, saveStep }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      yield* saveStep(ids(), "a", "first", "1")
      expect(yield* saveStep(ids(), "a", "first", "2")).toEqual({ _tag: "Saved" })
      expect(yield* read(ids())).toMatchObject({ steps: [{ name: "first", encoded: "1" }] })
    }),

  "only the owner saves": ({ claim, ids, read, saveStep }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      expect(yield* saveStep(ids(), "b", "first")).toEqual({ _tag: "NotHeld" })
      expect(yield* read(ids())).toMatchObject({ token: "a", steps: [] })
    }),

  "nothing is saved where nobody runs": ({ claim, complete, hold, ids, read, release, saveStep }) =>
    Effect.gen(function* () {
      const [released, held, settled] = [ids({ key: "-released" }), ids({ key: "-held" }), ids({ key: "-settled" })]
      yield* claim(released, "a")
      yield* release(released, "a")
      yield* claim(held, "a")
      yield* hold(held, "a")
      yield* complete(settled, "a")
      for (const of of [ids(), released, held, settled]) {
        expect(yield* saveStep(of, "a", "first")).toEqual({ _tag: "NotHeld" })
      }
      expect(yield* read(ids())).toBeUndefined()
    }),

  "a lapsed owner that nobody took over still saves": ({ claim, ids, lapse, saveStep }) =>
    Effect.gen(function* () {
      yield* lapse(ids(), "a")
      expect(yield* saveStep(ids(), "a", "first", "1")).toEqual({ _tag: "Saved" })
      expect(yield* claim(ids(), "b")).toMatchObject({ attempt: 2, steps: [{ name: "first", encoded: "1" }] })
    }),

  "steps survive an unknown outcome and its reset": ({ claim, hold, ids, repository, saveStep }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a", { fingerprint: "f" })
      yield* saveStep(ids(), "a", "first", "1")
      yield* hold(ids(), "a")
      yield* repository.reset(ids())
      expect(yield* claim(ids(), "b", { fingerprint: "g" })).toEqual({ _tag: "Mismatch" })
      expect(yield* claim(ids(), "b")).toMatchObject({ attempt: 2, steps: [{ name: "first", encoded: "1" }] })
    }),

  "steps end with the record's life": ({ claim, ids, pass, saveStep }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      yield* saveStep(ids(), "a", "first", "1")
      const brief = ids({ key: "-brief" })
      yield* claim(brief, "a", { lease: moment, retention: moment })
      yield* saveStep(brief, "a", "first", "1")
      yield* pass
      expect(yield* claim(brief, "b")).toEqual({ _tag: "Claimed", attempt: 1, steps: [] })
    }),

  "their number is bounded": ({ claim, ids, read, saveStep }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      yield* Effect.forEach(
        Array.from({ length: maxSteps }, (_, index) => `step-${index}`),
        (name) => saveStep(ids(), "a", name, "1")
      )
      expect(yield* saveStep(ids(), "a", "one-more", "1")).toEqual({ _tag: "TooLarge" })
      expect(yield* saveStep(ids(), "a", "step-0", "1")).toEqual({ _tag: "Saved" })
      const state = yield* read(ids())
      expect(state?._tag === "Processing" ? state.steps.length : state).toBe(maxSteps)
    }),

  "their length is bounded": ({ claim, ids, read, saveStep }) =>
    Effect.gen(function* () {
      const fitting = "x".repeat(maxStepsLength - 2)
      yield* claim(ids(), "a")
      expect(yield* saveStep(ids(), "a", "big", fitting)).toEqual({ _tag: "TooLarge" })
      expect(yield* saveStep(ids(), "a", "ok", fitting)).toEqual({ _tag: "Saved" })
      expect(yield* saveStep(ids(), "a", "x", "")).toEqual({ _tag: "TooLarge" })
      const state = yield* read(ids())
      expect(state?._tag === "Processing" ? state.steps.map(({ name }) => name) : state).toEqual(["ok"])
    })
})
