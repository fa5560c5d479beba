/** What operators do is logged, with neither keys nor results: who it was is for those who know to annotate. */
import * as Effect from "effect/Effect"
import type { IdempotencyIdentifiers } from "../../IdempotencyIdentifiers.js"
import { logsAbout } from "../tracing.js"

export const logged = (
  message: string,
  identifiers: IdempotencyIdentifiers,
  more: Readonly<Record<string, string | boolean>> = {}
): Effect.Effect<void> => Effect.logInfo(message).pipe(logsAbout(identifiers), Effect.annotateLogs(more))
