/** The contract suite fails every store that breaks the protocol: a suite that cannot fail proves nothing. */
import { afterAll, describe, expect, it } from "@effect/vitest"
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import type { State } from "../../src/internal/protocol.js"
import { repositoryContractCases } from "../../src/internal/testing/cases.js"
import { agreesWithModel } from "../../src/internal/testing/model.js"
import * as transition from "../../src/internal/transition.js"
import { type ManualClock, makeManualClock } from "../support/manualClock.js"
import { type Fault, faultyStore } from "../support/mutantDriver.js"
import { type Faults, listFaults } from "./listFaults.js"
import { recordFaults } from "./recordFaults.js"

const withoutToken = (state: State | undefined, token: string): State | undefined =>
  state === undefined ? undefined : { ...state, token }

const withoutFingerprint = (state: State | undefined): State | undefined =>
  state === undefined ? undefined : { ...state, fingerprint: undefined }

/** The faults, the group of cases that is there to find each, and by how much the client's clock is ahead. */
const faults: Faults = {
  "a bare SET NX as claim": [
    "claim",
    {
      transitions: {
        claim: (stored, request, now) => {
          const state = transition.live(stored, now)
          return state === undefined
            ? transition.claim(undefined, request, now)
            : { state, reply: { _tag: "InFlight", remaining: 1 } }
        }
      }
    }
  ],
  "release forgets the attempt": [
    "release",
    {
      transitions: {
        release: (stored, request, now) => {
          const next = transition.release(stored, request, now)
          return next.state?._tag === "Released" ? { ...next, state: undefined } : next
        }
      }
    }
  ],
  "completion forgets the fingerprint": [
    "fingerprint",
    {
      transitions: {
        complete: (stored, request, now) => {
          const next = transition.complete(stored, request, now)
          return next.state === stored ? next : { ...next, state: withoutFingerprint(next.state) }
        }
      }
    }
  ],
  "the late owner's completion is refused": [
    "complete",
    {
      transitions: {
        complete: (stored, request, now) =>
          stored?._tag === "Processing" && now >= stored.leaseUntil
            ? { state: stored, reply: { _tag: "Superseded", record: undefined } }
            : transition.complete(stored, request, now)
      }
    }
  ],
  "completion without the token": [
    "complete",
    {
      transitions: {
        complete: (stored, request, now) =>
          transition.complete(
            stored?._tag === "Processing" ? withoutToken(stored, request.token) : stored,
            request,
            now
          )
      }
    }
  ],
  "release without the token": [
    "release",
    {
      transitions: {
        release: (stored, request, now) => transition.release(withoutToken(stored, request.token), request, now)
      }
    }
  ],
  "fingerprints not compared on settled records": [
    "fingerprint",
    {
      transitions: {
        claim: (stored, request, now) =>
          transition.claim(stored, stored?._tag === "Completed" ? { ...request, fingerprint: undefined } : request, now)
      }
    }
  ],
  "leases by the client's clock, which is ahead": ["claim", { leasesByClientsClock: true }, 60_000],
  "leases by the client's clock, which is behind": ["claim", { leasesByClientsClock: true }, -20 * 60_000],
  "the lease as the key's time to live": [
    "retention",
    { timeToLive: (state) => (state._tag === "Processing" ? state.leaseUntil : state.expiresAt) }
  ],
  "the retention alone as the key's time to live": [
    "retention",
    {
      timeToLive: (state, _, now) =>
        state._tag === "Processing"
          ? now + (state.guarantee === "at-most-once" ? state.unknownRetention : state.retention)
          : state.expiresAt
    }
  ],
  "the scope left out of the key": [
    "identity",
    { keyOf: ({ idempotencyKey, operation }) => `${operation}:${idempotencyKey}` }
  ],
  "the operation left out of the key": [
    "identity",
    { keyOf: ({ idempotencyKey, scope }) => `${scope ?? ""}:${idempotencyKey}` }
  ],
  "parts of the key joined without a separator": [
    "identity",
    { keyOf: ({ idempotencyKey, operation, scope }) => `${operation}${scope ?? ""}${idempotencyKey}` }
  ],
  "keys without regard to case": ["identity", { keyOf: (ids) => JSON.stringify(ids).toLowerCase() }],
  "a take-over that is not atomic": ["claim", { notAtomic: true }],
  "an attempt that does not grow": [
    "claim",
    {
      transitions: {
        claim: (stored, request, now) =>
          stored?._tag === "Processing" && now >= stored.leaseUntil
            ? transition.claim({ ...stored, attempt: stored.attempt - 1 }, request, now)
            : transition.claim(stored, request, now)
      }
    }
  ],
  "completion refused when absent": [
    "complete",
    {
      transitions: {
        complete: (stored, request, now) =>
          transition.live(stored, now) === undefined
            ? { state: undefined, reply: { _tag: "Superseded", record: undefined } }
            : transition.complete(stored, request, now)
      }
    }
  ],
  "renewal that resurrects a settled record": [
    "renew",
    {
      transitions: {
        renew: (stored, request, now) =>
          stored?._tag === "Completed" && stored.token === request.token
            ? {
                state: transition.claim(
                  undefined,
                  {
                    token: stored.token,
                    fingerprint: stored.fingerprint,
                    guarantee: "at-least-once",
                    lease: request.lease,
                    retention: stored.expiresAt - now,
                    unknownRetention: stored.expiresAt - now
                  },
                  now
                ).state,
                reply: { _tag: "Renewed" }
              }
            : transition.renew(stored, request, now)
      }
    }
  ],
  "renewal that creates an absent key": [
    "renew",
    {
      transitions: {
        renew: (stored, request, now) =>
          transition.live(stored, now) === undefined
            ? {
                state: transition.claim(
                  undefined,
                  {
                    token: request.token,
                    fingerprint: undefined,
                    guarantee: "at-least-once",
                    lease: request.lease,
                    retention: request.lease,
                    unknownRetention: request.lease
                  },
                  now
                ).state,
                reply: { _tag: "Renewed" }
              }
            : transition.renew(stored, request, now)
      }
    }
  ],
  "retention not extended on completion": [
    "retention",
    {
      timeToLive: (state, before) =>
        state._tag === "Completed" && before !== undefined ? before.expiresAt : state.expiresAt
    }
  ],
  "a take-over under at-most-once": [
    "claim",
    {
      transitions: {
        claim: (stored, request, now) =>
          transition.claim(
            stored?._tag === "Processing" ? { ...stored, guarantee: "at-least-once" } : stored,
            request,
            now
          )
      }
    }
  ],
  "the last caller's guarantee governs": [
    "claim",
    {
      transitions: {
        claim: (stored, request, now) =>
          transition.claim(
            stored?._tag === "Processing" ? { ...stored, guarantee: request.guarantee } : stored,
            request,
            now
          )
      }
    }
  ],
  "a released token claims again": [
    "claim",
    {
      transitions: {
        claim: (stored, request, now) =>
          transition.claim(stored?._tag === "Released" ? withoutToken(stored, "") : stored, request, now)
      }
    }
  ],
  "a second completion replaces the first": [
    "complete",
    {
      transitions: {
        complete: (stored, request, now) =>
          transition.complete(
            stored?._tag === "Completed" && stored.token === request.token ? undefined : stored,
            request,
            now
          )
      }
    }
  ],
  "steps lost at a take-over": [
    "claim",
    {
      transitions: {
        claim: (stored, request, now) =>
          transition.claim(
            stored?._tag === "Processing" && stored.token !== request.token ? { ...stored, steps: [] } : stored,
            request,
            now
          )
      }
    }
  ],
  "a reset that needs no force": [
    "reset",
    { transitions: { reset: (stored, _, now) => transition.reset(stored, { force: true }, now) } }
  ],
  ...recordFaults,
  ...listFaults
}

