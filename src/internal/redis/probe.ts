import * as Array from "effect/Array"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import { IdempotencyStorageError } from "../../IdempotencyError.js"
import { logsAboutStore } from "../tracing.js"
import { isCluster, type RedisClient, type RedisNodeClient } from "./client.js"

export interface StartupOptions {
  readonly startup: "log" | "fail"
  readonly eviction: "warn" | "fail"
  readonly startupTimeout: Duration.Duration
}

const parameter = "maxmemory-policy"

/** `undefined` where the server does not say: its administrator may have forbidden the question. */
const policyOf = (node: RedisNodeClient): Effect.Effect<string | undefined> =>
  Effect.orElseSucceed(
    Effect.map(
      Effect.tryPromise(() => node.config("GET", parameter)),
      (reply) => {
        // A client of RESP3 gives a map.
        const policy: unknown = Predicate.hasProperty(reply, parameter)
          ? reply[parameter]
          : globalThis.Array.isArray(reply)
            ? reply[1]
            : undefined
        return typeof policy === "string" ? policy : undefined
      }
    ),
    () => undefined
  )

const isEvicting = (policy: string | undefined): policy is string => policy !== undefined && policy !== "noeviction"

const evicting = (client: RedisClient): Effect.Effect<ReadonlyArray<string>> =>
  Effect.map(
    Effect.forEach(isCluster(client) ? client.nodes("master") : [client], policyOf, { concurrency: "unbounded" }),
    (policies) => Array.dedupe(policies.filter(isEvicting))
  )

const evictionError = (policies: ReadonlyArray<string>): IdempotencyStorageError =>
  new IdempotencyStorageError({
    operation: "",
    method: "probe",
    reason: "Misconfigured",
    applied: "no",
    cause: new Error(
      `maxmemory-policy is ${policies.join(", ")}: Redis may drop claims and recorded results; set it to noeviction`
    )
  })

const aboutRedis = logsAboutStore("redis")

const timedOut = (): IdempotencyStorageError =>
  new IdempotencyStorageError({ operation: "", method: "probe", reason: "Timeout", applied: "no" })

/**
 * Finds out at start-up, in bounded time, what would fail later: whether the server answers, permits and understands,
 * and whether it may drop records. What is not asked to fail is logged.
 */
export const checkAtStartup = (
  client: RedisClient,
  probe: Effect.Effect<void, IdempotencyStorageError>,
  { eviction, startup, startupTimeout }: StartupOptions
): Effect.Effect<void, IdempotencyStorageError> =>
  Effect.matchEffect(Effect.timeoutFail(probe, { duration: startupTimeout, onTimeout: timedOut }), {
    onFailure: (error) =>
      startup === "fail"
        ? Effect.fail(error)
        : error.reason === "Misconfigured"
          ? aboutRedis(Effect.logError("idempotency: the store refuses its work", error))
          : aboutRedis(
              Effect.logWarning("idempotency: the store cannot be reached yet; operations fail until it can", error)
            ),
    onSuccess: () =>
      Effect.flatMap(
        Effect.timeoutTo(evicting(client), {
          duration: startupTimeout,
          onTimeout: (): ReadonlyArray<string> => [],
          onSuccess: (policies) => policies
        }),
        (policies) => {
          if (policies.length === 0) return Effect.void
          const error = evictionError(policies)
          return eviction === "fail"
            ? Effect.fail(error)
            : aboutRedis(Effect.logWarning("idempotency: the store may lose records", error))
        }
      )
  })
