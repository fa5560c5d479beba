/**
 * What every runtime has to do: run with the packed package beside it, over the stores named in `STORES`. Prints for each
 * how often its effect ran for four calls, three of them at once.
 */
import * as HttpApp from "@effect/platform/HttpApp"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as SqlClient from "@effect/sql/SqlClient"
import { Effect, Layer, Redacted } from "effect"
import { Idempotency, IdempotencyRepository, layerMemory, ResultCipher, withIdempotency } from "effect-idempotency"
import { IdempotentConsumer } from "effect-idempotency/consumer"
import { HttpIdempotency } from "effect-idempotency/http"
import { layerRedis } from "effect-idempotency/redis"
import { layerSql, SqlIdempotencyRepository, withIdempotentTransaction } from "effect-idempotency/sql"

const env = globalThis.process.env
const operation = `smoke-${env.RUNTIME}`

/** The engine over these services, with time for a machine that does much else. */
const patient = (services) => Idempotency.layerWith({ storageTimeout: "10 seconds" }).pipe(Layer.provideMerge(services))

/** Runs of an effect that takes a while, protected by what is given. */
const runsOf = (protect) =>
  Effect.suspend(() => {
    let runs = 0
    const once = Effect.suspend(() => Effect.succeed({ run: ++runs })).pipe(Effect.delay("20 millis"), protect)
    const atOnce = Effect.all([once, once, once], { concurrency: "unbounded" })
    return Effect.map(Effect.zip(atOnce, once), ([three, last]) => {
      if ([...three, last].some(({ run }) => run !== 1)) throw new Error(`ran ${runs} times`)
      return runs
    })
  })

const protectedCalls = Effect.zipWith(
  runsOf(withIdempotency(operation, "key-1", { onStorageFailure: "fail", fingerprint: { amount: 100 } })),
  runsOf((handler) =>
    IdempotentConsumer.process(handler, operation, "message:1", { inFlight: "wait", onStorageFailure: "fail" }).pipe(
      Effect.map(({ value }) => value)
    )
  ),
  Math.max
)

const inTransactions = Effect.zipWith(
  protectedCalls,
  runsOf(withIdempotentTransaction(operation, "transaction-1")),
  Math.max
)

/** Web Crypto is there. */
const encrypted = Effect.suspend(() => {
  const key = Redacted.make(crypto.getRandomValues(new Uint8Array(32)))
  const repository = IdempotencyRepository.layerEncrypted().pipe(
    Layer.provideMerge(layerMemory),
    Layer.provide(ResultCipher.layer({ keys: [{ id: "one", key }] }))
  )
  return Effect.provide(protectedCalls, patient(repository))
})

const overHttp = Effect.promise(async () => {
  let runs = 0
  const app = Effect.sync(() => HttpServerResponse.unsafeJson({ run: ++runs }))
  const { dispose, handler } = HttpApp.toWebHandlerLayer(
    HttpIdempotency.middleware({ scope: "global", operation, inFlight: "wait" })(app),
    layerMemory
  )
  const headers = { "idempotency-key": "key-1", "content-type": "application/json" }
  const post = () => handler(new Request("http://localhost/charges", { method: "POST", headers, body: "{}" }))
  const answers = [...(await Promise.all([post(), post(), post()])), await post()]
  for (const answer of answers) {
    if ((await answer.json()).run !== 1) throw new Error(`answered ${answer.status}`)
  }
  await dispose()
  return runs
})

const overSql = (client) => {
  const live = patient(layerSql()).pipe(
    Layer.provideMerge(Layer.effectDiscard(SqlIdempotencyRepository.migration)),
    Layer.provideMerge(client)
  )
  return Effect.provide(Effect.zipRight(SqlClient.SqlClient, inTransactions), live)
}

const stores = {
  memory: () => Effect.zipRight(encrypted, Effect.provide(protectedCalls, patient(layerMemory))),
  http: () => overHttp,
  redis: () => Effect.provide(protectedCalls, patient(layerRedis({ url: env.REDIS_URL, startup: "fail" }))),
  postgres: async () => {
    const { PgClient } = await import("@effect/sql-pg")
    return overSql(PgClient.layer({ url: Redacted.make(env.POSTGRES_URL) }))
  },
  sqlite: async () => {
    const { SqliteClient } = await import("@effect/sql-sqlite-node")
    return overSql(SqliteClient.layer({ filename: ":memory:" }))
  }
}

const found = {}
for (const name of env.STORES.split(",")) {
  found[name] = await Effect.runPromise(Effect.scoped(await stores[name]()))
}
console.log(JSON.stringify(found))
