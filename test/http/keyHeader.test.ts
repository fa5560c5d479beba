/** The `Idempotency-Key` header: a table of its forms, and the structured-field parser as an oracle. */
import { describe, expect, it } from "@effect/vitest"
import * as Either from "effect/Either"
import * as FastCheck from "effect/FastCheck"
import { parseItem, parseList } from "structured-headers"
import { formatKeyHeader, type KeyHeaderFormat, parseKeyHeader } from "../../src/internal/http/keyHeader.js"

const formats: ReadonlyArray<KeyHeaderFormat> = ["lenient", "strict"]

/** The key, or `undefined` if the value is refused. */
const keyIn = (value: string, format: KeyHeaderFormat): string | undefined => {
  const header = parseKeyHeader(value, format)
  expect(header._tag).not.toBe("Missing")
  return header._tag === "Key" ? header.key : undefined
}

const detailOf = (value: string, format: KeyHeaderFormat = "lenient"): string => {
  const header = parseKeyHeader(value, format)
  return header._tag === "Invalid" ? header.detail : header._tag
}

const longest = "k".repeat(255)
const uuid = "8e03978e-40d5-43e8-bc93-6894a57f9324"

/** What both formats read alike. */
const strings: ReadonlyArray<readonly [value: string, key: string]> = [
  ['"k"', "k"],
  [`"${uuid}"`, uuid],
  ['"k";a=1', "k"],
  ['"k";a', "k"],
  ['"k"; a=1;b="x, y";c=?0;d=:aGk=:;e=tok/en;f=1.5;g=%"%c3%bc";h=@1659578233', "k"],
  ['"k";a=1;a=2', "k"],
  [' \t"k"\t ', "k"],
  ['"a, b"', "a, b"],
  ['"a;b"', "a;b"],
  ['"with space"', "with space"],
  ['" "', " "],
  ['"\\"\\\\"', '"\\'],
  ['"a:b"', "a:b"],
  [`"${longest}"`, longest],
  [`"${'\\"'.repeat(255)}"`, '"'.repeat(255)]
]

/** What stands for itself under `lenient`, and is refused under `strict`. */
const bareValues: ReadonlyArray<string> = [
  "k",
  uuid,
  "123",
  "-1.5",
  "?1",
  "@1659578233",
  ":aGk=:",
  "order:1/2+3==",
  "'k'",
  "(k)",
  "a b",
  "back\\slash",
  "*",
  "~!#$%&",
  longest
]

const refused: ReadonlyArray<string> = [
  "",
  "   ",
  "\t",
  '""',
  '"";a=1',
  '"',
  '"k',
  'k"',
  '"k"x',
  '"k" "j"',
  '"k" ;a=1',
  '"k";',
  '"k";a=',
  '"k";A=1',
  '"k";a="',
  '"k"=1',
  '"a\\b"',
  '"k\\',
  '"a"b"',
  'x"k"',
  "k;a=1",
  "k;",
  ";",
  ",",
  "a,b",
  "a, b",
  '"a", "b"',
  '"a","a"',
  '"a",',
  ',"a"',
  '"a";x=1, "b"',
  'a, "b"',
  `"${longest}k"`,
  `${longest}k`,
  "é",
  '"é"',
  '"k";a="é"',
  "ключ",
  "\u{1f600}",
  "a\u0000b",
  '"a\tb"',
  '"a\nb"',
  "a\r\nb",
  "\u007f",
  "\u00a0"
]

describe("parseKeyHeader", () => {
  it("no header is a missing key", () => {
    for (const format of formats) expect(parseKeyHeader(undefined, format)).toEqual({ _tag: "Missing" })
  })

  it.each(strings)("%j is a string in both formats", (value, key) => {
    for (const format of formats) expect(parseKeyHeader(value, format)).toEqual({ _tag: "Key", key })
  })

  it.each(bareValues)("%j stands for itself, and is not a structured-field string", (value) => {
    expect(keyIn(value, "lenient")).toBe(value)
    expect(keyIn(` ${value}\t`, "lenient")).toBe(value)
    expect(keyIn(value, "strict")).toBeUndefined()
  })

  it.each(refused)("%j is refused in both formats", (value) => {
    for (const format of formats) expect(keyIn(value, format)).toBeUndefined()
  })

  it("says what is wrong, without what the client sent", () => {
    expect(detailOf("")).toBe("The value is empty.")
    expect(detailOf('""')).toBe("The key is empty.")
    expect(detailOf("sécret")).toBe("The value holds a character that is not printable ASCII.")
    expect(detailOf("secret, secret")).toBe("The value is a list, or the header was sent more than once.")
    expect(detailOf("secret;a")).toContain("structured-field string")
    expect(detailOf('"secret')).toContain("RFC 9651")
    expect(detailOf("secret", "strict")).toContain("RFC 9651")
    expect(detailOf(`"${longest}k"`)).toBe("The key has more than 255 characters.")
    for (const value of refused.filter((value) => value.includes("k"))) expect(detailOf(value)).not.toContain(value)
  })
})

