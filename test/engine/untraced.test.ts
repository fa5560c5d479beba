/** Nothing is traced where nobody looks. */
import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { isTraced } from "../../src/internal/tracing.js"
import { key, operation, type Process, singleProcess, untyped } from "../support/engineProcess.js"
import { recorded } from "../support/recordingTracer.js"

const call = (process: Process, self: Effect.Effect<unknown, unknown> = Effect.withSpan(Effect.void, "body")) =>
  process.run(untyped(self, operation, key))

describe("without a tracer", () => {
  const traceable = Effect.withFiberRuntime<boolean>((fiber) => Effect.succeed(isTraced(fiber)))

  it.effect("nothing is traced; with one it is, unless tracing is switched off", () =>
    Effect.gen(function* () {
      expect(yield* traceable).toBe(false)
      expect(yield* recorded(() => traceable)).toBe(true)
      expect(yield* recorded(() => Effect.withTracerEnabled(traceable, false))).toBe(false)
    })
  )

  it.scoped("no span is made, and a token is no longer than it was", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const parents = Effect.map(Effect.option(Effect.currentParentSpan), (parent) => parent._tag)
      const told = yield* Deferred.make<string>()
      yield* call(process, Effect.intoDeferred(parents, told))
      expect(yield* Deferred.await(told)).toBe("None")
      expect(process.faults.calls("claim")[0]?.tokens[0]).toMatch(/^[\w-]{22}\.0$/)
    })
  )

  it.scoped("switched off for a call, no span is made of it, and its own are not either", () =>
    recorded((recording) =>
      Effect.gen(function* () {
        const { process } = yield* singleProcess()
        yield* Effect.withTracerEnabled(call(process), false)
        expect(recording.spans).toEqual([])
      })
    )
  )
})
