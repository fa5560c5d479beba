/** Copies of settled records before a store: what a fast store and a cache in this process have in common. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { IdempotencyStorageError } from "../IdempotencyError.js"
import type { IdempotencyIdentifiers } from "../IdempotencyIdentifiers.js"
import { Call, followed, nowIn, waiting } from "./call.js"
import type { Completed, CompleteReply, CompleteRequest, Corrupted, Driver, State } from "./protocol.js"
import { readStored } from "./protocol.js"
import { storedKey } from "./storedKey.js"
import * as transition from "./transition.js"

interface Settled {
  readonly identifiers: IdempotencyIdentifiers
  readonly record: Completed
}

/** A settled record, as it is in the store, and until when it may be used, by the `Clock`. */
export interface Copy extends Settled {
  readonly until: number
}

/** Where copies are kept. Nothing here fails, and any of them may be lost at any time. */
export interface Copies {
  /** In the order of the identifiers. */
  readonly get: (
    identifiers: ReadonlyArray<IdempotencyIdentifiers>
  ) => Effect.Effect<ReadonlyArray<Completed | undefined>>
  /** The same at once, where copies are at hand. */
  readonly unsafeGet?: (identifiers: IdempotencyIdentifiers, now: number) => Completed | undefined
  readonly put: (copies: ReadonlyArray<Copy>) => Effect.Effect<void>
  readonly remove: (identifiers: ReadonlyArray<IdempotencyIdentifiers>) => Effect.Effect<void>
}

/** Claims of which so many are remembered; they have ended long before, or are copied at their first replay. */
const maxOpenClaims = 10_000

/**
 * The driver, whose settled records are answered from copies for so many milliseconds at most. What changes or removes
 * a settled record takes its copy with it, also one that is on its way from the store.
 */
