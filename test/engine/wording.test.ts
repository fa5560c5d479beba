/** What a caller reads who asked for what cannot be: every word of it. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { counting, key, operation, singleProcess, untyped } from "../support/engineProcess.js"

const cases: ReadonlyArray<readonly [options: { readonly [name: string]: unknown }, ...issues: ReadonlyArray<string>]> =
  [
    [{ guarantee: "twice" }, 'guarantee is neither "at-least-once" nor "at-most-once"'],
    [{ inFlight: "queue" }, 'inFlight is neither "wait" nor "fail"'],
    [{ onStorageFailure: "panic" }, 'onStorageFailure is neither "proceed" nor "fail"'],
    [{ strategy: "pessimistic" }, 'strategy is neither "claim" nor "optimistic"'],
    [
      { guarantee: "at-most-once", onStorageFailure: "proceed", strategy: "optimistic" },
      'at-most-once cannot keep onStorageFailure "proceed"',
      'at-most-once cannot keep strategy "optimistic"'
    ],
    [{ lease: "2999 millis" }, "the lease is not a duration of at least 3000 ms"],
    [{ lease: "soon" }, "the lease is not a duration of at least 3000 ms"],
    [{ lease: "24.001 days" }, "the lease is longer than 2073600000 ms"],
    [{ waitTimeout: "soon" }, "the waitTimeout is not a duration of at least 0 ms"],
    [{ fingerprint: Number.NaN }, "the fingerprint has no canonical JSON form: a number is not finite"]
  ]

describe("what is told of options", () => {
  for (const [options, ...issues] of cases) {
    it.scoped(issues.join("; "), () =>
      Effect.gen(function* () {
        const { process } = yield* singleProcess()
        const error = yield* Effect.flip(process.run(untyped(Effect.void, ` ${operation} `, key, options)))
        expect(error).toMatchObject({ _tag: "IdempotencyValidationError", operation, issues })
      })
    )
  }

  it.scoped("of a key that is none, and of at-most-once without one", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const issuesOf = (ofKey: unknown) =>
        process.run(Effect.flip(untyped(Effect.void, operation, ofKey, { guarantee: "at-most-once" })))
      expect(yield* issuesOf(7)).toMatchObject({ issues: ["the key is not a string"] })
      for (const absent of [null, undefined]) {
        expect(yield* issuesOf(absent)).toMatchObject({ issues: ["at-most-once needs a key"] })
      }
    })
  )

  it.scoped("the bounds are within", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const body = counting(Effect.succeed("paid"))
      for (const options of [
        { lease: "3 seconds" },
        { lease: "24 days" },
        { waitTimeout: 0 },
        { waitTimeout: Number.POSITIVE_INFINITY }
      ]) {
        const call = untyped(body.effect, operation, `order-${body.runs()}`, options)
        expect(yield* process.run(call)).toMatchObject({ _tag: "Executed" })
      }
      expect(body.runs()).toBe(4)
    })
  )
})
