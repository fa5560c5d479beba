import * as Effect from "effect/Effect"
import * as Random from "effect/Random"

const first = 25
const longest = 500

/** How long to wait before the n-th question (0 is the first), in ms: 25 doubling to 500, the upper half at random. */
export const pollDelay = (polls: number): Effect.Effect<number> =>
  Effect.map(Random.next, (random) => {
    const delay = Math.min(longest, first * 2 ** Math.min(polls, 10))
    return Math.round(delay * (0.5 + random / 2))
  })
