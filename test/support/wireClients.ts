/** Each kind of client of a Redis and of a cluster behind proxies, and callers that use it or go past them. */
import { randomUUID } from "node:crypto"
import * as Array from "effect/Array"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as five from "ioredis"
import * as six from "ioredis-6"
import {
  type IdempotencyError,
  IdempotencyIdentifiers,
  IdempotencyRepository,
  IdempotentExecution,
  withIdempotencyOutcome
} from "../../src/index.js"
import type { Constructors, Target } from "../../src/internal/redis/connection.js"
import { makeOwning } from "../../src/internal/redis/make.js"
import {
  type RedisClusterOptions,
  RedisIdempotencyRepository,
  type RedisIdempotencyRepositoryOptions
} from "../../src/redis.js"
import { type Charge, charge, operation, type Services, until } from "./clusterClients.js"
import { processOver, type RedisCluster, type RedisServer, scopedClient } from "./redisServers.js"
import { type TcpProxy, tcpProxy } from "./tcpProxy.js"
import type { Ledger } from "./workers.js"

type Settings = RedisIdempotencyRepositoryOptions
type Repository = Layer.Layer<IdempotencyRepository, unknown>
type Opened = Effect.Effect<Repository, never, Scope.Scope>
type NatMap = NonNullable<RedisClusterOptions["natMap"]>

interface Kind {
  readonly node: (at: Address, settings: Settings) => Opened
  readonly cluster: (at: ReadonlyArray<Address>, natMap: NatMap, settings: Settings) => Opened
}

interface Address {
  readonly host: string
  readonly port: number
}

/** As users make it: nothing set but where the servers are. */
const byDefault = ({ Cluster, Redis }: Constructors): Kind => {
  const over = (
    open: () => InstanceType<Constructors["Redis"]> | InstanceType<Constructors["Cluster"]>,
    settings: Settings
  ) => Effect.map(scopedClient(open), (redis) => RedisIdempotencyRepository.layer({ redis, ...settings }))
  return {
    node: (at, settings) => over(() => new Redis(at), settings),
    cluster: (at, natMap, settings) => over(() => new Cluster([...at], { natMap }), settings)
  }
}

/** As `layerClient` makes it, of either major. */
const byLibrary = (constructors: Constructors): Kind => {
  const over = (target: Target, settings: Settings) =>
    Effect.succeed(Layer.scoped(IdempotencyRepository, makeOwning(constructors, target, settings)))
  return {
    node: (options, settings) => over({ options }, settings),
    cluster: (nodes, natMap, settings) => over({ nodes, options: { natMap } }, settings)
  }
}

const kinds = {
  "ioredis 5 with its default options": byDefault(five),
  "ioredis 6 with its default options": byDefault(six),
  "the library's client on ioredis 5": byLibrary(five),
  "the library's client on ioredis 6": byLibrary(six)
}

export type KindOfClient = keyof typeof kinds

/** A client that notices by itself that its connection no longer answers. */
export const replacesConnections = (kind: KindOfClient): boolean => kind.startsWith("the library's")

/** Proxies of one's own before a store, and a client that knows nothing of what is behind them. */
export interface Wire {
  readonly kind: KindOfClient
  /** Before the server of a key. */
  readonly proxyOf: (key: string) => TcpProxy
  readonly proxies: ReadonlyArray<TcpProxy>
  readonly open: (settings: Settings) => Opened
}

export interface Store {
  readonly wire: (kind: KindOfClient) => Effect.Effect<Wire, never, Scope.Scope>
  /** Past the proxies. */
  readonly direct: Repository
}

/** Connected before they are used, however long that takes on a loaded machine. */
const connected = { startup: "fail", startupTimeout: "20 seconds" } as const

export const onNode = ({ port, url }: RedisServer): Store => ({
  wire: (kind) =>
    Effect.map(tcpProxy(port), (proxy) => ({
      kind,
      proxyOf: () => proxy,
      proxies: [proxy],
      open: (settings) => kinds[kind].node({ host: "127.0.0.1", port: proxy.port }, settings)
    })),
  direct: RedisIdempotencyRepository.layerClient({ url, ...connected })
})

export const onCluster = ({ nodes, primaryOf }: RedisCluster): Store => ({
  wire: (kind) =>
    Effect.gen(function* () {
      const proxies = yield* Effect.forEach(nodes, ({ port }) => tcpProxy(port))
      const at = proxies.map(({ port }) => ({ host: "127.0.0.1", port }))
      const natMap = Object.fromEntries(
        Array.zip(nodes, at).map(([{ host, port }, address]) => [`${host}:${port}`, address])
      )
      return {
        kind,
        proxyOf: (key) => Array.unsafeGet(proxies, primaryOf(`idempotency:${operation}:${key}`)),
        proxies,
        open: (settings) => kinds[kind].cluster(at, natMap, settings)
      }
    }),
  direct: RedisIdempotencyRepository.layerClient({ nodes, ...connected })
})

