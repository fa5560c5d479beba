import { expect } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { type ContractCase, group, lease, moment, success } from "./contractCase.js"

const done = { _tag: "Success", result: { id: 1 } } as const
const inFlight = { _tag: "IdempotencyInFlightError", reason: "Running" }

export const resolveCases: ReadonlyArray<ContractCase> = group("resolve")({
  "a held key is settled": ({ claim, hold, ids, repository }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a", { fingerprint: "f" })
      yield* hold(ids(), "a")
      expect(yield* repository.resolve(ids(), done)).toBe(true)
      expect(Option.getOrThrow(yield* repository.get(ids()))).toMatchObject({
        outcome: "success",
        result: { id: 1 },
        attempt: 1,
        fingerprint: "f"
      })
      expect(yield* claim(ids(), "b", { fingerprint: "g" })).toEqual({ _tag: "Mismatch" })
    }),

  "a key that lapsed unnoticed is settled, under both guarantees": ({ ids, lapse, repository }) =>
    Effect.gen(function* () {
      for (const guarantee of ["at-least-once", "at-most-once"] as const) {
        const of = ids({ key: guarantee })
        yield* lapse(of, "a", { guarantee })
        expect(yield* repository.resolve(of, { _tag: "Failure", error: "declined" })).toBe(true)
        expect(Option.getOrThrow(yield* repository.get(of))).toMatchObject({ outcome: "failure", result: "declined" })
      }
    }),

  "a key whose lapse was noticed is settled": ({ claim, ids, lapse, repository }) =>
    Effect.gen(function* () {
      yield* lapse(ids(), "a", { guarantee: "at-most-once" })
      yield* claim(ids(), "b")
      expect(yield* repository.resolve(ids(), { _tag: "Unavailable" })).toBe(true)
      expect(Option.getOrThrow(yield* repository.get(ids()))).toMatchObject({ outcome: "unavailable" })
    }),

  "the late owner meets what was resolved": ({ claim, complete, hold, ids, repository }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      yield* hold(ids(), "a")
      yield* repository.resolve(ids(), done)
      expect(yield* complete(ids(), "a", { outcome: success("2") })).toMatchObject({
        _tag: "Superseded",
        record: { outcome: success('{"id":1}') }
      })
    }),

  "a live owner is not overruled": ({ claim, ids, read, repository }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      const error = yield* Effect.flip(repository.resolve(ids(), done))
      expect(error).toMatchObject({ ...inFlight, idempotencyKey: ids().idempotencyKey })
      expect(error._tag === "IdempotencyInFlightError" && Duration.toMillis(error.retryAfter)).toBeGreaterThan(
        lease / 2
      )
      expect(yield* read(ids())).toMatchObject({ _tag: "Processing", token: "a" })
    }),

  "what is not unknown is left alone": ({ claim, complete, ids, read, release, repository }) =>
    Effect.gen(function* () {
      const [released, settled] = [ids({ key: "-released" }), ids({ key: "-settled" })]
      yield* claim(released, "a")
      yield* release(released, "a")
      yield* complete(settled, "a", { outcome: success("2") })
      for (const of of [ids(), released, settled]) expect(yield* repository.resolve(of, done)).toBe(false)
      expect(yield* read(ids())).toBeUndefined()
      expect(yield* read(released)).toMatchObject({ _tag: "Released" })
      expect(yield* read(settled)).toMatchObject({ outcome: success("2") })
    }),

  "what is not JSON is refused, and the key stays unknown": ({ claim, hold, ids, read, repository }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      yield* hold(ids(), "a")
      const error = yield* Effect.flip(repository.resolve(ids(), { _tag: "Success", result: Number.NaN }))
      expect(error._tag).toBe("IdempotencyValidationError")
      expect(yield* read(ids())).toMatchObject({ _tag: "Unknown" })
    })
})

