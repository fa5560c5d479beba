import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { IdempotentExecution } from "../IdempotentExecution.js"
import type { Engine } from "./engine/engine.js"
import type { Flight } from "./engine/flights.js"
import type { Ownership } from "./engine/request.js"

/** What the library knows of the execution that surrounds the running effect. */
export interface CurrentRun {
  readonly engine: Engine
  /** What the run holds; nothing if it has no key. */
  readonly ownership: Ownership | undefined
  /** The innermost flight that the run belongs to. */
  readonly flight: Flight | undefined
  readonly execution: Context.Tag.Service<IdempotentExecution>
  /** The names of the steps that this run has asked for. */
  readonly stepNames: Set<string>
}

export const CurrentRun = Context.GenericTag<CurrentRun>("effect-idempotency/internal/CurrentRun")

/** The surrounding execution, if any. */
export const currentRun: Effect.Effect<CurrentRun | undefined> = Effect.contextWith(
  (context: Context.Context<never>) => {
    const option = Context.getOption(context, CurrentRun)
    return option._tag === "Some" ? option.value : undefined
  }
)
