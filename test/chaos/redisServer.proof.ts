/** The engine while its Redis server, or its process, stands still for longer than a lease. */
import { execFileSync } from "node:child_process"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import {
  IdempotencyIdentifiers,
  IdempotencyKey,
  IdempotencyRepository,
  withIdempotencyOutcome
} from "effect-idempotency"
import { RedisIdempotencyRepository } from "effect-idempotency/redis"
import { Redis } from "ioredis"
import * as scripts from "../../src/internal/redis/scripts.js"
import { bundled } from "../support/bundle.js"
import { type Charge, charge, operation, until } from "../support/clusterClients.js"
import { processOver, type RedisServer, scopedClient, standalone } from "../support/redisServers.js"
import { tcpProxy } from "../support/tcpProxy.js"
import { type Ledger, ledger } from "../support/workers.js"

const startup = { startup: "fail", startupTimeout: "20 seconds" } as const
const storageTimeout = 800
const lease = 3 * storageTimeout

const call = ({ effect, key }: Charge) => effect.pipe(withIdempotencyOutcome(operation, key, { lease }))

/** For an engine that would wait for longer than that lease. */
const look = ({ effect, key }: Charge) => effect.pipe(withIdempotencyOutcome(operation, key, { lease: "60 seconds" }))

const newCharge = (book: Ledger) => Effect.flatMap(IdempotencyKey.random, (key) => charge(book, key))

describe("a server that stands still for longer than a lease", () => {
  const isRecorded = (key: string) =>
    Effect.gen(function* () {
      const repository = yield* IdempotencyRepository
      const ids = yield* IdempotencyIdentifiers.from({ operation, idempotencyKey: key })
      return Option.isSome(yield* repository.get(ids))
    })

  const setup = Effect.gen(function* () {
    const server = yield* standalone
    const book = yield* ledger
    const over = ({ url }: RedisServer) => RedisIdempotencyRepository.layerClient({ url, ...startup })
    const first = yield* processOver(over(server), { storageTimeout })
    const second = yield* processOver(over(server))
    const one = yield* newCharge(book)
    const owner = yield* Effect.forkScoped(first(call(one)))
    yield* one.begun
    /** The server's clock goes on, and the owner is not renewed for so long that it notices. */
    const standStill = <E>(meanwhile: Effect.Effect<unknown, E>) =>
      Effect.gen(function* () {
        yield* server.signal("SIGSTOP")
        yield* meanwhile
        yield* Effect.sleep(1.5 * lease)
        yield* server.signal("SIGCONT")
      })
    return { book, second, one, owner: Fiber.join(owner), standStill }
  })

  it.scopedLive("an owner that ends later completes: one run, and replay", () =>
    Effect.gen(function* () {
      const { book, one, owner, second, standStill } = yield* setup
      yield* standStill(Effect.void)
      yield* one.end
      const { value, ...outcome } = yield* owner
      expect(outcome).toEqual({ _tag: "Executed", attempt: 1 })
      expect(yield* second(look(one))).toMatchObject({ _tag: "Replayed", value })
      expect(book.runs(one.key)).toBe(1)
    })
  )

  it.scopedLive("an owner that ends meanwhile has its value, and completes later: one run, and replay", () =>
    Effect.gen(function* () {
      const { book, one, owner, second, standStill } = yield* setup
      yield* standStill(Effect.zipRight(one.end, owner))
      const { _tag, value } = yield* owner
      expect(_tag).toBe("Unprotected")
      yield* until("it is recorded", second(isRecorded(one.key)))
      expect(yield* second(look(one))).toMatchObject({ _tag: "Replayed", value })
      expect(book.runs(one.key)).toBe(1)
    })
  )
})

/**
 * No caller waits for a reply for a whole lease, as that is at least three times `storageTimeout`; but its process may
 * stand still before it reads the reply.
 */
describe("a process that stands still for longer than its lease as the reply to its claim comes", () => {
  const standingStill = (meanwhile: (url: string, book: Ledger, key: string) => void) =>
    Effect.gen(function* () {
      const { port, url } = yield* standalone
      const book = yield* ledger
      const proxy = yield* tcpProxy(port)
      const redis = yield* scopedClient(() => new Redis(proxy.port))
      const run = yield* processOver(RedisIdempotencyRepository.layer({ redis, ...startup }), { storageTimeout })
      const ended = Effect.tap(newCharge(book), ({ end }) => end)
      // The server knows the scripts from now on: the next reply is the one to the claim.
      yield* run(call(yield* ended))
      let claims = 0
      yield* proxy.loseRequest((request) => {
        if (request.includes(scripts.claim.flagged.sha)) claims++
        return false
      })
      const one = yield* ended
      redis.stream.prependOnceListener("data", () => meanwhile(url, book, one.key))
      const outcome = yield* run(call(one))
      expect(claims).toBeGreaterThan(1)
      expect(book.runs(one.key)).toBe(1)
      return outcome
    })

  it.scopedLive("nobody came: it claims again before it runs, once", () =>
    Effect.gen(function* () {
      const outcome = yield* standingStill(() => {
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, lease)
      })
      expect(outcome).toMatchObject({ _tag: "Executed", attempt: 1 })
    })
  )

  it.scopedLive("another process took over: it does not run, and has the result of the other", () =>
    Effect.gen(function* () {
      const worker = yield* bundled(new URL("../support/worker.ts", import.meta.url))
      let results: unknown
      const outcome = yield* standingStill((url, { path }, key) => {
        const task = {
          url,
          operation,
          key,
          ledger: path,
          guarantee: "at-least-once",
          fibers: 1,
          bodyMillis: 0,
          lease: 30_000,
          storageTimeout: 10_000
        }
        results = JSON.parse(
          execFileSync(process.execPath, [worker, JSON.stringify(task)], { encoding: "utf8", timeout: 25_000 })
        )
      })
      expect(outcome._tag).toBe("Replayed")
      expect(results).toMatchObject([{ attempt: 2 }])
      expect([outcome.value]).toEqual(results)
    })
  )
})
