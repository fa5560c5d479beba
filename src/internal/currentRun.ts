import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
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
  /** The names of the steps that this run has asked for, if it has. */
  stepNames: Set<string> | undefined
}

export const CurrentRun = Context.GenericTag<CurrentRun>("effect-idempotency/internal/CurrentRun")

/** The surrounding execution, if any. */
export const runIn = (context: Context.Context<never>): CurrentRun | undefined => {
  const option = Context.getOption(context, CurrentRun)
  return option._tag === "Some" ? option.value : undefined
}

/** The execution that surrounds the running effect, if any. */
export const currentRun: Effect.Effect<CurrentRun | undefined> = Effect.contextWith(runIn)

/** The context with the run in it, copied once: that of a program may be large. */
export const executionContext = <R>(
  context: Context.Context<R>,
  run: CurrentRun
): Context.Context<R | IdempotentExecution | CurrentRun> => {
  const services = new Map<string, unknown>(context.unsafeMap)
  services.set(IdempotentExecution.key, run.execution)
  services.set(CurrentRun.key, run)
  if (run.trace !== undefined) services.set(Tracer.ParentSpan.key, run.trace.span)
  return Context.unsafeMake(services)
}

export const inExecution = (self: Effect.Effect<unknown, unknown, unknown>, run: Omit<CurrentRun, "stepNames">) =>
  Effect.mapInputContext(self, (context: Context.Context<unknown>) =>
    executionContext(context, { ...run, stepNames: undefined })
  )
