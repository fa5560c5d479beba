/** The optimistic strategy: look up, run, and let the first completion win. */
import * as Effect from "effect/Effect"
import type { IdempotencyStorageError } from "../../IdempotencyError.js"
import { resultUnavailable } from "../storedRecord.js"
import type { Tokens } from "../tokens.js"
import { differ } from "../transition.js"
import type { Answers } from "./answers.js"
import type { Dependencies } from "./dependencies.js"
import { makeOwnership } from "./ownership.js"
import type { Beginning, ExecutionRequest } from "./request.js"

export const makeLookUp = (
  dependencies: Dependencies & { readonly tokens: Tokens },
  { mismatch, replay, storageFailure, unknownOutcome }: Answers
): ((request: ExecutionRequest) => Beginning) => {
  const { isClosed, metrics, storage, tokens } = dependencies

  const own = (request: ExecutionRequest, error: IdempotencyStorageError | undefined): Beginning =>
    Effect.sync(() => ({
      _tag: "Own",
      ownership: makeOwnership(dependencies, {
        request,
        token: tokens.next(request.trace?.token),
        attempt: error === undefined ? 1 : 0,
        steps: [],
        flight: undefined,
        claimedAt: undefined,
        unprotected: error,
        isGhost: false
      })
    }))

  return (request) => {
    const { identifiers } = request
    const read = storage.claims.read([identifiers])
    return Effect.matchEffect(storage.unlessOpen(request, "read", read, Array.of), {
      onFailure: (error) => {
        if (isClosed()) return Effect.interrupt
        return (
          storageFailure(request, error) ??
          Effect.zipRight(metrics.recordDegraded(identifiers.operation), own(request, error))
        )
      },
      onSuccess: ([state]) => {
        if (state?._tag === "Corrupted") return Effect.fail(resultUnavailable(identifiers, state.cause))
        if (state?._tag === "Completed") return replay(request, state)
        if (state !== undefined && differ(request.fingerprint, state.fingerprint)) return mismatch(request)
        if (state?._tag === "Unknown") return unknownOutcome(request, state.attempt)
        return isClosed() ? Effect.interrupt : own(request, undefined)
      }
    })
  }
}