describe("formatKeyHeader", () => {
  it("quotes, and escapes quotes and backslashes", () => {
    expect(formatKeyHeader("k")).toEqual(Either.right('"k"'))
    expect(formatKeyHeader('a"b\\c')).toEqual(Either.right('"a\\"b\\\\c"'))
  })

  it.each(["", `${longest}k`, "é", "a\nb", "\u007f"])("has no header for %j", (key) => {
    expect(Either.isLeft(formatKeyHeader(key))).toBe(true)
  })
})

/** Values that come close to being structured fields. */
const nearlyStructured = FastCheck.array(
  FastCheck.oneof(
    { weight: 6, arbitrary: FastCheck.constantFrom(...'"";,=\\ \tka1A?:@*%()-.\u007f\u0000é') },
    { weight: 1, arbitrary: FastCheck.constantFrom('"k"', ";a=1", ";a", ", ", '"j"', '\\"', "\\\\", '";a="', longest) }
  ),
  { maxLength: 14 }
).map((parts) => parts.join(""))

const anyValue = FastCheck.oneof(
  nearlyStructured,
  nearlyStructured.map((text) => `"${text}"`),
  FastCheck.string({ unit: "binary", maxLength: 300 }),
  FastCheck.string({ maxLength: 300 })
)

const anyKey = FastCheck.string({ minLength: 1, maxLength: 255 })

/** What the structured-field parser makes of the value as an Item String, within the bounds of a key. */
const oracle = (value: string): string | undefined => {
  const string = Either.try(() => parseItem(value.replace(/^[ \t]+|[ \t]+$/g, ""))[0])
  return Either.isRight(string) &&
    typeof string.right === "string" &&
    string.right.length >= 1 &&
    string.right.length <= 255
    ? string.right
    : undefined
}

const anyParameters = FastCheck.constantFrom("", ";a", ';a=1;b="x;y"', "; a=tok;a=:aGk=:", ';a=", "')

const anyString = FastCheck.tuple(anyKey, anyParameters).map(
  ([key, parameters]) => `${Either.getOrThrow(formatKeyHeader(key))}${parameters}`
)

const anyBare = FastCheck.string({ minLength: 1, maxLength: 255 }).map((text) => text.replace(/[ ",;]/g, "k"))

const anyComma = FastCheck.constantFrom(", ", ",", " , ", "\t,")

const check = <A>(arbitrary: FastCheck.Arbitrary<A>, property: (a: A) => void): void =>
  FastCheck.assert(
    FastCheck.property(arbitrary, (a) => {
      property(a)
    }),
    { numRuns: 2_000 }
  )

describe("against the structured-field parser", () => {
  it("strict agrees with it", () => {
    check(anyValue, (value) => expect(keyIn(value, "strict")).toBe(oracle(value)))
  })

  it("lenient gives what strict gives, or a bare value as it stands", () => {
    check(anyValue, (value) => {
      const key = keyIn(value, "lenient")
      const structured = oracle(value)
      if (structured !== undefined) expect(key).toBe(structured)
      else if (key !== undefined) {
        expect(key).toBe(value.replace(/^[ \t]+|[ \t]+$/g, ""))
        expect(key).toMatch(/^[\x20\x21\x23-\x2b\x2d-\x3a\x3c-\x7e]{1,255}$/)
      }
    })
  })

  it("a list of several strings is refused", () => {
    const anyList = FastCheck.tuple(FastCheck.array(anyString, { minLength: 2, maxLength: 4 }), anyComma)
    check(anyList, ([members, comma]) => {
      const value = members.join(comma)
      expect(parseList(value)).toHaveLength(members.length)
      for (const format of formats) expect(keyIn(value, format)).toBeUndefined()
    })
  })

  it("two lines that are keys, joined, are refused", () => {
    const anyLine = FastCheck.oneof(anyString, anyBare)
    check(FastCheck.tuple(anyLine, anyLine, anyComma), ([one, other, comma]) => {
      for (const line of [one, other]) expect(keyIn(line, "lenient")).toBeDefined()
      for (const format of formats) expect(keyIn(`${one}${comma}${other}`, format)).toBeUndefined()
    })
  })

  it("what is formatted is read back, with whatever parameters", () => {
    check(FastCheck.tuple(anyKey, anyParameters), ([key, parameters]) => {
      const header = Either.getOrThrow(formatKeyHeader(key))
      expect(parseItem(header)[0]).toBe(key)
      for (const format of formats) expect(keyIn(`${header}${parameters}`, format)).toBe(key)
    })
  })
})
