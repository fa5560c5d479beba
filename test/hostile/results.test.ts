/**
 * Results that no JSON holds, and objects that fight back while they are looked at. The effect has run: it is never run
 * again, this caller has its value, and later ones the same value or `IdempotencyResultUnavailableError`.
 */
import { isDeepStrictEqual } from "node:util"
import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Schema from "effect/Schema"
import { counting, key, operation, singleProcess, untyped } from "../support/engineProcess.js"
import { holdsFor } from "../support/hostileStores.js"
import { isProof } from "../support/proof.js"

const nothing = { owners: 0, flights: 0, leases: 0, background: 0 }

const refusing = (): never => {
  throw new Error("do not look at me")
}

const revoked = (): unknown => {
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  return proxy
}

const trapped = (trap: keyof ProxyHandler<object>, target: object = { a: 1 }): unknown =>
  new Proxy(target, { [trap]: refusing })

const deep = (levels: number): unknown => {
  let value: unknown = 1
  for (let level = 0; level < levels; level++) value = { a: value }
  return value
}

/** Looked at once, it is harmless; looked at again, it is not. */
const fickle = (): unknown => {
  let looks = 0
  return {
    get a() {
      return looks++ === 0 ? null : refusing()
    }
  }
}

/** What this is, made anew for each test; `same` where its JSON says everything. */
const results: ReadonlyArray<
  readonly [what: string, make: () => unknown, recorded: "same" | "unavailable" | "either"]
> = [
  [
    "a getter that throws",
    () => ({
      get a() {
        return refusing()
      }
    }),
    "unavailable"
  ],
  [
    "a getter that throws deep inside",
    () => ({
      a: [
        {
          get b() {
            return refusing()
          }
        }
      ]
    }),
    "unavailable"
  ],
  ["a getter that throws the second time", fickle, "either"],
  ["a toJSON that throws", () => ({ toJSON: refusing }), "unavailable"],
  ["a toJSON that answers a function", () => ({ toJSON: () => refusing }), "unavailable"],
  ["a toJSON that answers a bigint", () => ({ toJSON: () => 1n }), "unavailable"],
  [
    "a toJSON that is a getter that throws",
    () => ({
      get toJSON() {
        return refusing()
      }
    }),
    "unavailable"
  ],
  ["a proxy whose get throws", () => trapped("get"), "unavailable"],
  ["a proxy whose ownKeys throws", () => trapped("ownKeys"), "unavailable"],
  ["a proxy whose getOwnPropertyDescriptor throws", () => trapped("getOwnPropertyDescriptor"), "unavailable"],
  ["a proxy whose getPrototypeOf throws", () => trapped("getPrototypeOf"), "either"],
  ["a proxy whose has throws", () => trapped("has"), "either"],
  ["a proxy of an array whose get throws", () => trapped("get", [1]), "unavailable"],
  ["a proxy of a function", () => trapped("apply", () => 1), "unavailable"],
  ["a revoked proxy", revoked, "unavailable"],
  ["a revoked proxy inside", () => ({ a: revoked() }), "unavailable"],
  ["a symbol", () => Symbol("paid"), "unavailable"],
  [
    "a cycle through an array",
    () => {
      const a: Array<unknown> = []
      a.push({ a })
      return a
    },
    "unavailable"
  ],
  ["a bigint deep inside", () => ({ a: [{ b: 1n }] }), "unavailable"],
  ["NaN deep inside", () => ({ a: [[Number.NaN]] }), "unavailable"],
  ["100,000 levels", () => deep(100_000), "either"],
  ["an object without a prototype", () => Object.assign(Object.create(null), { a: 1 }), "either"],
  ["a constructor that throws", () => Object.defineProperty({ a: 1 }, "constructor", { get: refusing }), "same"],
  [
    "names of Object.prototype",
    () => JSON.parse('{"__proto__":{"b":1},"constructor":{"prototype":{"b":1}},"toString":1}'),
    "same"
  ]
]

