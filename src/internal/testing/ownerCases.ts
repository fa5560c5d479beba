import { expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Protocol from "../protocol.js"
import { type ContractCase, group, hour, lease, moment, success } from "./contractCase.js"

export const renewCases: ReadonlyArray<ContractCase> = group("renew")({
  "an owner keeps its key, even after a lapse": ({ claim, ids, lapse, renew }) =>
    Effect.gen(function* () {
      yield* lapse(ids(), "a")
      expect(yield* renew(ids(), "a")).toEqual({ _tag: "Renewed" })
      expect((yield* claim(ids(), "b"))._tag).toBe("InFlight")
    }),

  "a shorter lease replaces a longer one": ({ claim, ids, pass, renew }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      yield* renew(ids(), "a", moment)
      yield* pass
      expect(yield* claim(ids(), "b")).toMatchObject({ _tag: "Claimed", attempt: 2 })
    }),

  "an absent key is gone, and is not created": ({ ids, read, renew }) =>
    Effect.gen(function* () {
      expect(yield* renew(ids(), "a")).toEqual({ _tag: "Gone" })
      expect(yield* read(ids())).toBeUndefined()
    }),

  "an expired key is gone": ({ claim, ids, pass, read, renew }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a", { lease: moment, retention: moment })
      yield* pass
      expect(yield* renew(ids(), "a")).toEqual({ _tag: "Gone" })
      expect(yield* read(ids())).toBeUndefined()
    }),

  "an owner that was taken over has lost": ({ claim, ids, lapse, read, renew }) =>
    Effect.gen(function* () {
      yield* lapse(ids(), "a")
      yield* claim(ids(), "b")
      expect(yield* renew(ids(), "a")).toEqual({ _tag: "Lost" })
      expect(yield* read(ids())).toMatchObject({ _tag: "Processing", token: "b" })
    }),

  "of a settled key it gives the record and changes nothing": ({ claim, complete, ids, read, renew, repository }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      yield* complete(ids(), "a", { outcome: success("1") })
      const before = yield* read(ids())
      for (const token of ["a", "b"]) {
        expect(yield* renew(ids(), token)).toMatchObject({ _tag: "Lost", record: { outcome: success("1") } })
      }
      expect(yield* read(ids())).toEqual(before)
      expect(Option.isSome(yield* repository.get(ids()))).toBe(true)
    }),

  "a released or held key is lost": ({ claim, hold, ids, read, release, renew }) =>
    Effect.gen(function* () {
      const [released, held] = [ids({ key: "-released" }), ids({ key: "-held" })]
      yield* claim(released, "a")
      yield* release(released, "a")
      yield* claim(held, "a")
      yield* hold(held, "a")
      expect(yield* renew(released, "a")).toEqual({ _tag: "Lost" })
      expect(yield* renew(held, "a")).toEqual({ _tag: "Lost" })
      expect(yield* read(released)).toMatchObject({ _tag: "Released" })
      expect(yield* read(held)).toMatchObject({ _tag: "Unknown", reason: "held" })
    }),

  "many at once, each with its own fate, in order": ({ claim, claims, complete, ids }) =>
    Effect.gen(function* () {
      const keys = ["-mine", "-other", "-absent", "-settled", "-mine-too"].map((key) => ids({ key }))
      const [mine = ids(), other = ids(), , settled = ids(), mineToo = ids()] = keys
      yield* claim(mine, "a")
      yield* claim(other, "b")
      yield* complete(settled, "b")
      yield* claim(mineToo, "a")
      const replies = yield* claims.renew(keys.map((identifiers) => ({ identifiers, request: { token: "a", lease } })))
      expect(replies.map(({ _tag }) => _tag)).toEqual(["Renewed", "Lost", "Gone", "Lost", "Renewed"])
      expect(yield* claims.renew([])).toEqual([])
    }),

  "more than one batch, in order": ({ claim, claims, ids }) =>
    Effect.gen(function* () {
      const keys = Array.from({ length: 300 }, (_, n) => ids({ key: `-${n}` }))
      const mine = new Set([3, 150, 297])
      for (const n of mine) yield* claim(keys[n] ?? ids(), "a")
      const replies = yield* claims.renew(keys.map((identifiers) => ({ identifiers, request: { token: "a", lease } })))
      expect(replies.map(({ _tag }) => _tag)).toEqual(keys.map((_, n) => (mine.has(n) ? "Renewed" : "Gone")))
    })
})