/** What a caller asks of the engine about failures; the first two are at-least-once. */
export type Policy = "proceed" | "fail" | "at-most-once"

/** What a call ended with: the tag of its outcome, and the value; or the tag of its error. */
export interface Told {
  readonly as: string
  readonly value?: unknown
}

/** How long the store may take, and leases hold. */
export interface Pace {
  readonly storageTimeout: number
  readonly lease: number
}

interface Tagged {
  readonly _tag: string
}

const protectedBy = (
  { effect, key }: Charge,
  policy: Policy,
  lease: number
): Effect.Effect<Tagged & { readonly value: unknown }, Tagged, Services> =>
  policy === "proceed"
    ? withIdempotencyOutcome(effect, operation, key, { lease })
    : withIdempotencyOutcome(effect, operation, key, {
        lease,
        onStorageFailure: "fail",
        guarantee: policy === "fail" ? "at-least-once" : policy
      })

/** An engine over a client of its own, as a process would have. */
export interface Party {
  readonly call: (one: Charge, policy: Policy) => Effect.Effect<Told>
  /** What the store holds under a key. */
  readonly state: (key: string) => Effect.Effect<Option.Option<IdempotencyRepository.State>, IdempotencyError>
}

export const party = (
  repository: Repository,
  { lease, storageTimeout }: Pace
): Effect.Effect<Party, never, Scope.Scope> =>
  Effect.map(
    processOver(repository, { storageTimeout }),
    (run): Party => ({
      call: (one, policy) =>
        Effect.match(run(protectedBy(one, policy, lease)), {
          onFailure: ({ _tag }): Told => ({ as: _tag }),
          onSuccess: ({ _tag, value }): Told => ({ as: _tag, value })
        }),
      state: (key) =>
        run(
          Effect.gen(function* () {
            const { inspect } = yield* IdempotencyRepository
            return yield* inspect(yield* IdempotencyIdentifiers.from({ operation, idempotencyKey: key }))
          })
        )
    })
  )

/** A fresh key, with one caller by way of proxies and another past them. */
export interface Scene {
  readonly kind: KindOfClient
  readonly key: string
  readonly caller: Party
  readonly other: Party
  /** Before the server of the key. */
  readonly proxy: TcpProxy
  /** Of the whole store. */
  readonly all: (what: (proxy: TcpProxy) => Effect.Effect<void>) => Effect.Effect<void>
  /** An effect under the key, that ends when it is told to. */
  readonly begin: Effect.Effect<Charge & { readonly attempt: () => number | undefined }>
  /** One that ends by itself. */
  readonly effect: Effect.Effect<Charge>
  readonly runs: () => number
  /** The same under another key. */
  readonly another: Effect.Effect<Scene>
}

const keyLike = ({ proxyOf }: Wire, key: string): string => {
  for (;;) {
    const another = randomUUID()
    if (proxyOf(another) === proxyOf(key)) return another
  }
}

/** The caller is connected, and the server knows the scripts; unless something happens before it has a client. */
export const setScene = (
  wire: Wire,
  other: Party,
  book: Ledger,
  pace: Pace,
  before: ((proxy: TcpProxy) => Effect.Effect<void>) | undefined
): Effect.Effect<Scene, never, Scope.Scope> =>
  Effect.gen(function* () {
    const key = randomUUID()
    const all: Scene["all"] = (what) => Effect.forEach(wire.proxies, what, { discard: true })
    if (before !== undefined) yield* all(before)
    const caller = yield* party(
      yield* wire.open(before === undefined ? connected : { startupTimeout: "200 millis" }),
      pace
    )
    const ending = (key: string) => Effect.tap(charge(book, key), ({ end }) => end)
    if (before === undefined) {
      const first = Effect.flatMap(ending(keyLike(wire, key)), (one) => caller.call(one, "fail"))
      yield* until(
        "the server knows the scripts",
        Effect.map(first, ({ as }) => as === "Executed" || as === "Replayed")
      )
    }
    const under = (key: string): Scene => ({
      kind: wire.kind,
      key,
      caller,
      other,
      proxy: wire.proxyOf(key),
      all,
      begin: Effect.map(charge(book, key), (one) => {
        let attempt: number | undefined
        const effect = Effect.tap(IdempotentExecution, (execution) => {
          attempt = execution.attempt
        })
        return { ...one, effect: Effect.zipRight(effect, one.effect), attempt: () => attempt }
      }),
      effect: ending(key),
      runs: () => book.runs(key),
      another: Effect.sync(() => under(keyLike(wire, key)))
    })
    return under(key)
  })
