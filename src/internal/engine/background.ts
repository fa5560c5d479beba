/** What goes on after a caller has its answer: ghosts to release, completions to bring home. Bounded in number. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { pipe } from "effect/Function"
import * as Scope from "effect/Scope"
import type { IdempotencyStorageError } from "../../IdempotencyError.js"
import { logsAbout } from "../tracing.js"
import type { Asker, ExecutionRequest } from "./request.js"
import type { Settings } from "./settings.js"
import { patiently, type Storage } from "./storage.js"

export interface Background {
  /** Runs in the background; answers false, and does not run, if too much runs there already, or the layer has ended. */
  readonly run: (job: Effect.Effect<void>) => Effect.Effect<boolean>
  /** Tries until the store answers, or the end (an instant that may move) has come; what is set up wrongly once. */
  readonly until: <A>(
    asker: Asker,
    method: string,
    call: Effect.Effect<A, IdempotencyStorageError>,
    end: () => number
  ) => Effect.Effect<A, IdempotencyStorageError>
  /** Frees a key from a claim, or a hold, that may or may not have taken effect. */
  readonly releaseGhost: (request: ExecutionRequest, token: string) => Effect.Effect<void>
  readonly size: () => number
  /** Interrupts what still runs. */
  readonly close: Effect.Effect<void>
}

export const makeBackground = (storage: Storage, settings: Settings): Effect.Effect<Background> =>
  Effect.map(Scope.make(), (scope) => {
    let running = 0
    let isClosed = false

    const run: Background["run"] = (job) =>
      Effect.suspend(() => {
        if (isClosed || running >= settings.maxBackgroundCompletions) {
          return Effect.as(
            Effect.logWarning("idempotency: nothing more can go on in the background; a lease will lapse"),
            false
          )
        }
        running++
        return pipe(
          job,
          Effect.catchAllCause((cause) => Effect.logError("idempotency: a background task died", cause)),
          Effect.ensuring(Effect.sync(() => running--)),
          Effect.interruptible,
          Effect.annotateLogs("fiber", "idempotency.background"),
          Effect.forkIn(scope),
          Effect.as(true)
        )
      })

    const until: Background["until"] = (asker, method, call, end) =>
      Effect.retry(storage.once(asker, method, call), {
        schedule: patiently,
        while: ({ reason }) => Effect.map(Clock.currentTimeMillis, (now) => reason !== "Misconfigured" && now < end())
      })

    const release = (request: ExecutionRequest, token: string) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) =>
        until(request, "release", storage.claims.release(request.identifiers, { token }), () => now + request.lease)
      )

    return {
      run,
      until,
      releaseGhost: (request, token) =>
        Effect.asVoid(
          run(
            pipe(
              release(request, token),
              // The claim itself may still be on its way behind this answer: ask once more.
              Effect.flatMap(({ _tag }) =>
                _tag === "Released" ? Effect.void : Effect.delay(release(request, token), settings.storageTimeout)
              ),
              Effect.catchAll((error) =>
                logsAbout(request.identifiers)(
                  Effect.logDebug("idempotency: a claim was left to lapse", Cause.fail(error))
                )
              )
            )
          )
        ),
      size: () => running,
      close: Effect.suspend(() => {
        isClosed = true
        return Scope.close(scope, Exit.void)
      })
    }
  })