const aheadBy = (clock: Clock.Clock, millis: number): Clock.Clock => {
  const unsafeCurrentTimeMillis = () => clock.unsafeCurrentTimeMillis() + millis
  return { ...clock, unsafeCurrentTimeMillis, currentTimeMillis: Effect.sync(unsafeCurrentTimeMillis) }
}

const runOver = (
  fault: Fault,
  run: (advance: ManualClock["advance"]) => Effect.Effect<void, unknown, IdempotencyRepository>,
  ahead = 0
) =>
  Effect.suspend(() => {
    const { advance, clock } = makeManualClock()
    return run(advance).pipe(
      Effect.provide(faultyStore(fault, () => clock.unsafeCurrentTimeMillis())),
      Effect.withClock(aheadBy(clock, ahead)),
      Effect.exit
    )
  })

/** The cases that a store fails. */
const failuresOf = (fault: Fault, groups: ReadonlyArray<string>, ahead?: number) =>
  Effect.filter(
    repositoryContractCases.filter(({ group }) => groups.includes(group)),
    ({ run }) => Effect.map(runOver(fault, run, ahead), Exit.isFailure)
  )

const groups = Array.from(new Set(repositoryContractCases.map(({ group }) => group)))

describe("the contract suite", () => {
  it("has at least 60 cases, each with a name of its own", () => {
    const names = repositoryContractCases.map(({ group, name }) => `${group}: ${name}`)
    expect(names.length).toBeGreaterThanOrEqual(60)
    expect(new Set(names).size).toBe(names.length)
  })

  it.live("passes a store without a fault", () =>
    Effect.gen(function* () {
      expect((yield* failuresOf({}, groups)).map(({ name }) => name)).toEqual([])
    })
  )

  it.live("passes a store that cannot list", () =>
    Effect.gen(function* () {
      expect((yield* failuresOf({ noList: true }, ["list"])).map(({ name }) => name)).toEqual([])
    })
  )

  for (const ahead of [60_000, -20 * 60_000]) {
    it.live(`passes its claims when the client's clock is ahead by ${ahead} ms`, () =>
      Effect.gen(function* () {
        expect((yield* failuresOf({}, ["claim"], ahead)).map(({ name }) => name)).toEqual([])
      })
    )
  }

  const killed: Array<{ readonly mutant: string; readonly "killed by": string; readonly "and by": number }> = []

  for (const [name, [group, fault, ahead]] of Object.entries(faults)) {
    it.live(`fails ${name}`, () =>
      Effect.gen(function* () {
        const failures = yield* failuresOf(fault, [group], ahead)
        expect(failures).not.toEqual([])
        killed.push({
          mutant: name,
          "killed by": `${group}: ${failures[0]?.name}`,
          "and by": failures.length - 1
        })
      })
    )
  }

  afterAll(() => console.table(killed))
})

