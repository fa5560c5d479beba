/** The layers: their connections, their start, and what their types say. */
import { describe, expect, expectTypeOf, it } from "@effect/vitest"
import * as Config from "effect/Config"
import type { ConfigError } from "effect/ConfigError"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as six from "ioredis-6"
import type { IdempotencyStorageError } from "../../src/IdempotencyError.js"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import type { Target } from "../../src/internal/redis/connection.js"
import { makeOver, makeOwning, type Settings } from "../../src/internal/redis/make.js"
import { RedisIdempotencyRepository } from "../../src/redis.js"
import { cluster, type RedisServer, scopedClient, standalone, standaloneWith } from "../support/redisServers.js"
import { tcpProxy } from "../support/tcpProxy.js"
import { claimBy, freshIds, majors, minute, nodeClient } from "./fixtures.js"

/** No server has this port: it needs a privilege that a client does not. */
const nobody = "redis://127.0.0.1:1"

const logged = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const messages: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => messages.push(`${logLevel.label} ${String(message)}`))
    return Effect.map(
      Effect.provide(effect, Logger.replace(Logger.defaultLogger, logger)),
      (value) => [value, messages] as const
    )
  })

const connections = ({ command }: RedisServer) =>
  // One of them is the one that asks.
  Effect.map(command("client", "list"), (list) => String(list).trim().split("\n").length - 1)

describe("a client of RESP3", () => {
  it.scopedLive("is told too that its server evicts", () =>
    Effect.gen(function* () {
      const { port } = yield* standaloneWith("--maxmemory-policy", "allkeys-lru")
      const redis = yield* scopedClient(() => new six.Redis({ port, replyMapping: "resp3" }))
      expect(yield* Effect.flip(makeOver(redis, { eviction: "fail" }))).toMatchObject({ reason: "Misconfigured" })
    })
  )
})