export const resetCases: ReadonlyArray<ContractCase> = group("reset")({
  "a settled key may run again, as the next attempt": ({ claim, complete, ids, read, repository }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a", { fingerprint: "f" })
      yield* complete(ids(), "a")
      expect(yield* repository.reset(ids())).toBe(true)
      expect(yield* read(ids())).toMatchObject({ _tag: "Released", attempt: 1 })
      expect(Option.isNone(yield* repository.get(ids()))).toBe(true)
      expect(yield* claim(ids(), "b", { fingerprint: "g" })).toEqual({ _tag: "Claimed", attempt: 2, steps: [] })
    }),

  "a held or lapsed key may run again": ({ claim, hold, ids, lapse, repository }) =>
    Effect.gen(function* () {
      const [held, lapsed] = [ids({ key: "-held" }), ids({ key: "-lapsed" })]
      yield* claim(held, "a")
      yield* hold(held, "a")
      yield* lapse(lapsed, "a", { guarantee: "at-most-once" })
      for (const of of [held, lapsed]) {
        expect(yield* repository.reset(of)).toBe(true)
        expect(yield* claim(of, "b")).toMatchObject({ _tag: "Claimed", attempt: 2 })
      }
    }),

  "a live owner keeps its key": ({ claim, ids, read, repository }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      const error = yield* Effect.flip(repository.reset(ids()))
      expect(error).toMatchObject(inFlight)
      expect(error._tag === "IdempotencyInFlightError" && Duration.toMillis(error.retryAfter)).toBeGreaterThan(
        lease / 2
      )
      expect(yield* read(ids())).toMatchObject({ _tag: "Processing", token: "a" })
    }),

  "a live owner loses its key by force": ({ claim, complete, ids, read, renew, repository }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      expect(yield* repository.reset(ids(), { force: true })).toBe(true)
      expect(yield* renew(ids(), "a")).toEqual({ _tag: "Lost" })
      expect(yield* complete(ids(), "a")).toEqual({ _tag: "Superseded" })
      expect(yield* read(ids())).toMatchObject({ _tag: "Released", attempt: 1 })
      expect(yield* claim(ids(), "b")).toMatchObject({ _tag: "Claimed", attempt: 2 })
    }),

  "an absent key has nothing to reset": ({ ids, read, repository }) =>
    Effect.gen(function* () {
      expect(yield* repository.reset(ids())).toBe(false)
      expect(yield* repository.reset(ids(), { force: true })).toBe(false)
      expect(yield* read(ids())).toBeUndefined()
    }),

  "sent twice, it is the same reset": ({ claim, complete, ids, repository }) =>
    Effect.gen(function* () {
      yield* complete(ids(), "a")
      yield* repository.reset(ids())
      expect(yield* repository.reset(ids())).toBe(true)
      expect(yield* claim(ids(), "b")).toMatchObject({ _tag: "Claimed", attempt: 2 })
    }),

  "an expired key has nothing to reset": ({ complete, ids, pass, repository }) =>
    Effect.gen(function* () {
      yield* complete(ids(), "a", { retention: moment })
      yield* pass
      expect(yield* repository.reset(ids())).toBe(false)
    })
})

export const inspectCases: ReadonlyArray<ContractCase> = group("inspect")({
  "an absent key has no state": ({ ids, repository }) =>
    Effect.gen(function* () {
      expect(Option.isNone(yield* repository.inspect(ids()))).toBe(true)
    }),

  "a claim is shown with its terms": ({ claim, ids, repository }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a", {
        guarantee: "at-most-once",
        fingerprint: "f",
        retention: 1_234,
        unknownRetention: 5_000
      })
      const state = Option.getOrThrow(yield* repository.inspect(ids()))
      expect(state).toMatchObject({
        _tag: "Processing",
        token: "a",
        attempt: 1,
        guarantee: "at-most-once",
        fingerprint: "f",
        retention: 1_234,
        unknownRetention: 5_000
      })
      expect(state._tag === "Processing" && state.leaseUntil - state.createdAt).toBe(lease)
    }),

  "looking at a lapsed claim does not change it": ({ claim, ids, lapse, repository }) =>
    Effect.gen(function* () {
      yield* lapse(ids(), "a", { guarantee: "at-most-once" })
      expect(Option.getOrThrow(yield* repository.inspect(ids()))).toMatchObject({ _tag: "Processing", token: "a" })
      expect((yield* claim(ids(), "a"))._tag).toBe("AlreadyMine")
    }),

  "many are read at once, in order": ({ claim, claims, complete, ids }) =>
    Effect.gen(function* () {
      const keys = ["-claimed", "-absent", "-settled"].map((key) => ids({ key }))
      const [claimed = ids(), , settled = ids()] = keys
      yield* claim(claimed, "a")
      yield* complete(settled, "a")
      const states = yield* claims.read(keys)
      expect(states.map((state) => state?._tag)).toEqual(["Processing", undefined, "Completed"])
      expect(yield* claims.read([])).toEqual([])
    })
})

export const changesCases: ReadonlyArray<ContractCase> = group("changes")({
  "subscriptions come and go, and are in nobody's way": ({ claim, claims, complete, ids }) =>
    Effect.gen(function* () {
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* claims.changes(ids())
          yield* claims.changes(ids())
          expect((yield* claim(ids(), "a"))._tag).toBe("Claimed")
        })
      )
      expect((yield* complete(ids(), "a"))._tag).toBe("Done")
    }),

  "waiting for one can be interrupted": ({ claim, claims, complete, ids }) =>
    Effect.gen(function* () {
      yield* claim(ids(), "a")
      yield* Effect.scoped(
        Effect.gen(function* () {
          const next = yield* claims.changes(ids())
          const waiting = yield* Effect.fork(Effect.interruptible(next))
          yield* Effect.yieldNow()
          yield* waiting.interruptAsFork(yield* Effect.fiberId)
        })
      )
      expect((yield* complete(ids(), "a"))._tag).toBe("Done")
    })
})
