/**
 * A process that makes many calls of every kind on one Redis, and prints what is left of them: as one line of JSON,
 * after which it has nothing to do and has to end by itself. To be run with `--expose-gc`.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import {
  Idempotency,
  IdempotencyDomainService,
  IdempotencyMetrics,
  IdempotencyRepository,
  withIdempotency
} from "effect-idempotency"
import { RedisIdempotencyRepository } from "effect-idempotency/redis"
import type { LeakTask, Leftovers } from "./leaks.js"

const [json = "{}"] = process.argv.slice(2)
const task: LeakTask = JSON.parse(json)

const runtime = ManagedRuntime.make(
  Idempotency.layerWith({ storageTimeout: "10 seconds" }).pipe(
    Layer.provideMerge(
      IdempotencyRepository.layerLocalCache({ capacity: 100 }).pipe(
        Layer.provide(RedisIdempotencyRepository.layerClient({ url: task.url, startup: "fail" }))
      )
    ),
    Layer.provide([IdempotencyDomainService.layer, IdempotencyMetrics.layer])
  )
)

/** Calls of one turn: a first one with its followers, a replay, one that fails, one that dies, one that is interrupted. */
const turn = (key: string) => {
  const paid = Effect.succeed({ paid: key }).pipe(withIdempotency("pay", key, { fingerprint: { key } }))
  return Effect.all(
    [
      paid,
      Effect.delay(paid, 1),
      Effect.zipRight(Effect.exit(paid), paid),
      Effect.fail("declined").pipe(withIdempotency("pay", `${key}-f`), Effect.exit),
      Effect.die("bug").pipe(withIdempotency("pay", `${key}-d`), Effect.exit),
      Effect.never.pipe(withIdempotency("pay", `${key}-i`), Effect.timeout(2), Effect.exit),
      Effect.delay(Effect.succeed(1), 2).pipe(withIdempotency("pay", `${key}-s`)),
      Effect.succeed(1).pipe(withIdempotency("pay", `${key}-s`, { inFlight: "fail" }), Effect.exit)
    ],
    { concurrency: "unbounded", discard: true }
  )
}
const callsPerTurn = 9

const many = (from: number, calls: number) =>
  Effect.forEach(
    Array.from({ length: Math.ceil(calls / callsPerTurn) }, (_, index) => `${from}-${index}`),
    turn,
    { concurrency: 40, discard: true }
  )

const heap = (): number => {
  for (let n = 0; n < 4; n++) globalThis.gc?.()
  return process.memoryUsage().heapUsed
}

const resources = (): ReadonlyArray<string> =>
  process
    .getActiveResourcesInfo()
    .filter((name) => name !== "Immediate")
    .sort()

const warm = await runtime.runPromise(Effect.zipRight(many(0, task.calls / 5), Idempotency))
await new Promise((resolve) => setTimeout(resolve, 500))
const before = { heap: heap(), resources: resources() }
const exit = await runtime.runPromiseExit(many(1, task.calls))
await new Promise((resolve) => setTimeout(resolve, 500))
const leftovers: Leftovers = {
  isDone: Exit.isSuccess(exit),
  underWay: warm.underWay(),
  heapGrowth: heap() - before.heap,
  resources: { before: before.resources, after: resources() }
}
await runtime.dispose()
process.stdout.write(`${JSON.stringify(leftovers)}\n`)
