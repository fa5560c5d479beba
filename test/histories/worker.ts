/** A worker process: its callers follow the plan, and note each call before it is sent and each answer as it comes. */
import { openSync, writeSync } from "node:fs"
import { createInterface } from "node:readline"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import { IdempotencyIdentifiers, IdempotencyMetrics, IdempotencyRepository } from "../../src/index.js"
import { RedisIdempotencyRepository } from "../../src/redis.js"
import { SqlIdempotencyRepository } from "../../src/sql.js"
import { send } from "./history.js"
import { monotonicMillis, type Noted, type WorkerTask } from "./log.js"
import { type Step, stepsOf } from "./plan.js"

const [json = "{}"] = process.argv.slice(2)
const task: WorkerTask = JSON.parse(json)
const { life, seed, size, worker } = task

const store = Layer.orDie(
  task.store === "redis"
    ? RedisIdempotencyRepository.layerClient({
        url: task.url,
        startup: "fail",
        // A call is one request: what is sent again by the client would be two operations.
        options: { maxRetriesPerRequest: 0, autoResendUnfulfilledCommands: false, retryStrategy: () => 20 }
      })
    : SqlIdempotencyRepository.layer.pipe(
        Layer.provide(PgClient.layer({ url: Redacted.make(task.url), maxConnections: 4, connectTimeout: "10 seconds" }))
      )
).pipe(Layer.provide(IdempotencyMetrics.layerNoop))

const log = openSync(task.log, "a")
const note = (line: Noted) => writeSync(log, `${JSON.stringify(line)}\n`)
const say = (word: string) => Effect.sync(() => void process.stdout.write(`${JSON.stringify(word)}\n`))

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const toldTo = Effect.promise(() => lines.next())

const keys = Array.from({ length: size.keys }, (_, key) =>
  Either.getOrThrow(IdempotencyIdentifiers.from({ operation: task.operation, idempotencyKey: `key-${key}` }))
)

const make = (
  driver: IdempotencyRepository.Driver,
  named: { readonly caller: number; readonly step: number },
  { call, key, patience }: Omit<Step, "pause">
) => {
  const identifiers = keys[key]
  if (identifiers === undefined) return Effect.void
  return Effect.suspend(() => {
    note({ _tag: "Called", ...named, at: monotonicMillis() })
    return send(driver, identifiers, call)
  }).pipe(
    Effect.map((reply) => note({ _tag: "Answered", ...named, at: monotonicMillis(), reply })),
    Effect.catchAll(({ applied }) =>
      Effect.sync(() => note({ _tag: "Failed", ...named, at: monotonicMillis(), applied }))
    ),
    Effect.disconnect,
    Effect.timeoutOption(patience),
    Effect.asVoid
  )
}

const follow = (driver: IdempotencyRepository.Driver, caller: number) =>
  Effect.gen(function* () {
    let step = 0
    for (const { pause, ...planned } of stepsOf(seed, size, { worker, life, caller })) {
      yield* Effect.sleep(pause)
      yield* make(driver, { caller, step: step++ }, planned)
    }
  })

const readAll = (driver: IdempotencyRepository.Driver) =>
  Effect.forEach(
    keys,
    (_, key) => make(driver, { caller: size.callers, step: key }, { key, call: { verb: "read" }, patience: 2000 }),
    { discard: true }
  )

const program = Effect.gen(function* () {
  const { driver } = Context.get(yield* Layer.build(store), IdempotencyRepository)
  // What a process does for the first time takes long.
  const warm = Either.getOrThrow(
    IdempotencyIdentifiers.from({ operation: task.operation, idempotencyKey: `warm-${worker}-${life}` })
  )
  yield* driver.read([warm])
  yield* say("ready")
  yield* toldTo
  const callers = Array.from({ length: size.callers }, (_, caller) => follow(driver, caller))
  yield* Effect.raceFirst(Effect.all(callers, { concurrency: "unbounded" }), toldTo)
  yield* readAll(driver)
  yield* say("done")
})

// The lines of the standard output are the worker's words.
const logger = Logger.replace(Logger.defaultLogger, Logger.none)

await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(logger)))
process.exit()
