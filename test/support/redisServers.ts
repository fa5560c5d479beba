/**
 * Redis servers for tests, each on free loopback ports and in a directory of its own, stopped with the scope.
 *
 * The binary is `REDIS_SERVER`, else `redis-server` or `valkey-server` on the `PATH`; on Debian and Ubuntu, as root, it
 * is installed once; else starting a server is a defect that names the three ways to get one.
 */
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { Redis } from "ioredis"
import {
  Idempotency,
  IdempotencyDomainService,
  type IdempotencyEngineOptions,
  IdempotencyMetrics,
  type IdempotencyRepository
} from "../../src/index.js"
import { slotOf } from "../../src/internal/redis/slots.js"
import { directoryFor, freePort, installOnce, isExecutable, onPath, runServer } from "./servers.js"

export interface RedisServer {
  readonly host: "127.0.0.1"
  readonly port: number
  readonly url: string
  /** Of the process that runs now: a restart makes another. */
  readonly pid: number
  /** Sends a signal to the server: `SIGSTOP` and `SIGCONT` for a pause, `SIGKILL` for a crash. */
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
  /** Kills the server and starts it again, on the same port and with what it has written to its directory. */
  readonly restart: Effect.Effect<void>
  /** Commands to the server from a connection of its own, as `redis-cli` would send them. */
  readonly command: (name: string, ...args: ReadonlyArray<string | number>) => Effect.Effect<unknown>
}

/** A primary, its replicas in step, and three sentinels that watch it. */
export interface RedisSentinels {
  readonly name: string
  readonly primary: RedisServer
  readonly replicas: ReadonlyArray<RedisServer>
  readonly sentinels: ReadonlyArray<{ readonly host: string; readonly port: number }>
}

export interface RedisCluster {
  /** Three primaries, then their replicas in the same order. */
  readonly servers: ReadonlyArray<RedisServer>
  readonly nodes: ReadonlyArray<{ readonly host: string; readonly port: number }>
  /** The primary that a key is on as the cluster starts, by its number. */
  readonly primaryOf: (key: string) => number
}

const anyOnPath = (): string | undefined => onPath("redis-server") ?? onPath("valkey-server")

const findBinary = (): string => {
  const named = process.env["REDIS_SERVER"]
  if (named !== undefined && named !== "") {
    if (isExecutable(named)) return named
    throw new Error(`REDIS_SERVER is not an executable file: ${named}`)
  }
  const found = installOnce("redis-server", anyOnPath)
  if (found !== undefined) return found
  throw new Error(
    "These tests need a Redis server: put redis-server or valkey-server on the PATH, name the binary in REDIS_SERVER, or run them as root on Debian or Ubuntu"
  )
}

let binary: string | undefined
const serverBinary = (): string => {
  binary ??= findBinary()
  return binary
}

/** A node of a cluster also listens this much higher. */
const busOffset = 10_000

const client = (port: number): Redis => {
  const redis = new Redis({
    port,
    host: "127.0.0.1",
    lazyConnect: true,
    retryStrategy: null,
    enableReadyCheck: false,
    connectTimeout: 1000
  })
  redis.on("error", () => {})
  return redis
}

const runCommand = (
  port: number,
  name: string,
  args: ReadonlyArray<string | number>
): Effect.Effect<unknown, unknown> =>
  Effect.acquireUseRelease(
    Effect.sync(() => client(port)),
    (redis) => Effect.tryPromise({ try: () => redis.call(name, ...args), catch: (error) => error }),
    (redis) => Effect.sync(() => redis.disconnect())
  )

/** A server that asks for a password, or waits for its primary, has started. */
const isAnswer = (error: unknown): boolean =>
  error instanceof Error && error.name === "ReplyError" && !error.message.startsWith("LOADING")

const start = (
  argsIn: (directory: string) => ReadonlyArray<string>
): Effect.Effect<RedisServer, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const port = yield* Effect.promise(() => freePort(busOffset))
    const directory = yield* directoryFor("redis")
    const server = yield* runServer({
      name: "Redis",
      binary: serverBinary(),
      args: [...argsIn(directory), "--port", `${port}`, "--bind", "127.0.0.1", "--dir", directory],
      directory,
      answers: Effect.catchIf(runCommand(port, "ping", []), isAnswer, Effect.succeed)
    })
    return {
      host: "127.0.0.1",
      port,
      url: `redis://127.0.0.1:${port}`,
      get pid() {
        return server.pid
      },
      signal: server.signal,
      restart: Effect.orDie(server.restart),
      command: (name, ...rest) => Effect.orDie(runCommand(port, name, rest))
    } satisfies RedisServer
  })

