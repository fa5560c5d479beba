import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { pipe } from "effect/Function"
import { IdempotencyValidationError } from "../IdempotencyError.js"
import type { AnySchema, Codec } from "./codecs.js"
import { type CurrentRun, currentRun } from "./currentRun.js"
import { CurrentStep } from "./currentStep.js"
import { isWellFormed } from "./hash.js"
import { maxSteps } from "./protocol.js"
import { undecodable } from "./storedRecord.js"
import { logsAbout } from "./tracing.js"

type AnyEffect = Effect.Effect<unknown, unknown, unknown>

const maxNameLength = 255

const issueWith = (run: CurrentRun, name: unknown): string | undefined => {
  if (typeof name !== "string" || name.length === 0 || name.length > maxNameLength) {
    return `the name of a step has 1 to ${maxNameLength} characters`
  }
  if (!isWellFormed(name)) return "the name of a step holds a lone surrogate"
  if (run.stepNames === undefined) return undefined
  if (run.stepNames.has(name)) return "the name of a step is used twice in one run"
  return run.stepNames.size >= maxSteps ? `an execution has at most ${maxSteps} steps` : undefined
}

const refuse = (operation: string, issue: string) =>
  Effect.fail(new IdempotencyValidationError({ operation, issues: [issue] }))

/** A step whose result the store does not take is not undone: it may run again, and that is said. */
const unrecorded = ({ execution }: CurrentRun, why: string | Cause.Cause<unknown>) =>
  Effect.logWarning(`idempotency: a step of "${execution.operation}" is not recorded and may run again`, why).pipe(
    logsAbout(execution)
  )

const record = (run: CurrentRun, name: string, codec: Codec, value: unknown): Effect.Effect<void, never, unknown> => {
  const saveStep = run.ownership?.saveStep
  if (saveStep === undefined) return Effect.void
  return pipe(
    codec.encode(value),
    Effect.matchCauseEffect({
      // What a schema says of a value repeats the value.
      onFailure: () => unrecorded(run, "JSON does not hold its result, or its schema does not encode it"),
      onSuccess: (encoded) =>
        Effect.matchCauseEffect(saveStep({ name, encoded }), {
          onFailure: (cause) => unrecorded(run, cause),
          onSuccess: (saved) => (saved === "Saved" ? Effect.void : unrecorded(run, saved))
        })
    })
  )
}

/** `withIdempotentStep`, without its types. */
export const runStep = (self: AnyEffect, name: string, schema: AnySchema | undefined): AnyEffect =>
  Effect.flatMap(currentRun, (run) => {
    // An `IdempotentExecution` that the user's own test provides: there is nothing to record under.
    if (run === undefined) return self
    const { operation } = run.execution
    const issue = issueWith(run, name)
    if (issue !== undefined) return refuse(operation, issue)
    const codec = run.engine.codecs.of(schema)
    const finished = run.ownership?.steps.find((step) => step.name === name)
    const names = run.stepNames ?? new Set()
    run.stepNames = names.add(name)
    if (finished !== undefined) {
      return Effect.mapError(codec.decode(finished.encoded), () => undecodable(run.execution))
    }
    return Effect.uninterruptibleMask((restore) =>
      pipe(
        restore(Effect.provideService(self, CurrentStep, { execution: run.execution, name })),
        Effect.onError(() => Effect.sync(() => names.delete(name))),
        Effect.tap((value) => record(run, name, codec, value))
      )
    )
  })
