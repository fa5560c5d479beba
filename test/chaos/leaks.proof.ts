/** 200,000 calls leave nothing behind, and the process ends by itself. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { leavingNothing } from "../support/leaks.js"

describe("a process with two engines that has made 200,000 calls", () => {
  it.scopedLive(
    "has no fibers, timers and subscriptions of them left, no more heap than before, and ends by itself",
    () =>
      Effect.gen(function* () {
        const heapGrowth = yield* leavingNothing({ calls: 200_000, asleep: 0 }, 800_000)
        // The names of metrics and what V8 keeps of compiled code: far less than a byte of each call.
        expect(heapGrowth).toBeLessThan(2_000_000)
      }),
    840_000
  )
})
