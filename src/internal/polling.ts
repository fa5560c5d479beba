/** Whoever waits for a key asks again and again; a hint of a change wakes it sooner. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"

const first = 25
const longest = 500

/** How long to wait before the n-th question (0 is the first), in ms: 25 doubling to 500, the upper half at random. */
export const pollDelay = (polls: number): Effect.Effect<number> =>
  Effect.map(Random.next, (random) => {
    const delay = Math.min(longest, first * 2 ** Math.min(polls, 10))
    return Math.round(delay * (0.5 + random / 2))
  })

/**
 * Subscribes in a fiber of its own, which is not waited for at the end either: a hint that does not come about, or dies,
 * holds nobody up.
 */
export const hintOf = (
  subscribe: Effect.Effect<Effect.Effect<void>, never, Scope.Scope>
): Effect.Effect<Effect.Effect<void>, never, Scope.Scope> =>
  Effect.map(Effect.forkScoped(Effect.interruptible(Effect.disconnect(subscribe))), (subscribing) =>
    Effect.catchAllCause(Effect.flatten(Fiber.join(subscribing)), () => Effect.never)
  )
