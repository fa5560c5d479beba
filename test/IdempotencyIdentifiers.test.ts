import { describe, expect, it } from "@effect/vitest"
import * as Either from "effect/Either"
import * as Equal from "effect/Equal"
import * as FastCheck from "effect/FastCheck"
import * as Hash from "effect/Hash"
import * as HashSet from "effect/HashSet"
import * as Schema from "effect/Schema"
import { IdempotencyIdentifiers } from "../src/IdempotencyIdentifiers.js"
import { storedKey } from "../src/internal/storedKey.js"

const from = (operation: string, idempotencyKey: string, scope?: string) =>
  Either.getOrThrow(IdempotencyIdentifiers.from({ operation, idempotencyKey, scope }))

/** Any part of an identity. */
const part = FastCheck.stringOf(FastCheck.constantFrom("a", "B", " ", "%", "{", "}", "7", "é", "😀"), {
  minLength: 1,
  maxLength: 6
}).filter((text) => text.trim() !== "")
const identity = FastCheck.record({
  operation: part,
  key: part,
  scope: FastCheck.option(part, { nil: undefined })
}).map(({ key, operation, scope }) => from(operation, key, scope))

describe("identifiers", () => {
  it("are equal by value", () => {
    const [a, b] = [from("o", "k", "s"), from("o", "k", "s")]
    expect(Equal.equals(a, b)).toBe(true)
    expect(Hash.hash(a)).toBe(Hash.hash(b))
    expect(HashSet.size(HashSet.make(a, b, from("o", "k"), from("o", "k", "t")))).toBe(3)
  })

  it("are equal where the one has a scope that is undefined, and the other has none", () => {
    const one = new IdempotencyIdentifiers({ ...from("o", "k"), scope: undefined })
    const two = Schema.decodeUnknownSync(IdempotencyIdentifiers)({
      operation: "o",
      idempotencyKey: "k",
      scope: undefined
    })
    expect(HashSet.size(HashSet.make(one, two, from("o", "k")))).toBe(1)
    expect(Equal.equals(from("o", "k"), one)).toBe(true)
  })

  /** The first, and what differs from it by one part. */
  const all = [from("o", "k"), from("p", "k"), from("o", "l"), from("o", "k", "s"), from("o", "k", "t")]

  it("differ by any part", () => {
    for (const [i, a] of all.entries()) for (const [j, b] of all.entries()) expect(Equal.equals(a, b)).toBe(i === j)
    expect(new Set(all.map(Hash.hash)).size).toBe(all.length)
  })

  it("differ by any part, also where hashes collide", () => {
    for (const [i, a] of all.entries()) for (const [j, b] of all.entries()) expect(a[Equal.symbol](b)).toBe(i === j)
    expect(from("o", "k")[Equal.symbol]({ operation: "o", idempotencyKey: "k" })).toBe(false)
  })

  it("are trimmed", () => {
    expect(Equal.equals(from(" o ", "\tk\n", " s "), from("o", "k", "s"))).toBe(true)
  })

  it("leave out a scope that is not there", () => {
    expect(Object.keys(from("o", "k"))).toEqual(["operation", "idempotencyKey"])
  })

  it("name everything that is wrong, and repeat none of it", () => {
    const result = IdempotencyIdentifiers.from({ operation: "se:cret", idempotencyKey: "", scope: "x".repeat(256) })
    const issues = Either.match(result, { onLeft: (error) => error.issues, onRight: () => [] })
    expect(issues).toHaveLength(3)
    expect(issues.join()).not.toContain("cret")
    expect(issues.join()).not.toContain("xxx")
  })

  it("refuse an empty scope: it is not an absent one", () => {
    expect(Either.isLeft(IdempotencyIdentifiers.from({ operation: "o", idempotencyKey: "k", scope: " " }))).toBe(true)
  })

  it("pass through their schema", () => {
    const ids = from("o", "k", "s")
    const encoded = Schema.encodeSync(IdempotencyIdentifiers)(ids)
    expect(Equal.equals(Schema.decodeSync(IdempotencyIdentifiers)(encoded), ids)).toBe(true)
    expect(Either.isLeft(Schema.decodeEither(IdempotencyIdentifiers)({ ...encoded, operation: "a:b" }))).toBe(true)
  })

  it.prop(
    "agree with the schema about what is valid",
    { operation: FastCheck.string(), key: FastCheck.string() },
    ({ key, operation }) => {
      const ids = { operation, idempotencyKey: key }
      expect(Either.isRight(IdempotencyIdentifiers.from(ids))).toBe(
        Either.isRight(Schema.decodeEither(IdempotencyIdentifiers)(ids))
      )
    }
  )
})

describe("the stored key", () => {
  it("is readable, and holds no braces", () => {
    expect(storedKey(from("payment.charge", "order-1"))).toBe("payment.charge:order-1")
    expect(storedKey(from("payment.charge", "order-1", "tenant"))).toBe("payment.charge:tenant:order-1")
    expect(storedKey(from("o", "{a}%"))).toBe("o:%7Ba%7D%25")
    expect(storedKey(from("o", "%7B"))).toBe("o:%257B")
  })

  it.prop("is the same for the same identity alone", { a: identity, b: identity }, ({ a, b }) => {
    expect(storedKey(a) === storedKey(b)).toBe(Equal.equals(a, b))
    expect(storedKey(a)).not.toMatch(/[{}]/)
  })
})
