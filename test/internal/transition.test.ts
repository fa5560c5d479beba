/** What holds of every state and every operation. The operation table is in the files beside this one. */
import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import type * as Protocol from "../../src/internal/protocol.js"
import * as transition from "../../src/internal/transition.js"
import { anyOperation, anyState, now, type Operation } from "../support/states.js"

const anything = { state: anyState, operation: anyOperation }
const runs = { fastCheck: { numRuns: 20_000 } }

const operators: ReadonlyArray<Operation["verb"]> = ["resolve", "reset", "insert", "remove"]

const isSame = (a: Protocol.State | undefined, b: Protocol.State | undefined): boolean =>
  JSON.stringify(a) === JSON.stringify(b)

const isLapsed = (state: Protocol.State): boolean => state._tag === "Processing" && state.leaseUntil <= now

describe("every operation on every state", () => {
  it.prop(
    "changes what a token holds only for that token",
    anything,
    ({ operation, state }) => {
      const live = transition.live(state, now)
      if (live === undefined || operators.includes(operation.verb) || live.token === operation.token) return
      const next = operation.apply(state, now).state
      if (isSame(next, live) || live._tag === "Released") return
      // Another's key changes in one way: somebody else comes to claim it after the lease has ended.
      expect(operation.verb).toBe("claim")
      expect(isLapsed(live)).toBe(true)
      if (next?._tag === "Unknown")
        expect(next).toMatchObject({ token: live.token, attempt: live.attempt, reason: "lapsed" })
      else
        expect([next?._tag, next?.token, live]).toMatchObject([
          "Processing",
          operation.token,
          { guarantee: "at-least-once" }
        ])
    },
    runs
  )

  it.prop(
    "leaves a settled record as it is, but for reset and remove",
    anything,
    ({ operation, state }) => {
      const live = transition.live(state, now)
      if (live?._tag !== "Completed") return
      const next = operation.apply(state, now).state
      if (operation.verb === "reset") expect(next?._tag).toBe("Released")
      else if (operation.verb === "remove") expect(next).toBeUndefined()
      else expect(next).toBe(state)
    },
    runs
  )

  it.prop(
    "sent twice, does the same as once",
    anything,
    ({ operation, state }) => {
      const once = operation.apply(state, now)
      const twice = operation.apply(once.state, now)
      expect(twice.state).toEqual(once.state)
      if (operation.verb === "remove") expect(twice.reply).toBe(false)
      else if (operation.verb === "claim") {
        const again = { ...Object(once.reply) }
        expect(twice.reply).toEqual(again._tag === "Claimed" ? { ...again, _tag: "AlreadyMine" } : again)
      } else expect(twice.reply).toEqual(once.reply)
    },
    runs
  )

  it.prop(
    "never lowers the attempt of a live record",
    anything,
    ({ operation, state }) => {
      const live = transition.live(state, now)
      const next = operation.apply(state, now).state
      if (live === undefined) return
      if (operation.verb === "remove" && live._tag === "Completed") return
      expect(next?.attempt).toBeGreaterThanOrEqual(live.attempt)
      if (next?.attempt !== live.attempt && operation.verb !== "insert") {
        expect(next).toMatchObject({ _tag: "Processing", token: operation.token, attempt: live.attempt + 1 })
      }
    },
    runs
  )

  it.prop(
    "takes an expired record for an absent one",
    anything,
    ({ operation, state }) => {
      if (state === undefined || transition.live(state, now) !== undefined) return
      expect(operation.apply(state, now)).toEqual(operation.apply(undefined, now))
    },
    runs
  )

  it.prop(
    "gives back the very state that it does not change",
    anything,
    ({ operation, state }) => {
      const live = transition.live(state, now)
      const next = operation.apply(state, now).state
      const restarts = operation.verb === "claim" || operation.verb === "renew"
      if (live !== undefined && !restarts && isSame(next, live)) expect(next).toBe(state)
    },
    runs
  )

  it.prop(
    "leaves only what lives on",
    anything,
    ({ operation, state }) => {
      const next = operation.apply(state, now).state
      if (next === undefined) return
      expect(next.expiresAt).toBeGreaterThan(now)
      expect(next.attempt).toBeGreaterThanOrEqual(operation.verb === "insert" ? 0 : 1)
    },
    runs
  )

  it.prop(
    "keeps the guarantee until the key is free",
    anything,
    ({ operation, state }) => {
      const live = transition.live(state, now)
      const next = operation.apply(state, now).state
      if (live === undefined || !("guarantee" in live) || next === undefined || !("guarantee" in next)) return
      expect(next.guarantee).toBe(live.guarantee)
    },
    runs
  )

  it.prop(
    "compares the fingerprints of all that is held or settled",
    anything,
    ({ operation, state }) => {
      const live = transition.live(state, now)
      if (live === undefined || live.fingerprint === undefined || operators.includes(operation.verb)) return
      const next = operation.apply(state, now)
      const isClaim = operation.verb === "claim"
      if (isClaim && (live._tag !== "Released" || live.token !== operation.token)) {
        // Whoever got anything but a mismatch leaves the fingerprint as it was.
        expect(next.state?.fingerprint).toBe(live.fingerprint)
      }
    },
    runs
  )
})

describe("every history", () => {
  const moments = FastCheck.array(
    FastCheck.record({ operation: anyOperation, later: FastCheck.constantFrom(0, 0, 1, 1_000, 59_000) }),
    { maxLength: 30, size: "max" }
  )

  it.prop(
    "has one result for each life of a record, and attempts that never fall within it",
    { moments },
    ({ moments }) => {
      let at = now
      let state: Protocol.State | undefined
      let settled: Protocol.Completed | undefined
      let attempt = 0
      for (const { later, operation } of moments) {
        at += later
        if (transition.live(state, at) === undefined) {
          settled = undefined
          attempt = 0
        }
        state = operation.apply(state, at).state
        const isFreed = operation.verb === "reset" || operation.verb === "remove"
        if (settled !== undefined && !isFreed) expect(state).toBe(settled)
        settled = state?._tag === "Completed" ? state : undefined
        if (state === undefined) attempt = 0
        else {
          expect(state.attempt).toBeGreaterThanOrEqual(attempt)
          attempt = state.attempt
        }
      }
    },
    { fastCheck: { numRuns: 5_000 } }
  )
})
