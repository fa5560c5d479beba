/** Two identities never share a stored key, what clients send chooses no slot, and no name is special. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Equal from "effect/Equal"
import * as FastCheck from "effect/FastCheck"
import * as Schema from "effect/Schema"
import { IdempotencyIdentifiers } from "../../src/IdempotencyIdentifiers.js"
import { IdempotencyKey } from "../../src/IdempotencyKey.js"
import { slotOf } from "../../src/internal/redis/slots.js"
import { storedKey } from "../../src/internal/storedKey.js"
import { counting, key, operation, singleProcess, untyped } from "../support/engineProcess.js"
import { identity, pair, text } from "../support/hostileIdentities.js"
import { isProof } from "../support/proof.js"

describe("the key function", () => {
  it.prop(
    "gives two identities one key only if they are the same",
    [pair],
    ([[a, b]]) => {
      expect(storedKey(a) === storedKey(b)).toBe(Equal.equals(a, b))
      const same = a.operation === b.operation && a.scope === b.scope && a.idempotencyKey === b.idempotencyKey
      expect(Equal.equals(a, b)).toBe(same)
    },
    { fastCheck: { numRuns: isProof ? 40_000 : 1_500 } }
  )

  const worse: { readonly [what: string]: (ids: IdempotencyIdentifiers) => string } = {
    "joins without a separator": ({ idempotencyKey, operation, scope }) =>
      `${operation}${scope ?? ""}${idempotencyKey}`,
    "composes characters": (ids) => storedKey(ids).normalize("NFC"),
    "has no regard to case": (ids) => storedKey(ids).toLowerCase(),
    "leaves out accents": (ids) => storedKey(ids).normalize("NFD").replace(/\p{M}/gu, ""),
    "trims more": (ids) => storedKey(ids).replace(/\u200b+$/u, ""),
    "leaves out the scope": ({ idempotencyKey, operation }) => `${operation}:${idempotencyKey}`,
    "does not escape what escapes": ({ idempotencyKey, operation, scope }) =>
      [operation, scope ?? "", idempotencyKey].map((part) => part.replace("{", "%7B")).join(":")
  }
  it.each(Object.entries(worse))("is told apart from one that %s", (_, keyOf) => {
    const property = FastCheck.property(pair, ([a, b]) => (keyOf(a) === keyOf(b)) === Equal.equals(a, b))
    expect(FastCheck.check(property, { numRuns: 20_000 }).failed).toBe(true)
  })

  it.prop(
    "lets no part choose a slot: there is no brace in a key",
    [identity],
    ([ids]) => {
      expect(storedKey(ids)).not.toMatch(/[{}]/)
      expect(storedKey(ids).split(":")).toHaveLength(ids.scope === undefined ? 2 : 3)
    },
    { fastCheck: { numRuns: 500 } }
  )

  it.prop(
    "refuses a colon wherever it is",
    [text, text, FastCheck.constantFrom("operation", "idempotencyKey", "scope")],
    ([before, after, part]) => {
      const parts = { operation: "o", idempotencyKey: "k", scope: "s", [part]: `${before}:${after}` }
      expect(Either.isLeft(IdempotencyIdentifiers.from(parts))).toBe(true)
    }
  )

  it.prop(
    "gives untrusted parts one key only if they are the same",
    [FastCheck.array(text, { maxLength: 3 }), FastCheck.array(text, { maxLength: 3 })],
    ([a, b]) => {
      const isSame = a.length === b.length && a.every((part, index) => part === b[index])
      expect(IdempotencyKey.fromUntrusted(...a) === IdempotencyKey.fromUntrusted(...b)).toBe(isSame)
    }
  )

  it("spreads keys that want one slot over the cluster", () => {
    const slots = Array.from({ length: 200 }, (_, index) => {
      const ids = IdempotencyIdentifiers.from({ operation: "{a}", idempotencyKey: `{a}${index}`, scope: "{a}" })
      return slotOf(`idempotency:${storedKey(Either.getOrThrow(ids))}`)
    })
    expect(new Set(slots).size).toBeGreaterThan(150)
    expect([slotOf("foo{bar}"), slotOf("123456789")]).toEqual([slotOf("bar"), 0x31c3 % 16_384])
  })
})

describe("names of Object.prototype", () => {
  const hostile = '{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}}'
  const before = Object.getOwnPropertyNames(Object.prototype).sort()
  const isClean = () => {
    expect({}).not.toHaveProperty("polluted")
    expect(Object.getOwnPropertyNames(Object.prototype).sort()).toEqual(before)
  }

  for (const name of ["__proto__", "constructor", "toString", "hasOwnProperty", "prototype"]) {
    it.scoped(`${name} is a key, an operation and a scope like any other`, () =>
      Effect.gen(function* () {
        const { process } = yield* singleProcess()
        const body = counting(Effect.succeed("paid"))
        for (const [of, by, scope] of [
          [name, name, name],
          [name, "k", undefined],
          ["o", name, undefined],
          ["o", "k", name]
        ] as const) {
          const call = process.run(untyped(body.effect, of, by, { scope }))
          expect(yield* call).toMatchObject({ _tag: "Executed" })
          expect(yield* call).toMatchObject({ _tag: "Replayed" })
        }
        expect(body.runs()).toBe(4)
        isClean()
      })
    )
  }

  it.scoped("results that name them come back as they were, and change nothing", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const call = process.run(untyped(Effect.succeed(JSON.parse(hostile)), operation, key))
      yield* call
      const { value } = yield* call
      expect(JSON.stringify(value)).toBe(hostile)
      isClean()
    })
  )

  it.scoped("with schemas, as results and as failures", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const open = Schema.Struct({}, Schema.Record({ key: Schema.String, value: Schema.Unknown }))
      const result = process.run(untyped(Effect.succeed(JSON.parse(hostile)), operation, key, { success: open }))
      yield* result
      yield* result
      const failing = untyped(Effect.fail(JSON.parse(hostile)), operation, "order-2", { error: open })
      yield* Effect.flip(process.run(failing))
      yield* Effect.flip(process.run(failing))
      isClean()
    })
  )

  it.scoped("fingerprints and options that name them are plain data", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const options = { ...JSON.parse(hostile), fingerprint: JSON.parse(hostile) }
      const call = process.run(untyped(Effect.succeed("paid"), operation, key, options))
      yield* call
      expect(yield* call).toMatchObject({ _tag: "Replayed" })
      const other = untyped(Effect.succeed("paid"), operation, key, { fingerprint: JSON.parse('{"__proto__":{}}') })
      expect(yield* Effect.flip(process.run(other))).toMatchObject({ _tag: "IdempotencyFingerprintMismatchError" })
      isClean()
    })
  )

  it.scoped("options that a prototype holds are not options of the call", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const options = JSON.parse('{"__proto__":{"guarantee":"at-most-once","scope":"theirs"}}')
      yield* process.run(untyped(Effect.succeed("paid"), operation, key, options))
      expect(yield* process.run(untyped(Effect.succeed("again"), operation, key))).toMatchObject({ _tag: "Replayed" })
    })
  )
})
