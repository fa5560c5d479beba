import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { longestTimer } from "./options.js"

/** A sleep of less than a nanosecond is none: a loop that waits for an instant would spin just before it. */
const shortestTimer = 0.001

/** Sleeps for so many milliseconds, within what a timer can. */
export const sleepFor = (millis: number): Effect.Effect<void> =>
  Effect.sleep(Math.min(Math.max(millis, shortestTimer), longestTimer))

/**
 * Sleeps for so many milliseconds, or until the event. Where Effect 3.22 races, an interruption between the making of
 * its two fibers and their start is waited for without end: here they have started before anything is interruptible.
 */
export const sleepUnless = (millis: number, event: Effect.Effect<void>): Effect.Effect<void> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      const over = yield* Deferred.make<void>()
      const start = (end: Effect.Effect<void>) =>
        Effect.forkDaemon(Effect.interruptible(Effect.intoDeferred(end, over)))
      const fibers = [yield* start(sleepFor(millis)), yield* start(event)]
      yield* Effect.ensuring(
        restore(Deferred.await(over)),
        Effect.sync(() => {
          for (const fiber of fibers) fiber.unsafeInterruptAsFork(fiber.id())
        })
      )
    })
  )
