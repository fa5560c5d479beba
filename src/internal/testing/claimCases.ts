import { expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { type ContractCase, group, lease, moment, success } from "./contractCase.js"

const contenders = Array.from({ length: 16 }, (_, index) => `token-${index}`)

export const claimCases: ReadonlyArray<ContractCase> = group("claim")({
  "an absent key is claimed as attempt 1": ({ claim, ids, read }) =>
    Effect.gen(function* () {
      expect(yield* claim(ids(), "a", { fingerprint: "f" })).toEqual({ _tag: "Claimed", attempt: 1, steps: [] })
      expect(yield* read(ids())).toMatchObject({
        _tag: "Processing",
        token: "a",
        attempt: 1,
        fingerprint: "f",
        guarantee: "at-least-once",
        steps: []
      })
    }),

  "a key with a live owner is in flight": ({ claim, ids, read }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      const reply = yield* claim(ids(), "b")
      expect(reply._tag).toBe("InFlight")
      const remaining = reply._tag === "InFlight" ? reply.remaining : 0
      expect(remaining).toBeGreaterThan(lease / 2)
      expect(remaining).toBeLessThanOrEqual(lease)
      expect(yield* read(ids())).toMatchObject({ _tag: "Processing", token: "a", attempt: 1 })
    }),

  "sent twice, it is the same claim": ({ claim, ids }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      expect(yield* claim(ids(), "a")).toEqual({ _tag: "AlreadyMine", attempt: 1, steps: [] })
      expect(yield* claim(ids(), "a")).toEqual({ _tag: "AlreadyMine", attempt: 1, steps: [] })
    }),

  "sent twice, the steps are given": ({ claim, ids, saveStep }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      yield* saveStep(ids(), "a", "first", "1")
      expect(yield* claim(ids(), "a")).toEqual({
        _tag: "AlreadyMine",
        attempt: 1,
        steps: [{ name: "first", encoded: "1" }]
      })
    }),

  "sent again after a lapse, it restarts the lease": ({ claim, ids, lapse }) =>
    Effect.gen(function* () {
      yield* lapse(ids(), "a")
      expect(yield* claim(ids(), "a")).toMatchObject({ _tag: "AlreadyMine", attempt: 1 })
      expect((yield* claim(ids(), "b"))._tag).toBe("InFlight")
    }),

  "a lapsed owner is taken over": ({ claim, ids, lapse, read }) =>
    Effect.gen(function* () {
      yield* lapse(ids(), "a")
      expect(yield* claim(ids(), "b")).toEqual({ _tag: "Claimed", attempt: 2, steps: [] })
      expect(yield* read(ids())).toMatchObject({ _tag: "Processing", token: "b", attempt: 2 })
      expect((yield* claim(ids(), "a"))._tag).toBe("InFlight")
    }),

  "the attempt grows with each owner": ({ claim, ids, lapse }) =>
    Effect.gen(function* () {
      for (const token of ["a", "b", "c"]) yield* lapse(ids(), token)
      expect(yield* claim(ids(), "d")).toMatchObject({ _tag: "Claimed", attempt: 4 })
    }),

  "a take-over carries the steps and the fingerprint": ({ claim, ids, pass, read, saveStep }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a", { fingerprint: "f" })
      yield* saveStep(ids(), "a", "first", "1")
      yield* saveStep(ids(), "a", "second", '{"n":2}')
      yield* claim(ids(), "a", { lease: moment })
      yield* pass
      const steps = [
        { name: "first", encoded: "1" },
        { name: "second", encoded: '{"n":2}' }
      ]
      expect(yield* claim(ids(), "b")).toEqual({ _tag: "Claimed", attempt: 2, steps })
      expect(yield* read(ids())).toMatchObject({ token: "b", fingerprint: "f", steps })
    }),

  "of concurrent claims of an absent key, one wins": ({ claim, ids }) =>
    Effect.gen(function* () {
      for (const key of ["-1", "-2", "-3"]) {
        const replies = yield* Effect.forEach(contenders, (token) => claim(ids({ key }), token), {
          concurrency: "unbounded"
        })
        expect(replies.filter(({ _tag }) => _tag === "Claimed")).toHaveLength(1)
        expect(replies.filter(({ _tag }) => _tag === "InFlight")).toHaveLength(contenders.length - 1)
      }
    }),

  "of concurrent claims of a lapsed key, one wins": ({ claim, ids, lapse, read }) =>
    Effect.gen(function* () {
      for (const key of ["-1", "-2", "-3"]) {
        yield* lapse(ids({ key }), "late")
        const replies = yield* Effect.forEach(contenders, (token) => claim(ids({ key }), token), {
          concurrency: "unbounded"
        })
        expect(replies.filter(({ _tag }) => _tag === "Claimed")).toEqual([{ _tag: "Claimed", attempt: 2, steps: [] }])
        expect(replies.filter(({ _tag }) => _tag === "InFlight")).toHaveLength(contenders.length - 1)
        const winner = contenders[replies.findIndex(({ _tag }) => _tag === "Claimed")]
        expect(yield* read(ids({ key }))).toMatchObject({ _tag: "Processing", token: winner, attempt: 2 })
      }
    }),

  "under at-most-once a lapsed owner is not taken over": ({ claim, ids, lapse, read }) =>
    Effect.gen(function* () {
      yield* lapse(ids(), "a", { guarantee: "at-most-once", fingerprint: "f" })
      expect(yield* claim(ids(), "b")).toEqual({ _tag: "Unknown", attempt: 1 })
      expect(yield* read(ids())).toMatchObject({
        _tag: "Unknown",
        reason: "lapsed",
        token: "a",
        attempt: 1,
        fingerprint: "f"
      })
      expect(yield* claim(ids(), "c")).toEqual({ _tag: "Unknown", attempt: 1 })
    }),

  "the first claim's at-most-once governs later callers": ({ claim, ids, lapse }) =>
    Effect.gen(function* () {
      yield* lapse(ids(), "a", { guarantee: "at-most-once" })
      expect(yield* claim(ids(), "b", { guarantee: "at-least-once" })).toEqual({ _tag: "Unknown", attempt: 1 })
    }),

  "the first claim's at-least-once governs later callers": ({ claim, ids, lapse }) =>
    Effect.gen(function* () {
      yield* lapse(ids(), "a")
      yield* lapse(ids(), "b", { guarantee: "at-most-once" })
      expect(yield* claim(ids(), "c")).toMatchObject({ _tag: "Claimed", attempt: 3 })
    }),

  "after a release the next claim's guarantee governs": ({ claim, ids, lapse, release }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      yield* release(ids(), "a")
      yield* lapse(ids(), "b", { guarantee: "at-most-once" })
      expect(yield* claim(ids(), "c")).toEqual({ _tag: "Unknown", attempt: 2 })
    }),

  "an owner whose lapse was noticed may come back": ({ claim, ids, lapse, read }) =>
    Effect.gen(function* () {
      yield* lapse(ids(), "a", { guarantee: "at-most-once" })
      yield* claim(ids(), "b")
      expect(yield* claim(ids(), "a")).toMatchObject({ _tag: "AlreadyMine", attempt: 1 })
      expect(yield* read(ids())).toMatchObject({ _tag: "Processing", token: "a", guarantee: "at-most-once" })
      expect((yield* claim(ids(), "b"))._tag).toBe("InFlight")
    }),

  "a held key is unknown, to its owner too": ({ claim, hold, ids }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      yield* hold(ids(), "a")
      expect(yield* claim(ids(), "b")).toEqual({ _tag: "Unknown", attempt: 1 })
      expect(yield* claim(ids(), "a")).toEqual({ _tag: "Unknown", attempt: 1 })
    }),

  "a completed key is settled, for its owner too": ({ claim, complete, ids }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a", { fingerprint: "f" })
      yield* complete(ids(), "a", { outcome: success('{"id":1}') })
      const settled = {
        _tag: "Settled",
        record: { _tag: "Completed", outcome: success('{"id":1}'), attempt: 1, fingerprint: "f", token: "a" }
      }
      expect(yield* claim(ids(), "b")).toMatchObject(settled)
      expect(yield* claim(ids(), "b", { fingerprint: "f" })).toMatchObject(settled)
      expect(yield* claim(ids(), "a")).toMatchObject(settled)
    }),

  "a released key is claimed with the next attempt": ({ claim, ids, release }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      yield* release(ids(), "a")
      expect(yield* claim(ids(), "b")).toEqual({ _tag: "Claimed", attempt: 2, steps: [] })
    }),

  "a released token is refused": ({ claim, ids, read, release }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      yield* release(ids(), "a")
      expect(yield* claim(ids(), "a")).toEqual({ _tag: "Refused" })
      expect(yield* read(ids())).toMatchObject({ _tag: "Released", attempt: 1 })
    }),

  "an expired key is claimed as attempt 1": ({ claim, ids, pass }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a", { fingerprint: "f", lease: moment, retention: moment })
      yield* pass
      expect(yield* claim(ids(), "b", { fingerprint: "g" })).toEqual({ _tag: "Claimed", attempt: 1, steps: [] })
    })
})

