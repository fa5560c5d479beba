import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import { decodeState, decodeSteps, encodeField } from "../../src/internal/redis/codec.js"

const header = (fields: Partial<Record<"state" | "token" | "until" | "kept" | "detail" | "fingerprint", string>>) => {
  const { detail = "s", fingerprint = "-", kept = "0", state = "C", token = "t", until = "2000" } = fields
  return `1 ${state} ${token} 3 1000 ${until} ${kept} ${kept} ${detail} ${fingerprint}\n`
}

/** Often made of what the header gives a meaning to. */
const text = FastCheck.oneof(FastCheck.fullUnicodeString(), FastCheck.stringOf(FastCheck.constantFrom(..." \n%-a2D")))

describe("fields", () => {
  it.prop(
    "any text is one field, and comes back",
    [text, FastCheck.option(text, { nil: undefined })],
    ([token, fingerprint]) => {
      const stored = `${header({ token: encodeField(token), fingerprint: encodeField(fingerprint) })}"ok"`
      expect(decodeState(stored, 0)).toEqual({
        _tag: "Completed",
        token,
        fingerprint,
        attempt: 3,
        createdAt: 1000,
        expiresAt: 2000,
        outcome: { _tag: "Success", encoded: '"ok"' }
      })
    }
  )

  it("different texts are different fields", () => {
    const texts = ["", "-", "%", "%2D", "%20", " ", "a b", "a%20b", "\n", undefined]
    expect(new Set(texts.map(encodeField)).size).toBe(texts.length)
  })
})

describe("payloads", () => {
  it.prop("a result comes back to the letter", [FastCheck.json()], ([encoded]) => {
    const state = decodeState(`${header({ detail: "f" })}${encoded}`, 0)
    expect(state).toMatchObject({ outcome: { _tag: "Failure", encoded } })
  })

  it("steps are told apart by their lengths", () => {
    const steps = [
      { name: "1 2 3 4\n", encoded: '"é"' },
      { name: "😀", encoded: "" }
    ]
    const payload = steps
      .map(
        ({ encoded, name }) =>
          `${name.length} ${encoded.length} ${Buffer.byteLength(name)} ${Buffer.byteLength(encoded)}\n${name}${encoded}`
      )
      .join("")
    expect(decodeSteps(payload)).toEqual(steps)
    expect(decodeSteps(payload.slice(0, -1))).toBeUndefined()
    expect(decodeSteps(`${payload}x`)).toBeUndefined()
  })

  it("every state is read, with the key's expiry where it has none of its own", () => {
    const claim = {
      token: "t",
      attempt: 3,
      fingerprint: undefined,
      createdAt: 1000,
      retention: 50,
      steps: [],
      expiresAt: 9
    }
    expect(decodeState(header({ state: "P", kept: "50", detail: "m" }), 9)).toEqual({
      ...claim,
      _tag: "Processing",
      leaseUntil: 2000,
      guarantee: "at-most-once",
      unknownRetention: 50
    })
    expect(decodeState(header({ state: "U", until: "0", kept: "50", detail: "lh" }), 9)).toEqual({
      ...claim,
      _tag: "Unknown",
      reason: "held",
      guarantee: "at-least-once",
      unknownRetention: 50
    })
    expect(decodeState(header({ state: "R", until: "0", kept: "50", detail: "-" }), 9)).toEqual({
      ...claim,
      _tag: "Released"
    })
    expect(decodeState(header({ detail: "u" }), 9)).toMatchObject({ outcome: { _tag: "Unavailable" }, expiresAt: 2000 })
  })

  it("what is not a record is corrupted", () => {
    const stored = [
      "",
      "hello",
      '{"status":"done"}',
      "1 C t 1",
      header({}).slice(0, -1),
      header({}).replace("1 C", "2 C")
    ]
    for (const raw of stored) expect(decodeState(raw, 0)._tag).toBe("Corrupted")
  })
})
