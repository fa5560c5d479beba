import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/**
 * Repeats a turn for the scope, in a fiber of its own; a turn that dies is logged, and another follows. It is nobody's
 * call, and has no spans: they would be without parents, or of whoever built the layer, and without end.
 */
export const loop = <E>(name: string, turn: Effect.Effect<unknown, E>): Effect.Effect<void, never, Scope.Scope> =>
  turn.pipe(
    Effect.catchAllCause((cause) =>
      Effect.zipRight(Effect.logError(`idempotency: ${name} died`, cause), Effect.sleep("100 millis"))
    ),
    Effect.forever,
    Effect.withTracerEnabled(false),
    Effect.interruptible,
    Effect.annotateLogs("fiber", `idempotency.${name}`),
    Effect.forkScoped,
    Effect.asVoid
  )
