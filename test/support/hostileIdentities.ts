/** Identities that are nearly others. */
import * as Either from "effect/Either"
import * as FastCheck from "effect/FastCheck"
import { IdempotencyIdentifiers } from "../../src/IdempotencyIdentifiers.js"

interface Parts {
  readonly operation: string
  readonly idempotencyKey: string
  readonly scope?: string | undefined
}

/** Texts that are nearly others: escapes, braces, accents composed and not, letters that look alike, widths, cases. */
const piece = FastCheck.constantFrom(
  ..."ab{}%-_. ",
  "%7B",
  "%7b",
  "%25",
  "%3A",
  "\u00e9",
  "e\u0301",
  "\u0430",
  "\uff1a",
  "\ua789",
  "\u2236",
  "\u0130",
  "\u017f",
  "K",
  "\u212a",
  "\u200b",
  "\ufeffa",
  "😀",
  "__proto__",
  "constructor",
  "undefined"
)
export const text = FastCheck.oneof(
  { weight: 3, arbitrary: FastCheck.array(piece, { minLength: 1, maxLength: 4 }).map((pieces) => pieces.join("")) },
  { weight: 1, arbitrary: FastCheck.fullUnicodeString({ minLength: 1, maxLength: 6 }) },
  { weight: 1, arbitrary: piece.map((one) => one.repeat(Math.floor(255 / one.length))) }
)

/** Whole identities, refused ones left out. */
export const identity: FastCheck.Arbitrary<IdempotencyIdentifiers> = FastCheck.record({
  operation: text,
  idempotencyKey: text,
  scope: FastCheck.option(text, { nil: undefined })
})
  .map((parts: Parts) => IdempotencyIdentifiers.from(parts))
  .filter(Either.isRight)
  .map(({ right }) => right)

const otherCase = (text: string) => (text === text.toUpperCase() ? text.toLowerCase() : text.toUpperCase())
const withoutMarks = (text: string) => text.normalize("NFD").replace(/\p{M}/gu, "")

/** Two that share what they can: the parts moved, one of them left out, or another of its kind. */
export const pair = FastCheck.tuple(identity, identity, FastCheck.nat(9)).map(([a, b, how]) => {
  const scope = a.scope ?? "s"
  const others: ReadonlyArray<Parts> = [
    b,
    { ...a, scope: b.scope },
    { operation: a.operation, idempotencyKey: scope, scope: a.idempotencyKey },
    { operation: a.operation, idempotencyKey: a.idempotencyKey.normalize("NFD"), scope: a.scope?.normalize("NFC") },
    { ...a, idempotencyKey: a.idempotencyKey.replaceAll("{", "%7B") },
    { operation: a.operation, idempotencyKey: `${scope}%3A${a.idempotencyKey}`, scope: undefined },
    { ...a, idempotencyKey: otherCase(a.idempotencyKey) },
    { ...a, scope: otherCase(scope), operation: otherCase(a.operation) },
    { ...a, idempotencyKey: withoutMarks(a.idempotencyKey), scope: a.scope && withoutMarks(a.scope) },
    // What JavaScript does not trim.
    { ...a, idempotencyKey: `${a.idempotencyKey}\u200b` }
  ]
  const other = IdempotencyIdentifiers.from(others[how] ?? b)
  return [a, Either.isRight(other) ? other.right : b] as const
})
