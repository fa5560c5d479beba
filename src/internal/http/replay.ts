/** What a request gets in place of a run. */
import type * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { Engine } from "../engine/engine.js"
import type { ExecutionRequest } from "../engine/request.js"
import type { Outcome } from "../protocol.js"
import { logsAbout } from "../tracing.js"
import type { ProblemCode } from "./problem.js"
import { problemResponse } from "./problem.js"
import { decodeResponse, replayOf } from "./responseRecord.js"

export interface Replaying {
  readonly engine: Engine
  readonly execution: ExecutionRequest
  readonly policy: { readonly replayedHeader: string; readonly problemType: (code: ProblemCode) => string }
}

/** The recorded response; a problem where there is none, or none that can be read. */
export const replayed = (
  { engine, execution, policy }: Replaying,
  outcome: Outcome
): Effect.Effect<HttpServerResponse.HttpServerResponse> => {
  const notReplayable = problemResponse({ code: "idempotency_result_not_replayable" }, policy.problemType)
  if (outcome._tag !== "Success") return Effect.succeed(notReplayable)
  return Either.match(decodeResponse(outcome.encoded), {
    onLeft: () =>
      Effect.as(
        Effect.logWarning(`idempotency: a record of "${execution.identifiers.operation}" is not a response`).pipe(
          logsAbout(execution.identifiers)
        ),
        notReplayable
      ),
    onRight: (record) =>
      Effect.as(engine.metrics.recordReplay(execution.identifiers.operation), replayOf(record, policy.replayedHeader))
  })
}
