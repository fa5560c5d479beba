/**
 * Combinators that go on at once where an effect has ended already, as Effect 4 has them (`flatMapEager` and its like).
 * Most of what a protected call does is known at once: as steps of a fiber it would cost several times the work itself.
 */

import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"

/** Whether the effect has ended, so that nothing is left to run. */
export const hasEnded = <A, E, R>(self: Effect.Effect<A, E, R>): self is Exit.Exit<A, E> => Exit.isExit(self)

/** The effect that is made of a value; what is thrown is a defect, as everywhere in Effect. */
export const applied = <A, B, E, R>(f: (value: A) => Effect.Effect<B, E, R>, value: A): Effect.Effect<B, E, R> => {
  try {
    return f(value)
  } catch (defect) {
    return Exit.die(defect)
  }
}

export const suspend = <A, E, R>(evaluate: () => Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  applied(evaluate, undefined)

export const flatMap = <A, E, R, B, E2, R2>(
  self: Effect.Effect<A, E, R>,
  f: (value: A) => Effect.Effect<B, E2, R2>
): Effect.Effect<B, E | E2, R | R2> => {
  if (!hasEnded(self)) return Effect.flatMap(self, f)
  return Exit.isSuccess(self) ? applied(f, self.value) : Exit.failCause(self.cause)
}

export const matchCauseEffect = <A, E, R, B, E2, R2, C, E3, R3>(
  self: Effect.Effect<A, E, R>,
  ends: {
    readonly onFailure: (cause: Cause.Cause<E>) => Effect.Effect<B, E2, R2>
    readonly onSuccess: (value: A) => Effect.Effect<C, E3, R3>
  }
): Effect.Effect<B | C, E2 | E3, R | R2 | R3> => {
  if (!hasEnded(self)) return Effect.matchCauseEffect(self, ends)
  return Exit.isSuccess(self) ? applied(ends.onSuccess, self.value) : applied(ends.onFailure, self.cause)
}

export const matchEffect = <A, E, R, B, E2, R2, C, E3, R3>(
  self: Effect.Effect<A, E, R>,
  ends: {
    readonly onFailure: (error: E) => Effect.Effect<B, E2, R2>
    readonly onSuccess: (value: A) => Effect.Effect<C, E3, R3>
  }
): Effect.Effect<B | C, E2 | E3, R | R2 | R3> =>
  hasEnded(self) && Exit.isSuccess(self) ? applied(ends.onSuccess, self.value) : Effect.matchEffect(self, ends)

/** What has succeeded stays the exit that it is. */
export const tapBoth = <A, E, R, E2, R2, E3, R3>(
  self: Effect.Effect<A, E, R>,
  ends: {
    readonly onFailure: (error: E) => Effect.Effect<unknown, E2, R2>
    readonly onSuccess: (value: A) => Effect.Effect<unknown, E3, R3>
  }
): Effect.Effect<A, E | E2 | E3, R | R2 | R3> => {
  if (!hasEnded(self) || Exit.isFailure(self)) return Effect.tapBoth(self, ends)
  const tapped = applied(ends.onSuccess, self.value)
  return hasEnded(tapped) && Exit.isSuccess(tapped) ? self : Effect.zipRight(tapped, self)
}
