/** How a caller comes to run an effect, to a replay, or to a refusal: the claim, the wait, the single flight. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { pipe } from "effect/Function"
import {
  IdempotencyInFlightError,
  IdempotencyOutcomeUnknownError,
  type IdempotencyStorageError
} from "../../IdempotencyError.js"
import { nowIn } from "../call.js"
import * as eager from "../eager.js"
import { longestTimer } from "../options.js"
import { pollDelay } from "../polling.js"
import type { ClaimReply, Completed } from "../protocol.js"
import { sleepUnless } from "../sleep.js"
import { storedKey } from "../storedKey.js"
import { resultUnavailable } from "../storedRecord.js"
import type { Tokens } from "../tokens.js"
import * as transition from "../transition.js"
import type { Dependencies } from "./dependencies.js"
import { type Flight, isWithin, type Phase, type Recorded } from "./flights.js"
import { makeLookUp } from "./optimistic.js"
import { makeOwnership } from "./ownership.js"
import {
  type Beginning,
  type Begun,
  type Caller,
  claimRequest,
  type ExecutionRequest,
  isStrict,
  mismatched,
  takenOver
} from "./request.js"

export interface BeginDependencies extends Dependencies {
  readonly tokens: Tokens
  /** How many requests are asking the store: shutdown waits for them. */
  readonly leaders: { count: number }
}

/** A caller's waiting for others, whether it follows or leads. */
interface Patience {
  readonly since: number
  readonly giveUpAt: number
  hasWaited: boolean
  /** Until when another owner is known to hold the key: before that this caller does not degrade. */
  heldUntil: number
}

/** A leader's claim over its polls. */
interface Claiming {
  readonly flight: Flight
  readonly patience: Patience
  token: string
  polls: number
  /** Ends at the next change of the key, as far as the store can tell. */
  changed: Effect.Effect<void> | undefined
  /** A claim may have taken effect without an answer. */
  isGhost: boolean
}

