/** Deadlines of storage calls: one fiber of the layer keeps them all, as a timer per call would cost more than the call. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Runtime from "effect/Runtime"
import type * as Scope from "effect/Scope"
import { type AnyFiber, Call, type GiveUp, nowIn, type Resume } from "../call.js"
import { Chain, type Link } from "../chain.js"
import { endedWithin, sleepUnless } from "../sleep.js"
import { loop } from "./loop.js"

export interface Deadlines {
  /**
   * The call, given up after so many milliseconds; in a fiber of its own unless it needs none. Nothing but the deadline,
   * and an interruption of a caller that may be interrupted, cuts it short: the caller's own children would get the
   * caller's interruption even where interruption is off.
   */
  readonly within: <A, E, R>(call: Effect.Effect<A, E, R>, millis: number, onTimeout: () => E) => Effect.Effect<A, E, R>
  /** The same, for the fiber that runs: what needs no other has begun, and may have ended. */
  readonly start: <A, E, R>(
    fiber: AnyFiber,
    call: Effect.Effect<A, E, R>,
    millis: number,
    onTimeout: () => E
  ) => Effect.Effect<A, E, R>
}

interface Deadline extends Link<Deadline> {
  /** Milliseconds from when it was set. */
  readonly millis: number
  at: number
  readonly expire: () => void
}

/** A call that was started and needs no fiber: its deadline, like its answer, only tells whoever waits. */
class Bounded<A, E> implements Deadline {
  at = Number.POSITIVE_INFINITY
  isIn = false
  previous: Deadline | undefined
  next: Deadline | undefined
  private end: Effect.Effect<A, E> | undefined
  private resume: Resume<A, E> | undefined
  private giveUp: GiveUp | undefined

  constructor(
    call: Call<A, E>,
    fiber: AnyFiber,
    readonly millis: number,
    private readonly onTimeout: () => E,
    private readonly pending: Chain<Deadline>
  ) {
    try {
      this.giveUp = call.start(fiber, (end) => this.settle(end))
    } catch (defect) {
      this.settle(Exit.die(defect))
    }
  }

  get hasEnded(): boolean {
    return this.end !== undefined
  }

  /** Its end, waited for if it has not come. Not to be interrupted. */
  get effect(): Effect.Effect<A, E> {
    return (
      this.end ??
      Effect.async((resume) => {
        // The fiber may have let others run on its way here: then the end may have come.
        if (this.end === undefined) this.resume = resume
        else resume(this.end)
      })
    )
  }

  expire(): void {
    this.giveUp?.()
    this.settle(Effect.suspend(() => Effect.fail(this.onTimeout())))
  }

  /** The first end counts. */
  private settle(end: Effect.Effect<A, E>): void {
    if (this.end !== undefined) return
    this.end = end
    this.pending.delete(this)
    // Calls that were kept would keep their fibers, and so the calls that these make next: garbage collection took twice
    // the time.
    const { resume } = this
    this.resume = undefined
    this.giveUp = undefined
    resume?.(end)
  }
}

export const makeDeadlines: Effect.Effect<Deadlines, never, Scope.Scope> = Effect.gen(function* () {
  const pending = new Chain<Deadline>()
  const wake = Effect.unsafeMakeLatch(false)
  let nextTick = Number.POSITIVE_INFINITY

  const expire = (now: number): void => {
    nextTick = Number.POSITIVE_INFINITY
    for (const deadline of pending.toArray()) {
      // Later than it can be, it is by a clock that was set back.
      deadline.at = Math.min(deadline.at, now + deadline.millis)
      if (deadline.at > now) {
        nextTick = Math.min(nextTick, deadline.at)
      } else {
        pending.delete(deadline)
        deadline.expire()
      }
    }
  }

  const tick = Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    expire(now)
    wake.unsafeClose()
    if (nextTick === Number.POSITIVE_INFINITY) return yield* wake.await
    yield* sleepUnless(nextTick - now, wake.await)
  })
  yield* loop("deadlines", tick)

  // After the layer's end nobody keeps the time: what still waits then has waited long enough, and what comes after it
  // (the release of an effect that did not let itself be stopped) has a timer of its own.
  let isClosed = false
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      isClosed = true
      expire(Number.POSITIVE_INFINITY)
    })
  )

  const add = (deadline: Deadline): void => {
    pending.add(deadline)
    if (deadline.at < nextTick) {
      nextTick = deadline.at
      wake.unsafeOpen()
    }
  }

  /** Starts at once: what is answered at once is not waited for, and what is sent is sent in this turn. */
  const inFiber = <A, E, R>(
    call: Effect.Effect<A, E, R>,
    caller: AnyFiber,
    millis: number,
    onTimeout: () => E
  ): Effect.Effect<A, E, R> =>
    Effect.flatMap(Effect.runtime<R>(), (runtime) => {
      const fiber = Runtime.runFork(runtime)(Effect.interruptible(call))
      const answer = (exit: Exit.Exit<A, E>): Effect.Effect<A, E> =>
        // Whoever stopped it, its fate is that of a call without an answer.
        Exit.isInterrupted(exit) ? Effect.suspend(() => Effect.fail(onTimeout())) : exit
      const exit = fiber.unsafePoll()
      if (exit !== null) return answer(exit)
      return Effect.async<A, E>((resume) => {
        const giveUp = () => {
          fiber.removeObserver(observe)
          fiber.unsafeInterruptAsFork(fiber.id())
        }
        const deadline: Deadline = {
          isIn: false,
          previous: undefined,
          next: undefined,
          millis,
          at: nowIn(caller) + millis,
          expire: () => {
            giveUp()
            resume(Effect.suspend(() => Effect.fail(onTimeout())))
          }
        }
        const observe = (exit: Exit.Exit<A, E>) => {
          pending.delete(deadline)
          resume(answer(exit))
        }
        add(deadline)
        fiber.addObserver(observe)
        return Effect.sync(() => {
          pending.delete(deadline)
          giveUp()
        })
      })
    })

  const start: Deadlines["start"] = <A, E, R>(
    fiber: AnyFiber,
    call: Effect.Effect<A, E, R>,
    millis: number,
    onTimeout: () => E
  ) => {
    if (isClosed) return endedWithin(millis, onTimeout)(call)
    if (!(call instanceof Call)) return inFiber(call, fiber, millis, onTimeout)
    const bounded = new Bounded<A, E>(call, fiber, millis, onTimeout, pending)
    if (!bounded.hasEnded) {
      bounded.at = nowIn(fiber) + millis
      add(bounded)
    }
    return bounded.effect
  }

  return {
    start,
    within: <A, E, R>(call: Effect.Effect<A, E, R>, millis: number, onTimeout: () => E) =>
      Effect.withFiberRuntime<A, E, R>((fiber) => start(fiber, call, millis, onTimeout))
  }
})
