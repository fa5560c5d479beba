/** 2,000 calls leave nothing behind, and the process ends by itself; `leaks.proof.ts` makes more of them. */
import { describe, it } from "@effect/vitest"
import { leavingNothing } from "../support/leaks.js"

describe("a process with two engines that has made 2,000 calls", () => {
  // Deadlines and renewals of two engines.
  it.scopedLive(
    "has no fibers, timers and subscriptions of them left, and ends by itself",
    () => leavingNothing({ calls: 2000, asleep: 4 }, 60_000),
    90_000
  )
})
