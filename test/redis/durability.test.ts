/** Claims and completions that replicas confirm. */
import { describe, expect, layer } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import {
  Idempotency,
  IdempotencyDomainService,
  type IdempotencyIdentifiers,
  IdempotencyMetrics,
  IdempotencyRepository,
  IdempotencyValidationError,
  withIdempotency,
  withIdempotencyOutcome
} from "../../src/index.js"
import type { RedisClient } from "../../src/internal/redis/client.js"
import { makeOver, type Settings } from "../../src/internal/redis/make.js"
import * as scripts from "../../src/internal/redis/scripts.js"
import { RecordingMetrics } from "../../src/testing.js"
import { isProof } from "../support/proof.js"
import { primary, type RedisServer, replicaOf, standalone } from "../support/redisServers.js"
import { tcpProxy } from "../support/tcpProxy.js"
import { claimBy, clusterClient, freshIds, majors, minute, nodeClient } from "./fixtures.js"

/** Long where replicas answer, so that a loaded machine is in time; short where they do not, as it is waited for. */
const amply = { durability: { replicas: 1, timeout: "5 seconds" } } satisfies Settings
const briefly = { durability: { replicas: 1, timeout: "200 millis" } } satisfies Settings

/** What a loaded machine takes is not a failure of the store. */
const storageTimeout = 21_000

const overWith = <Metrics>(
  redis: RedisClient,
  settings: Settings,
  metrics: Layer.Layer<IdempotencyMetrics | Metrics>
) =>
  Idempotency.layerWith({ storageTimeout, retry: Schedule.recurs(1) }).pipe(
    Layer.provideMerge(Layer.scoped(IdempotencyRepository, makeOver(redis, settings))),
    Layer.provideMerge(metrics),
    Layer.provide(IdempotencyDomainService.layer)
  )

const over = (redis: RedisClient, settings: Settings) => overWith(redis, settings, RecordingMetrics.layer)

const brokenMetrics: Readonly<Record<string, () => Effect.Effect<void>>> = {
  throw: () => {
    throw new Error("a metric threw")
  },
  die: () => Effect.dieMessage("a metric died")
}

const errors = Effect.flatMap(RecordingMetrics, ({ calls }) =>
  Effect.map(calls, (all) => all.flatMap((call) => (call.method === "recordError" ? [call.errorType] : [])))
)

const callsOf = (name: string, { command }: RedisServer) =>
  Effect.map(command("info", "commandstats"), (stats) =>
    Number(new RegExp(`cmdstat_${name}:calls=(\\d+)`).exec(String(stats))?.[1] ?? 0)
  )

const waits = (server: RedisServer) => callsOf("wait", server)

type Services = Layer.Layer.Success<ReturnType<typeof over>>

const storedAs = ({ idempotencyKey, operation }: IdempotencyIdentifiers) => `idempotency:${operation}:${idempotencyKey}`

const pay = <R = never>(
  { idempotencyKey, operation }: IdempotencyIdentifiers,
  body: Effect.Effect<unknown, never, R> = Effect.void
) =>
  Effect.as(body, "paid").pipe(
    withIdempotencyOutcome(operation, idempotencyKey, { onStorageFailure: "fail", lease: "2 minutes" })
  )

/** One primary and its replica for all tests. */
class Pair extends Context.Tag("test/Pair")<Pair, { readonly server: RedisServer; readonly replica: RedisServer }>() {
  static readonly layer = Layer.scoped(
    Pair,
    Effect.gen(function* () {
      const server = yield* primary
      return { server, replica: yield* replicaOf(server) }
    })
  )
}

/** The replica stands still until the end of the scope. */
const frozen = Effect.flatMap(Pair, ({ replica }) =>
  Effect.acquireRelease(replica.signal("SIGSTOP"), () => replica.signal("SIGCONT"))
)

