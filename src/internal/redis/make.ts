import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { IdempotencyStorageError } from "../../IdempotencyError.js"
import { IdempotencyRepository } from "../../IdempotencyRepository.js"
import type { RedisClient } from "./client.js"
import { type Constructors, makeOwned, type Target } from "./connection.js"
import { makeRedisDriver } from "./driver.js"
import { checkAtStartup } from "./probe.js"
import { makeRedisChanges } from "./subscriber.js"

/** Options of every layer, as its users give them. */
export interface Settings {
  readonly keyPrefix?: string | undefined
  readonly startup?: "log" | "fail" | undefined
  readonly eviction?: "warn" | "fail" | undefined
  readonly startupTimeout?: Duration.DurationInput | undefined
  readonly operationTimeout?: Duration.DurationInput | undefined
}

type Made = Effect.Effect<Context.Tag.Service<IdempotencyRepository>, IdempotencyStorageError, Scope.Scope>

const make = (
  client: RedisClient,
  connect: Effect.Effect<void, IdempotencyStorageError>,
  explain: ((error: unknown) => unknown) | undefined,
  {
    eviction = "warn",
    keyPrefix = "idempotency:",
    operationTimeout,
    startup = "log",
    startupTimeout = "2 seconds"
  }: Settings
): Made =>
  Effect.gen(function* () {
    const changes = yield* makeRedisChanges(client)
    const { driver, probe } = makeRedisDriver(client, keyPrefix, changes, explain)
    yield* checkAtStartup(client, Effect.zipRight(connect, probe), {
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
