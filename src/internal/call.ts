/**
 * Effects that need no fiber of their own: they wait for a callback, or for nothing. Started from the fiber that runs
 * already, one that is answered at once costs it no step, and any other a single one.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Effectable from "effect/Effectable"
import type * as Fiber from "effect/Fiber"
import * as eager from "./eager.js"

/** The fiber that something is done for: its clock counts, and its labels. */
export type AnyFiber = Fiber.RuntimeFiber<unknown, unknown>

/** The time by the clock of the fiber. */
export const nowIn = (fiber: AnyFiber): number =>
  Context.unsafeGet(fiber.currentDefaultServices, Clock.Clock).unsafeCurrentTimeMillis()

/** Takes the end of a call, once: an exit, and what is to be done about it, which takes no time. */
export type Resume<A, E> = (end: Effect.Effect<A, E>) => void

/** Gives up what nobody waits for any more. */
export type GiveUp = () => void

/** As an effect it can be interrupted, and then does not wait for its end. */
export abstract class Call<A, E = never> extends Effectable.Class<A, E> {
  /** Starts it. Gives what to do when nobody waits for it any more, if there is anything to do. */
  abstract start(fiber: AnyFiber, resume: Resume<A, E>): GiveUp | undefined

  commit(): Effect.Effect<A, E> {
    return Effect.withFiberRuntime((fiber) =>
      Effect.async<A, E>((resume) => {
        const giveUp = this.start(fiber, resume)
        return giveUp === undefined ? undefined : Effect.sync(giveUp)
      })
    )
  }

  followed<B, E2>(ending: Ending<A, E, B, E2>): Call<B, E2> {
    return new Followed(this, ending)
  }
}

class Waiting<A, E> extends Call<A, E> {
  constructor(readonly start: Call<A, E>["start"]) {
    super()
  }
}

/** What waits for a callback. */
export const waiting = <A, E>(start: Call<A, E>["start"]): Call<A, E> => new Waiting(start)

class Answered<A, E> extends Call<A, E> {
  constructor(readonly answer: (fiber: AnyFiber) => Effect.Effect<A, E>) {
    super()
  }

  start(fiber: AnyFiber, resume: Resume<A, E>): undefined {
    resume(this.answer(fiber))
  }

  override commit(): Effect.Effect<A, E> {
    return Effect.withFiberRuntime(this.answer)
  }
}

/** What is answered at once, by the fiber that asks. */
export const answered = <A, E = never>(answer: (fiber: AnyFiber) => Effect.Effect<A, E>): Call<A, E> =>
  new Answered(answer)

/** What comes after the end of a call, made as the call starts. */
export type Ending<A, E, B, E2> = (fiber: AnyFiber) => (end: Effect.Effect<A, E>) => Effect.Effect<B, E2>

class Followed<A, E, B, E2> extends Call<B, E2> {
  constructor(
    private readonly call: Call<A, E>,
    private readonly ending: Ending<A, E, B, E2>
  ) {
    super()
  }

  start(fiber: AnyFiber, resume: Resume<B, E2>): GiveUp | undefined {
    const ended = this.ending(fiber)
    return this.call.start(fiber, (end) => resume(ended(end)))
  }
}

/** The effect with what comes after its end. A call stays a call: what comes after it takes no time. */
export const followed = <A, E, B, E2>(self: Effect.Effect<A, E>, ending: Ending<A, E, B, E2>): Effect.Effect<B, E2> =>
  self instanceof Call ? self.followed(ending) : Effect.withFiberRuntime((fiber) => ending(fiber)(self))

/** The effect as it is once it has begun: its end, if it is answered at once. */
export const startIn = <A, E, R>(fiber: AnyFiber, self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  self instanceof Answered ? eager.applied<AnyFiber, A, E, never>(self.answer, fiber) : self