export const makeBegin = (
  dependencies: BeginDependencies
): ((request: ExecutionRequest, caller: Caller) => Beginning) => {
  const { background, flights, leaders, metrics, settings, storage, tokens } = dependencies

  const inFlight = (request: ExecutionRequest, remaining: number): Beginning =>
    Effect.fail(
      new IdempotencyInFlightError({
        operation: request.identifiers.operation,
        idempotencyKey: request.identifiers.idempotencyKey,
        reason: request.blockedBy,
        retryAfter: Duration.millis(Math.max(1, Math.ceil(remaining)))
      })
    )

  /** For a caller whose effect has run, whoever took its key over is no more than that. */
  const mismatch = (request: ExecutionRequest): Beginning =>
    Effect.zipRight(
      metrics.recordMismatch(request.identifiers.operation),
      Effect.fail(request.blockedBy === "TakenOver" ? takenOver(request) : mismatched(request))
    )

  const replay = (request: ExecutionRequest, record: Recorded): Beginning =>
    transition.differ(request.fingerprint, record.fingerprint)
      ? mismatch(request)
      : Effect.succeed({ _tag: "Replay", record })

  /** A store that is set up wrongly is an error of the program: never degraded. */
  const storageFailure = (request: ExecutionRequest, error: IdempotencyStorageError): Beginning | undefined => {
    if (isStrict(request)) return Effect.fail(error)
    return error.reason === "Misconfigured" ? Effect.die(error) : undefined
  }

  const unknownOutcome = (
    { identifiers: { idempotencyKey, operation } }: ExecutionRequest,
    attempt: number
  ): Beginning => Effect.fail(new IdempotencyOutcomeUnknownError({ operation, idempotencyKey, attempt }))

  const lookUp = makeLookUp(dependencies, { replay, mismatch, storageFailure, unknownOutcome })

  /** From a caller's first wait on, it is measured how long it waits in all. */
  const waiting = (request: ExecutionRequest, patience: Patience, beginning: Beginning): Beginning => {
    if (patience.hasWaited) return beginning
    patience.hasWaited = true
    return Effect.onExit(beginning, () =>
      Effect.flatMap(Clock.currentTimeMillis, (now) =>
        metrics.recordWait(request.identifiers.operation, Duration.millis(now - patience.since))
      )
    )
  }

  /* Following: somebody in this process leads. */

  const follow = (request: ExecutionRequest, caller: Caller, flight: Flight, patience: Patience): Beginning => {
    const { phase } = flight
    switch (phase._tag) {
      case "recorded":
        return request.fingerprint !== undefined && phase.lacksFingerprint
          ? join(request, caller, patience)
          : replay(request, phase.record)
      case "unrecorded":
        return join(request, caller, patience)
      case "failed":
        return isStrict(request) ? Effect.fail(phase.error) : join(request, caller, patience, phase.error)
      case "given":
        if (transition.differ(request.fingerprint, flight.fingerprint)) return mismatch(request)
        if (isStrict(request)) return Effect.fail(phase.reason)
        return Effect.succeed<Begun>({ _tag: "Shared", outcome: phase.outcome, reason: phase.reason })
      case "claiming":
        return Effect.zipRight(
          caller.restore(flights.left(flight, phase)),
          Effect.suspend(() => follow(request, caller, flight, patience))
        )
      case "running":
        if (transition.differ(request.fingerprint, flight.fingerprint)) return mismatch(request)
        return followLater(request, caller, flight, patience, phase, phase.leaseUntil)
      case "waiting":
        return followLater(request, caller, flight, patience, phase, phase.until)
    }
  }

  const followLater = (
    request: ExecutionRequest,
    caller: Caller,
    flight: Flight,
    patience: Patience,
    phase: Phase,
    until: () => number
  ): Beginning => {
    const now = nowIn(caller.fiber)
    if (request.inFlight === "fail" || now >= patience.giveUpAt) return inFlight(request, until() - now)
    return waiting(
      request,
      patience,
      pipe(
        sleepUnless(patience.giveUpAt - now, flights.left(flight, phase)),
        caller.restore,
        Effect.zipRight(
          Effect.suspend(() => {
            if (phase._tag === "waiting") patience.heldUntil = phase.until()
            return follow(request, caller, flight, patience)
          })
        )
      )
    )
  }

  /* Leading: one caller of this process asks the store. */

  const claimed = (
    request: ExecutionRequest,
    claiming: Claiming,
    claimedAt: number,
    { attempt, steps }: Extract<ClaimReply, { readonly _tag: "Claimed" | "AlreadyMine" }>
  ): Beginning => {
    const ownership = makeOwnership(dependencies, {
      request,
      token: claiming.token,
      attempt,
      steps,
      flight: claiming.flight,
      claimedAt,
      unprotected: undefined,
      isGhost: false
    })
    claiming.patience.heldUntil = 0
    flights.move(claiming.flight, { _tag: "running", leaseUntil: () => ownership.leaseUntil() })
    const begun = Effect.succeed<Begun>({ _tag: "Own", ownership })
    return attempt > 1 ? Effect.zipRight(metrics.recordTakeover(request.identifiers.operation), begun) : begun
  }

  const degraded = (
    request: ExecutionRequest,
    claiming: Claiming,
    now: number,
    error: IdempotencyStorageError
  ): Beginning => {
    const ownership = makeOwnership(dependencies, {
      request,
      token: claiming.token,
      attempt: 0,
      steps: [],
      flight: claiming.flight,
      claimedAt: undefined,
      unprotected: error,
      isGhost: claiming.isGhost
    })
    flights.move(claiming.flight, { _tag: "running", leaseUntil: () => now + request.lease })
    return Effect.as(metrics.recordDegraded(request.identifiers.operation), { _tag: "Own", ownership })
  }

  const unclaimed = (
    request: ExecutionRequest,
    caller: Caller,
    claiming: Claiming,
    now: number,
    error: IdempotencyStorageError
  ): Beginning => {
    const { heldUntil } = claiming.patience
    if (dependencies.isClosed()) return Effect.interrupt
    const failure = storageFailure(request, error)
    if (failure !== undefined) {
      flights.move(claiming.flight, { _tag: "failed", error })
      return failure
    }
    return now < heldUntil
      ? wait(request, caller, claiming, now, heldUntil - now)
      : degraded(request, claiming, now, error)
  }

  const replied = (
    request: ExecutionRequest,
    caller: Caller,
    claiming: Claiming,
    sentAt: number,
    now: number,
    reply: ClaimReply
  ): Beginning => {
    const { identifiers } = request
    switch (reply._tag) {
      case "Claimed":
      case "AlreadyMine":
        if (dependencies.isClosed()) {
          claiming.isGhost = true
          return Effect.interrupt
        }
        if (now - sentAt < request.lease) return claimed(request, claiming, sentAt, reply)
        // An answer that took a whole lease says nothing about now.
        claiming.isGhost = true
        return claim(request, caller, claiming)
      case "Refused":
        claiming.token = tokens.next(request.trace?.token)
        return claim(request, caller, claiming)
      case "InFlight":
        claiming.patience.heldUntil = now + reply.remaining
        return request.inFlight === "fail"
          ? inFlight(request, reply.remaining)
          : wait(request, caller, claiming, now, reply.remaining)
      case "Settled":
        claiming.isGhost = false
        flights.move(claiming.flight, { _tag: "recorded", record: reply.record, lacksFingerprint: false })
        return Effect.succeed<Begun>({ _tag: "Replay", record: reply.record })
      case "Mismatch":
        return mismatch(request)
      case "Unknown":
        return unknownOutcome(request, reply.attempt)
      case "Corrupted":
        return Effect.fail(resultUnavailable(identifiers, reply.cause))
    }
  }

  const claim = (request: ExecutionRequest, caller: Caller, claiming: Claiming): Beginning =>
    eager.suspend(() => {
      if (dependencies.isClosed()) return Effect.interrupt
      const { fiber } = caller
      const sentAt = nowIn(fiber)
      const asked = claimRequest(request, claiming.token, settings)
      const call = storage.claims.claim(request.identifiers, asked)
      // An attempt without an answer may arrive after the next one's answer, which then tells nothing of it.
      const onUnknown = () => {
        claiming.isGhost = true
      }
      const ofCopy = (copy: Completed): ClaimReply => transition.claim(copy, asked, sentAt).reply
      return eager.matchEffect(storage.startUnlessOpen(fiber, request, "claim", call, onUnknown, ofCopy), {
        onFailure: (error) => {
          claiming.isGhost ||= error.applied === "unknown"
          return unclaimed(request, caller, claiming, nowIn(fiber), error)
        },
        onSuccess: (reply) => replied(request, caller, claiming, sentAt, nowIn(fiber), reply)
      })
    })

  const wait = (
    request: ExecutionRequest,
    caller: Caller,
    claiming: Claiming,
    now: number,
    remaining: number
  ): Beginning => {
    const { changed, flight, patience } = claiming
    if (now >= patience.giveUpAt) return inFlight(request, remaining)
    if (flight.phase._tag !== "waiting") flights.move(flight, { _tag: "waiting", until: () => patience.heldUntil })
    if (changed === undefined) {
      // In a fiber of its own: a hint that does not come about must not hold up the caller.
      const subscribed = Effect.scoped(
        Effect.flatMap(
          Effect.forkScoped(Effect.interruptible(storage.claims.changes(request.identifiers))),
          (subscribing) => {
            claiming.changed = Effect.flatten(Fiber.join(subscribing))
            return wait(request, caller, claiming, now, remaining)
          }
        )
      )
      return waiting(request, patience, subscribed)
    }
    return pipe(
      pollDelay(claiming.polls++),
      Effect.flatMap((delay) =>
        caller.restore(sleepUnless(Math.min(delay, remaining + 1, patience.giveUpAt - now), changed))
      ),
      Effect.zipRight(Effect.suspend(() => claim(request, caller, claiming)))
    )
  }

  /** `failure` is what somebody else's claim has just failed with: then this one is not sent. */
  const lead = (
    request: ExecutionRequest,
    caller: Caller,
    key: string,
    patience: Patience,
    failure: IdempotencyStorageError | undefined
  ): Beginning => {
    const flight = flights.start(key, request.fingerprint, request.parent)
    const claiming: Claiming = {
      flight,
      patience,
      token: tokens.next(request.trace?.token),
      polls: 0,
      changed: undefined,
      isGhost: false
    }
    leaders.count++
    const beginning =
      failure === undefined
        ? claim(request, caller, claiming)
        : eager.suspend(() => unclaimed(request, caller, claiming, nowIn(caller.fiber), failure))
    return eager.matchCauseEffect(beginning, {
      onSuccess: (begun) => {
        leaders.count--
        return Effect.succeed(begun)
      },
      onFailure: (cause) => {
        leaders.count--
        flights.move(flight, { _tag: "unrecorded" })
        const failed = Effect.failCause(cause)
        return claiming.isGhost ? Effect.zipRight(background.releaseGhost(request, claiming.token), failed) : failed
      }
    })
  }

  const join = (
    request: ExecutionRequest,
    caller: Caller,
    patience: Patience,
    failure?: IdempotencyStorageError
  ): Beginning => {
    if (dependencies.isClosed()) return Effect.interrupt
    const key = storedKey(request.identifiers)
    const flight = flights.get(key)
    if (flight === undefined) return lead(request, caller, key, patience, failure)
    return isWithin(request.parent, flight)
      ? inFlight(request, request.lease)
      : follow(request, caller, flight, patience)
  }

  const lookedUp = (request: ExecutionRequest): Beginning => {
    leaders.count++
    return Effect.ensuring(
      eager.suspend(() => lookUp(request)),
      Effect.sync(() => {
        leaders.count--
      })
    )
  }

  return (request, caller) => {
    if (dependencies.isClosed()) return Effect.interrupt
    if (request.strategy === "optimistic") return lookedUp(request)
    const since = nowIn(caller.fiber)
    const giveUpAt = since + Math.min(request.waitTimeout, longestTimer)
    // After a loss another owner is known to run: for how long at least, only the store could say.
    const heldUntil = request.blockedBy === "TakenOver" ? since + request.lease : 0
    return join(request, caller, { since, giveUpAt, hasWaited: false, heldUntil })
  }
}
