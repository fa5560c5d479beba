/** The engine over each kind of client of a cluster, with a ledger for what runs under it. */
import { randomUUID } from "node:crypto"
import { closeSync, fsyncSync, openSync, writeSync } from "node:fs"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { Cluster } from "ioredis"
import { Cluster as Cluster6 } from "ioredis-6"
import {
  Idempotency,
  IdempotencyDomainService,
  type IdempotencyEngineOptions,
  IdempotencyMetrics,
  type IdempotencyRepository,
  IdempotentExecution
} from "../../src/index.js"
import { slotOf } from "../../src/internal/redis/slots.js"
import { RedisIdempotencyRepository, type RedisIdempotencyRepositoryOptions } from "../../src/redis.js"
import { type RedisCluster, scopedClient } from "./redisServers.js"
import type { Ledger } from "./workers.js"

export const operation = "payment.charge"

type Nodes = RedisCluster["nodes"]
type Repository = Layer.Layer<IdempotencyRepository, unknown>

/** Connected before they are used, however long that takes on a loaded machine. */
const patient = { startup: "fail", startupTimeout: "20 seconds" } as const

const kinds: Readonly<
  Record<
    string,
    (nodes: Nodes, options: RedisIdempotencyRepositoryOptions) => Effect.Effect<Repository, never, Scope.Scope>
  >
> = {
  "ioredis 5": (nodes, options) =>
    Effect.map(
      scopedClient(() => new Cluster([...nodes])),
      (redis) => RedisIdempotencyRepository.layer({ redis, ...options, ...patient })
    ),
  "ioredis 6": (nodes, options) =>
    Effect.map(
      scopedClient(() => new Cluster6([...nodes])),
      (redis) => RedisIdempotencyRepository.layer({ redis, ...options, ...patient })
    ),
  "the library's": (nodes, options) =>
    Effect.succeed(RedisIdempotencyRepository.layerClient({ nodes, ...options, ...patient }))
}

export type Services = Idempotency | IdempotencyRepository

/** An engine over a client of its own, as a process would have. */
export interface Process {
  readonly kind: string
  readonly run: <A, E>(effect: Effect.Effect<A, E, Services>) => Effect.Effect<A, E>
}

/** A process for each kind of client: `ioredis` 5 and 6 with their default options, and the library's own. */
export const processes = (
  nodes: Nodes,
  engine: IdempotencyEngineOptions,
  store: RedisIdempotencyRepositoryOptions = {}
): Effect.Effect<ReadonlyArray<Process>, never, Scope.Scope> =>
  Effect.forEach(Object.entries(kinds), ([kind, repositoryOf]) =>
    Effect.gen(function* () {
      const services = yield* Idempotency.layerWith({ retry: Schedule.spaced("100 millis"), ...engine }).pipe(
        Layer.provideMerge(yield* repositoryOf(nodes, store)),
        Layer.provide([IdempotencyDomainService.layer, IdempotencyMetrics.layerNoop]),
        Layer.build,
        Effect.orDie
      )
      return { kind, run: Effect.provide(services) }
    })
  )

const matching = (fits: (stored: string) => boolean): string => {
  for (;;) {
    const key = randomUUID()
    if (fits(`idempotency:${operation}:${key}`)) return key
  }
}

/** A fresh key of a primary. */
export const keyOn = ({ primaryOf }: RedisCluster, primary: number): string =>
  matching((stored) => primaryOf(stored) === primary)

/** A fresh key of a slot. */
export const keyIn = (slot: number): string => matching((stored) => slotOf(stored) === slot)

const append = (path: string, line: string): void => {
  const file = openSync(path, "a")
  writeSync(file, `${line}\n`)
  fsyncSync(file)
  closeSync(file)
}

/** An effect that says when it has begun, and ends when it is told to, so much later. */
export interface Charge {
  readonly key: string
  readonly begun: Effect.Effect<void>
  readonly end: Effect.Effect<void>
  readonly effect: Effect.Effect<{ readonly key: string; readonly receipt: string }, never, IdempotentExecution>
}

/** No two runs give the same, so that it shows if there were two. */
export const charge = ({ path }: Ledger, key: string, millis = 0): Effect.Effect<Charge> =>
  Effect.gen(function* () {
    const began = yield* Deferred.make<void>()
    const told = yield* Deferred.make<void>()
    return {
      key,
      begun: Deferred.await(began),
      end: Effect.asVoid(Deferred.succeed(told, undefined)),
      effect: Effect.flatMap(IdempotentExecution, ({ attempt }) =>
        Effect.sync(() => append(path, key)).pipe(
          Effect.zipRight(Deferred.succeed(began, undefined)),
          Effect.zipRight(Deferred.await(told)),
          Effect.zipRight(Effect.sleep(millis)),
          Effect.map(() => ({ key, receipt: `${randomUUID()}, attempt ${attempt}` }))
        )
      )
    }
  })

/** For what the servers do in their own time. */
export const until = <E>(what: string, holds: Effect.Effect<boolean, E>) =>
  holds.pipe(
    Effect.orElseSucceed(() => false),
    Effect.repeat({ until: (is) => is, schedule: Schedule.spaced("25 millis") }),
    Effect.timeoutFail({ duration: "60 seconds", onTimeout: () => new Error(`it did not happen: ${what}`) }),
    Effect.orDie
  )

/** All processes but one. */
export const others = (all: ReadonlyArray<Process>, one: Process): ReadonlyArray<Process> =>
  all.filter((other) => other !== one)
