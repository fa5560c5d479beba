/** The engine on a Redis server that is restarted, emptied, full or paused, or that forgets its scripts. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import {
  type IdempotencyEngineOptions,
  IdempotencyKey,
  type IdempotencyRepository,
  withIdempotencyOutcome
} from "effect-idempotency"
import { RedisIdempotencyRepository } from "effect-idempotency/redis"
import { Redis } from "ioredis"
import { Redis as Redis6 } from "ioredis-6"
import { type Charge, charge, operation, type Services, until } from "../support/clusterClients.js"
import { isProof } from "../support/proof.js"
import {
  processOver,
  type RedisServer,
  type Run,
  scopedClient,
  standalone,
  standaloneWith
} from "../support/redisServers.js"
import { type Ledger, ledger } from "../support/workers.js"

const seconds = (count: number) => count * 1000
const guarantees = ["at-least-once", "at-most-once"] as const

const startup = { startup: "fail", startupTimeout: "20 seconds", eviction: "warn" } as const

type Over = (server: RedisServer) => Effect.Effect<Layer.Layer<IdempotencyRepository, unknown>, never, Scope.Scope>

const clients: ReadonlyArray<readonly [client: string, over: Over]> = [
  ["the library's client", ({ url }) => Effect.succeed(RedisIdempotencyRepository.layerClient({ url, ...startup }))],
  [
    "ioredis 5",
    ({ port }) =>
      Effect.map(
        scopedClient(() => new Redis(port)),
        (redis) => RedisIdempotencyRepository.layer({ redis, ...startup })
      )
  ],
  [
    "ioredis 6",
    ({ port }) =>
      Effect.map(
        scopedClient(() => new Redis6(port)),
        (redis) => RedisIdempotencyRepository.layer({ redis, ...startup })
      )
  ]
]

interface Options {
  readonly guarantee?: (typeof guarantees)[number]
  readonly inFlight?: "wait" | "fail"
  readonly waitTimeout?: number
}

/** Nothing is explained by its end. */
const lease = seconds(60)

const call = ({ effect, key }: Charge, options: Options = {}) =>
  effect.pipe(withIdempotencyOutcome(operation, key, { onStorageFailure: "fail", lease, ...options }))

/** A charge that ends by itself. */
const atOnce = (book: Ledger, key?: string) =>
  Effect.gen(function* () {
    const one = yield* charge(book, key ?? (yield* IdempotencyKey.random))
    yield* one.end
    return one
  })

/** A charge in its effect, and what comes of it once it may end. */
const underWay = <A, E>(
  run: Run,
  book: Ledger,
  protect: (one: Charge) => Effect.Effect<A, E, Services>,
  key?: string
) =>
  Effect.gen(function* () {
    const one = yield* charge(book, key ?? (yield* IdempotencyKey.random))
    const running = yield* Effect.forkScoped(run(protect(one)))
    yield* Effect.raceFirst(one.begun, Fiber.join(running))
    return { one, ended: Effect.zipRight(one.end, Fiber.join(running)) }
  })

const stored = (key: string) => `idempotency:${operation}:${key}`

/** How often a command was called, or an error given, since the server started. */
const counted = ({ command }: RedisServer, section: "commandstats" | "errorstats", name: string) =>
  Effect.map(command("info", section), (info) =>
    Number(new RegExp(`_${name}:(?:calls|count)=(\\d+)`).exec(String(info))?.[1] ?? 0)
  )

/** Fills the server until it has dropped all of these, and makes room again. */
const evict = ({ command }: RedisServer, keys: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const left = command("exists", ...keys.map(stored))
    expect(yield* left).toBe(keys.length)
    const [, used] = /used_memory:(\d+)/.exec(String(yield* command("info", "memory"))) ?? []
    yield* command("config", "set", "maxmemory", Number(used) + 1_048_576)
    yield* Effect.repeat(
      Effect.suspend(() => Effect.zipRight(command("set", `other:${Math.random()}`, "-".repeat(65_536)), left)),
      { until: (count) => count === 0 }
    )
    yield* command("config", "set", "maxmemory", 0)
  })

type Forgets = (server: RedisServer, keys: ReadonlyArray<string>) => Effect.Effect<unknown>

const losses: ReadonlyArray<readonly [that: string, started: typeof standalone, forgets: Forgets]> = [
  ["is killed and has kept nothing", standalone, ({ restart }) => restart],
  ["is emptied", standalone, ({ command }) => command("flushall")],
  ["evicts", standaloneWith("--maxmemory-policy", "allkeys-random"), evict]
]

/** The second is ended by nothing but time: long enough for a busy machine. */
const pauses = [
  ["write", seconds(60)],
  ["all", seconds(4)]
] as const