describe.each(majors)("layerClient on $major", ({ ioredis }) => {
  const layerClient = (target: Target, settings: Settings = {}) =>
    Layer.scoped(IdempotencyRepository, makeOwning(ioredis, target, settings))
  const repositoryOf = (target: Target, settings: Settings = {}) =>
    Effect.map(Layer.build(layerClient(target, settings)), Context.get(IdempotencyRepository))

  it.scopedLive("works, and its connections end with its scope", () =>
    Effect.gen(function* () {
      const server = yield* standalone
      const [, messages] = yield* logged(
        Effect.scoped(
          Effect.gen(function* () {
            const { claims } = yield* repositoryOf({ url: Redacted.make(server.url) }, { startup: "fail" })
            const key = freshIds()
            expect(yield* claims.claim(key, claimBy("t"))).toMatchObject({ _tag: "Claimed" })
            const changed = yield* claims.changes(key)
            yield* changed
            yield* Effect.repeat(connections(server), { until: (count) => count === 2 })
          })
        )
      )
      yield* Effect.repeat(connections(server), { until: (count) => count === 0 })
      expect(messages).toEqual([])
    })
  )

  it.scopedLive("a server that is not there is logged; each operation fails at once, and works once it is there", () =>
    Effect.gen(function* () {
      const [repository, messages] = yield* logged(repositoryOf({ url: nobody }))
      expect(messages).toEqual([expect.stringMatching(/^WARN idempotency: the store cannot be reached yet/)])
      const [took, error] = yield* Effect.timed(Effect.flip(repository.claims.claim(freshIds(), claimBy("t"))))
      expect(error).toMatchObject({ reason: "Unavailable", applied: "no" })
      expect(String(error.cause)).toContain("ECONNREFUSED")
      expect(Duration.toMillis(took)).toBeLessThan(500)
    })
  )

  it.scopedLive("after an outage it works again by itself", () =>
    Effect.gen(function* () {
      const server = yield* standalone
      const repository = yield* repositoryOf({ options: { host: "127.0.0.1", port: server.port } })
      yield* server.command("client", "kill", "type", "normal", "skipme", "yes")
      const key = freshIds()
      const claim = repository.claims.claim(key, claimBy("t"))
      expect(
        yield* Effect.retry(claim, { times: 50, while: () => Effect.as(Effect.sleep("20 millis"), true) })
      ).toMatchObject({
        attempt: 1
      })
    })
  )

  it.scopedLive("asked to, it fails where there is no server, or one that refuses", () =>
    Effect.gen(function* () {
      const fails = (target: Target, settings: Settings = {}) =>
        Effect.flip(Effect.scoped(repositoryOf(target, { startup: "fail", ...settings })))
      expect(yield* fails({ url: nobody })).toMatchObject({ method: "connect", reason: "Unavailable", applied: "no" })
      expect(yield* fails({ nodes: [{ host: "127.0.0.1", port: 1 }] })).toMatchObject({
        reason: "Unavailable",
        applied: "no"
      })
      const { port } = yield* standaloneWith("--requirepass", "secret")
      expect(yield* fails({ url: `redis://127.0.0.1:${port}` })).toMatchObject({
        reason: "Misconfigured",
        applied: "no"
      })
      expect(yield* fails({ url: `redis://:wrong@127.0.0.1:${port}` })).toMatchObject({
        reason: "Misconfigured",
        applied: "no"
      })
      yield* Effect.scoped(repositoryOf({ url: `redis://:secret@127.0.0.1:${port}` }, { startup: "fail" }))
    })
  )

  it.scopedLive("a wrong password stays a misconfiguration while the layer lives", () =>
    Effect.gen(function* () {
      const { port } = yield* standaloneWith("--requirepass", "secret")
      const [repository, messages] = yield* logged(repositoryOf({ url: `redis://:wrong@127.0.0.1:${port}` }))
      expect(messages).toEqual([expect.stringMatching(/^ERROR idempotency: the store refuses its work/)])
      const error = yield* Effect.flip(repository.claims.claim(freshIds(), claimBy("t")))
      expect(error).toMatchObject({ reason: "Misconfigured", applied: "no" })
    })
  )

  it.scopedLive(
    "a server that accepts but does not answer delays the start only so long",
    () =>
      Effect.gen(function* () {
        const server = yield* standalone
        yield* server.signal("SIGSTOP")
        yield* Effect.addFinalizer(() => server.signal("SIGCONT"))
        const options = { startupTimeout: "200 millis" } as const
        const error = yield* Effect.flip(
          Effect.scoped(repositoryOf({ url: server.url }, { ...options, startup: "fail" }))
        )
        expect(error).toMatchObject({ reason: "Timeout", applied: "no" })
        const [, messages] = yield* logged(repositoryOf({ url: server.url }, options))
        expect(messages).toHaveLength(1)
      }),
    // The start and the end of a layer are bounded, however long the client would wait.
    8000
  )

  it.scopedLive("a server that evicts is warned of, or refused", () =>
    Effect.gen(function* () {
      const { command, url } = yield* standaloneWith("--maxmemory-policy", "allkeys-lru")
      const [, messages] = yield* logged(Effect.scoped(repositoryOf({ url })))
      expect(messages).toEqual([expect.stringMatching(/^WARN idempotency: the store may lose records/)])
      const error = yield* Effect.flip(Effect.scoped(repositoryOf({ url }, { eviction: "fail" })))
      expect(error).toMatchObject({ reason: "Misconfigured" })
      expect(String(error.cause)).toContain("allkeys-lru")
      yield* command("acl", "setuser", "default", "-config")
      yield* Effect.scoped(repositoryOf({ url }, { eviction: "fail" }))
    })
  )

  it.scopedLive("what was sent before an outage and not answered is not sent again after it", () =>
    Effect.gen(function* () {
      const server = yield* standalone
      const proxy = yield* tcpProxy(server.port)
      const { claims, inspect } = yield* repositoryOf({ url: `redis://127.0.0.1:${proxy.port}` }, { startup: "fail" })
      yield* claims.claim(freshIds(), claimBy("t"))
      const key = freshIds()
      yield* proxy.loseRequest((request) => {
        const isClaim = request.includes(key.idempotencyKey)
        if (isClaim) Effect.runSync(proxy.cut)
        return isClaim
      })
      const failed = yield* Effect.exit(Effect.timeout(claims.claim(key, claimBy("t")), "2 seconds"))
      expect(Exit.isFailure(failed)).toBe(true)
      expect(proxy.lost()).toBe(1)
      // The client tries to reconnect some times, and is cut off each time.
      yield* Effect.sleep("500 millis")
      yield* proxy.mend
      yield* Effect.retry(claims.claim(freshIds(), claimBy("t")), Schedule.spaced("20 millis"))
      expect(yield* inspect(key)).toEqual(Option.none())
    })
  )

  it.scopedLive("a cluster is found from any of its nodes", () =>
    Effect.gen(function* () {
      const { nodes } = yield* cluster
      const [, messages] = yield* logged(
        Effect.scoped(
          Effect.gen(function* () {
            const { claims } = yield* repositoryOf({ nodes: nodes.slice(4) }, { startup: "fail" })
            const keys = Array.from({ length: 30 }, freshIds)
            const replies = yield* Effect.forEach(keys, (key) => claims.claim(key, claimBy("t")), {
              concurrency: "unbounded"
            })
            expect(new Set(replies.map(({ _tag }) => _tag))).toEqual(new Set(["Claimed"]))
          })
        )
      )
      expect(messages).toEqual([])
    })
  )
})

