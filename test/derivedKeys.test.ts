/** Keys that were derived once are in stores: another release must derive the same. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import { IdempotencyKey } from "../src/IdempotencyKey.js"
import { IdempotencyRecord } from "../src/IdempotencyRecord.js"
import { canonicalJson, sha256 } from "../src/internal/hash.js"
import { pythonJson } from "../src/internal/pythonJson.js"

/** Made apart from this library, by Python's `hashlib`. */
describe("known keys", () => {
  it("derive", () => {
    const source = { entityId: "order-1", action: "charge" }
    expect(IdempotencyKey.derive(source)).toBe("dc8982c4249ab8a715d6282de696f5b5")
    expect(IdempotencyKey.derive({ ...source, params: { é: 1, a: [true, null] } })).toBe(
      "4eb48542c4e99edb4407188ec8378e33"
    )
    expect(IdempotencyKey.derive({ ...source, entityId: "\ud800" })).toBe("b4364539b5ef82a4cfabb3d0228f36fd")
  })

  it("fromUntrusted", () => {
    expect(IdempotencyKey.fromUntrusted("client", "é")).toBe("bMguZwLJH3hw9UiT1yFENA0Hc7spKeHy-P0mMVyYKWc")
    expect(IdempotencyKey.fromUntrusted()).toBe("47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU")
    expect(IdempotencyKey.fromUntrusted("a\udc00b")).toBe("Ej0FGFvbsgNL8Y0g3oTPBKgNqQMkPCFS8y1qhirKbc8")
  })

  it("fingerprints", () => {
    const known = "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
    expect(sha256("")).toBe(known)
    expect(sha256(new Uint8Array())).toBe(known)
    expect(sha256("é")).toBe(sha256(new Uint8Array([0xc3, 0xa9])))
  })
})

describe("Python's JSON", () => {
  it("sorts by code point, what is shorter first", () => {
    const sorted = ["", "a", "aB", "aa", "ab", "ab\u0000", "abc", "b", "é", "\uffff", "😀"]
    const value = Object.fromEntries(sorted.toReversed().map((key) => [key, 0]))
    expect(Object.keys(JSON.parse(pythonJson(value)))).toEqual(sorted)
  })

  it("has no form of what is not finite, and takes what is not there for null", () => {
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => pythonJson([value])).toThrow("a number is not finite")
    }
    expect(pythonJson(undefined)).toBe("null")
  })
})

describe("canonical JSON", () => {
  it("takes no longer for what is deep", () => {
    const deep = JSON.parse(`${"[".repeat(8_000)}${"]".repeat(8_000)}`)
    const before = process.cpuUsage()
    canonicalJson(deep)
    const { system, user } = process.cpuUsage(before)
    expect((user + system) / 1_000).toBeLessThan(1_000)
  })

  it("is that of an object which stands in several places", () => {
    const twice = { a: 1 }
    expect(canonicalJson([twice, { twice }, twice])).toEqual(Either.right('[{"a":1},{"twice":{"a":1}},{"a":1}]'))
  })
})

describe("a key", () => {
  it("is trimmed as it is decoded, and no key before", () => {
    const isKey = Schema.is(IdempotencyKey)
    expect(isKey("k")).toBe(true)
    for (const text of [" k", "k\n"]) expect(isKey(text)).toBe(false)
    const refused = Schema.validateEither(IdempotencyKey)(" k")
    expect(Either.isLeft(refused) && refused.left.message).toContain("surrounding white space is not trimmed")
  })

  it.effect("and operation are trimmed in what a record's refusal says", () =>
    Effect.gen(function* () {
      const refused = IdempotencyRecord.create({
        operation: " charge ",
        idempotencyKey: "k",
        result: 1,
        timeToLive: "1 hour",
        fingerprint: "no fingerprint"
      })
      expect(yield* Effect.flip(refused)).toMatchObject({
        operation: "charge",
        issues: ["the fingerprint is not 1 to 128 letters, digits, underscores or dashes"]
      })
    })
  )
})
