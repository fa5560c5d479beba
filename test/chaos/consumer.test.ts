/** Consumers that are killed at random moments, on a queue that delivers again what was not acknowledged. */
import { join } from "node:path"
import { describe, expect, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import { PCGRandom } from "effect/Utils"
import { SqlIdempotencyRepository } from "../../src/sql.js"
import { Postgres, pgClientOf } from "../support/databases.js"
import { type Life, lifeOf, type MessageWorkerTask, messageWorkers } from "../support/messageWorkers.js"
import { startPostgres } from "../support/postgresServers.js"
import { isProof } from "../support/proof.js"
import { StandaloneRedis } from "../support/redisServers.js"
import { directoryFor } from "../support/servers.js"

const messages = isProof ? 1000 : 250
const group = "shipping"
/** How often each of two workers is killed; then it stays until all is done. */
const killsOfEach = isProof ? 12 : 3
const ids = Array.from({ length: messages }, (_, n) => `${n}`)

/** The moments of the kills; how far the workers are then is up to the machine. */
const seed = Number(process.env["CHAOS_SEED"] ?? Date.now() % 2 ** 31)

const tables = Effect.gen(function* () {
  const { query, url } = yield* Postgres
  yield* Effect.provide(SqlIdempotencyRepository.migration, pgClientOf(url))
  yield* query("DROP TABLE IF EXISTS business")
  yield* query("CREATE TABLE business (message TEXT NOT NULL, worker TEXT NOT NULL)")
})

const publish = (stream: string) =>
  Effect.gen(function* () {
    const { command } = yield* StandaloneRedis
    yield* command("XGROUP", "CREATE", stream, group, "$", "MKSTREAM")
    const script = `for _, id in ipairs(ARGV) do redis.call("XADD", KEYS[1], "*", "id", id) end`
    yield* command("EVAL", script, 1, stream, ...ids)
  })

/** The lives of all workers that were killed before all messages were acknowledged. */
const killed = (mode: MessageWorkerTask["mode"]) =>
  Effect.gen(function* () {
    const { command, url: redisUrl } = yield* StandaloneRedis
    const { url: postgresUrl } = yield* Postgres
    const stream = `messages-${mode}`
    const ledgers = yield* directoryFor("ledgers")
    const worker = yield* messageWorkers
    yield* tables
    yield* publish(stream)

    const lives: Array<Life> = []
    const acknowledged = yield* Deferred.make<void>()
    const task = { redisUrl, postgresUrl, mode, stream, group, minIdle: 100, lease: 3000, storageTimeout: 1000 }

    /** One life, which the end of the scope ends by `SIGKILL`. */
    const live = (ledger: string, death: Effect.Effect<void>) =>
      worker({ ...task, ledger }).pipe(
        Effect.zipRight(Effect.raceFirst(Deferred.await(acknowledged), death)),
        Effect.scoped
      )

    const lifeAfterLife = (index: number) =>
      Effect.gen(function* () {
        const random = new PCGRandom(seed + index)
        for (let n = 0; n < killsOfEach; n++) {
          const ledger = join(ledgers, `${index}-${n}`)
          yield* live(ledger, Effect.sleep(50 + random.integer(800)))
          if (!(yield* Deferred.isDone(acknowledged))) lives.push(lifeOf(ledger))
        }
        yield* live(join(ledgers, `${index}-last`), Effect.never)
      })

    const watch = Effect.repeat(command("XLEN", stream), {
      until: (left) => left === 0,
      schedule: Schedule.spaced("50 millis")
    }).pipe(Effect.zipRight(Deferred.succeed(acknowledged, undefined)))

    yield* Effect.all([lifeAfterLife(1), lifeAfterLife(2), watch], { concurrency: "unbounded", discard: true })
    return lives
  })

/** How many rows each message has. */
const rows = Effect.gen(function* () {
  const { query } = yield* Postgres
  const found = yield* query("SELECT message, count(*)::int AS rows FROM business GROUP BY message")
  return new Map(found.map(({ message, rows }) => [String(message), Number(rows)]))
})

/** Whatever the killed workers had open in the database is gone. */
const noSessionStays = Effect.gen(function* () {
  const { query } = yield* Postgres
  const sessions = query(
    "SELECT pid, state FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
  )
  const left = yield* Effect.repeat(sessions, {
    until: (found) => found.length === 0,
    schedule: Schedule.intersect(Schedule.spaced("50 millis"), Schedule.recurs(100))
  }).pipe(Effect.zipRight(sessions))
  expect(left).toEqual([])
})

const sum = (numbers: Iterable<number>): number => [...numbers].reduce((total, n) => total + n, 0)

/** That the kills were many, and hit what they were to hit. */
const expectChaos = (lives: ReadonlyArray<Life>) => {
  expect(lives.length).toBeGreaterThanOrEqual(isProof ? 15 : 4)
  expect(sum(lives.map(({ inHand }) => inHand.length))).toBeGreaterThan(lives.length)
  expect(sum(lives.map(({ redelivered }) => redelivered.length))).toBeGreaterThan(0)
  // On a busy machine the store may be late; nothing else goes wrong.
  const expected = new Set(["IdempotencyInFlightError", "IdempotencyStorageError"])
  expect(lives.flatMap(({ failures }) => failures).filter((tag) => !expected.has(tag))).toEqual([])
}

/** Workers begin again after each kill, which takes long on a busy machine. */
const longest = 150_000

/** Only its clients are killed. */
const postgres = Layer.scoped(Postgres, Effect.orDie(startPostgres({ fsync: "off" })))
const servers = Layer.merge(postgres, StandaloneRedis.layer)

describe(`${messages} messages, whose consumers are killed all the time (CHAOS_SEED=${seed})`, () => {
  layer(servers, { excludeTestServices: true, timeout: 60_000 })((it) => {
    it.scoped(
      "in transactions: every message has exactly one row",
      () =>
        Effect.gen(function* () {
          const lives = yield* killed("transactional")
          expectChaos(lives)
          expect([...(yield* rows)].filter(([, count]) => count !== 1)).toEqual([])
          expect((yield* rows).size).toBe(messages)
          yield* noSessionStays
        }),
      longest
    )

    it.scoped(
      "with claims: a message has one row, and at most one more for each kill of a worker that had it in hand",
      () =>
        Effect.gen(function* () {
          const lives = yield* killed("claims")
          expectChaos(lives)
          const found = yield* rows
          const hits = (id: string) => lives.filter(({ inHand }) => inHand.includes(id)).length
          const counts = ids.map((id) => ({ id, rows: found.get(id) ?? 0, allowed: 1 + hits(id) }))
          expect(counts.filter(({ allowed, rows }) => rows < 1 || rows > allowed)).toEqual([])
          expect(sum(found.values()) - messages).toBeLessThanOrEqual(sum(lives.map(({ inHand }) => inHand.length)))
          yield* noSessionStays
        }),
      longest
    )
  })
})
