/** One call whose effect and record share a transaction: plan, run or replay, and what the caller is told. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { identity, pipe } from "effect/Function"
import { Idempotency } from "../Idempotency.js"
import {
  IdempotencyFingerprintMismatchError,
  IdempotencyStorageError,
  IdempotencyValidationError
} from "../IdempotencyError.js"
import { IdempotencyTransactions } from "../IdempotencyTransactions.js"
import { currentRun, inExecution } from "./currentRun.js"
import { surrounded } from "./execute.js"
import { executionOf } from "./execution.js"
import { type AnyOptions, type KeyInput, plan } from "./plan.js"
import { type AnyEffect, type Call, replay, successOf, type Telling } from "./results.js"
import { inExecutionSpan, isTraced, type Trace, traceAttempt } from "./tracing.js"

/** The options of `withIdempotentTransaction`, whatever their types made of them. */
export interface AnyTransactionOptions
  extends Pick<AnyOptions, "success" | "fingerprint" | "scope" | "timeToLive" | "inFlight" | "waitTimeout" | "around"> {
  readonly isolation?: IdempotencyTransactions.Isolation | undefined
  /** For integrations: attempts that were rolled back count too. */
  readonly countsAttempt?: boolean | undefined
}

const isolations: ReadonlyArray<unknown> = [undefined, "read committed", "repeatable read", "serializable"]

const refused = (operation: string, issue: string) =>
  Effect.fail(new IdempotencyValidationError({ operation, issues: [issue] }))

const measured = ({ engine, request }: Call<unknown>, body: AnyEffect): AnyEffect => {
  const { metrics } = engine
  const { operation } = request.identifiers
  return pipe(
    metrics.recordExecution(operation),
    Effect.zipRight(metrics.recordInFlight(operation, 1)),
    Effect.zipRight(Effect.ensuring(body, metrics.recordInFlight(operation, -1)))
  )
}

export const executeTransaction = <A>(
  self: AnyEffect,
  operation: string,
  key: KeyInput,
  options: AnyTransactionOptions,
  telling: Telling<A>
): AnyEffect<A> =>
  Effect.flatMap(Effect.all([Idempotency, IdempotencyTransactions, currentRun]), ([engine, transactions, parent]) => {
    const planned = plan(engine, operation, key, { ...options, onStorageFailure: "fail" }, parent?.flight)
    if (Either.isLeft(planned)) return Effect.fail(planned.left)
    const request = planned.right
    if (request === undefined) return refused(operation, "a transaction is idempotent only with a key")
    if (!isolations.includes(options.isolation)) {
      return refused(operation, `isolation is neither "read committed" nor "repeatable read" nor "serializable"`)
    }
    const { idempotencyKey, operation: name, scope } = request.identifiers
    const body = (call: Call<A>, attempt: number) => {
      traceAttempt(call.request.trace, attempt)
      const execution = executionOf(name, idempotencyKey, scope, attempt)
      const run = inExecution(self, {
        engine,
        ownership: undefined,
        flight: parent?.flight,
        execution,
        trace: call.request.trace
      })
      return Effect.flatMap(measured(call, surrounded(options, run, attempt)), (value) =>
        Effect.map(successOf(call, value), (outcome) => ({ value, outcome }))
      )
    }
    const countsAttempt = options.countsAttempt === true
    const transaction: IdempotencyTransactions.Request = {
      identifiers: request.identifiers,
      fingerprint: request.fingerprint,
      retention: request.timeToLive,
      inFlight: request.inFlight,
      waitTimeout: request.waitTimeout,
      storageTimeout: engine.settings.storageTimeout,
      isolation: options.isolation,
      countsAttempt
    }
    const isRefused = countsAttempt ? transactions.isOpen : Effect.succeed(false)
    const count = (error: unknown): Effect.Effect<void> => {
      if (error instanceof IdempotencyFingerprintMismatchError) return engine.metrics.recordMismatch(name)
      return error instanceof IdempotencyStorageError ? engine.metrics.recordError(name, error.reason) : Effect.void
    }
    /** In a transaction; what fails beside the effect is counted. */
    const run = (call: Call<A>): AnyEffect<IdempotencyTransactions.Result<unknown>> =>
      Effect.suspend(() => {
        let ofEffect: unknown
        const noted = (attempt: number) =>
          Effect.tapError(body(call, attempt), (error) =>
            Effect.sync(() => {
              ofEffect = error
            })
          )
        return Effect.tapError(transactions.run(transaction, noted), (error) =>
          error === ofEffect ? Effect.void : count(error)
        )
      })
    const executed = (call: Call<A>): AnyEffect<A> =>
      pipe(
        Effect.flatMap(isRefused, (refuses) =>
          refuses ? refused(name, "attempts cannot be counted within a transaction that may be rolled back") : run(call)
        ),
        Effect.flatMap(
          (result): AnyEffect<A> =>
            result._tag === "Recorded"
              ? replay(call, result.record)
              : Effect.succeed(telling.executed(result.value, result.attempt))
        )
      )
    return Effect.withFiberRuntime<A, unknown, unknown>((fiber) => {
      const traced = (trace: Trace | undefined) =>
        executed({ engine, request: { ...request, trace }, options, self, telling, fiber, restore: identity })
      return isTraced(fiber) ? inExecutionSpan(engine.store, request.identifiers, traced) : traced(undefined)
    })
  })
