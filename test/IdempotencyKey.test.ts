import { readFileSync } from "node:fs"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FastCheck from "effect/FastCheck"
import * as Schema from "effect/Schema"
import { IdempotencyValidationError } from "../src/IdempotencyError.js"
import { IdempotencyKey, OperationName } from "../src/IdempotencyKey.js"
import { pythonJson } from "../src/internal/pythonJson.js"
import type { Json } from "../src/Jsonable.js"

interface Vector {
  readonly entityId: string
  readonly action: string
  readonly params?: { readonly [key: string]: Json }
  readonly key: string
}

const { vectors }: { readonly vectors: ReadonlyArray<Vector> } = JSON.parse(
  readFileSync(new URL("fixtures/deriveCompatible.json", import.meta.url), "utf8")
)

const decode = Schema.decodeEither(IdempotencyKey)
const decodeOperation = Schema.decodeEither(OperationName)

/** JSON as a user's parameters: no `__proto__`, which an object literal does not keep. */
const json = FastCheck.json()
  .filter((text) => !text.includes("__proto__"))
  .map((text): Json => JSON.parse(text))

const failure = (make: () => unknown): unknown => {
  try {
    return make()
  } catch (error) {
    return error
  }
}

describe("the schemas", () => {
  it("trim", () => {
    expect(decode("  order-1\n")).toEqual(Either.right("order-1"))
    expect(decodeOperation(" payment.charge ")).toEqual(Either.right("payment.charge"))
  })

  it("bound the length, after trimming", () => {
    expect(Either.isRight(decode("k".repeat(255)))).toBe(true)
    expect(Either.isRight(decode(` ${"k".repeat(255)} `))).toBe(true)
    expect(Either.isLeft(decode("k".repeat(256)))).toBe(true)
    expect(Either.isRight(decodeOperation("o".repeat(100)))).toBe(true)
    expect(Either.isLeft(decodeOperation("o".repeat(101)))).toBe(true)
  })

  it("refuse what is empty, colons, control characters and lone surrogates", () => {
    for (const text of ["", "   ", "\n", "a:b", "a\u0000b", "a\nb", "a\u007fb", "a\u0085b", "a\ud800b", "\udc00a"]) {
      expect(Either.isLeft(decode(text)), JSON.stringify(text)).toBe(true)
      expect(Either.isLeft(decodeOperation(text)), JSON.stringify(text)).toBe(true)
    }
  })

  it("accept everything else", () => {
    for (const text of ["a b", "%{}", "😀", "名前", "é", "'\"\\", "a/b?c=d&e#f"]) {
      expect(decode(text)).toEqual(Either.right(text))
    }
  })

  it("encode a key as itself", () => {
    expect(Schema.encodeSync(IdempotencyKey)(IdempotencyKey.fromUntrusted("a"))).toBe(IdempotencyKey.fromUntrusted("a"))
  })
})

describe("derive", () => {
  it.prop(
    "gives 32 hexadecimal characters, the same every time",
    { a: FastCheck.string(), b: FastCheck.string(), params: json },
    ({ a, b, params }) => {
      const key = IdempotencyKey.derive({ entityId: a, action: b, params })
      expect(key).toMatch(/^[0-9a-f]{32}$/)
      expect(IdempotencyKey.derive({ entityId: a, action: b, params })).toBe(key)
    }
  )

  it("does not look at the order of properties", () => {
    const forth = IdempotencyKey.derive({ entityId: "e", action: "a", params: { x: 1, y: { p: 1, q: 2 } } })
    const back = IdempotencyKey.derive({ entityId: "e", action: "a", params: { y: { q: 2, p: 1 }, x: 1 } })
    expect(forth).toBe(back)
  })

  it("is unambiguous", () => {
    const keys = [
      IdempotencyKey.derive({ entityId: "a", action: "b:c" }),
      IdempotencyKey.derive({ entityId: "a:b", action: "c" }),
      IdempotencyKey.derive({ entityId: "ab", action: "c" }),
      IdempotencyKey.derive({ entityId: "a", action: "bc" }),
      IdempotencyKey.derive({ entityId: "", action: "abc" }),
      IdempotencyKey.derive({ entityId: "a", action: "b", params: "c" }),
      IdempotencyKey.derive({ entityId: "a", action: "b", params: ["c"] }),
      IdempotencyKey.derive({ entityId: "a", action: "b", params: null }),
      IdempotencyKey.derive({ entityId: "a", action: "b", params: 1 }),
      IdempotencyKey.derive({ entityId: "a", action: "b", params: "1" }),
      IdempotencyKey.derive({ entityId: "\ud800", action: "b" }),
      IdempotencyKey.derive({ entityId: "\ud801", action: "b" }),
      IdempotencyKey.derive({ entityId: "\ufffd", action: "b" })
    ]
    expect(new Set(keys).size).toBe(keys.length)
  })

  it("takes empty parameters for none", () => {
    const none = IdempotencyKey.derive({ entityId: "e", action: "a" })
    expect(IdempotencyKey.derive({ entityId: "e", action: "a", params: {} })).toBe(none)
    expect(IdempotencyKey.derive({ entityId: "e", action: "a", params: { a: undefined } })).toBe(none)
  })

  it("takes parameters of any JSON type, and no others", () => {
    const union: ReadonlyArray<string | number | { readonly a: ReadonlyArray<Json> }> = ["1", 1, { a: [1] }]
    const keys = union.map((params) => IdempotencyKey.derive({ entityId: "e", action: "a", params }))
    expect(new Set(keys).size).toBe(3)
    const notJson = () =>
      // @ts-expect-error: a Date comes back as a string
      IdempotencyKey.derive({ entityId: "e", action: "a", params: { at: new Date() } })
    expect(failure(notJson)).toBeInstanceOf(IdempotencyValidationError)
  })

  it("refuses what has no JSON form, with a validation error", () => {
    const unfit: ReadonlyArray<Json> = [
      Number.NaN,
      Number.POSITIVE_INFINITY,
      { deep: [Number.NaN] },
      "\ud800",
      { "\ud800": 1 }
    ]
    for (const params of unfit) {
      expect(failure(() => IdempotencyKey.derive({ entityId: "e", action: "a", params }))).toBeInstanceOf(
        IdempotencyValidationError
      )
    }
  })
})

