/** `optimistic`: what the look-up finds decides whether the effect runs at all. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import {
  counting,
  key,
  makeStore,
  operation,
  settleDown,
  singleProcess,
  startProcess,
  untyped
} from "../support/engineProcess.js"

const optimistic = { strategy: "optimistic" } as const

describe("an optimistic caller", () => {
  it.scoped("runs nothing where a run may have happened", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      const options = { ...optimistic, isOutcomeUnknown: () => true }
      yield* Effect.flip(process.run(untyped(Effect.fail("timeout"), operation, key, options)))
      expect(yield* store.stateOf()).toBe("Unknown")
      const body = counting(Effect.succeed("paid"))
      const unknown = { _tag: "IdempotencyOutcomeUnknownError", attempt: 1 }
      const call = (of: { readonly [name: string]: unknown }) =>
        Effect.flip(process.run(untyped(body.effect, operation, key, of)))
      expect(yield* call(options)).toMatchObject(unknown)
      // Who has not said that outcomes may be unknown has no such error in its type.
      expect(yield* call(optimistic)).toMatchObject({ _tag: "IdempotencyResultUnavailableError", cause: unknown })
      expect(body.runs()).toBe(0)
    })
  )

  it.scoped("needs no lease, however long the store may take", () =>
    Effect.gen(function* () {
      const process = yield* startProcess(yield* makeStore(), { storageTimeout: "20 seconds" })
      const call = process.run(untyped(Effect.succeed("paid"), operation, key, optimistic))
      expect(yield* call).toMatchObject({ _tag: "Executed" })
    })
  )

  for (const [state, settle] of [
    ["Processing", Effect.never],
    ["Unknown", Effect.fail("timeout")]
  ] as const) {
    it.scoped(`${state}, of another request: mismatch, and nothing runs`, () =>
      Effect.gen(function* () {
        const { process, store } = yield* singleProcess()
        const isOutcomeUnknown = () => true
        const theirs = process.run(untyped(settle, operation, key, { isOutcomeUnknown, fingerprint: 1 }))
        yield* Effect.fork(theirs)
        yield* settleDown
        expect(yield* store.stateOf()).toBe(state)
        const body = counting(Effect.succeed("mine"))
        const mine = process.run(
          untyped(body.effect, operation, key, { ...optimistic, isOutcomeUnknown, fingerprint: 2 })
        )
        expect(yield* Effect.flip(mine)).toMatchObject({ _tag: "IdempotencyFingerprintMismatchError" })
        expect(body.runs()).toBe(0)
        expect(yield* process.count("recordMismatch")).toBe(1)
      })
    )
  }

  it.scoped("runs nothing where what is stored cannot be read, and says why", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const corrupted = { _tag: "Corrupted", cause: "not a state" } as const
      yield* process.faults.planFor("read", () => Effect.succeed([corrupted]), 1)
      const body = counting(Effect.succeed("paid"))
      const error = yield* Effect.flip(process.run(untyped(body.effect, operation, key, optimistic)))
      expect(error).toMatchObject({ _tag: "IdempotencyResultUnavailableError", cause: "not a state" })
      expect(body.runs()).toBe(0)
    })
  )
})
