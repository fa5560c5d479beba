/**
 * Calls of a store that need no fiber of their own. A store may answer with any effect; one that only waits for a
 * callback, or that answers at once, answers with a `Call`, which the engine can put under a deadline without a fiber
 * for it: of a replay over memory a fiber is half of the cost.
 */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Effectable from "effect/Effectable"

/** Takes the end of a call, once: an exit, and what is to be done about it, which takes no time. */
export type Resume<A, E> = (end: Effect.Effect<A, E>) => void

/** Starts a call. Gives what to do when nobody waits for it any more, if there is anything to do. */
export type Start<A, E> = (clock: Clock.Clock, resume: Resume<A, E>) => (() => void) | undefined

/** As an effect it can be interrupted, and then does not wait for its end. */
export class Call<A, E> extends Effectable.Class<A, E> {
  constructor(readonly start: Start<A, E>) {
    super()
  }

  commit(): Effect.Effect<A, E> {
    return Effect.clockWith((clock) =>
      Effect.async<A, E>((resume) => {
        const giveUp = this.start(clock, resume)
        return giveUp === undefined ? undefined : Effect.sync(giveUp)
      })
    )
  }

  followed<B, E2>(ending: Ending<A, E, B, E2>): Call<B, E2> {
    return new Call((clock, resume) => {
      const ended = ending(clock)
      return this.start(clock, (end) => resume(ended(end)))
    })
  }
}

/** What is answered at once, by the time that it is. */
export const answered = <A, E>(answer: (now: number) => Effect.Effect<A, E>): Call<A, E> =>
  new Call((clock, resume) => {
    resume(answer(clock.unsafeCurrentTimeMillis()))
    return undefined
  })

/** What comes after the end of a call, made as the call starts. */
export type Ending<A, E, B, E2> = (clock: Clock.Clock) => (end: Effect.Effect<A, E>) => Effect.Effect<B, E2>

/** The effect with what comes after its end. A call stays a call: what comes after it takes no time. */
export const followed = <A, E, B, E2>(self: Effect.Effect<A, E>, ending: Ending<A, E, B, E2>): Effect.Effect<B, E2> =>
  self instanceof Call ? self.followed(ending) : Effect.clockWith((clock) => ending(clock)(self))
