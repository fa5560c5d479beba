/**
 * Clocks for what a `TestClock` cannot show: a process that is paused, a clock that is set back, and how long its timers
 * are.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

/** The clock of the test, seen through a lens. */
const around = (
  clock: Clock.Clock,
  lens: { readonly offset?: () => number; readonly onSleep?: (millis: number) => void }
): Clock.Clock => {
  const { offset = () => 0, onSleep = () => {} } = lens
  const unsafeCurrentTimeMillis = () => clock.unsafeCurrentTimeMillis() + offset()
  const unsafeCurrentTimeNanos = () => clock.unsafeCurrentTimeNanos() + BigInt(Math.round(offset() * 1_000_000))
  // What else the clock can do, as a `TestClock` can, stays.
  const lensed: Clock.Clock = Object.create(clock)
  return Object.assign(lensed, {
    unsafeCurrentTimeMillis,
    unsafeCurrentTimeNanos,
    currentTimeMillis: Effect.sync(unsafeCurrentTimeMillis),
    currentTimeNanos: Effect.sync(unsafeCurrentTimeNanos),
    sleep: (duration: Duration.Duration) => {
      onSleep(Duration.toMillis(duration))
      return clock.sleep(duration)
    }
  })
}

/** Runs with what moves the clock, and no timer with it. */
const withShifts =
  (sign: 1 | -1) =>
  <A, E, R>(
    use: (shift: (duration: Duration.DurationInput) => Effect.Effect<void>) => Effect.Effect<A, E, R>
  ): Effect.Effect<A, E, R> =>
    Effect.clockWith((clock) => {
      let shifted = 0
      const shift = (duration: Duration.DurationInput) =>
        Effect.sync(() => {
          shifted += sign * Duration.toMillis(duration)
        })
      return Effect.withClock(use(shift), around(clock, { offset: () => shifted }))
    })

/** Runs with a `pause`: time passes, and no timer fires meanwhile, as when the event loop is blocked. */
export const withPauses = withShifts(1)

/** Runs with a `setBack`: it is earlier by so much, and timers fire as if nothing had happened. */
export const withSetBacks = withShifts(-1)

/** Runs with a record of how long every timer is. */
export const withTimers = <A, E, R>(
  use: (timers: ReadonlyArray<number>) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.clockWith((clock) => {
    const timers: Array<number> = []
    return Effect.withClock(use(timers), around(clock, { onSleep: (millis) => timers.push(millis) }))
  })
