import { expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Record from "effect/Record"
import type { IdempotencyIdentifiers } from "../../IdempotencyIdentifiers.js"
import type { IdempotencyRepository } from "../../IdempotencyRepository.js"
import { overview } from "../listing.js"
import type * as Protocol from "../protocol.js"
import { storedKey } from "../storedKey.js"
import { type ContractCase, type Fixture, group, lease, moment, success } from "./contractCase.js"
import { hostile } from "./identityCases.js"

type ListRequest = IdempotencyRepository.ListRequest

/** A list that does not come to an end is wrong, and must not keep the suite from ending. */
const mostPages = 20_000

/** All pages of a list: each key once, as the last page that held it told it. */
const whole = ({ repository }: Fixture, request: ListRequest) =>
  Effect.gen(function* () {
    const entries = new Map<string, Protocol.Entry>()
    const pages: Array<IdempotencyRepository.Page> = []
    let cursor: string | undefined
    do {
      const page: IdempotencyRepository.Page = yield* repository.list({ ...request, cursor })
      pages.push(page)
      for (const entry of page.entries) entries.set(storedKey(entry.identifiers), entry)
      cursor = page.cursor
    } while (cursor !== undefined && pages.length < mostPages)
    expect(cursor, "the cursor after so many pages").toBeUndefined()
    return { entries, pages }
  })

const named = (keys: Iterable<IdempotencyIdentifiers>) => Array.from(keys, storedKey).sort()

const keysOf = (fixture: Fixture, request: ListRequest) =>
  Effect.map(whole(fixture, request), ({ entries }) =>
    named(Array.from(entries.values(), (entry) => entry.identifiers))
  )

/** A key in each state. */
const inEachState = ({ claim, complete, hold, ids, lapse, release, saveStep }: Fixture) =>
  Effect.gen(function* () {
    const keys = {
      processing: ids({ key: "-processing", scope: "tenant" }),
      lapsed: ids({ key: "-lapsed" }),
      held: ids({ key: "-held" }),
      noticed: ids({ key: "-noticed" }),
      released: ids({ key: "-released" }),
      success: ids({ key: "-success" }),
      failure: ids({ key: "-failure", scope: "tenant" }),
      unavailable: ids({ key: "-unavailable" })
    }
    const atMostOnce = { guarantee: "at-most-once", fingerprint: "f" } as const
    yield* lapse(keys.processing, "a")
    yield* claim(keys.processing, "b", { fingerprint: "f" })
    yield* saveStep(keys.processing, "b", "one", '"secret"')
    yield* claim(keys.held, "a", atMostOnce)
    yield* hold(keys.held, "a")
    yield* claim(keys.noticed, "a", { ...atMostOnce, lease: moment })
    yield* lapse(keys.lapsed, "a", atMostOnce)
    yield* claim(keys.noticed, "b")
    yield* claim(keys.released, "a")
    yield* release(keys.released, "a")
    yield* complete(keys.success, "a", { outcome: success('"secret"'), fingerprint: "f" })
    yield* complete(keys.failure, "a", { outcome: { _tag: "Failure", encoded: '"secret"' } })
    yield* complete(keys.unavailable, "a", { outcome: { _tag: "Unavailable" } })
    return keys
  })

const byState: {
  readonly [state: string]: ReadonlyArray<keyof Effect.Effect.Success<ReturnType<typeof inEachState>>>
} = {
  Processing: ["processing", "lapsed"],
  Unknown: ["held", "noticed"],
  Released: ["released"],
  Completed: ["success", "failure", "unavailable"],
  Corrupted: []
}

const cases: { readonly [name: string]: (fixture: Fixture) => Effect.Effect<void, unknown> } = {
  "of no keys there is a list without any": (fixture) =>
    Effect.gen(function* () {
      expect(yield* keysOf(fixture, { keyPrefix: fixture.unique })).toEqual([])
      expect(yield* keysOf(fixture, { operation: fixture.unique })).toEqual([])
    }),

  "each state is told as it is read, but for results and steps": (fixture) =>
    Effect.gen(function* () {
      const keys = yield* inEachState(fixture)
      const { entries, pages } = yield* whole(fixture, { keyPrefix: fixture.unique })
      expect(named(Array.from(entries.values(), ({ identifiers }) => identifiers))).toEqual(named(Object.values(keys)))
      for (const of of Object.values(keys)) {
        const state = yield* fixture.read(of)
        if (state === undefined || state._tag === "Corrupted") return expect(state).toBe("a state")
        const told = entries.get(storedKey(of))?.state
        const { expiresAt, ...rest } = overview(state)
        expect(told).toEqual({ ...rest, expiresAt: expect.any(Number) })
        // A store may know what is left of a life rather than when it ends.
        expect(told?._tag === "Corrupted" ? 0 : Math.abs((told?.expiresAt ?? 0) - expiresAt)).toBeLessThan(1_000)
      }
      expect(entries.get(storedKey(keys.processing))?.state).toMatchObject({ _tag: "Processing", attempt: 2 })
      expect(entries.get(storedKey(keys.failure))?.state).toMatchObject({ attempt: 1, outcome: "Failure" })
      expect(JSON.stringify(pages)).not.toContain("secret")
    }),

  "a page has an instant, which tells what is left of a lease": (fixture) =>
    Effect.gen(function* () {
      const { after, claim, ids } = fixture
      yield* claim(ids(), "a")
      yield* after(moment)
      const { pages } = yield* whole(fixture, { keyPrefix: fixture.unique })
      const [page] = pages.filter(({ entries }) => entries.length > 0)
      const state = page?.entries[0]?.state
      if (page === undefined || state?._tag !== "Processing") return expect(state).toBe("a claim")
      expect(page.now).toBeGreaterThanOrEqual(state.createdAt)
      expect(state.leaseUntil - page.now).toBeLessThanOrEqual(lease)
      expect(state.leaseUntil - page.now).toBeGreaterThan(lease / 2)
    }),

  "by state, as it is stored": (fixture) =>
    Effect.gen(function* () {
      const keys = yield* inEachState(fixture)
      for (const state of ["Processing", "Unknown", "Released", "Completed", "Corrupted"] as const) {
        const expected = (byState[state] ?? []).map((name) => keys[name])
        expect(yield* keysOf(fixture, { keyPrefix: fixture.unique, state }), state).toEqual(named(expected))
      }
    }),

  "by operation, whatever its name": (fixture) =>
    Effect.gen(function* () {
      const { claim, ids } = fixture
      const operations = [...hostile, "op", "operation"]
      for (const operation of operations) yield* claim(ids({ operation }), "a")
      for (const operation of operations) {
        const found = yield* keysOf(fixture, { operation, keyPrefix: fixture.unique })
        expect(found, JSON.stringify(operation)).toEqual(named([ids({ operation })]))
      }
    }),

  "by the beginning of the key, whatever it holds": (fixture) =>
    Effect.gen(function* () {
      const { claim, ids, unique } = fixture
      const keys = hostile.map((text) => ids({ key: `${text}-` }))
      for (const of of keys) yield* claim(of, "a")
      yield* claim(ids({ scope: unique }), "a")
      const expected = (prefix: string) => named(keys.filter(({ idempotencyKey }) => idempotencyKey.startsWith(prefix)))
      for (const text of hostile) {
        const keyPrefix = unique + text
        expect(yield* keysOf(fixture, { keyPrefix }), JSON.stringify(text)).toEqual(expected(keyPrefix))
      }
      for (const keyPrefix of [`${unique}:`, `${unique}\0`, `${unique}\ud800`, unique.slice(1)]) {
        expect(yield* keysOf(fixture, { keyPrefix }), JSON.stringify(keyPrefix)).toEqual([])
      }
    }),

  "keys with and without a scope": (fixture) =>
    Effect.gen(function* () {
      const { claim, ids, unique } = fixture
      const scopes = [undefined, "a", unique, ...hostile]
      const keys = scopes.map((scope) => ids(scope === undefined ? {} : { scope }))
      for (const of of keys) yield* claim(of, "a")
      expect(yield* keysOf(fixture, { keyPrefix: unique })).toEqual(named(keys))
      expect(yield* keysOf(fixture, { keyPrefix: unique, operation: "contract" })).toEqual(named(keys))
    }),

  "page by page every key is there": (fixture) =>
    Effect.gen(function* () {
      const { claim, complete, ids, unique } = fixture
      const keys = Array.from({ length: 60 }, (_, n) =>
        ids({
          key: `-${n}`,
          operation: n % 3 === 0 ? "one" : "two",
          ...(n % 2 === 0 ? {} : { scope: `scope ${n % 7}` })
        })
      )
      yield* Effect.forEach(
        keys,
        (of, n) => (n % 5 === 0 ? Effect.asVoid(complete(of, "a")) : Effect.asVoid(claim(of, "a"))),
        {
          concurrency: 10
        }
      )
      const settled = keys.filter((_, n) => n % 5 === 0)
      for (const limit of [1, 3, 1_000]) {
        const { entries, pages } = yield* whole(fixture, { keyPrefix: unique, limit })
        expect(named(Array.from(entries.values(), ({ identifiers }) => identifiers)), `${limit}`).toEqual(named(keys))
        // About as many: a store may have to take some more at once.
        expect(Math.max(...pages.map((page) => page.entries.length))).toBeLessThanOrEqual(2 * limit + 20)
        expect(yield* keysOf(fixture, { keyPrefix: unique, limit, state: "Completed" })).toEqual(named(settled))
      }
      const ones = keys.filter(({ operation }) => operation === "one")
      expect(yield* keysOf(fixture, { keyPrefix: unique, limit: 7, operation: "one" })).toEqual(named(ones))
      expect(yield* keysOf(fixture, { keyPrefix: unique })).toEqual(named(keys))
    }),

  "what has expired is not there": (fixture) =>
    Effect.gen(function* () {
      const { claim, complete, ids, pass, release, unique } = fixture
      const [settled, released, kept] = [ids({ key: "-settled" }), ids({ key: "-released" }), ids({ key: "-kept" })]
      yield* complete(settled, "a", { retention: moment })
      yield* claim(released, "a", { retention: moment })
      yield* release(released, "a")
      yield* complete(kept, "a")
      yield* pass
      expect(yield* keysOf(fixture, { keyPrefix: unique })).toEqual(named([kept]))
    }),

  "what was reset or deleted is told as such": (fixture) =>
    Effect.gen(function* () {
      const { complete, ids, repository, unique } = fixture
      const [reset, deleted] = [ids({ key: "-reset" }), ids({ key: "-deleted" })]
      yield* complete(reset, "a")
      yield* complete(deleted, "a")
      yield* repository.reset(reset)
      yield* repository.delete(deleted)
      expect(yield* keysOf(fixture, { keyPrefix: unique, state: "Released" })).toEqual(named([reset]))
      expect(yield* keysOf(fixture, { keyPrefix: unique })).toEqual(named([reset]))
    }),

  "a limit out of its bounds is refused": ({ repository }) =>
    Effect.gen(function* () {
      for (const limit of [0, -1, 1.5, 1_001, Number.NaN, Number.POSITIVE_INFINITY]) {
        const error = yield* Effect.flip(repository.list({ limit }))
        expect(error._tag, `${limit}`).toBe("IdempotencyValidationError")
      }
    }),

  "a cursor of another store is refused": ({ repository }) =>
    Effect.gen(function* () {
      const others = ["", "0", "nonsense", "W10", "bnVsbA", "WyJhbm90aGVyIiwiYSIsImIiLCJjIl0", "\u0000", "[]", "名前"]
      for (const cursor of others) {
        const error = yield* Effect.flip(repository.list({ cursor }))
        expect(error._tag, JSON.stringify(cursor)).toBe("IdempotencyValidationError")
      }
    })
}

/** Not every store can list, and one that cannot says so. */
const ifListed =
  (body: (fixture: Fixture) => Effect.Effect<void, unknown>) =>
  (fixture: Fixture): Effect.Effect<void, unknown> =>
    fixture.repository.driver.list === undefined
      ? Effect.map(Effect.flip(fixture.repository.list()), (error) =>
          expect(error._tag).toBe("IdempotencyValidationError")
        )
      : body(fixture)

export const listCases: ReadonlyArray<ContractCase> = group("list")(Record.map(cases, ifListed))
