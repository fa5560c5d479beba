import * as Context from "effect/Context"
import type { IdempotentExecution } from "../IdempotentExecution.js"

/** One run of a step, and the execution that it is a step of. A new object for each run, so that it can be told apart. */
export interface CurrentStep {
  readonly execution: Context.Tag.Service<IdempotentExecution>
  readonly name: string
}

export const CurrentStep = Context.GenericTag<CurrentStep>("effect-idempotency/internal/CurrentStep")