describe("a result that is hard to look at", () => {
  for (const [what, make, recorded] of results) {
    it.scoped(`${what}: never a second run, never a defect`, () =>
      Effect.gen(function* () {
        const { process } = yield* singleProcess()
        const value = make()
        const body = counting(Effect.succeed(value))
        const call = process.run(untyped(body.effect, operation, key))
        const first = yield* call
        expect(first._tag).toBe("Executed")
        expect(Object.is(first.value, value)).toBe(true)
        expect(process.underWay()).toEqual(nothing)

        const later = yield* Effect.either(call)
        expect(body.runs()).toBe(1)
        if (later._tag === "Left") {
          expect(recorded).not.toBe("same")
          expect(later.left).toMatchObject({ _tag: "IdempotencyResultUnavailableError", idempotencyKey: key })
        } else {
          expect(recorded).not.toBe("unavailable")
          expect(later.right._tag).toBe("Replayed")
          // As text: what compares values may look where it should not.
          if (recorded === "same") expect(JSON.stringify(later.right.value)).toBe(JSON.stringify(value))
        }
        expect(process.underWay()).toEqual(nothing)
        expect({}).not.toHaveProperty("b")
      })
    )
  }

  // Effect itself asks of a failure whether it has a property.
  const failures = results.filter(([what]) => what !== "a proxy whose has throws" && what !== "a revoked proxy")
  for (const [what, make] of failures) {
    it.scoped(`${what}, as a failure with an error schema: the caller has its failure, and nothing is left`, () =>
      Effect.gen(function* () {
        const { process } = yield* singleProcess()
        const error = make()
        const call = process.run(untyped(Effect.fail(error), operation, key, { error: Schema.Unknown }))
        expect(Object.is(yield* Effect.flip(call), error)).toBe(true)
        expect(process.underWay()).toEqual(nothing)
      })
    )
  }
})

describe("what JSON would change without a word", () => {
  const changed: ReadonlyArray<readonly [what: string, value: unknown]> = [
    ["an invalid Date", new Date(Number.NaN)],
    ["an invalid Date inside", { at: new Date(Number.NaN) }],
    ["a hole in an array", Object.assign([1], { 2: 3 })],
    ["a boxed NaN", { amount: Object(Number.NaN) }],
    ["a toJSON that answers NaN", { toJSON: () => Number.NaN }],
    ["a symbol in an array", [Symbol("paid")]]
  ]
  for (const [what, value] of changed) {
    it.scoped(`${what} is not replayed as null`, () =>
      Effect.gen(function* () {
        const { process } = yield* singleProcess()
        const call = process.run(untyped(Effect.succeed(value), operation, key))
        yield* call
        expect(yield* Effect.flip(call)).toMatchObject({ _tag: "IdempotencyResultUnavailableError" })
      })
    )
  }
})

describe("any result at all", () => {
  const anything = FastCheck.anything({
    key: FastCheck.oneof(
      FastCheck.string16bits(),
      FastCheck.constantFrom("__proto__", "constructor", "toJSON", "then")
    ),
    withBigInt: true,
    withBoxedValues: true,
    withDate: true,
    withMap: true,
    withNullPrototype: true,
    withObjectString: true,
    withSet: true,
    withSparseArray: true,
    withTypedArray: true
  })

  /** JSON puts null where the value has something else. */
  const isLost = (value: unknown): boolean => {
    let lost = false
    JSON.parse(JSON.stringify(value, (_, inside) => (inside === null ? 0 : inside)) ?? "0", (_, inside) => {
      lost ||= inside === null
    })
    return lost
  }

  const jsonOf = (value: unknown): string | undefined => {
    try {
      return isLost(value) ? undefined : JSON.stringify(value)
    } catch {
      return undefined
    }
  }

  for (const [what, options] of [
    ["without a schema", {}],
    ["as Schema.Unknown", { success: Schema.Unknown }]
  ] as const) {
    it.scoped(`${what}: one run, the caller's own value, and later the same JSON or none`, () =>
      Effect.gen(function* () {
        const { process } = yield* singleProcess()
        const names = Object.getOwnPropertyNames(Object.prototype).sort()
        let calls = 0
        yield* holdsFor(anything, isProof ? 1_000 : 60, (value) =>
          Effect.gen(function* () {
            const body = counting(Effect.succeed(value))
            const call = process.run(untyped(body.effect, operation, `order-${calls++}`, options))
            const first = yield* call
            expect([first._tag, Object.is(first.value, value)]).toEqual(["Executed", true])
            const later = yield* Effect.either(call)
            expect(body.runs()).toBe(1)
            const json = jsonOf(value)
            if (later._tag === "Left") {
              expect(later.left).toHaveProperty("_tag", "IdempotencyResultUnavailableError")
              expect(json !== undefined && isDeepStrictEqual(JSON.parse(json), value)).toBe(false)
            } else {
              expect(later.right.value === undefined).toBe(value === undefined)
              expect(JSON.stringify(later.right.value)).toBe(json)
            }
            expect(process.underWay()).toEqual(nothing)
            expect(Object.getOwnPropertyNames(Object.prototype).sort()).toEqual(names)
            return []
          })
        )
      }).pipe(Logger.withMinimumLogLevel(LogLevel.None))
    )
  }
})

