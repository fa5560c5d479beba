/** A worker process of a consumer group: takes messages, new and abandoned, until it is killed. */
import { appendFileSync } from "node:fs"
import * as SqlClient from "@effect/sql/SqlClient"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { Redis } from "ioredis"
import { IdempotentConsumer } from "../../src/consumer.js"
import { Idempotency, IdempotencyDomainService, IdempotencyMetrics } from "../../src/index.js"
import { RedisIdempotencyRepository } from "../../src/redis.js"
import { layerSql } from "../../src/sql.js"
import type { MessageWorkerTask, Noted } from "./messageWorkers.js"

const [json = "{}"] = process.argv.slice(2)
const task: MessageWorkerTask = JSON.parse(json)
const { group, minIdle, stream } = task
const name = `worker-${process.pid}`
const redis = new Redis(task.redisUrl)

const note = (what: Noted, about: string) => appendFileSync(task.ledger, `${what} ${about}\n`)

/* The queue. */

interface Message {
  readonly entry: string
  readonly id: string
}

const Entries = Schema.Array(Schema.Tuple(Schema.String, Schema.Tuple(Schema.Literal("id"), Schema.String)))
const ReadReply = Schema.NullOr(Schema.Tuple(Schema.Tuple(Schema.String, Entries)))
const ClaimReply = Schema.Tuple([Schema.String, Entries], Schema.Unknown)

const messagesOf = (entries: typeof Entries.Type): ReadonlyArray<Message> =>
  entries.map(([entry, [, id]]) => ({ entry, id }))

const fresh = Effect.promise(() => redis.xreadgroup("GROUP", group, name, "COUNT", 8, "STREAMS", stream, ">")).pipe(
  Effect.flatMap(Schema.decodeUnknown(ReadReply)),
  Effect.map((reply) => messagesOf(reply?.[0][1] ?? []))
)

const abandoned = Effect.promise(() => redis.xautoclaim(stream, group, name, minIdle, "0", "COUNT", 8)).pipe(
  Effect.flatMap(Schema.decodeUnknown(ClaimReply)),
  Effect.map(([, entries]) => messagesOf(entries)),
  Effect.tap((messages) => {
    for (const { id } of messages) note("redelivered", id)
  })
)

/** What is acknowledged is no longer in the stream. */
const acknowledge = (entries: ReadonlyArray<string>) =>
  Effect.promise(async () => {
    if (entries.length > 0) {
      await redis
        .multi()
        .xack(stream, group, ...entries)
        .xdel(stream, ...entries)
        .exec()
    }
  })

/* What is done with messages. */

/** Some take longer than it takes until they are delivered again. */
const millisFor = (id: string): number => (Number(id) % 40 === 7 ? 2.5 * minIdle : 60)

const handle = ({ id }: Message) =>
  Effect.gen(function* () {
    note("began", id)
    const sql = yield* SqlClient.SqlClient
    yield* sql`INSERT INTO business (message, worker) VALUES (${id}, ${name})`
    yield* Effect.sleep(millisFor(id))
  })

const concurrency = 8

const inTransactions = (messages: ReadonlyArray<Message>) =>
  IdempotentConsumer.processBatch("shipping", messages, { id: ({ id }) => id, concurrency, transactional: true })(
    handle
  ).pipe(
    Effect.tap(() => {
      for (const { id } of messages) note("ended", id)
    })
  )

const { lease, storageTimeout } = task

const withClaims = (messages: ReadonlyArray<Message>) =>
  Effect.forEach(
    messages,
    (message) =>
      IdempotentConsumer.process(handle(message), "shipping", message.id, { lease, onStorageFailure: "fail" }).pipe(
        Effect.exit,
        Effect.tap(() => note("ended", message.id))
      ),
    { concurrency }
  )

const tagOf = (cause: Cause.Cause<unknown>): string => {
  const failure = Option.getOrUndefined(Cause.failureOption(cause))
  return Predicate.hasProperty(failure, "_tag") ? String(failure._tag) : `Defect: ${Cause.pretty(cause)}`
}

const work = <E, R>(
  process: (messages: ReadonlyArray<Message>) => Effect.Effect<ReadonlyArray<Exit.Exit<unknown, unknown>>, E, R>
) =>
  Effect.gen(function* () {
    const messages = [...(yield* abandoned), ...(yield* fresh)]
    const exits = yield* process(messages)
    for (const exit of exits) if (Exit.isFailure(exit)) note("failed", tagOf(exit.cause))
    yield* acknowledge(messages.flatMap(({ entry }, n) => (exits[n]?._tag === "Success" ? [entry] : [])))
    if (messages.length === 0) yield* Effect.sleep("20 millis")
  }).pipe(Effect.forever)

const { process: processOne } = IdempotentConsumer
const ready = Effect.sync(() => void process.stdout.write(`${JSON.stringify("ready")}\n`))

/* With the test that started it ends the worker. */
process.stdin.on("end", () => process.exit()).resume()

const client = Layer.orDie(PgClient.layer({ url: Redacted.make(task.postgresUrl), maxConnections: 10 }))

const claims = Idempotency.layerWith({ storageTimeout }).pipe(
  Layer.provide([
    RedisIdempotencyRepository.layerClient({ url: task.redisUrl, startup: "fail" }),
    IdempotencyDomainService.layer,
    IdempotencyMetrics.layerNoop
  ])
)

// What a process does for the first time takes long.
const program =
  task.mode === "transactional"
    ? processOne(Effect.void, "warm", name, { transactional: true }).pipe(
        Effect.zipRight(ready),
        Effect.zipRight(work(inTransactions)),
        Effect.provide(layerSql())
      )
    : processOne(Effect.void, "warm", name).pipe(
        Effect.zipRight(ready),
        Effect.zipRight(work(withClaims)),
        Effect.provide(claims)
      )

await Effect.runPromise(Effect.provide(program, client))
