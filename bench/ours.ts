/** Ours, over whatever store. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import type * as Scope from "effect/Scope"
import {
  Idempotency,
  IdempotencyDomainService,
  type IdempotencyEngineOptions,
  IdempotencyMetrics,
  type IdempotencyRepository,
  withIdempotency
} from "effect-idempotency"
import type { Store, Subject } from "./comparisons.js"
import { fibers, type Run, runPromises } from "./drive.js"
import { ours, oursByPromise } from "./rows.js"
import { type Body, makeBody } from "./work.js"

/** Deadlines that a busy machine keeps: a call that degrades would not be what is measured. */
export const storageTimeout = "10 seconds"

export const engineOver = <R, E>(
  repository: Layer.Layer<IdempotencyRepository | R, E>,
  options: IdempotencyEngineOptions = { storageTimeout },
  metrics: Layer.Layer<IdempotencyMetrics> = IdempotencyMetrics.layer
): Layer.Layer<Idempotency | IdempotencyRepository | R> =>
  Idempotency.layerWith(options).pipe(
    Layer.provideMerge(repository),
    Layer.provide([IdempotencyDomainService.layer, metrics]),
    Layer.orDie
  )

/** How effects are run over the layer, which lives as long as the scope. */
export const runOver = <R>(layer: Layer.Layer<R>): Effect.Effect<Run<R>, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => ManagedRuntime.make(layer)),
      (runtime) => runtime.disposeEffect
    ),
    (runtime) => (effect) => runtime.runPromise(effect)
  )

/** Without the store the work would be another: it fails instead. */
export const protectedBy = { onStorageFailure: "fail" } as const

/** How ours executes a key, by fibers of one runtime and by a `runPromise` for each call. */
export const bothWays = <E, R>(
  run: Run<R>,
  store: Store,
  bytes: number,
  execute: (body: Body, key: string) => Effect.Effect<unknown, E, R>
): readonly [fibers: Subject, promises: Subject] => {
  const subject = (name: string, driven: typeof fibers): Subject => {
    const body = makeBody(bytes)
    const drive = driven(run, (key) => execute(body, key))
    return { name, role: "ours", body, store, first: drive, replay: drive }
  }
  return [subject(ours, fibers), subject(oursByPromise, runPromises)]
}

export const oursOver = (run: Run<Idempotency>, store: Store, bytes: number): readonly [Subject, Subject] =>
  bothWays(run, store, bytes, (body, key) => withIdempotency(body.effect, "bench", key, protectedBy))
