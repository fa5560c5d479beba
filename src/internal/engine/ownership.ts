/** An owner from its claim to its end: renewal, loss, completion, release. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { pipe } from "effect/Function"
import type { IdempotencyStorageError } from "../../IdempotencyError.js"
import { nowIn } from "../call.js"
import * as eager from "../eager.js"
import { pollDelay } from "../polling.js"
import type { CompleteReply, Outcome, Step } from "../protocol.js"
import { sleepFor } from "../sleep.js"
import type { Dependencies, Owning } from "./dependencies.js"
import type { Flight, Phase, Recorded } from "./flights.js"
import { dueAfter, type Lease, type Loss } from "./leases.js"
import {
  type Caller,
  claimRequest,
  type Grant,
  isStrict,
  mismatched,
  type Ownership,
  type SettleError,
  type Settlement,
  takenOver
} from "./request.js"
import { isRefusal, isRetryable } from "./storage.js"

/** For how many leases an outcome that the store does not take keeps its key. */
const longestHoldInLeases = 10

type Done = Extract<CompleteReply, { readonly _tag: "Done" }>

const unavailable: Outcome = { _tag: "Unavailable" }

/** Methods, as closures would be made anew for each execution: 5 % of what it allocates. */
class Owner implements Ownership, Owning {
  isIn = false
  previous: Owning | undefined
  next: Owning | undefined
  readonly attempt: number
  readonly steps: ReadonlyArray<Step>
  readonly flight: Flight | undefined
  readonly saveStep: Ownership["saveStep"]

  private readonly lease: Lease | undefined
  private stoppedBy: Loss | undefined
  private interruptEffect: Effect.Effect<void> | undefined
  private isInterrupted = false
  private isEnded = false
  /** A completion in the background ends lease and flight. */
  private isHandedOver = false
  /** The store has refused the outcome, at least once. */
  private isRefused = false

  constructor(
    private readonly engine: Dependencies,
    private readonly grant: Grant
  ) {
    const { claimedAt, request, token } = grant
    this.attempt = grant.attempt
    this.steps = grant.steps
    this.flight = grant.flight
    this.saveStep = claimedAt === undefined ? undefined : (step) => this.recordStep(step)
    this.lease =
      claimedAt === undefined
        ? undefined
        : {
            isIn: false,
            previous: undefined,
            next: undefined,
            identifiers: request.identifiers,
            token,
            millis: request.lease,
            stopsWhenUnreachable: isStrict(request),
            reclaim: request.guarantee === "at-most-once" ? this.claim() : undefined,
            confirmedAt: claimedAt,
            dueAt: dueAfter(claimedAt, request.lease),
            onLoss: (why) => {
              this.stoppedBy = why
              return Effect.zipRight(engine.metrics.recordLeaseLost(this.operation), this.interrupt())
            }
          }
    if (this.lease !== undefined) engine.leases.add(this.lease)
    engine.owners.add(this)
  }

  private get operation(): string {
    return this.grant.request.identifiers.operation
  }

  /* While the effect runs. */

  leaseUntil(): number {
    return (this.lease?.confirmedAt ?? 0) + this.grant.request.lease
  }

  loss(): Loss | undefined {
    return this.stoppedBy
  }

  onInterrupt(effect: Effect.Effect<void>): Effect.Effect<void> {
    this.interruptEffect = effect
    return this.isInterrupted ? effect : Effect.void
  }