export const withCopies = (driver: Driver, copies: Copies, timeToLive: number): Driver => {
  /** What was asked for before a removal is not kept after it. */
  let removals = 0
  /** What has been claimed by which token, and has not been asked to end yet. */
  const openClaims = new Set<string>()
  const claimOf = (identifiers: IdempotencyIdentifiers, token: string): string => `${storedKey(identifiers)} ${token}`

  const opened = (claim: string): void => {
    openClaims.add(claim)
    for (const oldest of openClaims) {
      if (openClaims.size <= maxOpenClaims) return
      openClaims.delete(oldest)
    }
  }

  /** A copy that is over by the local clock is none: the store is asked, which knows. */
  const current = (copy: Completed | undefined, now: number): Completed | undefined =>
    copy !== undefined && now < copy.expiresAt ? copy : undefined

  const find = (identifiers: ReadonlyArray<IdempotencyIdentifiers>) =>
    Effect.zipWith(copies.get(identifiers), Clock.currentTimeMillis, (found, now) => ({
      now,
      found: found.map((copy) => current(copy, now))
    }))

  /** Asks the store, and keeps what its reply tells to be settled. */
  const ask = <Reply>(
    call: Effect.Effect<Reply, IdempotencyStorageError>,
    asked: () => (reply: Reply) => ReadonlyArray<Settled>
  ): Effect.Effect<Reply, IdempotencyStorageError> =>
    followed(call, (fiber) => {
      const askedAt = nowIn(fiber)
      const settled = asked()
      const removalsBefore = removals
      return Effect.tap((reply) => {
        const found = removals === removalsBefore ? settled(reply) : []
        return found.length === 0
          ? Effect.void
          : copies.put(found.map((one) => ({ ...one, until: Math.min(one.record.expiresAt, askedAt + timeToLive) })))
      })
    })

  /** Whatever the store said: a change without an answer may have been made. */
  const forgetting = <A>(
    identifiers: ReadonlyArray<IdempotencyIdentifiers>,
    change: Effect.Effect<A, IdempotencyStorageError>
  ): Effect.Effect<A, IdempotencyStorageError> =>
    identifiers.length === 0
      ? change
      : Effect.ensuring(
          change,
          Effect.suspend(() => {
            removals++
            return copies.remove(identifiers)
          })
        )

  const claim: Driver["claim"] = (identifiers, request) => {
    const fromCopy = (copy: Completed, now: number) => Effect.succeed(transition.claim(copy, request, now).reply)
    const asking = ask(driver.claim(identifiers, request), () => (reply) => {
      if (reply._tag === "Claimed") opened(claimOf(identifiers, request.token))
      return reply._tag === "Settled" ? [{ identifiers, record: reply.record }] : []
    })
    const { unsafeGet } = copies
    return unsafeGet !== undefined && asking instanceof Call
      ? waiting((fiber, resume) => {
          const now = nowIn(fiber)
          const copy = current(unsafeGet(identifiers, now), now)
          if (copy === undefined) return asking.start(fiber, resume)
          resume(fromCopy(copy, now))
          return undefined
        })
      : Effect.flatMap(find([identifiers]), ({ found: [copy], now }) =>
          copy === undefined ? asking : fromCopy(copy, now)
        )
  }

  const read: Driver["read"] = (identifiers) =>
    identifiers.length === 0
      ? Effect.succeed([])
      : Effect.flatMap(find(identifiers), ({ found }) => {
          const missing = identifiers.filter((_, index) => found[index] === undefined)
          if (missing.length === 0) return Effect.succeed(found)
          return Effect.map(
            ask(
              driver.read(missing),
              () => (states) =>
                states.flatMap((state, index) => {
                  const of = missing[index]
                  return of !== undefined && state?._tag === "Completed" ? [{ identifiers: of, record: state }] : []
                })
            ),
            (states): ReadonlyArray<State | Corrupted | undefined> => {
              let next = 0
              return found.map((copy) => copy ?? states[next++])
            }
          )
        })

  const complete: Driver["complete"] = (identifiers, request) =>
    ask(driver.complete(identifiers, request), () => {
      const isFirst = openClaims.delete(claimOf(identifiers, request.token))
      return (reply) => {
        const record = completedBy(request, reply, isFirst)
        return record === undefined ? [] : [{ identifiers, record }]
      }
    })

  const ending =
    <Request extends { readonly token: string }, Reply>(
      verb: (identifiers: IdempotencyIdentifiers, request: Request) => Effect.Effect<Reply, IdempotencyStorageError>
    ) =>
    (identifiers: IdempotencyIdentifiers, request: Request) =>
      Effect.suspend(() => {
        openClaims.delete(claimOf(identifiers, request.token))
        return verb(identifiers, request)
      })

  return {
    ...driver,
    claim,
    read,
    readStored: (identifiers) => readStored(driver, identifiers),
    readCopy: (identifiers) =>
      Effect.flatMap(find([identifiers]), ({ found: [copy] }) =>
        copy === undefined && driver.readCopy !== undefined ? driver.readCopy(identifiers) : Effect.succeed(copy)
      ),
    complete,
    release: ending(driver.release),
    hold: ending(driver.hold),
    resolve: (identifiers, request) => forgetting([identifiers], driver.resolve(identifiers, request)),
    reset: (identifiers, request) => forgetting([identifiers], driver.reset(identifiers, request)),
    insert: (records, options) =>
      forgetting(
        records.map(({ identifiers }) => identifiers),
        driver.insert(records, options)
      ),
    remove: (identifiers) => forgetting(identifiers, driver.remove(identifiers))
  }
}

/**
 * The record that a completion left, if its reply tells. `Done` does not if this token may have completed before, with
 * another outcome, or if the fingerprint may be that of an earlier claim.
 */
const completedBy = (request: CompleteRequest, reply: CompleteReply, isFirst: boolean): Completed | undefined => {
  switch (reply._tag) {
    case "Superseded":
      return reply.record
    case "Done": {
      const { fingerprint, token } = request
      const { attempt, createdAt, expiresAt, outcome = request.outcome } = reply
      return isFirst && fingerprint !== undefined
        ? { _tag: "Completed", token, attempt, fingerprint, createdAt, expiresAt, outcome }
        : undefined
    }
    default:
      return undefined
  }
}
