import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { type IdempotencyStorageError, IdempotencyValidationError } from "../../IdempotencyError.js"
import { IdempotencyMetrics } from "../../IdempotencyMetrics.js"
import { IdempotencyRepository } from "../../IdempotencyRepository.js"
import { longestTimer, readOptions } from "../options.js"
import { metricsFromBeneath } from "../policyAndMetrics.js"
import { unfailingMetrics } from "../unfailing.js"
import { isCluster, type RedisClient } from "./client.js"
import { makeConfirming } from "./confirming.js"
import { type Constructors, makeOwned, type Target } from "./connection.js"
import { type Durable, makeRedisDriver } from "./driver.js"
import { storageError } from "./errors.js"
import { checkAtStartup } from "./probe.js"
import { makeRedisChanges } from "./subscriber.js"

/** Options of every layer, as its users give them. */
export interface Settings {
  readonly keyPrefix?: string | undefined
  readonly startup?: "log" | "fail" | undefined
  readonly eviction?: "warn" | "fail" | undefined
  readonly startupTimeout?: Duration.DurationInput | undefined
  readonly operationTimeout?: Duration.DurationInput | undefined
  readonly durability?: DurabilitySettings | undefined
}

/** How many replicas confirm, and within what time. */
export interface DurabilitySettings {
  readonly replicas: number
  readonly timeout: Duration.DurationInput
}

type Made = Effect.Effect<Context.Tag.Service<IdempotencyRepository>, IdempotencyStorageError, Scope.Scope>

const makeDurable = (
  client: RedisClient,
  { replicas, timeout }: DurabilitySettings
): Effect.Effect<Durable, IdempotencyValidationError, Scope.Scope> =>
  Effect.gen(function* () {
    const durability = yield* readOptions(({ duration, whole }) => ({
      replicas: whole("durability.replicas", replicas),
      timeout: duration("durability.timeout", timeout, longestTimer / 3)
    }))
    if (isCluster(client)) {
      const issues = ["durability is not for a Cluster: WAIT names no key, so no client can send it after one"]
      return yield* Effect.fail(new IdempotencyValidationError({ operation: "", issues }))
    }
    const metrics = unfailingMetrics(Context.get(yield* Layer.build(metricsFromBeneath), IdempotencyMetrics))
    return {
      confirming: yield* makeConfirming(client, durability),
      recordUnconfirmed: (operation) => metrics.recordError(operation, "Unconfirmed")
    }
  })

const make = (
  client: RedisClient,
  connect: Effect.Effect<void, IdempotencyStorageError>,
  explain: ((error: unknown) => unknown) | undefined,
  {
    durability,
    eviction = "warn",
    keyPrefix = "idempotency:",
    operationTimeout,
    startup = "log",
    startupTimeout = "2 seconds"
  }: Settings
): Made =>
  Effect.gen(function* () {
    const changes = yield* makeRedisChanges(client)
    // A mistake of the program, like a type that does not fit: no layer says in its type that it makes one.
    const durable = durability === undefined ? undefined : yield* Effect.orDie(makeDurable(client, durability))
    const { driver, probe } = makeRedisDriver(client, keyPrefix, changes, explain, durable)
    const connectBoth =
      durable === undefined
        ? connect
        : Effect.zipRight(connect, Effect.mapError(durable.confirming.connect, storageError("", "connect")))
    yield* checkAtStartup(client, Effect.zipRight(connectBoth, probe), {
      eviction,
      startup,
      startupTimeout: Duration.decode(startupTimeout)
    })
    return yield* IdempotencyRepository.make(driver, { operationTimeout })
  })

/** Over a client that somebody else opened and will close. */
export const makeOver = (client: RedisClient, settings: Settings): Made =>
  make(client, Effect.void, undefined, settings)

/** Over a client of our own, closed with the scope. */
export const makeOwning = (constructors: Constructors, target: Target, settings: Settings): Made =>
  Effect.flatMap(makeOwned(constructors, target), ({ client, connect, explain }) =>
    make(client, connect, explain, settings)
  )
