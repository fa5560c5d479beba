import { expect } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { IdempotencyRecord } from "../../IdempotencyRecord.js"
import { latestInstant } from "../protocol.js"
import { type ContractCase, type Fixture, group, hour, lease, minute, moment, success } from "./contractCase.js"

/** How long a key is kept, counted from its first instant. */
const kept = ({ ids, repository }: Fixture) =>
  Effect.map(repository.inspect(ids()), (state) =>
    Option.match(state, { onNone: () => Number.NaN, onSome: ({ createdAt, expiresAt }) => expiresAt - createdAt })
  )

/** Long enough for the calls of a case on a slow machine, short enough to be waited for. */
const aSecond = 1_000
const pastASecond = "1200 millis"

const century = 100 * 365 * 24 * hour

export const retentionCases: ReadonlyArray<ContractCase> = group("retention")({
  "a claim outlives its lease": ({ ids, lapse, read }) =>
    Effect.gen(function* () {
      yield* lapse(ids(), "a")
      expect(yield* read(ids())).toMatchObject({ _tag: "Processing", token: "a", attempt: 1 })
    }),

  "a claim is kept for its retention": (fixture) =>
    Effect.gen(function* () {
      yield* fixture.claim(fixture.ids(), "a", { lease: minute, retention: 3 * hour })
      expect(yield* kept(fixture)).toBe(3 * hour)
    }),

  "a claim is kept for twice its lease at least": (fixture) =>
    Effect.gen(function* () {
      const { claim, ids, pass, read } = fixture
      yield* claim(ids(), "a", { retention: moment })
      yield* pass
      expect(yield* read(ids())).toMatchObject({ _tag: "Processing", token: "a" })
      expect(yield* kept(fixture)).toBe(2 * lease)
    }),

  "a renewal keeps for twice the new lease": (fixture) =>
    Effect.gen(function* () {
      const { claim, ids, renew } = fixture
      yield* claim(ids(), "a", { retention: moment })
      yield* renew(ids(), "a", 3 * lease)
      expect(yield* kept(fixture)).toBeGreaterThanOrEqual(6 * lease)
      expect(yield* kept(fixture)).toBeLessThan(7 * lease)
    }),

  "a claim that is sent again or taken over starts its retention anew": ({ after, claim, ids, pass, read }) =>
    Effect.gen(function* () {
      const [again, taken] = [ids({ key: "-again" }), ids({ key: "-taken" })]
      for (const of of [again, taken]) yield* claim(of, "a", { lease: moment, retention: aSecond })
      yield* pass
      yield* claim(again, "a")
      yield* claim(taken, "b")
      yield* after(pastASecond)
      expect(yield* read(again)).toMatchObject({ _tag: "Processing" })
      expect(yield* read(taken)).toMatchObject({ _tag: "Processing", token: "b" })
    }),

  "an at-most-once claim is kept for the unknown's retention": (fixture) =>
    Effect.gen(function* () {
      const { claim, ids, pass } = fixture
      yield* claim(ids(), "a", { guarantee: "at-most-once", lease: moment, retention: moment })
      expect(yield* kept(fixture)).toBe(2 * hour)
      yield* pass
      expect(yield* claim(ids(), "b")).toEqual({ _tag: "Unknown", attempt: 1 })
    }),

  "an unknown outcome is kept for the unknown's retention, counted anew": (fixture) =>
    Effect.gen(function* () {
      const { after, claim, hold, ids } = fixture
      yield* claim(ids(), "a", { retention: moment, unknownRetention: 2 * hour })
      yield* after(pastASecond)
      yield* hold(ids(), "a")
      expect(yield* kept(fixture)).toBeGreaterThan(2 * hour + aSecond)
    }),

  "an unknown outcome ends with its retention": ({ claim, hold, ids, pass, read }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a", { unknownRetention: moment })
      yield* hold(ids(), "a")
      yield* pass
      expect(yield* read(ids())).toBeUndefined()
      expect(yield* claim(ids(), "b")).toMatchObject({ _tag: "Claimed", attempt: 1 })
    }),

  "a completed record ends with its retention": ({ claim, complete, ids, pass, repository }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      yield* complete(ids(), "a", { retention: moment })
      yield* pass
      expect(Option.isNone(yield* repository.get(ids()))).toBe(true)
      expect(Option.isNone(yield* repository.inspect(ids()))).toBe(true)
      expect(yield* claim(ids(), "b")).toMatchObject({ _tag: "Claimed", attempt: 1 })
    }),

  "completion extends what the claim kept": ({ after, claim, complete, ids, repository }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a", { lease: moment, retention: aSecond })
      yield* complete(ids(), "a")
      yield* after(pastASecond)
      expect(Option.isSome(yield* repository.get(ids()))).toBe(true)
    }),

  "completion says until when": ({ claim, complete, ids }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      const reply = yield* complete(ids(), "a", { retention: 90 * minute })
      expect(reply._tag === "Done" ? reply.expiresAt - reply.createdAt : reply).toBe(90 * minute)
    }),

  "a renewal after completion does not shorten it": ({ complete, ids, pass, renew, repository }) =>
    Effect.gen(function* () {
      yield* complete(ids(), "a")
      yield* renew(ids(), "a", moment)
      yield* pass
      expect(Option.isSome(yield* repository.get(ids()))).toBe(true)
    }),

  "a release keeps the attempt for the claim's retention": ({ claim, ids, pass, release }) =>
    Effect.gen(function* () {
      const [long, brief] = [ids({ key: "-long" }), ids({ key: "-brief" })]
      yield* claim(long, "a", { lease: moment, retention: hour })
      yield* claim(brief, "a", { retention: moment })
      yield* release(long, "a")
      yield* release(brief, "a")
      yield* pass
      expect(yield* claim(long, "b")).toMatchObject({ attempt: 2 })
      expect(yield* claim(brief, "a")).toMatchObject({ _tag: "Claimed", attempt: 1 })
    }),

  "a saved record ends at its own time": ({ after, ids, record, repository }) =>
    Effect.gen(function* () {
      // A machine that stalls between making and saving meets an expired record: it makes another.
      yield* Effect.retry(
        Effect.flatMap(record(ids(), 1, aSecond), (made) => repository.save(made)),
        { times: 20, while: ({ _tag }) => _tag === "IdempotencyRecordExpiredError" }
      )
      yield* after(pastASecond)
      expect(Option.isNone(yield* repository.get(ids()))).toBe(true)
    }),

  "a saved record may end as late as dates go, and may have begun as early": ({ claim, ids, repository }) =>
    Effect.gen(function* () {
      const latest = new IdempotencyRecord({
        ...ids(),
        result: 1,
        createdAt: DateTime.unsafeMake(-latestInstant),
        expiresAt: DateTime.unsafeMake(latestInstant)
      })
      yield* repository.save(latest)
      const found = Option.getOrThrow(yield* repository.get(ids()))
      expect(found.result).toBe(1)
      // A store may keep for less than eternity, and for two centuries at least.
      expect(found.expiresAt.epochMillis).toBeGreaterThan(2 * century)
      expect(yield* claim(ids(), "a")).toMatchObject({ _tag: "Settled", record: { outcome: success("1") } })
      expect(yield* repository.reset(ids())).toBe(true)
      expect(yield* claim(ids(), "b")).toMatchObject({ _tag: "Claimed", attempt: 2 })
    }),

  "what was resolved is kept for the claim's retention": (fixture) =>
    Effect.gen(function* () {
      const { ids, lapse, repository } = fixture
      yield* lapse(ids(), "a", { retention: 3 * hour })
      yield* repository.resolve(ids(), { _tag: "Unavailable" })
      expect(yield* kept(fixture)).toBe(3 * hour)
    }),

  "saving a step does not shorten a claim's life": ({ after, claim, ids, read, saveStep }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a", { retention: moment })
      yield* saveStep(ids(), "a", "first")
      yield* after(pastASecond)
      expect(yield* read(ids())).toMatchObject({ _tag: "Processing", token: "a" })
    })
})
