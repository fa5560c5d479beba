/**
 * A world in which time and the order of fibers are the test's: every fiber runs on one queue, every timer on one list,
 * and time jumps to the next timer once no fiber can run. One call of `run` plays everything, so that a seed is
 * reproduced to the last step, at microseconds per step. (`TestClock` finds out whether fibers are at rest by waiting for
 * some milliseconds of real time before each timer: thousands of seeds would take an hour, and in an order of their own.)
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Scheduler } from "effect/Scheduler"

/** Whose timers stand still while it is paused. */
export interface Pausable {
  pausedUntil: number
}

interface Timer {
  readonly owner: Pausable
  readonly fire: () => void
  at: number
}

export interface VirtualTime {
  readonly now: () => number
  /** Runs fibers, and knows whose they are. */
  readonly schedulerOf: (owner: Pausable) => Scheduler
  readonly clockOf: (owner: Pausable) => Clock.Clock
  /** Calls so many milliseconds from now. */
  readonly after: (owner: Pausable, millis: number, act: () => void) => void
  /** Runs until nothing is left to do, or until the given instant; throws if time does not get on. */
  readonly run: (until: number) => void
  /** The timers that are set, as instants. */
  readonly timers: () => ReadonlyArray<number>
  /** `setTimeout` and `clearTimeout` of the platform stand for this time while the function runs. */
  readonly withPlatformTimers: <A>(play: () => A) => A
}

const maxTasksPerInstant = 100_000

/** `pick(n)` chooses among n fibers, or timers of one instant, that could go next: 0 is the one that came first. */
export const makeVirtualTime = (start: number, pick: (n: number) => number): VirtualTime => {
  let now = start
  const tasks: Array<{ readonly owner: Pausable; readonly run: () => void }> = []
  const timers: Array<Timer> = []
  /** Whose fiber is running. */
  let current: Pausable = { pausedUntil: 0 }

  const set = (owner: Pausable, millis: number, fire: () => void): Timer => {
    const timer = { owner, fire, at: now + Math.max(0, Math.trunc(millis)) }
    timers.push(timer)
    return timer
  }
  const clear = (timer: Timer): void => {
    const index = timers.indexOf(timer)
    if (index >= 0) timers.splice(index, 1)
  }

  let instant = start
  let tasksOfInstant = 0
  const runTasks = (): void => {
    if (now > instant) tasksOfInstant = 0
    instant = now
    while (tasks.length > 0) {
      if (tasksOfInstant++ > maxTasksPerInstant) throw new Error(`time stands still at ${now}: a fiber never rests`)
      const [task] = tasks.splice(tasks.length === 1 ? 0 : pick(tasks.length), 1)
      if (task === undefined) continue
      current = task.owner
      task.run()
    }
  }

  /** The timers that are next, put off while their owner is paused. */
  const dueNext = (): ReadonlyArray<Timer> => {
    let due: Array<Timer> = []
    for (const timer of timers) {
      if (timer.at < timer.owner.pausedUntil) timer.at = timer.owner.pausedUntil
      const first = due[0]
      if (first === undefined || timer.at < first.at) due = [timer]
      else if (timer.at === first.at) due.push(timer)
    }
    return due
  }

  const run = (until: number): void => {
    for (;;) {
      runTasks()
      const due = dueNext()
      const next = due[due.length === 1 ? 0 : pick(due.length)]
      if (next === undefined || next.at > until || next.at === Number.POSITIVE_INFINITY) break
      now = Math.max(now, next.at)
      clear(next)
      next.fire()
    }
    if (until !== Number.POSITIVE_INFINITY) now = Math.max(now, until)
  }

  const clockOf = (owner: Pausable): Clock.Clock => ({
    [Clock.ClockTypeId]: Clock.ClockTypeId,
    unsafeCurrentTimeMillis: () => now,
    unsafeCurrentTimeNanos: () => BigInt(now) * 1_000_000n,
    currentTimeMillis: Effect.sync(() => now),
    currentTimeNanos: Effect.sync(() => BigInt(now) * 1_000_000n),
    sleep: (duration) =>
      Effect.async((resume) => {
        const timer = set(owner, Duration.toMillis(duration), () => resume(Effect.void))
        return Effect.sync(() => clear(timer))
      })
  })

  return {
    now: () => now,
    schedulerOf: (owner) => ({
      scheduleTask: (run) => void tasks.push({ owner, run }),
      shouldYield: (fiber) => (fiber.currentOpCount > 2048 ? 0 : false)
    }),
    clockOf,
    after: (owner, millis, act) => void set(owner, millis, act),
    run,
    timers: () => timers.map(({ at }) => at),
    withPlatformTimers: (play) => {
      const { clearInterval, clearTimeout, setInterval, setTimeout } = globalThis
      const handles = new Map<unknown, Timer>()
      const virtual = (fire: () => void, millis = 0) => {
        const handle = {}
        handles.set(handle, set(current, millis, fire))
        return handle
      }
      const stop = (handle: unknown) => {
        const timer = handles.get(handle)
        if (timer !== undefined) clear(timer)
      }
      // An interval is only ever set to keep a process alive that waits for ever.
      const nothing = () => undefined
      Object.assign(globalThis, {
        setTimeout: virtual,
        clearTimeout: stop,
        setInterval: nothing,
        clearInterval: nothing
      })
      try {
        return play()
      } finally {
        Object.assign(globalThis, { setTimeout, clearTimeout, setInterval, clearInterval })
      }
    }
  }
}
