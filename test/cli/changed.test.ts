/** Somebody confirms what the question told: if something else is stored by then, nothing is done. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { claimBy, ids } from "../support/requests.js"
import { command, documents, memory, over, type Repository } from "./support.js"

const payout = ids("payout-7", "payout", "tenant-1")
const argumentsOf = (name: "reset" | "resolve") => [name, "payout", "payout-7", "--scope", "tenant-1"]
const atMostOnce = { guarantee: "at-most-once" } as const

const stateOf = (repository: Repository) =>
  Effect.map(repository.inspect(payout), (found) => {
    const { _tag, attempt } = Option.getOrThrow(found)
    return [_tag, attempt]
  })

/** A key whose owner cannot tell how it ended. */
const unknown = Effect.tap(memory, ({ claims }) =>
  Effect.zipRight(claims.claim(payout, claimBy("a", atMostOnce)), claims.hold(payout, { token: "a" }))
)

/** Another operator frees the key, and the next call claims it. */
const nextAttempt = ({ claims, reset }: Repository) =>
  Effect.zipRight(reset(payout), claims.claim(payout, claimBy("b", atMostOnce)))

const completedBy = ({ claims }: Repository, token: string) =>
  claims.complete(payout, {
    token,
    outcome: { _tag: "Success", encoded: "1" },
    fingerprint: undefined,
    retention: 60_000
  })

describe("reset", () => {
  for (const flags of [[], ["--force"]]) {
    it.scoped(["forgets no success that came while it asked", ...flags].join(" "), () =>
      Effect.gen(function* () {
        const repository = yield* unknown
        const meanwhile = Effect.zipRight(nextAttempt(repository), completedBy(repository, "b"))
        const args = [...argumentsOf("reset"), ...flags]
        const ran = yield* command(args, over(repository, { keys: "y", meanwhile }))
        expect([ran.code, yield* stateOf(repository)]).toEqual([1, ["Completed", 2]])
        expect(ran.out).toContain("payout payout-7 (scope tenant-1) is unknown, attempt 1, held.")
        expect(ran.err).toBe(
          "effect-idempotency: What is stored has changed since you were asked: payout payout-7 (scope tenant-1) is completed, attempt 2, success by now. Nothing was done.\n"
        )
        const again = yield* command(argumentsOf("reset"), over(repository, { keys: "y" }))
        expect([again.code, yield* stateOf(repository)]).toEqual([0, ["Released", 2]])
      })
    )
  }

  it.scoped("forgets no success that a late owner records while it asks", () =>
    Effect.gen(function* () {
      const repository = yield* unknown
      const meanwhile = completedBy(repository, "a")
      const ran = yield* command(argumentsOf("reset"), over(repository, { keys: "y", meanwhile }))
      expect([ran.code, yield* stateOf(repository)]).toEqual([1, ["Completed", 1]])
    })
  )

  it.scoped("finds that nothing is there any more", () =>
    Effect.gen(function* () {
      const repository = yield* memory
      yield* Effect.zipRight(repository.claims.claim(payout, claimBy("a")), completedBy(repository, "a"))
      const meanwhile = repository.delete(payout)
      const ran = yield* command(argumentsOf("reset"), over(repository, { keys: "y", meanwhile }))
      expect([ran.code, ran.err]).toEqual([3, expect.stringContaining("Nothing is stored for payout payout-7")])
    })
  )

  it.scoped("takes a running owner its key by force, although its lease was renewed meanwhile", () =>
    Effect.gen(function* () {
      const repository = yield* memory
      yield* repository.claims.claim(payout, claimBy("a"))
      const meanwhile = repository.claims.renew([{ identifiers: payout, request: { token: "a", lease: 90_000 } }])
      const args = [...argumentsOf("reset"), "--force"]
      const ran = yield* command(args, over(repository, { keys: "y", meanwhile }))
      expect([ran.code, yield* stateOf(repository)]).toEqual([0, ["Released", 1]])
    })
  )
})

describe("resolve", () => {
  it.scoped("records what happened to one attempt as the outcome of no other", () =>
    Effect.gen(function* () {
      const repository = yield* unknown
      const meanwhile = Effect.zipRight(nextAttempt(repository), repository.claims.hold(payout, { token: "b" }))
      const args = [...argumentsOf("resolve"), "--success", "2"]
      const ran = yield* command(args, over(repository, { keys: "y", meanwhile }))
      expect([ran.code, yield* stateOf(repository)]).toEqual([1, ["Unknown", 2]])
      expect(ran.err).toContain("is unknown, attempt 2, held by now. Nothing was done.")
      const told = yield* command([...args, "--yes", "--json"], over(repository))
      expect(documents(told.out)).toMatchObject([{ resolved: "success" }])
    })
  )
})