describe("maxResultBytes", () => {
  const maxResultBytes = 1_000
  /** Of one, two, three and four bytes in UTF-8; escaped; and a lone surrogate, which JSON escapes. */
  const character = FastCheck.constantFrom("a", "é", "€", "😀", '"', "\n", "\u0000", "\ud800")
  const text = FastCheck.array(character, { maxLength: 1_100, size: "max" }).map((characters) => characters.join(""))

  it.effect.prop(
    "divides by the bytes of the JSON text, whatever it is made of",
    { text },
    ({ text }) =>
      Effect.scoped(
        Effect.gen(function* () {
          const { process } = yield* singleProcess({ maxResultBytes })
          const body = counting(Effect.succeed({ text }))
          const call = process.run(untyped(body.effect, operation, key))
          expect(yield* call).toMatchObject({ _tag: "Executed" })
          const later = yield* Effect.either(call)
          const fits = Buffer.byteLength(JSON.stringify({ text })) <= maxResultBytes
          expect(later._tag === "Right" ? later.right.value : later.left).toMatchObject(
            fits ? { text } : { _tag: "IdempotencyResultUnavailableError" }
          )
          expect(body.runs()).toBe(1)
        })
      ),
    { fastCheck: { numRuns: 30 } }
  )

  for (const [what, one] of [
    ["ASCII", "a"],
    ["two bytes", "é"],
    ["three bytes", "€"],
    ["four bytes", "😀"]
  ] as const) {
    it.scoped(`1 MiB of ${what} to the byte, and a byte more`, () =>
      Effect.gen(function* () {
        const { process } = yield* singleProcess()
        const room = 1_048_576 - 2
        const bytes = Buffer.byteLength(one)
        const full = one.repeat(Math.floor(room / bytes)) + "a".repeat(room % bytes)
        const fits = process.run(untyped(Effect.succeed(full), operation, key))
        yield* fits
        expect((yield* fits).value === full).toBe(true)
        const exceeds = process.run(untyped(Effect.succeed(`${full}a`), operation, "order-2"))
        expect((yield* exceeds)._tag).toBe("Executed")
        expect(yield* Effect.flip(exceeds)).toMatchObject({ _tag: "IdempotencyResultUnavailableError" })
      })
    )
  }
})

describe("what a caller passes", () => {
  it.scoped("as a fingerprint: an IdempotencyValidationError, or a fingerprint", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      for (const [what, make] of results) {
        const body = counting(Effect.succeed("paid"))
        const call = process.run(untyped(body.effect, operation, what, { fingerprint: make() }))
        const said = yield* Effect.either(Effect.sandbox(call))
        if (said._tag === "Left")
          expect(Cause.squash(said.left), what).toHaveProperty("_tag", "IdempotencyValidationError")
        expect(body.runs(), what).toBe(said._tag === "Left" ? 0 : 1)
        expect({}).not.toHaveProperty("b")
      }
    })
  )
})
