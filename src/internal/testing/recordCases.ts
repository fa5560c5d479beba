import { expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as HashMap from "effect/HashMap"
import * as Option from "effect/Option"
import { IdempotencyRecord } from "../../IdempotencyRecord.js"
import type { Json } from "../../Jsonable.js"
import { type ContractCase, type Fixture, group, moment, plain, success } from "./contractCase.js"

const results: ReadonlyArray<Json | undefined> = [
  undefined,
  null,
  false,
  0,
  "",
  "ünï 😀 \u0000 \u2028 %s {}",
  [],
  {},
  [[[]], [{}], [null]],
  { list: [], map: {}, n: 1e-7, big: 1e300, deep: { a: { b: { c: [1, 2, 3] } } } },
  ["half of an emoji: \ud83d", { "\udc00": 1 }],
  { toJSON: 1, constructor: null }
]

/** A key that is claimed, held and released: there, and not settled. */
const unsettled = ({ claim, hold, ids, release }: Fixture) =>
  Effect.gen(function* () {
    const [claimed, held, released] = [ids({ key: "-claimed" }), ids({ key: "-held" }), ids({ key: "-released" })]
    yield* claim(claimed, "a")
    yield* claim(held, "a")
    yield* hold(held, "a")
    yield* claim(released, "a")
    yield* release(released, "a")
    return { claimed, held, released }
  })

export const recordCases: ReadonlyArray<ContractCase> = group("get, save and delete")({
  "an absent key has no record": ({ ids, repository }) =>
    Effect.gen(function* () {
      expect(Option.isNone(yield* repository.get(ids()))).toBe(true)
    }),

  "what was saved is found, as it was": ({ ids, repository, save }) =>
    Effect.gen(function* () {
      for (const scope of [undefined, "tenant"]) {
        const of = scope === undefined ? ids() : ids({ scope })
        const saved = yield* save(of, { id: 1 })
        expect(plain(Option.getOrThrow(yield* repository.get(of)))).toEqual(plain(saved))
      }
    }),

  "every result comes back, saved or completed": ({ complete, ids, repository, save }) =>
    Effect.forEach(
      results,
      (result, index) =>
        Effect.gen(function* () {
          const [saved, completed] = [ids({ key: `-${index}-saved` }), ids({ key: `-${index}-completed` })]
          yield* save(saved, result)
          yield* complete(completed, "a", { outcome: success(result === undefined ? "" : JSON.stringify(result)) })
          for (const of of [saved, completed]) {
            expect(Option.getOrThrow(yield* repository.get(of)).result).toEqual(result)
          }
          expect(HashMap.size(yield* repository.getMany([saved, completed]))).toBe(2)
        }),
      { discard: true }
    ),

  "what an owner completed is found": ({ claim, complete, ids, lapse, repository }) =>
    Effect.gen(function* () {
      yield* lapse(ids(), "a")
      yield* claim(ids(), "b", { fingerprint: "f" })
      yield* complete(ids(), "b", { outcome: success('{"id":1}'), retention: 90_000 })
      const record = Option.getOrThrow(yield* repository.get(ids()))
      expect(record).toMatchObject({ outcome: "success", result: { id: 1 }, attempt: 2, fingerprint: "f" })
      expect(record.expiresAt.epochMillis - record.createdAt.epochMillis).toBe(90_000)
    }),

  "recorded failures and unavailable results are found as such": ({ complete, ids, repository }) =>
    Effect.gen(function* () {
      const [failed, unavailable] = [ids({ key: "-failed" }), ids({ key: "-unavailable" })]
      yield* complete(failed, "a", { outcome: { _tag: "Failure", encoded: '"declined"' } })
      yield* complete(unavailable, "a", { outcome: { _tag: "Unavailable" } })
      expect(Option.getOrThrow(yield* repository.get(failed))).toMatchObject({ outcome: "failure", result: "declined" })
      expect(Option.getOrThrow(yield* repository.get(unavailable))).toMatchObject({ outcome: "unavailable" })
    }),

  "what was saved keeps its outcome, fingerprint and attempt": ({ claim, ids, record, repository }) =>
    Effect.gen(function* () {
      const outcomes = { failure: "declined", unavailable: undefined } as const
      for (const outcome of ["failure", "unavailable"] as const) {
        const of = ids({ key: `-${outcome}` })
        const made = yield* record(of, outcomes[outcome])
        const saved = new IdempotencyRecord({ ...made, outcome, fingerprint: "f", attempt: 3 })
        yield* repository.save(saved)
        expect(plain(Option.getOrThrow(yield* repository.get(of)))).toEqual(plain(saved))
        expect(yield* claim(of, "a", { fingerprint: "g" })).toEqual({ _tag: "Mismatch" })
        const tag = outcome === "failure" ? "Failure" : "Unavailable"
        const settled = { _tag: "Settled", record: { outcome: { _tag: tag }, attempt: 3, fingerprint: "f" } }
        expect(yield* claim(of, "a", { fingerprint: "f" })).toMatchObject(settled)
      }
    }),

  "a key that is not settled has no record": (fixture) =>
    Effect.gen(function* () {
      for (const of of Object.values(yield* unsettled(fixture))) {
        expect(Option.isNone(yield* fixture.repository.get(of))).toBe(true)
      }
    }),

  "a record is not replaced": ({ complete, ids, record, repository, save }) =>
    Effect.gen(function* () {
      yield* save(ids(), 1)
      const error = yield* Effect.flip(repository.save(yield* record(ids(), 2)))
      expect(error).toMatchObject({ _tag: "IdempotencyKeyCollisionError", keys: [ids().idempotencyKey] })
      expect(Option.getOrThrow(yield* repository.get(ids())).result).toBe(1)
      const completed = ids({ key: "-completed" })
      yield* complete(completed, "a", { outcome: success("3") })
      yield* Effect.flip(repository.save(yield* record(completed, 4)))
      expect(Option.getOrThrow(yield* repository.get(completed)).result).toBe(3)
    }),

  "a claimed or held key is a collision": (fixture) =>
    Effect.gen(function* () {
      const { claimed, held } = yield* unsettled(fixture)
      for (const of of [claimed, held]) {
        const error = yield* Effect.flip(fixture.repository.save(yield* fixture.record(of, 1)))
        expect(error).toMatchObject({ _tag: "IdempotencyKeyCollisionError", keys: [of.idempotencyKey] })
      }
      expect(yield* fixture.read(claimed)).toMatchObject({ _tag: "Processing", token: "a" })
    }),

  "a lapsed claim is a collision": ({ ids, lapse, read, record, repository }) =>
    Effect.gen(function* () {
      yield* lapse(ids(), "a")
      yield* Effect.flip(repository.save(yield* record(ids(), 1)))
      expect(yield* read(ids())).toMatchObject({ _tag: "Processing", token: "a" })
    }),

  "a released key may be saved, its attempt kept": ({ claim, ids, lapse, release, repository, save }) =>
    Effect.gen(function* () {
      yield* lapse(ids(), "a")
      yield* claim(ids(), "b")
      yield* release(ids(), "b")
      yield* save(ids(), 1)
      expect(Option.getOrThrow(yield* repository.get(ids()))).toMatchObject({ result: 1, attempt: 2 })
    }),

  "a saved record answers claims": ({ claim, complete, ids, record, repository }) =>
    Effect.gen(function* () {
      yield* repository.save(yield* record(ids(), { id: 1 }))
      const settled = { _tag: "Settled", record: { outcome: success('{"id":1}') } }
      expect(yield* claim(ids(), "a", { fingerprint: "f" })).toMatchObject(settled)
      expect(yield* complete(ids(), "a", { outcome: success("2") })).toMatchObject({ ...settled, _tag: "Superseded" })
    }),

  "an expired record is refused": ({ after, ids, pass, read, record, repository }) =>
    Effect.gen(function* () {
      const made = yield* record(ids(), 1, moment)
      yield* pass
      // The record's own clock is the caller's: `after` may move another.
      yield* Effect.repeat(after("20 millis"), { until: () => made.isExpired })
      expect(yield* Effect.flip(repository.save(made))).toMatchObject({
        _tag: "IdempotencyRecordExpiredError",
        idempotencyKey: ids().idempotencyKey
      })
      expect(yield* read(ids())).toBeUndefined()
    }),

  "of concurrent saves, one wins": ({ ids, record, repository }) =>
    Effect.gen(function* () {
      const saved = yield* Effect.forEach(
        Array.from({ length: 8 }, (_, index) => index),
        (index) => Effect.flatMap(record(ids(), index), (made) => Effect.isSuccess(repository.save(made))),
        { concurrency: "unbounded" }
      )
      expect(saved.filter(Boolean)).toHaveLength(1)
      expect(Option.getOrThrow(yield* repository.get(ids())).result).toBe(saved.indexOf(true))
    }),

  "a settled record is deleted, once": ({ claim, ids, read, repository, save }) =>
    Effect.gen(function* () {
      yield* save(ids(), 1)
      expect(yield* repository.delete(ids())).toBe(true)
      expect(yield* repository.delete(ids())).toBe(false)
      expect(yield* read(ids())).toBeUndefined()
      expect(yield* claim(ids(), "a")).toMatchObject({ _tag: "Claimed", attempt: 1 })
    }),

  "a key that is not settled is not deleted": (fixture) =>
    Effect.gen(function* () {
      const { claimed, held, released } = yield* unsettled(fixture)
      for (const of of [claimed, held, released]) expect(yield* fixture.repository.delete(of)).toBe(false)
      expect(yield* fixture.read(claimed)).toMatchObject({ _tag: "Processing" })
      expect(yield* fixture.read(held)).toMatchObject({ _tag: "Unknown" })
      expect(yield* fixture.read(released)).toMatchObject({ _tag: "Released", attempt: 1 })
    })
})

const numbered = ({ ids }: Fixture, count: number) => Array.from({ length: count }, (_, n) => ids({ key: `-${n}` }))

const makeMany = (fixture: Fixture, count: number) =>
  Effect.forEach(numbered(fixture, count), (of, n) => fixture.record(of, n))

const resultsIn = (found: HashMap.HashMap<IdempotencyRecord["identifiers"], IdempotencyRecord>) =>
  Array.from(HashMap.values(found), ({ result }) => result).sort()

export const manyCases: ReadonlyArray<ContractCase> = group("getMany, saveMany and deleteMany")({
  "what was saved together is found together": (fixture) =>
    Effect.gen(function* () {
      const { repository } = fixture
      const records = yield* makeMany(fixture, 5)
      yield* repository.saveMany(records)
      const found = yield* repository.getMany(numbered(fixture, 7))
      expect(HashMap.size(found)).toBe(5)
      for (const record of records) {
        expect(plain(Option.getOrThrow(HashMap.get(found, record.identifiers)))).toEqual(plain(record))
      }
    }),

  "more than one batch": (fixture) =>
    Effect.gen(function* () {
      const { repository } = fixture
      const all = numbered(fixture, 301)
      const records = yield* makeMany(fixture, 300)
      const before = [3, 150, 297].flatMap((n) => records[n] ?? [])
      yield* repository.saveMany(before)
      const error = yield* Effect.flip(repository.saveMany(records))
      expect(error._tag === "IdempotencyKeyCollisionError" ? error.keys : error).toEqual(
        before.map(({ idempotencyKey }) => idempotencyKey)
      )
      const found = yield* repository.getMany(all)
      expect(HashMap.size(found)).toBe(300)
      for (const record of records) {
        expect(Option.getOrThrow(HashMap.get(found, record.identifiers))).toMatchObject({ result: record.result })
      }
      expect(yield* repository.deleteMany(all)).toBe(300)
    }),

  "nothing asks for nothing": ({ repository }) =>
    Effect.gen(function* () {
      expect(HashMap.size(yield* repository.getMany([]))).toBe(0)
      yield* repository.saveMany([])
      yield* repository.saveMany([], { rollbackOnError: true })
      expect(yield* repository.deleteMany([])).toBe(0)
    }),

  "keys named twice count once": (fixture) =>
    Effect.gen(function* () {
      const { ids, repository, save } = fixture
      yield* save(ids(), 1)
      expect(HashMap.size(yield* repository.getMany([ids(), ids()]))).toBe(1)
      expect(yield* repository.deleteMany([ids(), ids()])).toBe(1)
    }),

  "what is not settled is left out": (fixture) =>
    Effect.gen(function* () {
      const { ids, read, repository, save } = fixture
      const { claimed, held, released } = yield* unsettled(fixture)
      yield* save(ids(), 1)
      const all = [claimed, held, released, ids(), ids({ key: "-absent" })]
      expect(resultsIn(yield* repository.getMany(all))).toEqual([1])
      expect(yield* repository.deleteMany(all)).toBe(1)
      expect(yield* read(claimed)).toMatchObject({ _tag: "Processing" })
      expect(yield* read(ids())).toBeUndefined()
    }),

  "a collision names every colliding key; the others are saved": (fixture) =>
    Effect.gen(function* () {
      const { claim, ids, record, repository, save } = fixture
      const [saved, claimed] = [ids({ key: "-0" }), ids({ key: "-2" })]
      yield* save(saved, "before")
      yield* claim(claimed, "a")
      const records = yield* makeMany(fixture, 4)
      const again = yield* record(ids({ key: "-3" }), "again")
      const error = yield* Effect.flip(repository.saveMany([...records, again]))
      expect(error._tag === "IdempotencyKeyCollisionError" ? [...error.keys].sort() : error).toEqual(
        [saved, claimed, again].map(({ idempotencyKey }) => idempotencyKey)
      )
      expect(resultsIn(yield* repository.getMany(numbered(fixture, 4)))).toEqual([1, 3, "before"])
    }),

  "if one has expired, nothing is written": (fixture) =>
    Effect.gen(function* () {
      const { after, ids, pass, record, repository } = fixture
      const expired = yield* record(ids({ key: "-expired" }), 1, moment)
      yield* pass
      yield* Effect.repeat(after("20 millis"), { until: () => expired.isExpired })
      const error = yield* Effect.flip(repository.saveMany([...(yield* makeMany(fixture, 2)), expired]))
      expect(error._tag).toBe("IdempotencyRecordExpiredError")
      expect(HashMap.size(yield* repository.getMany(numbered(fixture, 2)))).toBe(0)
    }),

  "one record can be rolled back anywhere": ({ ids, record, repository }) =>
    Effect.gen(function* () {
      yield* repository.saveMany([yield* record(ids(), 1)], { rollbackOnError: true })
      const error = yield* Effect.flip(repository.saveMany([yield* record(ids(), 2)], { rollbackOnError: true }))
      expect(error._tag).toBe("IdempotencyKeyCollisionError")
      expect(Option.getOrThrow(yield* repository.get(ids())).result).toBe(1)
    }),

  "where many can be rolled back, all are saved": (fixture) =>
    Effect.gen(function* () {
      const { repository } = fixture
      const saved = yield* Effect.either(repository.saveMany(yield* makeMany(fixture, 4), { rollbackOnError: true }))
      if (saved._tag === "Left") expect(saved.left._tag).toBe("IdempotencyValidationError")
      expect(resultsIn(yield* repository.getMany(numbered(fixture, 4)))).toEqual(
        saved._tag === "Left" ? [] : [0, 1, 2, 3]
      )
    }),

  "rolled back, nothing is written; where that cannot be kept, it is refused": (fixture) =>
    Effect.gen(function* () {
      const { claim, ids, repository } = fixture
      yield* claim(ids({ key: "-2" }), "a")
      const error = yield* Effect.flip(repository.saveMany(yield* makeMany(fixture, 4), { rollbackOnError: true }))
      if (error._tag !== "IdempotencyValidationError") {
        expect(error).toMatchObject({
          _tag: "IdempotencyKeyCollisionError",
          keys: [ids({ key: "-2" }).idempotencyKey]
        })
      }
      expect(HashMap.size(yield* repository.getMany(numbered(fixture, 4)))).toBe(0)
    })
})
