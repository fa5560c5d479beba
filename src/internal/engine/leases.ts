/** The renewal of all leases of an engine, by one fiber. */
import * as Array from "effect/Array"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { IdempotencyStorageError } from "../../IdempotencyError.js"
import type { IdempotencyIdentifiers } from "../../IdempotencyIdentifiers.js"
import { Chain, type Link } from "../chain.js"
import type { ClaimReply, Completed, RenewReply } from "../protocol.js"
import { sleepUnless } from "../sleep.js"
import { logsAbout } from "../tracing.js"
import { loop } from "./loop.js"
import { untraced } from "./request.js"
import type { Storage } from "./storage.js"

/** Why an owner must stop: another holds the key, or the store has been away for a whole lease. */
export type Loss =
  | { readonly _tag: "Lost"; readonly record: Completed | undefined }
  | { readonly _tag: "Unreachable"; readonly error: IdempotencyStorageError }

export interface Lease extends Link<Lease> {
  readonly identifiers: IdempotencyIdentifiers
  readonly token: string
  readonly millis: number
  /** Whether an owner that cannot renew for a whole lease must stop. */
  readonly stopsWhenUnreachable: boolean
  /** Asks for the key again with the same token, for an owner that may only have been late. */
  readonly reclaim: Effect.Effect<ClaimReply, IdempotencyStorageError> | undefined
  readonly onLoss: (loss: Loss) => Effect.Effect<void>
  /** When the claim or renewal that the store last confirmed was sent. */
  confirmedAt: number
  dueAt: number
}

export interface Leases {
  readonly add: (lease: Lease) => void
  readonly remove: (lease: Lease | undefined) => void
  readonly size: () => number
}

/** When a lease that was confirmed is to be renewed. */
export const dueAfter = (confirmedAt: number, millis: number): number => confirmedAt + millis / 3

export const makeLeases = (storage: Storage): Effect.Effect<Leases, never, Scope.Scope> =>
  Effect.gen(function* () {
    const leases = new Chain<Lease>()
    const wake = Effect.unsafeMakeLatch(false)
    let nextTick = Number.POSITIVE_INFINITY

    const confirm = (lease: Lease, sentAt: number): void => {
      lease.confirmedAt = sentAt
      lease.dueAt = dueAfter(sentAt, lease.millis)
    }

    const lose = (lease: Lease, loss: Loss): Effect.Effect<void> => {
      leases.delete(lease)
      const why =
        loss._tag === "Lost" ? "another holds it, or it was reset" : "the store has not answered for a whole lease"
      return Effect.zipRight(
        logsAbout(lease.identifiers)(Effect.logWarning(`idempotency: an owner is stopped, as it lost its key: ${why}`)),
        lease.onLoss(loss)
      )
    }

    /** Steps that cannot be read for the moment may be this owner's. */
    const mayBeMine = ({ _tag }: ClaimReply): boolean =>
      _tag === "AlreadyMine" || _tag === "Claimed" || _tag === "Corrupted"

    const handle = (lease: Lease, reply: RenewReply, sentAt: number): Effect.Effect<void> => {
      if (!lease.isIn) return Effect.void
      if (reply._tag === "Failed") return unreachable(lease, reply.error, sentAt)
      if (reply._tag !== "Lost") return Effect.sync(() => confirm(lease, sentAt))
      const { record } = reply
      if (lease.reclaim === undefined || record !== undefined) return lose(lease, { _tag: "Lost", record })
      return Effect.matchEffect(storage.once(untraced(lease.identifiers), "claim", lease.reclaim), {
        onFailure: (error) => unreachable(lease, error, sentAt),
        onSuccess: (claimed) =>
          mayBeMine(claimed)
            ? Effect.sync(() => confirm(lease, sentAt))
            : lose(lease, { _tag: "Lost", record: claimed._tag === "Settled" ? claimed.record : undefined })
      })
    }

    const unreachable = (lease: Lease, error: IdempotencyStorageError, now: number): Effect.Effect<void> => {
      if (!lease.isIn) return Effect.void
      lease.dueAt = now + lease.millis / 12
      return lease.stopsWhenUnreachable && now - lease.confirmedAt >= lease.millis
        ? lose(lease, { _tag: "Unreachable", error })
        : Effect.void
    }

    const renew = (due: Array.NonEmptyReadonlyArray<Lease>, sentAt: number): Effect.Effect<void> => {
      const requests = due.map(({ identifiers, millis, token }) => ({
        identifiers,
        request: { token, lease: millis }
      }))
      const call = storage.once(untraced(due[0].identifiers), "renew", storage.claims.renew(requests))
      return Effect.matchEffect(call, {
        onFailure: (error) =>
          Effect.flatMap(Clock.currentTimeMillis, (now) =>
            Effect.forEach(due, (lease) => unreachable(lease, error, now), { discard: true })
          ),
        onSuccess: (replies) =>
          Effect.forEach(
            due,
            (lease, index) => {
              const reply = replies[index]
              return reply === undefined ? Effect.void : handle(lease, reply, sentAt)
            },
            { discard: true }
          )
      })
    }

    /**
     * Where parts of a store are away by themselves, a lease on one that is must not keep others from being renewed; nor
     * may those of one part: a slot that moves is on two.
     */
    const together = (due: ReadonlyArray<Lease>): ReadonlyArray<Array.NonEmptyReadonlyArray<Lease>> =>
      storage.claims.partOf !== undefined
        ? due.map((lease) => [lease])
        : Array.isNonEmptyReadonlyArray(due)
          ? [due]
          : []

    /** Renews what is due or soon will be, then waits for the next. */
    const tick = Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      // Later than it can be, it is by a clock that was set back.
      const due = leases
        .toArray()
        .filter(({ dueAt, millis }) => dueAt - millis / 12 <= now || dueAt > dueAfter(now, millis))
      yield* Effect.forEach(together(due), (leases) => renew(leases, now), { concurrency: "unbounded", discard: true })
      nextTick = leases.toArray().reduce((earliest, lease) => Math.min(earliest, lease.dueAt), Number.POSITIVE_INFINITY)
      yield* wake.close
      if (nextTick === Number.POSITIVE_INFINITY) return yield* wake.await
      const later = yield* Clock.currentTimeMillis
      yield* sleepUnless(nextTick - later, wake.await)
    })
    yield* loop("renewal", tick)

    return {
      add: (lease) => {
        leases.add(lease)
        if (lease.dueAt < nextTick) {
          nextTick = lease.dueAt
          wake.unsafeOpen()
        }
      },
      remove: (lease) => {
        if (lease !== undefined) leases.delete(lease)
      },
      size: () => leases.size
    }
  })
