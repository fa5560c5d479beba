/** A worker process: protects one effect with many fibers, and prints what they got as a line of JSON. */
import { appendFileSync, readSync, writeSync } from "node:fs"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import {
  Idempotency,
  IdempotencyDomainService,
  IdempotencyMetrics,
  IdempotencyRepository,
  IdempotentExecution,
  withIdempotency
} from "effect-idempotency"
import { RedisIdempotencyRepository } from "effect-idempotency/redis"
import type { CrashPoint, WorkerTask } from "./workers.js"

const [json = "{}"] = process.argv.slice(2)
const task: WorkerTask = JSON.parse(json)

const say = (line: unknown) => writeSync(1, `${JSON.stringify(line)}\n`)

/** The whole process stands still, so that nothing happens that had not happened by then. */
const reach = (point: CrashPoint) =>
  Effect.sync(() => {
    if (point !== task.hangsAt) return
    say(point)
    // It ends with the process that started it.
    if (readSync(0, Buffer.alloc(3)) === 0) process.exit(1)
  })

const told = Effect.async<void>((resume) => {
  process.stdin.once("data", () => {
    process.stdin.destroy()
    resume(Effect.void)
  })
})

let waiting = 0

/** Who subscribes has been answered that another's run is in flight. */
const waits = Effect.sync(() => {
  if (++waiting === task.engines) say("waiting")
})

const watched = (repository: Context.Tag.Service<IdempotencyRepository>): typeof repository => {
  const { claims } = repository
  return {
    ...repository,
    claims: {
      ...claims,
      claim: (ids, request) =>
        Effect.zipRight(reach("before claim"), Effect.zipLeft(claims.claim(ids, request), reach("after claim"))),
      complete: (ids, request) => Effect.zipLeft(claims.complete(ids, request), reach("after completion")),
      changes: (ids) => Effect.zipLeft(claims.changes(ids), waits)
    }
  }
}

const redis = RedisIdempotencyRepository.layerClient({ url: task.url, startup: "fail", startupTimeout: "10 seconds" })

const repository =
  task.hangsAt === undefined && task.engines === undefined
    ? redis
    : Layer.provide(Layer.effect(IdempotencyRepository, Effect.map(IdempotencyRepository, watched)), redis)

const engine = Idempotency.layerWith({ storageTimeout: task.storageTimeout }).pipe(
  Layer.provide([IdempotencyDomainService.layer, IdempotencyMetrics.layerNoop])
)

const body = Effect.gen(function* () {
  const { attempt } = yield* IdempotentExecution
  appendFileSync(task.ledger, `${task.key}\n`)
  yield* reach("in body")
  if (task.isTold) {
    say("in body")
    yield* told
  } else {
    yield* Effect.sleep(task.bodyMillis)
  }
  yield* reach("before completion")
  return { pid: process.pid, attempt }
})

const call = body.pipe(
  withIdempotency(task.operation, task.key, {
    guarantee: task.guarantee,
    onStorageFailure: "fail",
    lease: task.lease,
    waitTimeout: "2 minutes"
  })
)

const times = <A, E, R>(count: number, effect: Effect.Effect<A, E, R>) =>
  Effect.all(
    Array.from({ length: count }, () => effect),
    { concurrency: "unbounded" }
  )

const program = times(task.engines ?? 1, Effect.provide(times(task.fibers, call), engine))

// The lines of the standard output are the worker's answers.
const logger = Logger.replace(Logger.defaultLogger, Logger.withConsoleError(Logger.logfmtLogger))

const results = await Effect.runPromise(program.pipe(Effect.provide(repository), Effect.provide(logger)))
say(results.flat())