  interrupt(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.isInterrupted = true
      return this.interruptEffect ?? Effect.void
    })
  }

  private recordStep(step: Step): Effect.Effect<"Saved" | "TooLarge" | "Lost", IdempotencyStorageError> {
    const { request, token } = this.grant
    const { claims, within } = this.engine.storage
    return Effect.map(
      within(request, "saveStep", claims.saveStep(request.identifiers, { ...step, token })),
      ({ _tag }) => (_tag === "Saved" || _tag === "TooLarge" ? _tag : "Lost")
    )
  }

  /* How it ends: the first of settle and abandon counts. */

  settle(outcome: Outcome, caller: Caller): Effect.Effect<Settlement, SettleError> {
    return this.once(() => this.record(outcome, caller), this.kept)
  }

  abandon(how: "release" | "hold"): Effect.Effect<void> {
    return Effect.suspend(() => this.once(() => (how === "hold" ? this.hold() : this.release()), undefined))
  }

  private once<A, E>(ending: () => Effect.Effect<A, E>, otherwise: A): Effect.Effect<A, E> {
    if (this.isEnded) return Effect.succeed(otherwise)
    this.isEnded = true
    return eager.matchCauseEffect(eager.suspend(ending), {
      onFailure: (cause) => this.gone(Effect.failCause(cause)),
      onSuccess: (value) => this.gone(Effect.succeed(value))
    })
  }

  /** Whatever happened, no lease is renewed and nobody waits for an owner that has ended. */
  private gone<A, E>(end: Effect.Effect<A, E>): Effect.Effect<A, E> {
    this.engine.owners.delete(this)
    if (!this.isHandedOver) this.unrecorded()
    return end
  }

  private end(phase: Phase): void {
    this.engine.leases.remove(this.lease)
    if (this.flight !== undefined) this.engine.flights.move(this.flight, phase)
  }

  private unrecorded(): void {
    this.end({ _tag: "unrecorded" })
  }

  private recorded(outcome: Outcome, { attempt, createdAt, expiresAt }: Done): void {
    const { request, token } = this.grant
    const { fingerprint } = request
    const record: Recorded = { token, outcome, fingerprint, createdAt, expiresAt }
    const isFirst = attempt === 1 && !this.isUnprotected
    this.end({ _tag: "recorded", record, lacksFingerprint: fingerprint === undefined && !isFirst })
  }

  /* The calls of the store. */

  private claim() {
    const { request, token } = this.grant
    return this.engine.storage.claims.claim(request.identifiers, claimRequest(request, token, this.engine.settings))
  }

  private complete(outcome: Outcome) {
    const { request, token } = this.grant
    const { fingerprint, identifiers, timeToLive } = request
    return this.engine.storage.claims.complete(identifiers, { token, outcome, fingerprint, retention: timeToLive })
  }

  /**
   * Tries in the background until the lease ends: as long as it is renewed, but not for ever, as a store that renews
   * and does nothing else would block the key.
   */
  private untilLeaseEnds<A>(method: string, call: Effect.Effect<A, IdempotencyStorageError>) {
    const { request } = this.grant
    const { lease } = request
    return Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const end = () => Math.max(now, Math.min(this.leaseUntil(), now + longestHoldInLeases * lease))
      const { until } = this.engine.background
      return until(request, method, call, this.lease === undefined ? () => now + lease : end)
    })
  }

  /* Settling. */

  private record(outcome: Outcome, caller: Caller): Effect.Effect<Settlement, SettleError> {
    const { claimedAt, request } = this.grant
    const { start, startUnlessOpen } = this.engine.storage
    const { fiber } = caller
    const call = claimedAt === undefined ? startUnlessOpen : start
    const answered = (reply: CompleteReply) =>
      this.answered(outcome, reply, caller, nowIn(fiber) + request.waitTimeout, 0)
    return eager.matchEffect(call(fiber, request, "complete", this.complete(outcome)), {
      onFailure: (error) =>
        isRefusal(error) && outcome._tag !== "Unavailable"
          ? this.refused(outcome, error, answered)
          : this.unanswered(outcome, error),
      onSuccess: answered
    })
  }

  private answered(
    outcome: Outcome,
    reply: CompleteReply,
    caller: Caller,
    giveUpAt: number,
    polls: number
  ): Effect.Effect<Settlement, SettleError> {
    switch (reply._tag) {
      case "Done":
        // Where it may be another that is stored, those who wait here ask the store.
        if (reply.outcome === undefined) this.recorded(outcome, reply)
        return Effect.succeed(this.isUnprotected ? this.kept : { _tag: "Recorded", attempt: reply.attempt })
      case "Superseded": {
        if (reply.record === undefined) return this.superseded(outcome, caller, giveUpAt, polls)
        const { record } = reply
        this.end({ _tag: "recorded", record, lacksFingerprint: false })
        return Effect.as(
          this.engine.metrics.recordCollision(this.operation),
          record.outcome._tag === "Unavailable" ? this.kept : { _tag: "Replaced", record }
        )
      }
      case "Mismatch":
        if (this.isUnprotected) return Effect.sync(() => this.keep(outcome))
        if (this.grant.request.strategy !== "optimistic") return this.takenOver()
        return Effect.zipRight(
          this.engine.metrics.recordMismatch(this.operation),
          Effect.fail(mismatched(this.grant.request))
        )
      case "Corrupted":
        return Effect.sync(() => this.keep(outcome))
    }
  }

  /** Another owner holds the key and has recorded nothing: ask again until it has, for as long as this caller waits. */
  private superseded(
    outcome: Outcome,
    caller: Caller,
    giveUpAt: number,
    polls: number
  ): Effect.Effect<Settlement, SettleError> {
    if (this.grant.claimedAt === undefined) {
      return Effect.map(this.engine.metrics.recordCollision(this.operation), () => this.keep(outcome))
    }
    // Others in this process may lead now: nobody waits for what this owner will learn.
    this.unrecorded()
    if (this.grant.request.inFlight === "fail" || this.engine.isClosed()) return this.takenOver()
    return Effect.flatMap(Effect.zip(Clock.currentTimeMillis, pollDelay(polls)), ([now, delay]) =>
      now >= giveUpAt
        ? this.takenOver()
        : pipe(
            caller.restore(sleepFor(Math.min(delay, giveUpAt - now))),
            Effect.zipRight(this.engine.storage.within(this.grant.request, "complete", this.complete(outcome))),
            Effect.matchEffect({
              onFailure: () => this.superseded(outcome, caller, giveUpAt, polls + 1),
              onSuccess: (reply) => this.answered(outcome, reply, caller, giveUpAt, polls + 1)
            })
          )
    )
  }

  private takenOver() {
    return Effect.fail(takenOver(this.grant.request))
  }

  private get isUnprotected(): boolean {
    return this.grant.unprotected !== undefined
  }

  private get kept(): Settlement {
    const { unprotected } = this.grant
    return unprotected === undefined ? { _tag: "Kept" } : { _tag: "Unprotected", reason: unprotected }
  }

  /** The owner's outcome stays with this caller alone, and with those who waited for it here. */
  private keep(outcome: Outcome): Settlement {
    const { unprotected } = this.grant
    if (unprotected === undefined) this.unrecorded()
    else this.end({ _tag: "given", outcome, reason: unprotected, isEnd: true })
    return this.kept
  }

  /**
   * A store that takes nothing now, as it has too few replicas or is locked, refuses a renewal as well: the outcome
   * waits for it. One that refuses the outcome alone, for its size, say, is told that there was one.
   */
  private refused(
    outcome: Outcome,
    error: IdempotencyStorageError,
    answered: (reply: CompleteReply) => Effect.Effect<Settlement, SettleError>
  ): Effect.Effect<Settlement, SettleError> {
    const { request, token } = this.grant
    const { identifiers, lease } = request
    const { storage } = this.engine
    this.isRefused = true
    const unanswered = () => this.unanswered(outcome, error)
    const again = Effect.matchEffect(storage.once(request, "complete", this.complete(outcome)), {
      onFailure: (last) => (isRefusal(last) ? this.unavailable(outcome, last) : this.unanswered(outcome, last)),
      onSuccess: answered
    })
    const renewal = storage.claims.renew([{ identifiers, request: { token, lease } }])
    return Effect.matchEffect(storage.once(request, "renew", renewal), {
      onFailure: unanswered,
      onSuccess: ([reply]) => (reply?._tag === "Failed" ? unanswered() : again)
    })
  }

  private unavailable(outcome: Outcome, error: IdempotencyStorageError): Effect.Effect<Settlement, SettleError> {
    return Effect.matchEffect(this.engine.storage.within(this.grant.request, "complete", this.complete(unavailable)), {
      onFailure: (last) => this.unanswered(outcome, last),
      onSuccess: (reply) => {
        if (reply._tag !== "Done") return this.unanswered(outcome, error)
        this.recorded(unavailable, reply)
        return Effect.succeed(this.kept)
      }
    })
  }

  /** The store did not take the outcome: it goes on in the background, and the caller gets what it asked for. */
  private unanswered(outcome: Outcome, error: IdempotencyStorageError): Effect.Effect<Settlement, SettleError> {
    const { background, flights, leases, metrics, storage } = this.engine
    const { request } = this.grant
    if (this.isUnprotected) {
      return Effect.map(this.releaseGhost(), () => this.keep(outcome))
    }
    const given = { _tag: "given", outcome, reason: error } as const
    const givenForGood = () => this.end({ ...given, isEnd: true })
    if (this.flight !== undefined) flights.move(this.flight, { ...given, isEnd: false })
    const attempt = Effect.tapError(this.complete(outcome), (failure) =>
      Effect.sync(() => {
        this.isRefused ||= isRefusal(failure)
      })
    )
    const giveUp = this.complete(unavailable)
    // At last an outcome that the store refuses is given up, and one that it never answers. Who comes after asks the store.
    const last = Effect.suspend(() => (this.isRefused ? giveUp : attempt))
    const job = pipe(
      this.untilLeaseEnds("complete", attempt),
      Effect.catchIf(isRetryable, () => {
        leases.remove(this.lease)
        return storage.within(request, "complete", last)
      }),
      Effect.catchIf(isRetryable, () => storage.once(request, "complete", giveUp)),
      Effect.match({ onFailure: givenForGood, onSuccess: () => this.unrecorded() })
    )
    return pipe(
      background.run(Effect.onError(job, () => Effect.sync(givenForGood))),
      Effect.tap((isRunning) => {
        this.isHandedOver = isRunning
        return isRunning ? undefined : givenForGood()
      }),
      Effect.zipRight(metrics.recordDegraded(this.operation)),
      Effect.zipRight(
        isStrict(request) ? Effect.fail(error) : Effect.succeed<Settlement>({ _tag: "Unprotected", reason: error })
      )
    )
  }

  /* Abandoning. */

  /** Of a claim that may have taken effect all the same. */
  private releaseGhost(): Effect.Effect<void> {
    const { isGhost, request, token } = this.grant
    return isGhost ? this.engine.background.releaseGhost(request, token) : Effect.void
  }

  private release(): Effect.Effect<void> {
    const { claimedAt, request, token } = this.grant
    if (claimedAt === undefined) return this.releaseGhost()
    const { background, storage } = this.engine
    return Effect.catchAll(
      Effect.asVoid(storage.within(request, "release", storage.claims.release(request.identifiers, { token }))),
      () => background.releaseGhost(request, token)
    )
  }

  private hold(): Effect.Effect<void> {
    const { claimedAt, request, token } = this.grant
    const { background, storage } = this.engine
    const held = storage.claims.hold(request.identifiers, { token })
    const claimFirst = claimedAt === undefined ? Effect.zipRight(this.claim(), held) : held
    return Effect.catchAll(Effect.asVoid(storage.within(request, "hold", claimFirst)), () =>
      Effect.asVoid(background.run(Effect.ignore(this.untilLeaseEnds("hold", claimFirst))))
    )
  }
}

export const makeOwnership = (dependencies: Dependencies, grant: Grant): Ownership => new Owner(dependencies, grant)
