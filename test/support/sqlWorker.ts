/** A worker process: protects effects on a SQL database with many fibers, and prints what they got as lines of JSON. */
import { closeSync, fsyncSync, openSync, readFileSync, writeSync } from "node:fs"
import { performance } from "node:perf_hooks"
import { inspect } from "node:util"
import * as SqlClient from "@effect/sql/SqlClient"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import {
  Idempotency,
  IdempotencyDomainService,
  IdempotencyMetrics,
  IdempotentExecution,
  withIdempotency
} from "../../src/index.js"
import { SqlIdempotencyRepository, withIdempotentTransaction } from "../../src/sql.js"
import type { SqlWorkerLine, SqlWorkerTask } from "./sqlWorkers.js"

const [json = "{}"] = process.argv.slice(2)
const task: SqlWorkerTask = JSON.parse(json)
const { database } = task

const client: Layer.Layer<SqlClient.SqlClient> =
  database.dialect === "postgres"
    ? Layer.orDie(PgClient.layer({ url: Redacted.make(database.url), maxConnections: 10 }))
    : Layer.orDie(SqliteClient.layer({ filename: database.filename }))

const engine = Idempotency.layerWith({ storageTimeout: task.storageTimeout }).pipe(
  Layer.provideMerge(SqlIdempotencyRepository.layer),
  Layer.provideMerge(client),
  Layer.provide([IdempotencyDomainService.layer, IdempotencyMetrics.layerNoop])
)

const say = (line: SqlWorkerLine) => Effect.sync(() => void process.stdout.write(`${JSON.stringify(line)}\n`))

const note = (key: string) =>
  Effect.sync(() => {
    const file = openSync(task.ledger, "a")
    writeSync(file, `${key}\n`)
    fsyncSync(file)
    closeSync(file)
  })

let runs = 0

const body = (key: string) =>
  Effect.gen(function* () {
    const { attempt } = yield* IdempotentExecution
    const run = `${process.pid}-${runs++}`
    yield* note(key)
    if (task.mode === "transaction") {
      const sql = yield* SqlClient.SqlClient
      yield* sql`INSERT INTO business (id, note) VALUES (${key}, ${run})`
    }
    if (task.hangs) {
      yield* say({ _tag: "Running", key })
      return yield* Effect.never
    }
    yield* Effect.sleep(task.bodyMillis)
    return { run, attempt }
  })

const told = <E, R>(key: string, effect: Effect.Effect<{ readonly run: string; readonly attempt: number }, E, R>) =>
  Effect.matchEffect(effect, {
    onFailure: (error) => say({ _tag: "Failure", key, error: inspect(error, { depth: 4 }) }),
    onSuccess: (value) => say({ _tag: "Answer", key, value })
  })

const { guarantee, lease, operation } = task

const call = (key: string) =>
  task.mode === "transaction"
    ? told(key, body(key).pipe(withIdempotentTransaction(operation, key)))
    : told(key, body(key).pipe(withIdempotency(operation, key, { guarantee, onStorageFailure: "fail", lease })))

/** Milliseconds that the main thread has run, or would have if it had been given a processor. */
const busyMillis = (): number => {
  try {
    const [ran = 0, waited = 0] = readFileSync("/proc/self/schedstat", "utf8").split(" ").map(Number)
    return (ran + waited) / 1e6
  } catch {
    return 0
  }
}

/** For how long the event loop has waited within a call at most, from now on; a busy machine does not count. */
const watchStillness = (): (() => number) => {
  let longest = 0
  let before = { now: performance.now(), busy: busyMillis() }
  const timer = setInterval(() => {
    const after = { now: performance.now(), busy: busyMillis() }
    longest = Math.max(longest, after.now - before.now - (after.busy - before.busy))
    before = after
  }, 5)
  return () => {
    clearInterval(timer)
    return longest
  }
}

const toldToGo = Effect.async<void>((resume) => {
  process.stdin.once("data", () => resume(Effect.void))
})

const program = Effect.gen(function* () {
  // What a process does for the first time takes long.
  yield* Effect.void.pipe(withIdempotency("warm", `${process.pid}`))
  yield* say({ _tag: "Ready" })
  yield* toldToGo
  process.stdin.destroy()
  const stillness = watchStillness()
  yield* Effect.forEach(
    task.keys,
    (key) =>
      Effect.all(
        Array.from({ length: task.fibers }, () => call(key)),
        { concurrency: "unbounded" }
      ),
    { concurrency: task.concurrency, discard: true }
  )
  yield* say({ _tag: "End", stillness: stillness() })
})

// The lines of the standard output are the worker's answers.
const logger = Logger.replace(Logger.defaultLogger, Logger.withConsoleError(Logger.logfmtLogger))

await Effect.runPromise(program.pipe(Effect.provide(engine), Effect.provide(logger)))