describe.each(isProof ? clients : clients.slice(0, 1))("over %s", (_, over) => {
  const setupOn = (started: typeof standalone, options?: IdempotencyEngineOptions) =>
    Effect.gen(function* () {
      const server = yield* started
      const book = yield* ledger
      const first = yield* processOver(yield* over(server), options)
      const second = yield* processOver(yield* over(server))
      return { server, book, first, second }
      // That a server evicts is warned of.
    }).pipe(Logger.withMinimumLogLevel(LogLevel.Error))

  describe.each(losses)("a server that %s", (_, started, forgets) => {
    it.scopedLive("nobody came: the completion is recorded, from one run", () =>
      Effect.gen(function* () {
        const { book, first, second, server } = yield* setupOn(started)
        const owners = yield* Effect.forEach(guarantees, (guarantee) =>
          Effect.map(
            underWay(first, book, (one) => call(one, { guarantee })),
            (owner) => ({ ...owner, guarantee })
          )
        )
        yield* forgets(
          server,
          owners.map(({ one }) => one.key)
        )
        for (const { ended, guarantee, one } of owners) {
          const { value, ...outcome } = yield* ended
          expect(outcome).toEqual({ _tag: "Executed", attempt: 1 })
          expect(yield* second(call(one, { guarantee }))).toMatchObject({ _tag: "Replayed", value })
          expect(book.runs(one.key)).toBe(1)
        }
      })
    )

    it.scopedLive.each(guarantees)("%s, and somebody came: two runs, and everybody has the new result", (guarantee) =>
      Effect.gen(function* () {
        const { book, first, second, server } = yield* setupOn(started)
        const protect = (one: Charge) => call(one, { guarantee })
        const recorded = yield* atOnce(book)
        yield* first(protect(recorded))
        const overtaken = yield* underWay(first, book, protect)
        const outrun = yield* underWay(first, book, protect)
        const keys = [recorded.key, overtaken.one.key, outrun.one.key]
        yield* forgets(server, keys)

        const again = yield* second(protect(recorded))
        expect(again._tag).toBe("Executed")
        const winner = yield* second(protect(yield* atOnce(book, overtaken.one.key)))
        const rival = yield* underWay(second, book, protect, outrun.one.key)
        expect(yield* overtaken.ended).toMatchObject({ _tag: "Replayed", value: winner.value })
        // Nothing is recorded yet when this late owner asks.
        const calls = counted(server, "commandstats", "evalsha")
        const before = yield* calls
        yield* outrun.one.end
        yield* until(
          "the late owner asks",
          Effect.map(calls, (count) => count > before)
        )
        const last = yield* rival.ended
        expect(yield* outrun.ended).toMatchObject({ _tag: "Replayed", value: last.value })
        for (const [index, { value, ...outcome }] of [again, winner, last].entries()) {
          expect(outcome).toEqual({ _tag: "Executed", attempt: 1 })
          const one = yield* atOnce(book, keys[index])
          for (const run of [first, second]) expect(yield* run(protect(one))).toMatchObject({ _tag: "Replayed", value })
          expect(book.runs(one.key)).toBe(2)
        }
      })
    )
  })

  it.scopedLive("a server that is killed and has an append-only file: one run each", () =>
    Effect.gen(function* () {
      const { book, first, second, server } = yield* setupOn(
        standaloneWith("--appendonly", "yes", "--appendfsync", "always")
      )
      const before = yield* Effect.forEach(guarantees, (guarantee) =>
        Effect.gen(function* () {
          const recorded = yield* atOnce(book)
          const { value } = yield* first(call(recorded, { guarantee }))
          return { guarantee, recorded, value, owner: yield* underWay(first, book, (one) => call(one, { guarantee })) }
        })
      )
      const { pid } = server
      yield* server.restart
      expect(server.pid).not.toBe(pid)
      for (const { guarantee, owner, recorded, value } of before) {
        expect(yield* second(call(recorded, { guarantee }))).toMatchObject({ _tag: "Replayed", value })
        const inFlight = yield* Effect.flip(second(call(owner.one, { guarantee, inFlight: "fail" })))
        expect(inFlight).toMatchObject({ _tag: "IdempotencyInFlightError", reason: "Running" })
        const own = yield* owner.ended
        expect(own).toMatchObject({ _tag: "Executed", attempt: 1 })
        expect(yield* second(call(owner.one, { guarantee }))).toMatchObject({ _tag: "Replayed", value: own.value })
        expect([recorded, owner.one].map(({ key }) => book.runs(key))).toEqual([1, 1])
      }
    })
  )

  it.scopedLive("a server that is full: completions and replays go on, and what is new is not protected", () =>
    Effect.gen(function* () {
      const { book, first, second, server } = yield* setupOn(standaloneWith("--maxmemory-policy", "noeviction"), {
        retry: Schedule.recurs(1)
      })
      const proceed = ({ effect, key }: Charge) => effect.pipe(withIdempotencyOutcome(operation, key, { lease }))
      const recorded = yield* atOnce(book)
      const { value } = yield* first(call(recorded))
      const owner = yield* underWay(first, book, call)
      yield* server.command("config", "set", "maxmemory", 1)

      const own = yield* owner.ended
      expect(own).toMatchObject({ _tag: "Executed", attempt: 1 })
      for (const run of [first, second]) {
        expect(yield* run(call(owner.one))).toMatchObject({ _tag: "Replayed", value: own.value })
        expect(yield* run(call(recorded))).toMatchObject({ _tag: "Replayed", value })
      }
      const [refused, unprotected] = [yield* atOnce(book), yield* atOnce(book)]
      for (const guarantee of guarantees) {
        const error = yield* Effect.flip(first(call(refused, { guarantee })))
        expect(error).toMatchObject({ _tag: "IdempotencyStorageError", reason: "Rejected", applied: "no" })
      }
      expect(book.runs(refused.key)).toBe(0)
      const given = yield* first(proceed(unprotected))
      expect(given).toMatchObject({ _tag: "Unprotected", reason: { _tag: "IdempotencyStorageError" } })
      expect(yield* second(call(unprotected))).toMatchObject({ _tag: "Replayed", value: given.value })

      yield* server.command("config", "set", "maxmemory", 0)
      const after = yield* first(call(refused))
      expect(after).toMatchObject({ _tag: "Executed", attempt: 1 })
      expect(yield* second(call(refused))).toMatchObject({ _tag: "Replayed", value: after.value })
      expect([recorded, owner.one, refused, unprotected].map(({ key }) => book.runs(key))).toEqual([1, 1, 1, 1])
    })
  )

  it.scopedLive("a server that forgets its scripts while an effect runs: one run, and replay", () =>
    Effect.gen(function* () {
      const { book, first, second, server } = yield* setupOn(standalone)
      for (const run of [first, second]) yield* run(call(yield* atOnce(book)))
      const owner = yield* underWay(first, book, call)
      yield* server.command("script", "flush")
      const { value } = yield* owner.ended
      yield* server.command("script", "flush")
      expect(yield* second(call(owner.one))).toMatchObject({ _tag: "Replayed", value })
      expect(book.runs(owner.one.key)).toBe(1)
    })
  )

  it.scopedLive("a server that forgets its scripts again and again under many calls: one run for each key", () =>
    Effect.gen(function* () {
      const { book, first, second, server } = yield* setupOn(standalone)
      const missed = counted(server, "errorstats", "NOSCRIPT")
      const before = yield* missed
      const forgetting = yield* Effect.forkScoped(Effect.forever(server.command("script", "flush")))
      const keys = yield* Effect.replicateEffect(IdempotencyKey.random, 50)
      const callers = [first, second, first, second]
      const each = (key: string) =>
        Effect.forEach(callers, (run) => Effect.flatMap(atOnce(book, key), (one) => run(call(one))), {
          concurrency: "unbounded"
        })
      const outcomes = yield* Effect.forEach(keys, each, { concurrency: 20 })
      yield* Fiber.interrupt(forgetting)
      expect((yield* missed) - before).toBeGreaterThan(10)
      for (const ofKey of outcomes) expect(new Set(ofKey.map(({ value }) => value.receipt)).size).toBe(1)
      expect(keys.map(book.runs)).toEqual(keys.map(() => 1))
    })
  )

  for (const [mode, millis] of isProof ? pauses : pauses.slice(0, 1)) {
    it.scopedLive(`a server that pauses (${mode}) as it is asked: the claim that its caller gave up is released`, () =>
      Effect.gen(function* () {
        const { book, first, second, server } = yield* setupOn(standalone, { storageTimeout: 300 })
        yield* second(call(yield* atOnce(book)))
        const one = yield* atOnce(book)
        yield* server.command("client", "pause", millis, mode)
        const error = yield* Effect.flip(first(call(one)))
        expect(error).toMatchObject({ _tag: "IdempotencyStorageError", method: "claim", applied: "unknown" })
        expect(book.runs(one.key)).toBe(0)
        // Where everything is paused, so is this.
        yield* server.command("client", "unpause")
        yield* until(
          "the claim took effect",
          Effect.map(server.command("exists", stored(one.key)), (count) => count === 1)
        )
        const outcome = yield* second(call(one, { waitTimeout: seconds(15) }))
        expect(outcome).toMatchObject({ _tag: "Executed", attempt: 2 })
        expect(book.runs(one.key)).toBe(1)
      })
    )
  }
})
