import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Runtime from "effect/Runtime"
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

/**
 * What has not ended in so many milliseconds is waited for no longer, even where nothing is interrupted, nor is it by a
 * caller that is interrupted: both stop it. Two fibers, where a disconnected effect with a timeout takes four: a
 * replay by a transaction of SQL takes 0.6 of the time.
 */
export const endedWithin =
  <E2>(millis: number, onTimeout: () => E2) =>
  <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E | E2, R> =>
    Effect.flatMap(Effect.runtime<R>(), (runtime) =>
      Effect.async<A, E | E2>((resume) => {
        const start = Runtime.runFork(runtime)
        const fiber = start(Effect.interruptible(self))
        const exit = fiber.unsafePoll()
        if (exit !== null) return resume(exit)
        const timer = start(Effect.interruptible(Effect.sleep(millis)))
        const stop = (other: Fiber.RuntimeFiber<unknown, unknown>) => other.unsafeInterruptAsFork(other.id())
        // The first end counts.
        fiber.addObserver((exit) => {
          resume(exit)
          stop(timer)
        })
        timer.addObserver((exit) => {
          if (Exit.isInterrupted(exit)) return
          resume(Effect.suspend(() => Effect.fail(onTimeout())))
          stop(fiber)
        })
        return Effect.sync(() => {
          stop(timer)
          stop(fiber)
        })
      })
    )
