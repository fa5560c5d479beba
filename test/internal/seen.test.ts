/** What an operator has seen is known again as long as it is the same attempt in the same state. */
import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import type { State } from "../../src/internal/protocol.js"
import { seenOf } from "../../src/internal/seen.js"
import { completed, held, lapsed, lapsedOnce, now, processing, released, unknown } from "../support/states.js"

const states: ReadonlyArray<State> = [processing, lapsed, held, unknown, completed, released]

describe("what was seen", () => {
  it("differs by the state, the attempt and the owner", () => {
    const all = states.flatMap((state) => [state, { ...state, attempt: 3 }, { ...state, token: "b" }])
    const seen = [...all.map((state) => seenOf(state, now)), seenOf({ _tag: "Corrupted" }, now)]
    expect(new Set(seen).size).toBe(3 * states.length + 1)
  })

  it("is the same while an owner runs and renews, and once it has lapsed", () => {
    const renewed = { ...processing, leaseUntil: now + 9_000, expiresAt: now + 20_000 }
    expect(seenOf(renewed, now + 8_999)).toBe(seenOf(processing, now))
    expect(seenOf(processing, now + 1_000)).toBe(seenOf(lapsed, now + 60_000))
    expect(seenOf({ ...processing, steps: [{ name: "one", encoded: "1" }] }, now)).toBe(seenOf(processing, now))
  })

  it("is the same once a lapse under at-most-once is written down", () => {
    expect(seenOf(lapsedOnce, now)).toBe(seenOf(unknown, now))
    expect(seenOf(lapsedOnce, now - 1)).not.toBe(seenOf(unknown, now - 1))
    expect(seenOf(lapsed, now)).not.toBe(seenOf(unknown, now))
    expect(seenOf(held, now)).not.toBe(seenOf(unknown, now))
  })

  it("tells nobody the token", () => {
    FastCheck.assert(
      FastCheck.property(FastCheck.constantFrom(...states), FastCheck.string({ minLength: 8 }), (state, token) => {
        const seen = seenOf({ ...state, token }, now)
        expect(seen).toMatch(/^[\w-]{43}$/)
        expect(seen).not.toContain(token)
      })
    )
  })
})
