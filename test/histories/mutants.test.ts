/** Histories of broken stores: the checker finds each within a few seeds, and nothing in those of the sound one. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import type { Driver, State } from "../../src/internal/protocol.js"
import { storedKey } from "../../src/internal/storedKey.js"
import * as transition from "../../src/internal/transition.js"
import { type Fault, faultyStore } from "../support/mutantDriver.js"
import { check } from "./linearizability.js"
import type { Size } from "./plan.js"
import { played } from "./played.js"

const size: Size = { workers: 8, callers: 1, keys: 4, millis: 1000, calmMillis: 0, faults: 0 }
const seeds = 6

interface Mutant {
  readonly fault: Fault
  readonly around?: (driver: Driver) => Driver
}

/** Each read answers what the one before it has found. */
const behind = (driver: Driver): Driver => {
  const found = new Map<string, State | undefined>()
  return {
    ...driver,
    read: (all) =>
      Effect.map(driver.read(all), (states) =>
        states.map((state, index) => {
          const identifiers = all[index]
          const key = identifiers === undefined ? "" : storedKey(identifiers)
          const before = found.get(key)
          found.set(key, state?._tag === "Corrupted" ? undefined : state)
          return before
        })
      )
  }
}

const isLapsed = (state: State | undefined, now: number): boolean =>
  state?._tag === "Processing" && now >= state.leaseUntil

const mutants: { readonly [name: string]: Mutant } = {
  "a bare SET NX as claim": {
    fault: {
      transitions: {
        claim: (stored, request, now) => {
          const state = transition.live(stored, now)
          return state === undefined
            ? transition.claim(undefined, request, now)
            : { state, reply: { _tag: "InFlight", remaining: 1 } }
        }
      }
    }
  },
  "a claim that is not atomic": { fault: { notAtomic: true } },
  "a lease that lapses 15 ms early": {
    fault: { transitions: { claim: (stored, request, now) => transition.claim(stored, request, now + 15) } }
  },
  "an attempt that does not grow": {
    fault: {
      transitions: {
        claim: (stored, request, now) =>
          stored?._tag === "Processing" && isLapsed(stored, now)
            ? transition.claim({ ...stored, attempt: stored.attempt - 1 }, request, now)
            : transition.claim(stored, request, now)
      }
    }
  },
  "a take-over under at-most-once": {
    fault: {
      transitions: {
        claim: (stored, request, now) =>
          transition.claim(
            stored?._tag === "Processing" ? { ...stored, guarantee: "at-least-once" } : stored,
            request,
            now
          )
      }
    }
  },
  "a released token that claims again": {
    fault: {
      transitions: {
        claim: (stored, request, now) =>
          transition.claim(stored?._tag === "Released" ? { ...stored, token: "" } : stored, request, now)
      }
    }
  },
  "a renewal that renews nothing": {
    fault: {
      transitions: {
        renew: (stored, request, now) => ({
          state: transition.live(stored, now),
          reply: transition.renew(stored, request, now).reply
        })
      }
    }
  },
  "a completion that is lost": {
    fault: {
      transitions: {
        complete: (stored, request, now) => ({
          state: transition.live(stored, now),
          reply: transition.complete(stored, request, now).reply
        })
      }
    }
  },
  "a late completion that is refused": {
    fault: {
      transitions: {
        complete: (stored, request, now) =>
          isLapsed(stored, now)
            ? { state: stored, reply: { _tag: "Superseded", record: undefined } }
            : transition.complete(stored, request, now)
      }
    }
  },
  "a second completion that replaces the first": {
    fault: {
      transitions: {
        complete: (stored, request, now) =>
          transition.complete(
            stored?._tag === "Completed" && stored.token === request.token ? undefined : stored,
            request,
            now
          )
      }
    }
  },
  "a completion without the token": {
    fault: {
      transitions: {
        complete: (stored, request, now) =>
          transition.complete(
            stored?._tag === "Processing" ? { ...stored, token: request.token } : stored,
            request,
            now
          )
      }
    }
  },
  "a release that forgets the attempt": {
    fault: {
      transitions: {
        release: (stored, request, now) => {
          const next = transition.release(stored, request, now)
          return next.state?._tag === "Released" ? { ...next, state: undefined } : next
        }
      }
    }
  },
  "the lease as the key's time to live": {
    fault: { timeToLive: (state) => (state._tag === "Processing" ? state.leaseUntil : state.expiresAt) }
  },
  "reads of what was": { fault: {}, around: behind }
}

/** What the checker says to the histories of a seed, but for those that are right. */
const wrongAt = (seed: number, { around = (driver) => driver, fault }: Mutant) =>
  played(seed, size, (storeNow) =>
    Effect.map(IdempotencyRepository, ({ driver }) => around(driver)).pipe(Effect.provide(faultyStore(fault, storeNow)))
  ).pipe(
    Effect.map((histories) => histories.map((history) => check(history)).filter(({ _tag }) => _tag !== "Linearizable"))
  )

/** The first of so many seeds that shows it. */
const firstFound = (mutant: Mutant, seeds: number) =>
  Effect.findFirst(
    Array.from({ length: seeds }, (_, index) => index + 1),
    (seed) => Effect.map(wrongAt(seed, mutant), (wrong) => wrong.some(({ _tag }) => _tag === "Violation"))
  )

describe("histories of a store", () => {
  it.live("without a fault are linearizable", () =>
    Effect.gen(function* () {
      for (let seed = 1; seed <= seeds; seed++) expect([seed, yield* wrongAt(seed, { fault: {} })]).toEqual([seed, []])
    })
  )

  for (const [name, mutant] of Object.entries(mutants)) {
    it.live(`with a fault are not: ${name}`, () =>
      Effect.gen(function* () {
        expect(yield* firstFound(mutant, seeds)).toMatchObject({ _tag: "Some" })
      })
    )
  }
})
