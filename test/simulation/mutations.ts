/** Faults in the store, and between an engine and the store, each of which the simulation has to find. */
import * as Effect from "effect/Effect"
import type { IdempotencyIdentifiers } from "../../src/IdempotencyIdentifiers.js"
import type { Driver, State } from "../../src/internal/protocol.js"
import type { Mutation } from "./played.js"

type Verbs = Partial<Driver>

const store = (change: (driver: Driver) => Verbs): Mutation => ({
  store: (driver) => ({ ...driver, ...change(driver) })
})

const claims = (change: (claims: Pick<Driver, "claim" | "release" | "hold" | "read">) => Verbs): Mutation => ({
  claims: (sound) => ({ ...sound, ...change(sound) })
})

const stateOf = (driver: Pick<Driver, "read">, identifiers: IdempotencyIdentifiers) =>
  Effect.map(driver.read([identifiers]), ([state]): State | undefined =>
    state?._tag === "Corrupted" ? undefined : state
  )

const answer = <Tag extends string>(_tag: Tag) => Effect.succeed({ _tag })

export const mutations: { readonly [name: string]: Mutation } = {
  "a completion that asks for no token": store((driver) => ({
    complete: (ids, request) =>
      Effect.flatMap(stateOf(driver, ids), (state) =>
        driver.complete(ids, state === undefined ? request : { ...request, token: state.token })
      )
  })),
  "a second completion that replaces the first": store((driver) => ({
    complete: (ids, request) => Effect.zipRight(driver.remove([ids]), driver.complete(ids, request))
  })),
  "a claim that ignores the lease": store((driver) => ({
    claim: (ids, request) =>
      Effect.flatMap(stateOf(driver, ids), (state) =>
        state?._tag === "Processing" && state.token !== request.token
          ? Effect.zipRight(driver.release(ids, { token: state.token }), driver.claim(ids, request))
          : driver.claim(ids, request)
      )
  })),
  "a claim that forgets the fingerprint": store((driver) => ({
    claim: (ids, request) => driver.claim(ids, { ...request, fingerprint: undefined }),
    complete: (ids, request) => driver.complete(ids, { ...request, fingerprint: undefined })
  })),
  "a claim under at-most-once that is taken over": store((driver) => ({
    claim: (ids, request) => driver.claim(ids, { ...request, guarantee: "at-least-once" })
  })),
  "an attempt that starts again": store((driver) => ({
    claim: (ids, request) =>
      Effect.map(driver.claim(ids, request), (reply) => (reply._tag === "Claimed" ? { ...reply, attempt: 1 } : reply))
  })),
  "a release that forgets the key": store((driver) => ({
    release: (ids, request) =>
      Effect.tap(driver.release(ids, request), ({ _tag }) =>
        _tag === "Released"
          ? Effect.zipRight(
              driver.complete(ids, {
                token: "nobody",
                outcome: { _tag: "Unavailable" },
                fingerprint: undefined,
                retention: 1000
              }),
              driver.remove([ids])
            )
          : Effect.void
      )
  })),
  "renewals that never happen": claims(() => ({
    renew: (leases) => Effect.succeed(leases.map(() => ({ _tag: "Renewed" as const })))
  })),
  "releases that never happen": claims(() => ({ release: () => answer("Released") })),
  "holds that never happen": claims(() => ({ hold: () => answer("Held") })),
  "a hold that releases": claims((sound) => ({
    hold: (ids, request) => Effect.zipRight(sound.release(ids, request), answer("Held"))
  })),
  "completions that never happen": claims(() => ({
    complete: () => Effect.succeed({ _tag: "Done", attempt: 1, createdAt: 0, expiresAt: 0 })
  })),
  "steps that are not handed on": claims((sound) => ({
    claim: (ids, request) =>
      Effect.map(sound.claim(ids, request), (reply) => ("steps" in reply ? { ...reply, steps: [] } : reply))
  })),
  "a claim that never answers for another": claims((sound) => ({
    claim: (ids, request) =>
      Effect.flatMap(stateOf(sound, ids), (state) =>
        state !== undefined && state.token !== request.token ? Effect.never : sound.claim(ids, request)
      )
  }))
}
