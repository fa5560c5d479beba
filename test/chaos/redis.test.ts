/** The engine on a real Redis, under what networks, servers and processes do to it. */
import { appendFileSync } from "node:fs"
import { describe, expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import {
  Idempotency,
  IdempotencyDomainService,
  type IdempotencyEngineOptions,
  IdempotencyKey,
  IdempotencyMetrics,
  type IdempotencyRepository,
  IdempotentExecution,
  withIdempotency,
  withIdempotencyOutcome
} from "effect-idempotency"
import { RedisIdempotencyRepository } from "effect-idempotency/redis"
import { Redis } from "ioredis"
import * as scripts from "../../src/internal/redis/scripts.js"
import { standalone } from "../support/redisServers.js"
import { tcpProxy } from "../support/tcpProxy.js"
import { type Ledger, ledger, Workers, type WorkerTask } from "../support/workers.js"

const operation = "payment.charge"

/** An `ioredis` client with the library's default options, as users write it. */
const defaultClient = (port: number): Effect.Effect<Redis, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const client = new Redis(port, "127.0.0.1")
      client.on("error", () => {})
      return client
    }),
    (client) => Effect.sync(() => client.disconnect())
  )

const over = <E>(repository: Layer.Layer<IdempotencyRepository, E>, options: IdempotencyEngineOptions = {}) =>
  Idempotency.layerWith(options).pipe(
    Layer.provideMerge(repository),
    Layer.provide([IdempotencyDomainService.layer, IdempotencyMetrics.layerNoop])
  )

const charge = ({ path }: Ledger, key: string, millis = 20) =>
  Effect.flatMap(IdempotentExecution, ({ attempt }) =>
    Effect.sync(() => appendFileSync(path, `${key}\n`)).pipe(
      Effect.zipRight(Effect.sleep(millis)),
      Effect.as({ key, attempt })
    )
  )

const calls = (script: { readonly flagged: { readonly sha: string } }) => (request: Buffer) =>
  request.includes(script.flagged.sha)

const task = (port: number, key: string, { path }: Ledger, rest: Partial<WorkerTask> = {}): WorkerTask => ({
  url: `redis://127.0.0.1:${port}`,
  operation,
  key,
  ledger: path,
  guarantee: "at-least-once",
  fibers: 1,
  bodyMillis: 300,
  lease: 30_000,
  storageTimeout: 1000,
  ...rest
})

const timed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.timed(effect), ([duration, value]) => ({ value, millis: Duration.toMillis(duration) }))

describe("one fresh key", () => {
  it.scopedLive("100 fibers in each of 4 processes: the body runs once, everyone has the same value", () =>
    Effect.gen(function* () {
      const { port } = yield* standalone
      const book = yield* ledger
      const key = yield* IdempotencyKey.random
      const start = yield* Workers
      const workers = yield* Effect.all(
        Array.from({ length: 4 }, () => start(task(port, key, book, { fibers: 100 }))),
        { concurrency: "unbounded" }
      )
      const results = yield* Effect.all(
        workers.map(({ nextLine }) => nextLine),
        { concurrency: "unbounded" }
      )
      const values = results.flat().map((value) => JSON.stringify(value))
      expect(values).toHaveLength(400)
      expect(new Set(values).size).toBe(1)
      expect(book.runs(key)).toBe(1)
    }).pipe(Effect.provide(Workers.layer))
  )
})

describe("a lost reply, with the default options of ioredis", () => {
  const lostReplyTo = (name: "claim" | "complete", script: Parameters<typeof calls>[0]) =>
    it.scopedLive(`of ${name}: the call succeeds and the body runs once`, () =>
      Effect.gen(function* () {
        const { port } = yield* standalone
        const proxy = yield* tcpProxy(port)
        const redis = yield* defaultClient(proxy.port)
        const book = yield* ledger
        const key = yield* IdempotencyKey.random
        const call = charge(book, key).pipe(withIdempotencyOutcome(operation, key, { onStorageFailure: "fail" }))
        yield* Effect.gen(function* () {
          yield* charge(book, "warm").pipe(withIdempotency(operation, "warm"))
          yield* proxy.loseReplyTo(calls(script))
          expect(yield* call).toMatchObject({ _tag: "Executed", value: { key, attempt: 1 } })
          expect(proxy.lost()).toBe(1)
          expect(yield* call).toMatchObject({ _tag: "Replayed", value: { key, attempt: 1 } })
        }).pipe(Effect.provide(over(RedisIdempotencyRepository.layer({ redis }))))
        expect(book.runs(key)).toBe(1)
      })
    )
  lostReplyTo("claim", scripts.claim)
  lostReplyTo("complete", scripts.complete)
})