/** One server, with arguments of its command line beside those of every test's server. */
export const standaloneWith = (...args: ReadonlyArray<string>): Effect.Effect<RedisServer, never, Scope.Scope> =>
  Effect.orDie(start(() => ["--save", "", "--appendonly", "no", ...args]))

/** One server. */
export const standalone: Effect.Effect<RedisServer, never, Scope.Scope> = standaloneWith()

const until = (what: string, condition: Effect.Effect<boolean>): Effect.Effect<void> =>
  condition.pipe(
    Effect.filterOrFail((holds) => holds),
    Effect.retry(Schedule.intersect(Schedule.spaced("50 millis"), Schedule.recurs(600))),
    Effect.orDieWith(() => new Error(`the servers did not come up: ${what}`)),
    Effect.asVoid
  )

/** A replica of the server, by way of another port if it is given; its primary has heard from it. */
export const replicaOf = (
  { command, port }: RedisServer,
  through: number = port
): Effect.Effect<RedisServer, never, Scope.Scope> =>
  Effect.tap(standaloneWith("--replicaof", "127.0.0.1", `${through}`), (replica) =>
    until(
      "the replica is in step",
      // Until its first word the primary sends it nothing, though its data is there; and it says nothing about nothing.
      Effect.map(Effect.zipRight(command("publish", "", ""), command("info", "replication")), (info) =>
        new RegExp(`port=${replica.port},state=online,offset=[1-9]`).test(String(info))
      )
    )
  )

/** A server whose replicas need not wait for each other before they are sent its data. */
export const primary: Effect.Effect<RedisServer, never, Scope.Scope> = standaloneWith("--repl-diskless-sync-delay", "0")

/** A sentinel keeps what it learns in its configuration, which has to be there. */
const sentinel = Effect.orDie(
  start((directory) => {
    const file = join(directory, "sentinel.conf")
    writeFileSync(file, "")
    return [file, "--sentinel"]
  })
)

const sentinelsOf = (count: number, quorum: number, name: string, watched: RedisServer) =>
  Effect.gen(function* () {
    const sentinels = yield* Effect.all(
      Array.from({ length: count }, () => sentinel),
      { concurrency: "unbounded" }
    )
    for (const { command } of sentinels) {
      yield* command("sentinel", "monitor", name, watched.host, watched.port, quorum)
      yield* command("sentinel", "set", name, "down-after-milliseconds", 1000, "failover-timeout", 5000)
    }
    yield* until(
      "the sentinels know each other and the replica",
      Effect.map(
        Effect.forEach(sentinels, ({ command }) => Effect.map(command("info", "sentinel"), String)),
        (infos) => infos.every((info) => info.includes(`status=ok`) && info.includes(`slaves=1,sentinels=${count}`))
      )
    )
    return sentinels
  })

/** A primary with one replica, watched by three sentinels that fail over after a second. */
export const sentinelSet: Effect.Effect<RedisSentinels, never, Scope.Scope> = Effect.gen(function* () {
  const watched = yield* primary
  const replica = yield* replicaOf(watched)
  const name = "records"
  const sentinels = yield* sentinelsOf(3, 2, name, watched)
  return { name, primary: watched, replicas: [replica], sentinels: sentinels.map(({ host, port }) => ({ host, port })) }
})

const slots = 16_384
const primaries = 3

/** Where the slots of each primary begin, and where they end. */
const firstSlots = Array.from({ length: primaries + 1 }, (_, part) => Math.floor((part * slots) / primaries))

/**
 * A cluster of three primaries with a replica each, whose nodes fail over after 1.5 seconds, with arguments of its
 * command line beside those of every test's server.
 */
