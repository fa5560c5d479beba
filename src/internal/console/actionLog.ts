/** What operators do is logged, with neither keys nor results: who it was is for those who know to annotate. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { pipe } from "effect/Function"
import { IdempotencyStorageError } from "../../IdempotencyError.js"
import type { IdempotencyIdentifiers } from "../../IdempotencyIdentifiers.js"
import { logsAbout } from "../tracing.js"

export const logged = (
  message: string,
  identifiers: IdempotencyIdentifiers,
  more: Readonly<Record<string, string | boolean>> = {}
): Effect.Effect<void> => Effect.logInfo(message).pipe(logsAbout(identifiers), Effect.annotateLogs(more))

/**
 * A change, which tells whether there was anything to change, and its line in the log: also where the store did not
 * answer, and it may have been made all the same. Neither is cut short by a browser that goes away.
 */
export const loggedChange = <E extends { readonly _tag: string }>(
  message: string,
  identifiers: IdempotencyIdentifiers,
  more: Readonly<Record<string, string | boolean>>,
  change: Effect.Effect<boolean, E | IdempotencyStorageError>
): Effect.Effect<boolean, E | IdempotencyStorageError> =>
  pipe(
    Effect.tapBoth(change, {
      onFailure: (error) =>
        error instanceof IdempotencyStorageError && error.applied === "unknown"
          ? logged(message, identifiers, { ...more, applied: "unknown" })
          : Effect.void,
      onSuccess: (isChanged) => (isChanged ? logged(message, identifiers, more) : Effect.void)
    }),
    // In a fiber of its own, whose time-out can interrupt it.
    Effect.interruptible,
    Effect.forkDaemon,
    Effect.flatMap(Fiber.join)
  )