describe("a long effect", () => {
  it.scopedLive("that outlasts its lease three times over keeps its key, and no second run starts", () =>
    Effect.gen(function* () {
      const { port } = yield* standalone
      const book = yield* ledger
      const key = yield* IdempotencyKey.random
      const lease = 600
      const layer = () =>
        Effect.map(defaultClient(port), (redis) =>
          over(RedisIdempotencyRepository.layer({ redis }), { storageTimeout: 200 })
        )
      const call = charge(book, key, 3 * lease + 200).pipe(withIdempotencyOutcome(operation, key, { lease }))
      const owner = yield* Effect.fork(call.pipe(Effect.provide(yield* layer())))
      yield* Effect.sleep(100)
      const other = yield* call.pipe(Effect.provide(yield* layer()))
      expect(yield* Fiber.join(owner)).toMatchObject({ _tag: "Executed", attempt: 1 })
      expect(other).toMatchObject({ _tag: "Replayed", value: { attempt: 1 } })
      expect(book.runs(key)).toBe(1)
    })
  )
})

describe("Redis away", () => {
  const away = (how: "cut" | "blackHole") =>
    it.scopedLive(`${how}: proceed is bounded, the breaker opens, fail refuses, protection resumes`, () =>
      Effect.gen(function* () {
        const { port } = yield* standalone
        const proxy = yield* tcpProxy(port)
        const book = yield* ledger
        const storageTimeout = 400
        const bodyMillis = 20
        const layer = over(RedisIdempotencyRepository.layerClient({ url: `redis://127.0.0.1:${proxy.port}` }), {
          storageTimeout,
          breakerProbeInterval: 100
        })
        const proceed = (key: string) =>
          charge(book, key, bodyMillis).pipe(withIdempotencyOutcome(operation, key, { lease: 2000 }), timed)
        const fail = charge(book, "refused").pipe(
          withIdempotency(operation, "refused", { onStorageFailure: "fail", lease: 2000 }),
          Effect.flip
        )
        yield* Effect.gen(function* () {
          expect((yield* proceed("before")).value._tag).toBe("Executed")
          yield* proxy[how]
          const first = yield* proceed("during")
          expect(first.value._tag).toBe("Unprotected")
          expect(first.millis).toBeLessThan(2.5 * storageTimeout + bodyMillis)
          expect(yield* fail).toMatchObject({ _tag: "IdempotencyStorageError" })
          yield* proceed("during")
          const nothing = Effect.void.pipe(withIdempotencyOutcome(operation, "nothing", { lease: 2000 }), timed)
          const added = yield* Effect.all(Array.from({ length: 21 }, () => nothing))
          expect(added.every(({ value }) => value._tag === "Unprotected")).toBe(true)
          // A busy machine is slow now and then: the quickest tells what a call costs, the median that none asks the store.
          const [quickest, median] = [0, 10].map((n) => added.map(({ millis }) => millis).sort((a, b) => a - b)[n])
          expect(quickest).toBeLessThan(1)
          expect(median).toBeLessThan(storageTimeout / 10)
          expect(yield* fail).toMatchObject({ _tag: "IdempotencyStorageError", applied: "no" })
          expect(book.runs("refused")).toBe(0)
          yield* proxy.mend
          yield* proceed("after").pipe(
            Effect.repeat({ until: ({ value }) => value._tag !== "Unprotected", schedule: Schedule.spaced(100) }),
            Effect.timeout("10 seconds")
          )
          expect((yield* proceed("after")).value._tag).toBe("Replayed")
        }).pipe(Effect.provide(layer))
      })
    )
  away("cut")
  away("blackHole")
})
