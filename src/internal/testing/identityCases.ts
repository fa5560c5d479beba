import { expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as HashMap from "effect/HashMap"
import * as Option from "effect/Option"
import { type ContractCase, type Fixture, group, type Identity } from "./contractCase.js"

/** Parts of identities that a store might confuse: with its own syntax, or with each other. */
export const hostile: ReadonlyArray<string> = [
  "%",
  "%%",
  "%7B",
  "%257B",
  "{",
  "}",
  "{}",
  "}{",
  "{a}",
  "%7Ba%7D",
  "a b",
  "a  b",
  "case",
  "Case",
  "é",
  "e\u0301",
  "名前",
  "😀",
  "\u200b",
  "'; --",
  '"',
  "\\",
  "*",
  "?",
  "[a]",
  "_",
  "/",
  "..",
  "__proto__",
  "constructor"
]

/** Each identity is saved with its own number, and answers with it. */
const apart = ({ ids, repository, save }: Fixture, identities: ReadonlyArray<Identity>) =>
  Effect.gen(function* () {
    const all = identities.map(ids)
    yield* Effect.forEach(all, (of, index) => save(of, index))
    for (const [index, of] of all.entries()) {
      expect(Option.getOrThrow(yield* repository.get(of)).result, JSON.stringify(identities[index])).toBe(index)
    }
    const found = yield* repository.getMany(all)
    expect(all.map((of) => Option.getOrUndefined(HashMap.get(found, of))?.result)).toEqual(all.map((_, index) => index))
    expect(yield* repository.deleteMany(all)).toBe(all.length)
  })

export const identityCases: ReadonlyArray<ContractCase> = group("identity")({
  "hostile keys are keys like others, each its own": (fixture) =>
    apart(
      fixture,
      hostile.map((key) => ({ key: `${key}-` }))
    ),

  "hostile scopes are scopes like others, each its own": (fixture) =>
    apart(
      fixture,
      hostile.map((scope) => ({ scope }))
    ),

  "hostile operations are operations like others, each its own": (fixture) =>
    apart(
      fixture,
      hostile.map((operation) => ({ operation }))
    ),

  "with and without a scope": (fixture) => apart(fixture, [{}, { scope: "a" }, { scope: "b" }]),

  "the parts do not run into each other": (fixture) =>
    apart(fixture, [
      { operation: "op", scope: "q" },
      { operation: "o", scope: "pq" },
      { operation: "opq" },
      { operation: "q", scope: "op" },
      { operation: "o", scope: "%3Ap" },
      { operation: "o", scope: fixture.unique },
      { operation: `o${fixture.unique}` },
      { operation: fixture.unique, scope: "o" }
    ]),

  "a claim in one scope leaves the others alone": ({ claim, complete, ids, release }) =>
    Effect.gen(function* () {
      const [none, one, two] = [ids(), ids({ scope: "1" }), ids({ scope: "2" })]
      for (const of of [none, one, two]) expect(yield* claim(of, "a")).toMatchObject({ _tag: "Claimed", attempt: 1 })
      yield* complete(one, "a")
      yield* release(two, "a")
      expect((yield* claim(none, "b"))._tag).toBe("InFlight")
      expect((yield* claim(one, "b"))._tag).toBe("Settled")
      expect(yield* claim(two, "b")).toMatchObject({ _tag: "Claimed", attempt: 2 })
    }),

  "an operator acts on one scope": ({ complete, ids, repository }) =>
    Effect.gen(function* () {
      const [one, two] = [ids({ scope: "1" }), ids({ scope: "2" })]
      yield* complete(one, "a")
      yield* complete(two, "a")
      expect(yield* repository.reset(one)).toBe(true)
      expect(Option.isSome(yield* repository.get(two))).toBe(true)
      expect(yield* repository.delete(one)).toBe(false)
      expect(yield* repository.delete(two)).toBe(true)
    }),

  "parts as long as they may be": ({ claim, ids, save, repository }) =>
    Effect.gen(function* () {
      const long = { operation: "o".repeat(100), key: "名".repeat(255 - 36), scope: "😀".repeat(127) }
      yield* save(ids(long), 1)
      expect(Option.getOrThrow(yield* repository.get(ids(long))).result).toBe(1)
      const other = { ...long, key: `${"名".repeat(255 - 37)}x` }
      expect(yield* claim(ids(other), "a")).toMatchObject({ _tag: "Claimed", attempt: 1 })
    }),

  "hostile tokens and fingerprints are compared to the letter": ({ claim, ids, lapse }) =>
    Effect.gen(function* () {
      yield* lapse(ids(), 'a"\\:%s', { fingerprint: "F:{}\n" })
      expect(yield* claim(ids(), 'a"\\:%S', { fingerprint: "f:{}\n" })).toEqual({ _tag: "Mismatch" })
      expect(yield* claim(ids(), 'a"\\:%s', { fingerprint: "F:{}\n" })).toMatchObject({ _tag: "AlreadyMine" })
      expect((yield* claim(ids(), 'a"\\:%S', { fingerprint: "F:{}\n" }))._tag).toBe("InFlight")
    })
})
