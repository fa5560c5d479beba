/** The end of an ownership, as the integrations use it: the first of `settle` and `abandon` counts. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { identity } from "effect/Function"
import * as Option from "effect/Option"
import { Idempotency } from "../../src/Idempotency.js"
import type { AnyFiber } from "../../src/internal/call.js"
import type { Caller, SettleError, Settlement } from "../../src/internal/engine/request.js"
import { plan } from "../../src/internal/plan.js"
import { ids, key, operation, singleProcess, success } from "../support/engineProcess.js"

const callerOf = (fiber: AnyFiber): Caller => ({ fiber, restore: identity })

/** A key of one's own. */
const owned = Effect.gen(function* () {
  const { process, store } = yield* singleProcess()
  const engine = yield* process.run(Idempotency)
  const request = Either.getOrThrow(plan(engine, operation, key, {}, undefined))
  if (request === undefined) throw new Error("there is a key")
  const begun = yield* Effect.withFiberRuntime<Effect.Effect.Success<ReturnType<typeof engine.begin>>, unknown>(
    (fiber) => engine.begin(request, callerOf(fiber))
  )
  if (begun._tag !== "Own") throw new Error(begun._tag)
  const { ownership } = begun
  return {
    process,
    store,
    abandon: (how: "release" | "hold") => ownership.abandon(how),
    settle: (value: string) =>
      Effect.withFiberRuntime<Settlement, SettleError>((fiber) => ownership.settle(success(value), callerOf(fiber)))
  }
})

describe("the end of an ownership", () => {
  it.scoped("what was settled is neither released, nor held, nor settled again", () =>
    Effect.gen(function* () {
      const { abandon, process, settle, store } = yield* owned
      expect(yield* settle("first")).toEqual({ _tag: "Recorded", attempt: 1 })
      yield* abandon("release")
      yield* abandon("hold")
      expect(yield* settle("second")).toEqual({ _tag: "Kept" })
      const state = Option.getOrThrow(yield* store.repository.inspect(ids))
      expect(state).toMatchObject({ _tag: "Completed", outcome: success("first") })
      expect(process.underWay()).toEqual({ owners: 0, flights: 0, leases: 0, background: 0 })
    })
  )

  it.scoped("what was released is not settled", () =>
    Effect.gen(function* () {
      const { abandon, settle, store } = yield* owned
      yield* abandon("release")
      expect(yield* settle("late")).toEqual({ _tag: "Kept" })
      expect(yield* store.stateOf()).toBe("Released")
    })
  )
})