describe("layer", () => {
  it.scopedLive("leaves the user's client open", () =>
    Effect.gen(function* () {
      const server = yield* standalone
      for (const { ioredis } of majors) {
        const redis = yield* nodeClient(ioredis, server.port)
        const save = Effect.gen(function* () {
          const { claims } = yield* IdempotencyRepository
          const outcome = { _tag: "Success", encoded: "1" } as const
          return yield* claims.complete(freshIds(), { token: "t", outcome, fingerprint: undefined, retention: minute })
        })
        const once = Effect.provide(save, RedisIdempotencyRepository.layer({ redis, keyPrefix: "once:" }))
        expect(yield* once).toMatchObject({ _tag: "Done" })
        expect(yield* once).toMatchObject({ _tag: "Done" })
      }
      expect(yield* server.command("dbsize")).toBe(4)
    })
  )
})

describe("layerConfig", () => {
  it.scopedLive("reads where the server is", () =>
    Effect.gen(function* () {
      const { command, url } = yield* standalone
      const layer = RedisIdempotencyRepository.layerConfig({
        url: Config.redacted("REDIS_URL"),
        keyPrefix: Config.withDefault(Config.string("REDIS_PREFIX"), "once:"),
        startup: Config.succeed("fail")
      })
      const get = Effect.flatMap(IdempotencyRepository, (repository) =>
        Effect.zipRight(repository.claims.claim(freshIds(), claimBy("t")), repository.get(freshIds()))
      )
      const withUrl = (entries: ReadonlyArray<readonly [string, string]>) =>
        Effect.provide(Effect.provide(get, layer), Layer.setConfigProvider(ConfigProvider.fromMap(new Map(entries))))
      expect(yield* withUrl([["REDIS_URL", url]])).toEqual(Option.none())
      expect(String(yield* command("keys", "*"))).toMatch(/^once:payment\.charge:/)
      expect(yield* Effect.flip(withUrl([]))).toMatchObject({ _op: "MissingData" })
      expect(yield* Effect.flip(withUrl([["REDIS_URL", nobody]]))).toMatchObject({ _tag: "IdempotencyStorageError" })
    })
  )
})

describe("types", () => {
  it("a layer fails only where it was asked to", () => {
    const { layerClient, layerConfig, layerFrom } = RedisIdempotencyRepository
    type Never = Layer.Layer<IdempotencyRepository>
    type Fails = Layer.Layer<IdempotencyRepository, IdempotencyStorageError>
    expectTypeOf(layerClient({ url: nobody })).toEqualTypeOf<Never>()
    expectTypeOf(layerClient({ url: nobody, startup: "log", eviction: "warn" })).toEqualTypeOf<Never>()
    expectTypeOf(layerClient({ options: { host: "h" }, keyPrefix: "p" })).toEqualTypeOf<Never>()
    expectTypeOf(layerClient({ nodes: [{ host: "h", port: 1 }], startup: "fail" })).toEqualTypeOf<Fails>()
    expectTypeOf(layerClient({ url: nobody, eviction: "fail" })).toEqualTypeOf<Fails>()
    const startup: "log" | "fail" = Math.random() < 2 ? "log" : "fail"
    expectTypeOf(layerClient({ url: nobody, startup })).toEqualTypeOf<Fails>()
    expectTypeOf(layerFrom({ url: nobody, startup: "fail" })).toEqualTypeOf<Fails>()
    expectTypeOf(layerConfig({ url: Config.string("URL") })).toEqualTypeOf<
      Layer.Layer<IdempotencyRepository, ConfigError | IdempotencyStorageError>
    >()
    // @ts-expect-error: a misspelt option
    layerClient({ url: nobody, startUp: "fail" })
  })
})
