/** A worker process: protects one effect with many fibers, and prints what they got as a line of JSON. */
import { appendFileSync } from "node:fs"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import {
  Idempotency,
  IdempotencyDomainService,
  IdempotencyMetrics,
  IdempotentExecution,
  withIdempotency
} from "effect-idempotency"
import { RedisIdempotencyRepository } from "effect-idempotency/redis"
import type { WorkerTask } from "./workers.js"

const [json = "{}"] = process.argv.slice(2)
const task: WorkerTask = JSON.parse(json)

const engine = Idempotency.layerWith({ storageTimeout: task.storageTimeout }).pipe(
  Layer.provide([
    RedisIdempotencyRepository.layerClient({ url: task.url, startup: "fail" }),
    IdempotencyDomainService.layer,
    IdempotencyMetrics.layerNoop
  ])
)

const body = Effect.gen(function* () {
  const { attempt } = yield* IdempotentExecution
  appendFileSync(task.ledger, `${task.key}\n`)
  if (task.hangs) {
    process.stdout.write(`${JSON.stringify("running")}\n`)
    return yield* Effect.never
  }
  yield* Effect.sleep(task.bodyMillis)
  return { pid: process.pid, attempt }
})

const call = body.pipe(
  withIdempotency(task.operation, task.key, {
    guarantee: task.guarantee,
    onStorageFailure: "fail",
    lease: task.lease
  })
)

const program = Effect.all(
  Array.from({ length: task.fibers }, () => call),
  { concurrency: "unbounded" }
)
const results = await Effect.runPromise(Effect.provide(program, engine))
process.stdout.write(`${JSON.stringify(results)}\n`)