const outcomes: ReadonlyArray<Protocol.Outcome> = [
  success(""),
  success("null"),
  success('{"text":"ünï 😀 \\u0000 %s {}","list":[],"map":{},"deep":[[[{"n":1e-7}]]],"big":9007199254740993}'),
  success(JSON.stringify("x".repeat(100_000))),
  { _tag: "Failure", encoded: '{"_tag":"Declined","code":51}' },
  { _tag: "Unavailable" }
]

export const completeCases: ReadonlyArray<ContractCase> = group("complete")({
  "an owner's outcome is recorded": ({ claim, complete, ids, read }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      const reply = yield* complete(ids(), "a", { outcome: success("1") })
      expect(reply).toMatchObject({ _tag: "Done", attempt: 1 })
      const state = yield* read(ids())
      expect(state).toMatchObject({ _tag: "Completed", token: "a", attempt: 1, outcome: success("1") })
      if (reply._tag === "Done" && state?._tag === "Completed") {
        expect([reply.createdAt, reply.expiresAt]).toEqual([state.createdAt, state.expiresAt])
      }
    }),

  "every outcome comes back to the letter": ({ claim, complete, ids }) =>
    Effect.forEach(
      outcomes,
      (outcome, index) =>
        Effect.gen(function* () {
          const of = ids({ key: `-${index}` })
          yield* claim(of, "a")
          yield* complete(of, "a", { outcome })
          const reply = yield* claim(of, "b")
          expect(reply._tag === "Settled" ? reply.record.outcome : reply).toEqual(outcome)
        }),
      { discard: true }
    ),

  "sent twice, the first outcome stays": ({ claim, complete, ids, read }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      const first = yield* complete(ids(), "a", { outcome: success("1") })
      const before = yield* read(ids())
      expect(yield* complete(ids(), "a", { outcome: success("2"), retention: 3 * hour })).toEqual(first)
      expect(yield* read(ids())).toEqual(before)
    }),

  "a late owner that nobody took over is recorded": ({ complete, ids, lapse, read }) =>
    Effect.gen(function* () {
      yield* lapse(ids(), "a")
      expect(yield* complete(ids(), "a")).toMatchObject({ _tag: "Done", attempt: 1 })
      expect(yield* read(ids())).toMatchObject({ _tag: "Completed", token: "a" })
    }),

  "a late owner whose lapse was noticed is recorded": ({ claim, complete, ids, lapse, read }) =>
    Effect.gen(function* () {
      yield* lapse(ids(), "a", { guarantee: "at-most-once" })
      yield* claim(ids(), "b")
      expect(yield* complete(ids(), "a")).toMatchObject({ _tag: "Done", attempt: 1 })
      expect(yield* read(ids())).toMatchObject({ _tag: "Completed", token: "a" })
    }),

  "an owner that held its key is recorded": ({ claim, complete, hold, ids }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      yield* hold(ids(), "a")
      expect(yield* complete(ids(), "a")).toMatchObject({ _tag: "Done", attempt: 1 })
      expect((yield* claim(ids(), "b"))._tag).toBe("Settled")
    }),

  "an absent key is recorded: the effect did happen": ({ claim, complete, ids }) =>
    Effect.gen(function* () {
      expect(yield* complete(ids(), "a", { outcome: success("1") })).toMatchObject({ _tag: "Done", attempt: 1 })
      expect(yield* claim(ids(), "b")).toMatchObject({ _tag: "Settled", record: { outcome: success("1"), attempt: 1 } })
    }),

  "an expired key is recorded": ({ claim, complete, ids, pass }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a", { lease: moment, retention: moment })
      yield* pass
      expect((yield* complete(ids(), "a"))._tag).toBe("Done")
      expect((yield* claim(ids(), "b"))._tag).toBe("Settled")
    }),

  "a key that another released is recorded, its attempt kept": ({ claim, complete, ids, lapse, release }) =>
    Effect.gen(function* () {
      yield* lapse(ids(), "a")
      yield* claim(ids(), "b")
      yield* release(ids(), "b")
      expect(yield* complete(ids(), "a")).toMatchObject({ _tag: "Done", attempt: 2 })
    }),

  "a released token is superseded": ({ claim, complete, ids, read, release }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      yield* release(ids(), "a")
      expect(yield* complete(ids(), "a")).toEqual({ _tag: "Superseded" })
      expect(yield* read(ids())).toMatchObject({ _tag: "Released", attempt: 1 })
    }),

  "a live claim of another is not touched": ({ claim, complete, ids, read }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      expect(yield* complete(ids(), "b")).toEqual({ _tag: "Superseded" })
      expect(yield* read(ids())).toMatchObject({ _tag: "Processing", token: "a" })
    }),

  "a lapsed claim of another is not touched": ({ complete, ids, lapse, read }) =>
    Effect.gen(function* () {
      yield* lapse(ids(), "a")
      expect(yield* complete(ids(), "b")).toEqual({ _tag: "Superseded" })
      expect(yield* read(ids())).toMatchObject({ _tag: "Processing", token: "a" })
    }),

  "an unknown outcome of another is not touched": ({ claim, complete, hold, ids, read }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      yield* hold(ids(), "a")
      expect(yield* complete(ids(), "b")).toEqual({ _tag: "Superseded" })
      expect(yield* read(ids())).toMatchObject({ _tag: "Unknown", token: "a" })
    }),

  "a record of another is given, and stays": ({ claim, complete, ids, lapse, read }) =>
    Effect.gen(function* () {
      yield* lapse(ids(), "a", { fingerprint: "f" })
      yield* claim(ids(), "b")
      expect(yield* complete(ids(), "a", { outcome: success("1") })).toEqual({ _tag: "Superseded" })
      yield* complete(ids(), "b", { outcome: success("2") })
      const before = yield* read(ids())
      const superseded = { _tag: "Superseded", record: { outcome: success("2"), attempt: 2, token: "b" } }
      expect(yield* complete(ids(), "a", { outcome: success("1") })).toMatchObject(superseded)
      expect(yield* complete(ids(), "a", { outcome: success("1"), fingerprint: "f" })).toMatchObject(superseded)
      expect(yield* read(ids())).toEqual(before)
    }),

  "a record of another request is a mismatch": ({ complete, ids, read }) =>
    Effect.gen(function* () {
      yield* complete(ids(), "a", { fingerprint: "f" })
      expect(yield* complete(ids(), "b", { fingerprint: "g" })).toEqual({ _tag: "Mismatch" })
      expect(yield* read(ids())).toMatchObject({ token: "a", fingerprint: "f" })
    }),

  "of concurrent completions of an absent key, one wins": ({ complete, ids, read }) =>
    Effect.gen(function* () {
      const tokens = ["a", "b", "c", "d", "e", "f", "g", "h"]
      const replies = yield* Effect.forEach(
        tokens,
        (token) => complete(ids(), token, { outcome: success(JSON.stringify(token)) }),
        { concurrency: "unbounded" }
      )
      const winner = tokens[replies.findIndex(({ _tag }) => _tag === "Done")]
      expect(replies.filter(({ _tag }) => _tag === "Done")).toHaveLength(1)
      expect(replies.filter(({ _tag }) => _tag === "Superseded")).toHaveLength(tokens.length - 1)
      expect(yield* read(ids())).toMatchObject({ token: winner, outcome: success(JSON.stringify(winner)) })
    }),

  "the steps end with it": ({ claim, complete, ids, repository, saveStep }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      yield* saveStep(ids(), "a", "first", "1")
      yield* complete(ids(), "a")
      yield* repository.reset(ids())
      expect(yield* claim(ids(), "b")).toEqual({ _tag: "Claimed", attempt: 2, steps: [] })
    })
})
