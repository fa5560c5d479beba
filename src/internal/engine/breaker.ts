/** The circuit breaker: while a store is away nobody waits for it anew, until it has answered a probe. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { pipe } from "effect/Function"
import type * as Scope from "effect/Scope"
import type { IdempotencyStorageError } from "../../IdempotencyError.js"
import { IdempotencyIdentifiers } from "../../IdempotencyIdentifiers.js"
import type { IdempotencyRepository } from "../../IdempotencyRepository.js"
import { logsAboutStore } from "../tracing.js"
import { loop } from "./loop.js"
import type { Settings } from "./settings.js"

export interface Breaker {
  /** Whether calls about this key are refused. */
  readonly isOpen: (identifiers: IdempotencyIdentifiers) => boolean
  readonly succeeded: (identifiers: IdempotencyIdentifiers) => void
  /** A copy may have answered: failures that are long ago are not of an outage that goes on. */
  readonly mayHaveSucceeded: (identifiers: IdempotencyIdentifiers, now: number) => void
  readonly failed: (identifiers: IdempotencyIdentifiers, error: IdempotencyStorageError) => Effect.Effect<void>
  /** Asks whether the store answers, for as long as the scope; each probe by this call. */
  readonly probing: (
    read: (identifiers: IdempotencyIdentifiers) => Effect.Effect<unknown, IdempotencyStorageError>
  ) => Effect.Effect<void, never, Scope.Scope>
}

/** What is known of a part of the store that has failed and not answered since. */
interface Circuit {
  failuresInARow: number
  failedAt: number
  isOpen: boolean
  readonly probe: IdempotencyIdentifiers
}

/** Asking for this key shows that the store answers; nothing is ever written under it. */
const reserved = Either.getOrThrow(
  IdempotencyIdentifiers.from({ operation: "idempotency.probe", idempotencyKey: "probe" })
)

/** A store that tells that it did not wait for something, a lock, say, has answered. */
export const saysStoreIsAway = ({ applied, reason }: IdempotencyStorageError): boolean =>
  reason === "Unavailable" || (reason === "Timeout" && applied !== "no")

export const makeBreaker = (
  partOf: IdempotencyRepository.Claims["partOf"],
  settings: Pick<Settings, "breakerThreshold" | "breakerProbeInterval" | "storageTimeout">,
  name: string
): Breaker => {
  /** By the part of the store; of a store without parts there is one at most. */
  const circuits = new Map<string, Circuit>()
  const opened = Effect.unsafeMakeLatch(false)
  const aboutStore = logsAboutStore(name)
  const part = (identifiers: IdempotencyIdentifiers): string => partOf?.(identifiers) ?? ""
  const about =
    (key: string) =>
    (log: Effect.Effect<void>): Effect.Effect<void> =>
      aboutStore(key === "" ? log : Effect.annotateLogs(log, "idempotency.store.part", key))

  const succeeded = (identifiers: IdempotencyIdentifiers): void => {
    if (circuits.size === 0) return
    const key = part(identifiers)
    // Only a probe closes what is open.
    if (circuits.get(key)?.isOpen === false) circuits.delete(key)
  }

  const mayHaveSucceeded: Breaker["mayHaveSucceeded"] = (identifiers, now) => {
    if (circuits.size === 0) return
    const failedAt = circuits.get(part(identifiers))?.failedAt
    if (failedAt !== undefined && now - failedAt > 10 * settings.storageTimeout) succeeded(identifiers)
  }

  const failed: Breaker["failed"] = (identifiers, error) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => {
      if (!saysStoreIsAway(error)) {
        succeeded(identifiers)
        return Effect.void
      }
      const key = part(identifiers)
      const circuit = circuits.get(key) ?? {
        failuresInARow: 0,
        failedAt: now,
        isOpen: false,
        probe: partOf === undefined ? reserved : identifiers
      }
      circuits.set(key, circuit)
      circuit.failuresInARow++
      circuit.failedAt = now
      if (circuit.isOpen || circuit.failuresInARow < settings.breakerThreshold) return Effect.void
      circuit.isOpen = true
      return Effect.zipRight(
        opened.open,
        about(key)(Effect.logWarning("idempotency: the store does not answer; calls go without it until it does"))
      )
    })

  const close = (key: string) =>
    Effect.suspend(() => {
      circuits.delete(key)
      const isAnyOpen = [...circuits.values()].some(({ isOpen }) => isOpen)
      return Effect.zipRight(
        isAnyOpen ? Effect.void : opened.close,
        about(key)(Effect.logInfo("idempotency: the store answers again"))
      )
    })

  return {
    isOpen: (identifiers) => circuits.size > 0 && circuits.get(part(identifiers))?.isOpen === true,
    succeeded,
    mayHaveSucceeded,
    failed,
    probing: (read) =>
      loop(
        "breaker",
        pipe(
          opened.await,
          Effect.zipRight(Effect.sleep(settings.breakerProbeInterval)),
          Effect.zipRight(
            Effect.suspend(() =>
              Effect.forEach(
                [...circuits].filter(([, { isOpen }]) => isOpen),
                ([key, { probe }]) =>
                  Effect.matchEffect(read(probe), {
                    onFailure: (error) =>
                      saysStoreIsAway(error)
                        ? about(key)(Effect.logDebug("idempotency: the store still does not answer", Cause.fail(error)))
                        : close(key),
                    onSuccess: () => close(key)
                  }),
                { concurrency: "unbounded", discard: true }
              )
            )
          )
        )
      )
  }
}