describe("the model test", () => {
  const agrees = (fault: Fault, timeout = 5_000) =>
    runOver(fault, (advance) => agreesWithModel(advance, { runs: 200, seed: 1, timeout }))

  it.live("passes a store without a fault", () =>
    Effect.gen(function* () {
      expect(Exit.isSuccess(yield* agrees({}))).toBe(true)
    })
  )

  for (const name of [
    "a bare SET NX as claim",
    "release forgets the attempt",
    "completion without the token",
    "the lease as the key's time to live",
    "the scope left out of the key",
    "an attempt that does not grow",
    "renewal that resurrects a settled record"
  ]) {
    it.live(`fails ${name}, and prints its seed`, () =>
      Effect.gen(function* () {
        const [, fault] = faults[name] ?? ["", {}]
        const exit = yield* agrees(fault)
        expect(Exit.isFailure(exit) ? String(exit.cause) : "no failure").toContain("seed: 1")
      })
    )
  }

  it.live("fails a store that stops answering, and prints its seed", () =>
    Effect.gen(function* () {
      let answered = 0
      const exit = yield* agrees({ hangs: () => ++answered > 200 }, 250)
      expect(Exit.isFailure(exit) ? String(exit.cause) : "no failure").toContain("seed: 1")
    })
  )
})