export const clusterWith = (...more: ReadonlyArray<string>): Effect.Effect<RedisCluster, never, Scope.Scope> =>
  Effect.gen(function* () {
    const args = [
      "--cluster-enabled",
      "yes",
      "--cluster-node-timeout",
      "1500",
      "--repl-diskless-sync-delay",
      "0",
      ...more
    ]
    const servers = yield* Effect.all(
      Array.from({ length: 2 * primaries }, () => standaloneWith(...args)),
      { concurrency: "unbounded" }
    )
    const ids = yield* Effect.forEach(servers, ({ command }) => Effect.map(command("cluster", "myid"), String))
    for (const [index, { command }] of servers.entries()) {
      yield* command("cluster", "set-config-epoch", index + 1)
      if (index < primaries) {
        const [from, to] = firstSlots.slice(index)
        yield* command(
          "cluster",
          "addslots",
          ...Array.from({ length: (to ?? 0) - (from ?? 0) }, (_, n) => n + (from ?? 0))
        )
      }
    }
    for (const { host, port } of servers.slice(1))
      yield* (servers[0] ?? servers[1])?.command("cluster", "meet", host, port) ?? Effect.void
    const everywhere = (what: string, holds: (info: string) => boolean) =>
      until(
        what,
        Effect.map(
          Effect.forEach(servers, ({ command }) => Effect.map(command("cluster", "info"), String), {
            concurrency: "unbounded"
          }),
          (infos) => infos.every(holds)
        )
      )
    yield* everywhere("nodes know each other", (info) => info.includes(`cluster_known_nodes:${servers.length}`))
    for (const [index, { command }] of servers.slice(primaries).entries()) {
      yield* until(
        "replicas follow",
        Effect.orElseSucceed(
          Effect.as(Effect.sandbox(command("cluster", "replicate", ids[index] ?? "")), true),
          () => false
        )
      )
    }
    yield* everywhere("all slots are served", (info) => info.includes("cluster_state:ok"))
    yield* until(
      "replicas are in step",
      Effect.map(
        Effect.forEach(servers.slice(primaries), ({ command }) => Effect.map(command("info", "replication"), String)),
        (infos) => infos.every((info) => info.includes("master_link_status:up"))
      )
    )
    return {
      servers,
      nodes: servers.map(({ host, port }) => ({ host, port })),
      primaryOf: (key) => firstSlots.findLastIndex((first) => first <= slotOf(key))
    }
  })

/** The same, with nothing more to say. */
export const cluster: Effect.Effect<RedisCluster, never, Scope.Scope> = clusterWith()

/** One server for all tests of a layer. */
export class StandaloneRedis extends Context.Tag("test/StandaloneRedis")<StandaloneRedis, RedisServer>() {
  static readonly layer: Layer.Layer<StandaloneRedis> = Layer.scoped(StandaloneRedis, standalone)
}

/** One cluster for all tests of a layer. */
export class ClusterRedis extends Context.Tag("test/ClusterRedis")<ClusterRedis, RedisCluster>() {
  static readonly layer: Layer.Layer<ClusterRedis> = Layer.scoped(ClusterRedis, cluster)
}

interface Client {
  on(event: "error", listener: () => void): unknown
  disconnect(): void
}

/** A user's client, for the scope; its errors are those of its calls. */
export const scopedClient = <C extends Client>(open: () => C): Effect.Effect<C, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const client = open()
      client.on("error", () => {})
      return client
    }),
    (client) => Effect.sync(() => client.disconnect())
  )

/** Gives an effect the engine of a process, and its store. */
export type Run = <A, E>(effect: Effect.Effect<A, E, Idempotency | IdempotencyRepository>) => Effect.Effect<A, E>

/**
 * An engine over a store of its own, as a process has one. It asks for as long as a server takes to come back, unless it
 * is told otherwise.
 */
export const processOver = (
  repository: Layer.Layer<IdempotencyRepository, unknown>,
  options: IdempotencyEngineOptions = {}
): Effect.Effect<Run, never, Scope.Scope> =>
  Idempotency.layerWith({
    storageTimeout: "20 seconds",
    retry: Schedule.spaced("50 millis"),
    breakerThreshold: 1_000_000,
    ...options
  }).pipe(
    Layer.provideMerge(repository),
    Layer.provide([IdempotencyDomainService.layer, IdempotencyMetrics.layerNoop]),
    Layer.build,
    Effect.orDie,
    Effect.map((services): Run => Effect.provide(services))
  )
