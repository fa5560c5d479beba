/** Steps that were encrypted under a lost key, in a real store. */
import { expect } from "@effect/vitest"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import { claimBy, completeBy, ids } from "./watchedStore.js"

type Repository = Context.Tag.Service<IdempotencyRepository>

/** `lost` had another key than `repository` has, over the same store: `reset` drops its steps, and not its attempt. */
export const dropsLostSteps = (lost: Repository, repository: Repository) =>
  Effect.gen(function* () {
    const { claims, inspect, reset } = repository
    const of = ids("steps")
    const owner = { ...claimBy("owner", "f"), guarantee: "at-most-once" } as const
    expect(yield* lost.claims.claim(of, owner)).toMatchObject({ _tag: "Claimed", attempt: 1 })
    yield* lost.claims.saveStep(of, { token: "owner", name: "reserve", encoded: '"r-1"' })
    expect(yield* reset(of, { force: true })).toBe(true)
    const released = { _tag: "Released", token: "owner", attempt: 1, steps: [], fingerprint: undefined }
    expect(yield* inspect(of)).toMatchObject(Option.some(released))
    expect(yield* claims.complete(of, completeBy("owner", "f"))).toEqual({ _tag: "Superseded", record: undefined })
    expect(yield* claims.claim(of, owner)).toEqual({ _tag: "Refused" })
    expect(yield* claims.claim(of, claimBy("next", "g"))).toEqual({ _tag: "Claimed", attempt: 2, steps: [] })
  })
