/** Many processes that wait for one key on Redis, and are not woken: their subscriptions are cut. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import { IdempotencyKey } from "effect-idempotency"
import { standalone } from "../support/redisServers.js"
import { ledger, type WorkerTask, worker } from "../support/workers.js"

const waiters = { processes: 5, fibers: 100 }

const setup = Effect.gen(function* () {
  const server = yield* standalone
  const book = yield* ledger
  const key = yield* IdempotencyKey.random
  const task: WorkerTask = {
    url: `redis://127.0.0.1:${server.port}`,
    operation: "pay",
    key,
    ledger: book.path,
    guarantee: "at-least-once",
    fibers: 1,
    bodyMillis: 2000,
    lease: 2000,
    storageTimeout: 600,
    hangs: false
  }
  const waiting = Effect.all(
    Array.from({ length: waiters.processes }, () => worker({ ...task, fibers: waiters.fibers })),
    { concurrency: "unbounded" }
  )
  const results = (workers: Effect.Effect.Success<typeof waiting>) =>
    Effect.map(
      Effect.all(
        workers.map(({ nextLine }) => nextLine),
        { concurrency: "unbounded" }
      ),
      (lines) => lines.flat()
    )
  const subscribers = Effect.map(server.command("pubsub", "channels"), (channels) =>
    Array.isArray(channels) ? channels.length : 0
  )
  const subscribed = Effect.repeat(Effect.delay(subscribers, "20 millis"), { until: (count) => count > 0 })
  const cutSubscriptions = server.command("client", "kill", "type", "pubsub")
  return { server, book, key, task, waiting, results, subscribed, cutSubscriptions }
})

const count = waiters.processes * waiters.fibers

describe("waiters whose subscriptions are cut, again and again", () => {
  it.scopedLive(`${count} of them have the result, from one run`, () =>
    Effect.gen(function* () {
      const { book, cutSubscriptions, key, results, server, subscribed, task, waiting } = yield* setup
      const owner = yield* worker({ ...task, lease: 30_000, bodyMillis: 8000 })
      yield* Effect.repeat(Effect.delay(server.command("dbsize"), "20 millis"), { until: (size) => Number(size) === 1 })
      const workers = yield* waiting
      yield* subscribed
      // From before the completion until after it, every few milliseconds.
      const cutting = yield* Effect.fork(Effect.repeat(cutSubscriptions, Schedule.spaced("5 millis")))
      const values = (yield* results(workers)).map((value) => JSON.stringify(value))
      yield* Fiber.interrupt(cutting)
      expect(values).toHaveLength(count)
      expect(new Set([...values, JSON.stringify([yield* owner.nextLine].flat(2)[0])]).size).toBe(1)
      expect(book.runs(key)).toBe(1)
    })
  )

  it.scopedLive(`the owner is killed: of ${count}, one takes over`, () =>
    Effect.gen(function* () {
      const { book, cutSubscriptions, key, results, subscribed, task, waiting } = yield* setup
      const owner = yield* worker({ ...task, hangs: true })
      expect(yield* owner.nextLine).toBe("running")
      const workers = yield* waiting
      yield* subscribed
      yield* cutSubscriptions
      yield* owner.signal("SIGKILL")
      const values = (yield* results(workers)).map((value) => JSON.stringify(value))
      expect(values).toHaveLength(count)
      expect(new Set(values).size).toBe(1)
      expect(book.runs(key)).toBe(2)
    })
  )
})
