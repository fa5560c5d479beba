import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { pipe } from "effect/Function"
import * as Tracer from "effect/Tracer"
import { IdempotentExecution } from "../IdempotentExecution.js"
import type { Engine } from "./engine/engine.js"
import type { Flight } from "./engine/flights.js"
import type { Ownership } from "./engine/request.js"
import type { Trace } from "./tracing.js"

/** What the library knows of the execution that surrounds the running effect. */
export interface CurrentRun {
  readonly engine: Engine
  /** What the run holds; nothing if it has no key. */
  readonly ownership: Ownership | undefined
  /** The innermost flight that the run belongs to. */
  readonly flight: Flight | undefined
  readonly execution: Context.Tag.Service<IdempotentExecution>
  /** Of the call, where it is traced: what the run does is beneath its span. */
  readonly trace: Trace | undefined
  /** The names of the steps that this run has asked for. */
  readonly stepNames: Set<string>
}

export const CurrentRun = Context.GenericTag<CurrentRun>("effect-idempotency/internal/CurrentRun")

/** The surrounding execution, if any. */
export const runIn = (context: Context.Context<never>): CurrentRun | undefined => {
  const option = Context.getOption(context, CurrentRun)
  return option._tag === "Some" ? option.value : undefined
}

/** The execution that surrounds the running effect, if any. */
export const currentRun: Effect.Effect<CurrentRun | undefined> = Effect.contextWith(runIn)

/** A run that starts: it has not asked for a step yet. */
export type Run = Omit<CurrentRun, "stepNames">

/** The context with the run in it. That of a program may be large: it is copied once. */
export const executionContext = <R>(
  context: Context.Context<R>,
  run: Run
): Context.Context<R | IdempotentExecution | CurrentRun> => {
  const own = pipe(
    Context.make(IdempotentExecution, run.execution),
    Context.add(CurrentRun, { ...run, stepNames: new Set<string>() })
  )
  return Context.merge(context, run.trace === undefined ? own : Context.add(own, Tracer.ParentSpan, run.trace.span))
}

export const inExecution = (self: Effect.Effect<unknown, unknown, unknown>, run: Run) =>
  Effect.mapInputContext(self, (context: Context.Context<unknown>) => executionContext(context, run))
