/** An owner from its claim to its end: renewal, loss, completion, release. */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { pipe } from "effect/Function"
import {
  IdempotencyFingerprintMismatchError,
  IdempotencyInFlightError,
  type IdempotencyStorageError
} from "../../IdempotencyError.js"
import type { IdempotencyMetrics } from "../../IdempotencyMetrics.js"
import { pollDelay } from "../polling.js"
import type { CompleteReply, Outcome, Step } from "../protocol.js"
import type { Background } from "./background.js"
import type { Flight, Flights, Recorded } from "./flights.js"
import type { Leases, Loss } from "./leases.js"
import {
  type ExecutionRequest,
  isStrict,
  type Ownership,
  type Restore,
  type SettleError,
  type Settlement
} from "./request.js"
import { type Settings, sleepFor } from "./settings.js"
import type { Storage } from "./storage.js"

export interface Dependencies {
  readonly storage: Storage
  readonly flights: Flights
  readonly leases: Leases
  readonly background: Background
  readonly metrics: Context.Tag.Service<IdempotencyMetrics>
  readonly settings: Settings
  /** The owners whose effect is running: shutdown waits for them, then interrupts them. */
  readonly owners: Set<{ readonly interrupt: Effect.Effect<void> }>
  /** Once true, nobody claims any more: the engine's scope is closing. */
  readonly isClosed: () => boolean
}

/** How an owner came to run, and what it therefore holds. */
export interface Grant {
  readonly request: ExecutionRequest
  readonly token: string
  readonly attempt: number
  readonly steps: ReadonlyArray<Step>
  readonly flight: Flight | undefined
  /** When the claim was sent, if one was granted. */
  readonly claimedAt: number | undefined
  /** Why the effect runs without protection, if it does. */
  readonly unprotected: IdempotencyStorageError | undefined
  /** A claim of this token may have taken effect without an answer. */
  readonly isGhost: boolean
}

/** For how many leases an outcome that the store does not take keeps its key. */
const longestHoldInLeases = 10