describe.each(isProof ? majors : majors.slice(0, 1))("$major", ({ ioredis }) => {
  layer(Pair.layer, { excludeTestServices: true })((it) => {
    const setup = (settings: Settings) =>
      Effect.gen(function* () {
        const { server } = yield* Pair
        return over(yield* nodeClient(ioredis, server.port), { startup: "fail", ...settings })
      })
    const withStore = <A, E>(
      settings: Settings,
      use: (pair: Context.Tag.Service<Pair>) => Effect.Effect<A, E, Scope.Scope | Pair | Services>
    ) =>
      Effect.gen(function* () {
        return yield* Effect.provide(use(yield* Pair), yield* setup(settings))
      })

    it.scoped("a confirmed call runs once; the replica has its record; a replay waits for nobody", () =>
      withStore(amply, ({ replica, server }) =>
        Effect.gen(function* () {
          // The first call of a script sends it, after it has asked whether the server has it.
          yield* pay(freshIds())
          const key = freshIds()
          const before = yield* waits(server)
          expect(yield* pay(key)).toMatchObject({ _tag: "Executed" })
          expect(yield* replica.command("get", storedAs(key))).toContain(`"paid"`)
          expect((yield* waits(server)) - before).toBe(2)
          yield* frozen
          const [took, again] = yield* Effect.timed(pay(key))
          expect(again).toMatchObject({ _tag: "Replayed", value: "paid" })
          // The answer comes before the end of the WAIT that goes with each call.
          expect(Duration.toMillis(took)).toBeLessThan(3000)
          expect(yield* errors).toEqual([])
        })
      )
    )

    it.scoped("while the replica is away a call fails in time, nothing runs, and the key is free again", () =>
      withStore(briefly, ({ replica }) =>
        Effect.gen(function* () {
          const { inspect } = yield* IdempotencyRepository
          const key = freshIds()
          let runs = 0
          const order = pay(
            key,
            Effect.sync(() => runs++)
          )
          yield* frozen
          const [took, error] = yield* Effect.timed(Effect.flip(order))
          expect(error).toMatchObject({ _tag: "IdempotencyStorageError", method: "claim", reason: "Rejected" })
          expect(String("cause" in error && error.cause)).toContain("0 of 1 replicas confirmed")
          expect(Duration.toMillis(took)).toBeLessThan(storageTimeout)
          expect(runs).toBe(0)
          yield* Effect.repeat(inspect(key), { until: (state) => Option.getOrNull(state)?._tag === "Released" })
          yield* replica.signal("SIGCONT")
          // The replica may be late once more, which is not what this is about.
          expect(yield* Effect.retry(order, { times: 20 })).toMatchObject({ _tag: "Executed" })
          expect(runs).toBe(1)
        })
      )
    )

    it.scoped("a result whose record is not confirmed is given, and counted", () =>
      withStore({ durability: { replicas: 1, timeout: "1 second" } }, () =>
        Effect.gen(function* () {
          const key = freshIds()
          expect(yield* pay(key, frozen)).toMatchObject({ _tag: "Executed", value: "paid" })
          expect((yield* errors).filter((one) => one === "Unconfirmed")).toHaveLength(1)
          expect(yield* pay(key)).toMatchObject({ _tag: "Replayed", value: "paid" })
        })
      )
    )

    for (const [what, recordError] of Object.entries(brokenMetrics)) {
      it.scoped(`also where the metrics that count it ${what}`, () =>
        Effect.gen(function* () {
          const { server } = yield* Pair
          const settings = { startup: "fail", durability: { replicas: 1, timeout: "1 second" } } as const
          const metrics = Layer.map(IdempotencyMetrics.layerNoop, (context) =>
            Context.make(IdempotencyMetrics, { ...Context.get(context, IdempotencyMetrics), recordError })
          )
          const store = overWith(yield* nodeClient(ioredis, server.port), settings, metrics)
          const paid = yield* Effect.provide(pay(freshIds(), frozen), store)
          expect(paid).toMatchObject({ _tag: "Executed", value: "paid" })
        })
      )
    }

    it.scoped("one WAIT confirms what comes together", () =>
      withStore(amply, ({ server }) =>
        Effect.gen(function* () {
          const { claims } = yield* IdempotencyRepository
          yield* claims.claim(freshIds(), claimBy("t"))
          const before = yield* waits(server)
          const keys = Array.from({ length: 40 }, freshIds)
          yield* Effect.forEach(keys, (key) => claims.claim(key, claimBy("t")), { concurrency: "unbounded" })
          expect((yield* waits(server)) - before).toBe(1)
        })
      )
    )

    it.scoped("while the replica is away, calls do not queue up", () =>
      withStore(briefly, () =>
        Effect.gen(function* () {
          const { claims } = yield* IdempotencyRepository
          yield* frozen
          const claim = Effect.suspend(() => Effect.timed(Effect.flip(claims.claim(freshIds(), claimBy("t")))))
          const delays = Array.from({ length: 30 }, (_, index) => index * 10)
          const ends = yield* Effect.forEach(delays, (delay) => Effect.delay(claim, delay), {
            concurrency: "unbounded"
          })
          expect(new Set(ends.map(([, { reason }]) => reason))).toEqual(new Set(["Rejected"]))
          // One after the other these would take 30 times 200 ms.
          for (const [took] of ends) expect(Duration.toMillis(took)).toBeLessThan(2000)
        })
      )
    )

    it.scoped("a connection that is cut during the WAIT confirms nothing; the next call has another", () =>
      withStore(amply, ({ replica, server }) =>
        Effect.gen(function* () {
          const { claims } = yield* IdempotencyRepository
          yield* frozen
          const key = freshIds()
          const claiming = yield* Effect.fork(Effect.flip(claims.claim(key, claimBy("t"))))
          const waiting = Effect.map(
            server.command("client", "list"),
            (list) => /^id=(\d+) .* cmd=wait /m.exec(String(list))?.[1]
          )
          const id = yield* Effect.repeat(waiting, { until: (found) => found !== undefined })
          yield* server.command("client", "kill", "id", id ?? "")
          expect(yield* Fiber.join(claiming)).toMatchObject({ reason: "Unavailable", applied: "unknown" })
          yield* replica.signal("SIGCONT")
          const again = Effect.retry(claims.claim(key, claimBy("t")), {
            times: 100,
            while: () => Effect.as(Effect.sleep("20 millis"), true)
          })
          expect(yield* again).toMatchObject({ _tag: "AlreadyMine", attempt: 1 })
        })
      )
    )

    it.scoped("a completion that is sent again on another connection is counted until replicas have its record", () =>
      Effect.gen(function* () {
        const { server } = yield* Pair
        const proxy = yield* tcpProxy(server.port)
        const redis = yield* nodeClient(ioredis, proxy.port)
        yield* Effect.gen(function* () {
          const { claims } = yield* IdempotencyRepository
          const unconfirmed = Effect.map(errors, (all) => all.filter((one) => one === "Unconfirmed").length)
          const completeOf = (key: IdempotencyIdentifiers) =>
            claims.complete(key, {
              token: "t",
              outcome: { _tag: "Success", encoded: '"paid"' },
              fingerprint: undefined,
              retention: minute
            })
          // From here on the server knows the script by its digest.
          yield* completeOf(freshIds())
          yield* frozen
          const key = freshIds()
          const before = yield* unconfirmed
          yield* proxy.loseReplyTo((request) => request.includes(scripts.complete.flagged.sha))
          expect(yield* Effect.flip(completeOf(key))).toMatchObject({ reason: "Unavailable", applied: "unknown" })
          const recorded = yield* server.command("get", storedAs(key))
          expect(recorded).toContain('"paid"')
          const sets = yield* callsOf("set", server)
          const again = Effect.retry(completeOf(key), {
            times: 100,
            while: () => Effect.as(Effect.sleep("20 millis"), true)
          })
          expect(yield* again).toMatchObject({ _tag: "Done", attempt: 1 })
          expect(yield* unconfirmed).toBe(before + 1)
          // Before 7.2 the server counts what others wrote as written by whoever waits.
          expect(yield* callsOf("set", server)).toBe(sets + 1)
          expect(yield* server.command("get", storedAs(key))).toBe(recorded)
          expect(Number(yield* server.command("pttl", storedAs(key)))).toBeGreaterThan(0)
        }).pipe(Effect.provide(over(redis, { durability: { replicas: 1, timeout: "1 second" }, startup: "fail" })))
      })
    )

    it.scoped("asked to, the layer fails at its start where replicas are missing, or the user may not WAIT", () =>
      Effect.gen(function* () {
        const { server } = yield* Pair
        const lonely = yield* standalone
        const build = (redis: RedisClient) =>
          Effect.flip(Effect.scoped(Layer.build(over(redis, { ...briefly, startup: "fail" }))))
        const missing = yield* build(yield* nodeClient(ioredis, lonely.port))
        expect(missing).toMatchObject({ method: "probe", reason: "Rejected" })
        yield* server.command("acl", "setuser", "hurried", "on", ">secret", "~*", "&*", "+@all", "-wait")
        const hurried = yield* nodeClient(ioredis, server.port, { username: "hurried", password: "secret" })
        expect(yield* build(hurried)).toMatchObject({ method: "probe", reason: "Misconfigured" })
        // The connection for WAIT has ended with its layer: the user's and the one that asks are left.
        yield* Effect.repeat(lonely.command("client", "list"), {
          until: (list) => String(list).trim().split("\n").length === 2
        })
      })
    )

    it.scoped("what it cannot keep is refused: calls that proceed, a timeout too long for the engine, a Cluster", () =>
      Effect.gen(function* () {
        const { server } = yield* Pair
        const redis = yield* nodeClient(ioredis, server.port)
        const issuesOf = (settings: Settings, onStorageFailure?: "fail") =>
          Effect.succeed("paid").pipe(
            withIdempotency("pay", "order-1", { onStorageFailure, lease: "2 minutes" }),
            Effect.provide(over(redis, settings)),
            Effect.exit,
            Effect.map((exit) => {
              const error = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
              return error instanceof IdempotencyValidationError ? error.issues : [String(error)]
            })
          )
        const settings = (replicas: number, timeout: Duration.DurationInput) => ({ durability: { replicas, timeout } })
        expect(yield* issuesOf(settings(1, 100))).toEqual([expect.stringContaining(`onStorageFailure "fail"`)])
        expect(yield* issuesOf(settings(1, storageTimeout / 3), "fail")).toEqual([
          expect.stringContaining("a third of storageTimeout")
        ])
        expect(yield* issuesOf(settings(0.5, -1), "fail")).toEqual([
          expect.stringContaining("durability.replicas"),
          expect.stringContaining("durability.timeout")
        ])
        const nodes = yield* clusterClient(ioredis, [{ host: "127.0.0.1", port: 1 }])
        const exit = yield* Effect.exit(Effect.scoped(Layer.build(over(nodes, briefly))))
        expect(Exit.isFailure(exit) && Cause.squash(exit.cause)).toMatchObject({
          issues: [expect.stringContaining("Cluster")]
        })
      })
    )
  })
})