export const fingerprintCases: ReadonlyArray<ContractCase> = group("fingerprint")({
  "another one does not match a live claim": ({ claim, ids, read }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a", { fingerprint: "f" })
      expect(yield* claim(ids(), "b", { fingerprint: "g" })).toEqual({ _tag: "Mismatch" })
      expect(yield* claim(ids(), "a", { fingerprint: "g" })).toEqual({ _tag: "Mismatch" })
      expect(yield* read(ids())).toMatchObject({ _tag: "Processing", token: "a", fingerprint: "f" })
    }),

  "another one does not take over a lapsed claim": ({ claim, ids, lapse, read }) =>
    Effect.gen(function* () {
      yield* lapse(ids(), "a", { fingerprint: "f" })
      expect(yield* claim(ids(), "b", { fingerprint: "g" })).toEqual({ _tag: "Mismatch" })
      expect(yield* read(ids())).toMatchObject({ _tag: "Processing", token: "a", attempt: 1 })
      expect(yield* claim(ids(), "b", { fingerprint: "f" })).toMatchObject({ _tag: "Claimed", attempt: 2 })
    }),

  "another one does not match an unknown outcome": ({ claim, hold, ids }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a", { fingerprint: "f" })
      yield* hold(ids(), "a")
      expect(yield* claim(ids(), "b", { fingerprint: "g" })).toEqual({ _tag: "Mismatch" })
      expect(yield* claim(ids(), "b", { fingerprint: "f" })).toEqual({ _tag: "Unknown", attempt: 1 })
    }),

  "another one does not match a settled record": ({ claim, complete, ids }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a", { fingerprint: "f" })
      yield* complete(ids(), "a", { fingerprint: "f" })
      expect(yield* claim(ids(), "b", { fingerprint: "g" })).toEqual({ _tag: "Mismatch" })
      expect((yield* claim(ids(), "b", { fingerprint: "f" }))._tag).toBe("Settled")
    }),

  "it is not compared where one side has none": ({ claim, complete, ids, lapse }) =>
    Effect.gen(function* () {
      yield* lapse(ids(), "a", { fingerprint: "f" })
      yield* lapse(ids(), "b")
      expect(yield* claim(ids(), "c", { fingerprint: "g" })).toEqual({ _tag: "Mismatch" })
      const bare = ids({ key: "-bare" })
      yield* lapse(bare, "a")
      expect(yield* claim(bare, "b", { fingerprint: "g" })).toMatchObject({ _tag: "Claimed", attempt: 2 })
      yield* complete(bare, "b")
      expect((yield* claim(bare, "c"))._tag).toBe("Settled")
    }),

  "a take-over adds the one that was missing": ({ claim, ids, lapse, read }) =>
    Effect.gen(function* () {
      yield* lapse(ids(), "a")
      yield* claim(ids(), "b", { fingerprint: "g" })
      expect(yield* read(ids())).toMatchObject({ token: "b", fingerprint: "g" })
      expect(yield* claim(ids(), "c", { fingerprint: "h" })).toEqual({ _tag: "Mismatch" })
    }),

  "a release forgets it": ({ claim, ids, release }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a", { fingerprint: "f" })
      yield* release(ids(), "a")
      expect(yield* claim(ids(), "b", { fingerprint: "g" })).toMatchObject({ _tag: "Claimed", attempt: 2 })
    }),

  "a release keeps it with the steps it belongs to": ({ claim, ids, release, saveStep }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a", { fingerprint: "f" })
      yield* saveStep(ids(), "a", "first", "1")
      yield* release(ids(), "a")
      expect(yield* claim(ids(), "b", { fingerprint: "g" })).toEqual({ _tag: "Mismatch" })
      expect(yield* claim(ids(), "b", { fingerprint: "f" })).toEqual({
        _tag: "Claimed",
        attempt: 2,
        steps: [{ name: "first", encoded: "1" }]
      })
    }),

  "completion keeps the claim's": ({ claim, complete, ids, read }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a", { fingerprint: "f" })
      yield* complete(ids(), "a")
      expect(yield* read(ids())).toMatchObject({ _tag: "Completed", fingerprint: "f" })
      expect(yield* claim(ids(), "b", { fingerprint: "g" })).toEqual({ _tag: "Mismatch" })
    }),

  "completion of an absent key stores its own": ({ claim, complete, ids }) =>
    Effect.gen(function* () {
      yield* complete(ids(), "a", { fingerprint: "f" })
      expect(yield* claim(ids(), "b", { fingerprint: "g" })).toEqual({ _tag: "Mismatch" })
      expect((yield* claim(ids(), "b", { fingerprint: "f" }))._tag).toBe("Settled")
    })
})