describe("parameters whose content is not in their properties", () => {
  class Charge {
    #amount: number
    constructor(amount: number) {
      this.#amount = amount
    }
    get amount(): number {
      return this.#amount
    }
  }

  it("are refused where their type does not tell", () => {
    const derived = () => IdempotencyKey.derive({ entityId: "e", action: "a", params: new Charge(10) })
    expect(failure(derived)).toBeInstanceOf(IdempotencyValidationError)
  })

  const untold: ReadonlyArray<object> = [new Map([["amount", 1]]), new Set([1]), new Date(), new URLSearchParams("a=1")]
  for (const params of untold) {
    it(`are refused where nobody looks at types: ${params.constructor.name}`, () => {
      const source = Object.assign({ entityId: "e", action: "a" }, { params: Object(params) })
      expect(failure(() => IdempotencyKey.derive(source))).toBeInstanceOf(IdempotencyValidationError)
      expect(failure(() => IdempotencyKey.deriveCompatible(source))).toBeInstanceOf(IdempotencyValidationError)
    })
  }
})

describe("deriveCompatible", () => {
  it("has vectors", () => {
    expect(vectors.length).toBeGreaterThanOrEqual(30)
  })

  for (const { key, ...source } of vectors) {
    it(`as Python does: ${JSON.stringify(source)}`, () => {
      expect(IdempotencyKey.deriveCompatible(source)).toBe(key)
    })
  }

  it("takes undefined members for absent ones", () => {
    const none = IdempotencyKey.deriveCompatible({ entityId: "e", action: "a" })
    expect(IdempotencyKey.deriveCompatible({ entityId: "e", action: "a", params: { a: undefined } })).toBe(none)
    expect(IdempotencyKey.deriveCompatible({ entityId: "e", action: "a", params: { a: undefined, b: 1 } })).toBe(
      IdempotencyKey.deriveCompatible({ entityId: "e", action: "a", params: { b: 1 } })
    )
  })

  it("takes null for no parameters, as Python takes None, of callers without types", () => {
    const none = IdempotencyKey.deriveCompatible({ entityId: "e", action: "a" })
    expect(IdempotencyKey.deriveCompatible(JSON.parse('{"entityId":"e","action":"a","params":null}'))).toBe(none)
  })

  it("refuses what Python could not hash, with a validation error", () => {
    for (const source of [
      { entityId: "\ud800", action: "a" },
      { entityId: "e", action: "\udc00" },
      { entityId: "e", action: "a", params: { a: Number.NaN } },
      { entityId: "e", action: "a", params: { a: "\ud800" } }
    ]) {
      expect(failure(() => IdempotencyKey.deriveCompatible(source))).toBeInstanceOf(IdempotencyValidationError)
    }
  })

  it.prop("writes JSON that means the same, in ASCII", { value: json }, ({ value }) => {
    const text = pythonJson(value)
    expect(text).toMatch(/^[ -~]*$/)
    expect(JSON.parse(text)).toEqual(value)
  })
})

describe("fromUntrusted", () => {
  it.prop(
    "makes a valid key of whatever it is given",
    { parts: FastCheck.array(FastCheck.string16bits()) },
    ({ parts }) => {
      const key = IdempotencyKey.fromUntrusted(...parts)
      expect(key).toMatch(/^[\w-]{43}$/)
      expect(decode(key)).toEqual(Either.right(key))
    }
  )

  it.prop(
    "gives different keys for different parts",
    { a: FastCheck.array(FastCheck.string16bits()), b: FastCheck.array(FastCheck.string16bits()) },
    ({ a, b }) => {
      expect(IdempotencyKey.fromUntrusted(...a) === IdempotencyKey.fromUntrusted(...b)).toBe(
        JSON.stringify(a) === JSON.stringify(b)
      )
    }
  )

  it("does not join its parts", () => {
    const keys = [["ab"], ["a", "b"], ["", "ab"], ["ab", ""], ["1:a", "b"], [], [""]]
    expect(new Set(keys.map((parts) => IdempotencyKey.fromUntrusted(...parts))).size).toBe(keys.length)
  })
})

describe("random", () => {
  it.effect("is another key every time", () =>
    Effect.gen(function* () {
      const keys = yield* Effect.replicateEffect(IdempotencyKey.random, 100)
      expect(new Set(keys).size).toBe(100)
      for (const key of keys)
        expect(key).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    })
  )
})
