/** How a caller comes to run an effect, to a replay, or to a refusal: the claim, the wait, the single flight. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { pipe } from "effect/Function"
import type { IdempotencyStorageError } from "../../IdempotencyError.js"
import { nowIn } from "../call.js"
import * as eager from "../eager.js"
import { longestTimer } from "../options.js"
import { hintOf, pollDelay } from "../polling.js"
import type { ClaimReply, Completed } from "../protocol.js"
import { sleepUnless } from "../sleep.js"
import { storedKey } from "../storedKey.js"
import { resultUnavailable } from "../storedRecord.js"
import type { Tokens } from "../tokens.js"
import * as transition from "../transition.js"
import { makeAnswers } from "./answers.js"
import type { Dependencies } from "./dependencies.js"
import { type Flight, isWithin, type Phase } from "./flights.js"
import { makeLookUp } from "./optimistic.js"
import { makeOwnership } from "./ownership.js"
import { type Beginning, type Begun, type Caller, claimRequest, type ExecutionRequest, isStrict } from "./request.js"

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

  const answers = makeAnswers(metrics)
  const { inFlight, mismatch, replay, storageFailure, unknownOutcome } = answers
  const lookUp = makeLookUp(dependencies, answers)

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
      case "refused":
        return followRefused(request, caller, flight, patience, phase)
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

  /** The store would say the same to this caller, unless that has a fingerprint of its own, or goes on asking. */
  const followRefused = (
    request: ExecutionRequest,
    caller: Caller,
    flight: Flight,
    patience: Patience,
    { at, reply }: Extract<Phase, { readonly _tag: "refused" }>
  ): Beginning => {
    const isSame = request.fingerprint === flight.fingerprint
    if (!isSame && (request.fingerprint !== undefined || reply._tag === "Mismatch")) {
      return join(request, caller, patience)
    }
    if (reply._tag !== "InFlight") return refused(request, reply)
    const now = nowIn(caller.fiber)
    const remaining = at + reply.remaining - now
    patience.heldUntil = now + remaining
    return remaining > 0 && (request.inFlight === "fail" || now >= patience.giveUpAt)
      ? inFlight(request, remaining)
      : join(request, caller, patience)
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
    if (now >= heldUntil) return degraded(request, claiming, now, error)
    return now < claiming.patience.giveUpAt
      ? wait(request, caller, claiming, heldUntil - now)
      : inFlight(request, heldUntil - now)
  }

  const refused = (
    request: ExecutionRequest,
    reply: Extract<ClaimReply, { readonly _tag: "Mismatch" | "Unknown" | "Corrupted" }>
  ): Beginning => {
    switch (reply._tag) {
      case "Mismatch":
        return mismatch(request)
      case "Unknown":
        return unknownOutcome(request, reply.attempt)
      case "Corrupted":
        return Effect.fail(resultUnavailable(request.identifiers, reply.cause))
    }
  }

  const replied = (
    request: ExecutionRequest,
    caller: Caller,
    claiming: Claiming,
    sentAt: number,
    now: number,
    reply: ClaimReply
  ): Beginning => {
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
        if (request.inFlight !== "fail" && now < claiming.patience.giveUpAt) {
          return wait(request, caller, claiming, reply.remaining)
        }
        flights.move(claiming.flight, { _tag: "refused", reply, at: now })
        return inFlight(request, reply.remaining)
      case "Settled":
        claiming.isGhost = false
        flights.move(claiming.flight, { _tag: "recorded", record: reply.record, lacksFingerprint: false })
        return Effect.succeed<Begun>({ _tag: "Replay", record: reply.record })
      default:
        flights.move(claiming.flight, { _tag: "refused", reply, at: now })
        return refused(request, reply)
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

  const wait = (request: ExecutionRequest, caller: Caller, claiming: Claiming, remaining: number): Beginning => {
    const { changed, flight, patience } = claiming
    if (flight.phase._tag !== "waiting") flights.move(flight, { _tag: "waiting", until: () => patience.heldUntil })
    if (changed === undefined) {
      const subscribed = Effect.scoped(
        Effect.flatMap(hintOf(storage.claims.changes(request.identifiers)), (hint) => {
          claiming.changed = hint
          return wait(request, caller, claiming, remaining)
        })
      )
      return waiting(request, patience, subscribed)
    }
    return pipe(
      pollDelay(claiming.polls++),
      Effect.flatMap((delay) => {
        const left = patience.giveUpAt - nowIn(caller.fiber)
        return caller.restore(sleepUnless(Math.min(delay, remaining + 1, left), changed))
      }),
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