export const makeOwnership = (dependencies: Dependencies, grant: Grant): Ownership => {
  const { background, flights, leases, metrics, owners, settings, storage } = dependencies
  const { claimedAt, flight, request, token, unprotected } = grant
  const { fingerprint, identifiers, timeToLive } = request
  const { operation } = identifiers
  let loss: Loss | undefined
  let isEnded = false
  let interruptEffect: Effect.Effect<void> | undefined
  let isInterrupted = false
  /** A completion in the background ends lease and flight. */
  let isHandedOver = false

  const interrupt = Effect.suspend(() => {
    isInterrupted = true
    return interruptEffect ?? Effect.void
  })
  const owner = { interrupt }
  owners.add(owner)

  const lease =
    claimedAt === undefined
      ? undefined
      : leases.add({
          identifiers,
          token,
          millis: request.lease,
          stopsWhenUnreachable: isStrict(request),
          reclaim:
            request.guarantee === "at-most-once"
              ? storage.claims.claim(identifiers, claimRequest(request, token, settings))
              : undefined,
          confirmedAt: claimedAt,
          onLoss: (why) => {
            loss = why
            return Effect.zipRight(metrics.recordLeaseLost(operation), interrupt)
          }
        })

  const move: Flights["move"] = (moved, phase) => flights.move(moved, phase)
  const end = (phase: Parameters<Flights["move"]>[1]): void => {
    if (lease !== undefined) leases.remove(lease)
    if (flight !== undefined) move(flight, phase)
  }
  const unrecorded = () => end({ _tag: "unrecorded" })

  const leaseUntil = () => (lease?.confirmedAt ?? 0) + request.lease

  /**
   * Tries in the background until the lease ends: as long as it is renewed, but not for ever, as a store that renews
   * and does nothing else would block the key.
   */
  const untilLeaseEnds = <A>(method: string, call: Effect.Effect<A, IdempotencyStorageError>) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const end = () => Math.max(now, Math.min(leaseUntil(), now + longestHoldInLeases * request.lease))
      return background.until(operation, method, call, lease === undefined ? () => now + request.lease : end)
    })

  /** The first of settle and abandon counts; an owner is gone once it has ended. */
  const once = <A, E>(ending: Effect.Effect<A, E>, otherwise: A): Effect.Effect<A, E> =>
    Effect.suspend(() => {
      if (isEnded) return Effect.succeed(otherwise)
      isEnded = true
      return Effect.ensuring(
        ending,
        Effect.sync(() => {
          owners.delete(owner)
          // Whatever happened, no lease is renewed and nobody waits for an owner that has ended.
          if (!isHandedOver) unrecorded()
        })
      )
    })

  const complete = (outcome: Outcome) =>
    storage.claims.complete(identifiers, { token, outcome, fingerprint, retention: timeToLive })

  const recorded = (
    outcome: Outcome,
    { createdAt, expiresAt }: { readonly createdAt: number; readonly expiresAt: number }
  ): Recorded => ({
    outcome,
    fingerprint,
    createdAt,
    expiresAt
  })

  const takenOver = Effect.suspend(() => {
    unrecorded()
    return Effect.fail(
      new IdempotencyInFlightError({
        operation,
        idempotencyKey: identifiers.idempotencyKey,
        reason: "TakenOver",
        retryAfter: Duration.millis(request.lease)
      })
    )
  })

  const mismatch = Effect.suspend(() => {
    unrecorded()
    return Effect.zipRight(
      metrics.recordMismatch(operation),
      Effect.fail(new IdempotencyFingerprintMismatchError({ operation, idempotencyKey: identifiers.idempotencyKey }))
    )
  })

  const kept: Settlement = unprotected === undefined ? { _tag: "Kept" } : { _tag: "Unprotected", reason: unprotected }

  /** The owner's outcome stays with this caller alone, and with those who waited for it here. */
  const keep = (outcome: Outcome): Settlement => {
    if (unprotected === undefined) unrecorded()
    else end({ _tag: "given", outcome, reason: unprotected, isEnd: true })
    return kept
  }

  const answered = (
    outcome: Outcome,
    reply: CompleteReply,
    restore: Restore,
    giveUpAt: number,
    polls: number
  ): Effect.Effect<Settlement, SettleError> => {
    switch (reply._tag) {
      case "Done":
        end({ _tag: "recorded", record: recorded(outcome, reply) })
        return Effect.succeed(unprotected === undefined ? { _tag: "Recorded", attempt: reply.attempt } : kept)
      case "Superseded": {
        if (reply.record === undefined) return superseded(outcome, restore, giveUpAt, polls)
        const { record } = reply
        end({ _tag: "recorded", record })
        return Effect.as(
          metrics.recordCollision(operation),
          record.outcome._tag === "Unavailable" ? kept : { _tag: "Replaced", record }
        )
      }
      case "Mismatch":
        if (unprotected !== undefined) return Effect.sync(() => keep(outcome))
        return request.strategy === "optimistic" ? mismatch : takenOver
      case "Corrupted":
        return Effect.sync(() => keep(outcome))
    }
  }

  /** Another owner holds the key and has recorded nothing: ask again until it has, for as long as this caller waits. */
  const superseded = (
    outcome: Outcome,
    restore: Restore,
    giveUpAt: number,
    polls: number
  ): Effect.Effect<Settlement, SettleError> => {
    if (claimedAt === undefined) {
      return Effect.zipRight(
        metrics.recordCollision(operation),
        Effect.sync(() => keep(outcome))
      )
    }
    // Others in this process may lead now: nobody waits for what this owner will learn.
    unrecorded()
    if (request.inFlight === "fail" || dependencies.isClosed()) return takenOver
    return Effect.flatMap(Effect.zip(Clock.currentTimeMillis, pollDelay(polls)), ([now, delay]) =>
      now >= giveUpAt
        ? takenOver
        : pipe(
            restore(sleepFor(Math.min(delay, giveUpAt - now))),
            Effect.zipRight(storage.within(operation, "complete", complete(outcome))),
            Effect.matchEffect({
              onFailure: () => superseded(outcome, restore, giveUpAt, polls + 1),
              onSuccess: (reply) => answered(outcome, reply, restore, giveUpAt, polls + 1)
            })
          )
    )
  }

  /** A claim that may have taken effect all the same. */
  const releaseGhost = Effect.suspend(() =>
    grant.isGhost ? background.releaseGhost(identifiers, token, request.lease) : Effect.void
  )

  /** The store did not take the outcome: it goes on in the background, and the caller gets what it asked for. */
  const unanswered = (outcome: Outcome, error: IdempotencyStorageError): Effect.Effect<Settlement, SettleError> => {
    if (unprotected !== undefined)
      return Effect.zipRight(
        releaseGhost,
        Effect.sync(() => keep(outcome))
      )
    const given = { _tag: "given", outcome, reason: error } as const
    if (flight !== undefined) move(flight, { ...given, isEnd: false })
    const job = pipe(
      untilLeaseEnds("complete", complete(outcome)),
      Effect.match({
        onFailure: () => end({ ...given, isEnd: true }),
        onSuccess: (reply) => {
          if (reply._tag === "Done") return end({ _tag: "recorded", record: recorded(outcome, reply) })
          if (reply._tag === "Superseded" && reply.record !== undefined) {
            return end({ _tag: "recorded", record: reply.record })
          }
          return unrecorded()
        }
      })
    )
    return pipe(
      background.run(Effect.onInterrupt(job, () => Effect.sync(() => end({ ...given, isEnd: true })))),
      Effect.tap((isRunning) => {
        isHandedOver = isRunning
        return isRunning ? undefined : end({ ...given, isEnd: true })
      }),
      Effect.zipRight(metrics.recordDegraded(operation)),
      Effect.zipRight(
        isStrict(request) ? Effect.fail(error) : Effect.succeed<Settlement>({ _tag: "Unprotected", reason: error })
      )
    )
  }

  /** A store that answers and refuses the outcome (for its size, say) may still take the news that there was one. */
  const refused = (outcome: Outcome, error: IdempotencyStorageError): Effect.Effect<Settlement, SettleError> =>
    error.reason !== "Rejected" || error.applied !== "no" || outcome._tag === "Unavailable"
      ? unanswered(outcome, error)
      : Effect.matchEffect(storage.within(operation, "complete", complete({ _tag: "Unavailable" })), {
          onFailure: () => unanswered(outcome, error),
          onSuccess: (reply) =>
            reply._tag === "Done"
              ? Effect.sync(() => {
                  end({ _tag: "recorded", record: recorded({ _tag: "Unavailable" }, reply) })
                  return kept
                })
              : unanswered(outcome, error)
        })

  const settle = (outcome: Outcome, restore: Restore): Effect.Effect<Settlement, SettleError> => {
    const call = claimedAt === undefined ? storage.unlessOpen : storage.within
    return Effect.matchEffect(call(operation, "complete", complete(outcome)), {
      onFailure: (error) => refused(outcome, error),
      onSuccess: (reply) =>
        reply._tag === "Superseded" && reply.record === undefined
          ? Effect.flatMap(Clock.currentTimeMillis, (now) =>
              answered(outcome, reply, restore, now + request.waitTimeout, 0)
            )
          : answered(outcome, reply, restore, 0, 0)
    })
  }

  const release = (): Effect.Effect<void> => {
    if (claimedAt === undefined) return releaseGhost
    return Effect.catchAll(
      Effect.asVoid(storage.within(operation, "release", storage.claims.release(identifiers, { token }))),
      () => background.releaseGhost(identifiers, token, request.lease)
    )
  }

  const hold = (): Effect.Effect<void> => {
    const held = storage.claims.hold(identifiers, { token })
    const claimFirst =
      claimedAt === undefined
        ? Effect.zipRight(storage.claims.claim(identifiers, claimRequest(request, token, settings)), held)
        : held
    return Effect.catchAll(Effect.asVoid(storage.within(operation, "hold", claimFirst)), () =>
      Effect.asVoid(background.run(Effect.ignore(untilLeaseEnds("hold", claimFirst))))
    )
  }

  return {
    attempt: grant.attempt,
    steps: grant.steps,
    flight,
    leaseUntil,
    saveStep:
      claimedAt === undefined
        ? undefined
        : (step) =>
            Effect.flatMap(
              storage.within(operation, "saveStep", storage.claims.saveStep(identifiers, { ...step, token })),
              ({ _tag }) => Effect.succeed(_tag === "Saved" || _tag === "TooLarge" ? _tag : "Lost")
            ),
    onInterrupt: (effect) => {
      interruptEffect = effect
      return isInterrupted ? effect : Effect.void
    },
    loss: () => loss,
    settle: (outcome, restore) => once(settle(outcome, restore), kept),
    abandon: (how) =>
      once(pipe(Effect.suspend(how === "hold" ? hold : release), Effect.ensuring(Effect.sync(unrecorded))), undefined)
  }
}

/** What a request sends when it claims. */
export const claimRequest = (request: ExecutionRequest, token: string, settings: Settings) => ({
  token,
  fingerprint: request.fingerprint,
  guarantee: request.guarantee,
  lease: request.lease,
  retention: request.timeToLive,
  unknownRetention: settings.unknownRetention
})
