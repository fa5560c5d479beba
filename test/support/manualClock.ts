/** A clock that moves only when it is told to, without waiting for fibers as `TestClock` does. Nobody can sleep by it. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

export interface ManualClock {
  readonly clock: Clock.Clock
  readonly advance: (duration: Duration.DurationInput) => Effect.Effect<void>
}

export const makeManualClock = (): ManualClock => {
  let now = 0
  const unsafeCurrentTimeMillis = () => now
  const unsafeCurrentTimeNanos = () => BigInt(now) * 1_000_000n
  return {
    clock: {
      ...Clock.make(),
      [Clock.ClockTypeId]: Clock.ClockTypeId,
      unsafeCurrentTimeMillis,
      unsafeCurrentTimeNanos,
      currentTimeMillis: Effect.sync(unsafeCurrentTimeMillis),
      currentTimeNanos: Effect.sync(unsafeCurrentTimeNanos),
      sleep: () => Effect.never
    },
    advance: (duration) =>
      Effect.sync(() => {
        now += Duration.toMillis(duration)
      })
  }
}
