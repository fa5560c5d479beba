/**
 * An effect and its record in one transaction. A duplicate blocks on the record's row until the first has committed or
 * rolled back; what happens to the transaction itself (a conflict, a COMMIT without an answer) is looked up or tried
 * again if it is ours, and passed on if it is the caller's.
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import { pipe } from "effect/Function"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { IdempotencyInFlightError, IdempotencyStorageError } from "../../IdempotencyError.js"
import type { IdempotencyTransactions } from "../../IdempotencyTransactions.js"
import type { Completed, Driver } from "../protocol.js"
import { sleepUnless } from "../sleep.js"
import { storedKey } from "../storedKey.js"
import { differ } from "../transition.js"
import { answeredWithin, BeginFailure, joinedTransaction, openTransaction, type Transaction } from "./connections.js"
import { isLockTimeout, storageError } from "./errors.js"
import { makeHolding } from "./holding.js"
import { inFlight, inTransaction, met, mismatch, recorded, Trouble } from "./inTransaction.js"
import { makeLead, type TurnsDependencies, type Waiting, waitBy } from "./turns.js"

type Service = Context.Tag.Service<IdempotencyTransactions>
type Request = IdempotencyTransactions.Request
type Failure = IdempotencyTransactions.Failure
type Ran<A> = IdempotencyTransactions.Ran<A>
type Result<A> = IdempotencyTransactions.Result<A>

export interface TransactionsDependencies extends Omit<TurnsDependencies, "holding"> {
  /** Whose calls are not bounded: the claim of an attempt that is counted has its own time. */
  readonly driver: Driver
  readonly scope: Scope.Scope
}

/** Milliseconds that a counted attempt may take until it has its transaction, whose row keeps others away from then on. */
const leaseOf = ({ storageTimeout, waitTimeout }: Request): number =>
  Math.max(waitTimeout, storageTimeout) + 3 * storageTimeout

/** Somebody in this process is at the key; it ends with the record, if there is one. */
interface Flight {
  readonly fingerprint: string | undefined
  readonly ended: Deferred.Deferred<Completed | undefined>
}

export const makeTransactions = (dependencies: TransactionsDependencies): Service => {
  const { changes, dialect, driver, scope, statements, tokens } = dependencies
  const holding = makeHolding(statements)
  const lead = makeLead({ ...dependencies, holding })
  const wait = waitBy(changes)
  const flights = new Map<string, Flight>()

  const joined = <A, E, R>(
    outer: Transaction,
    request: Request,
    body: (attempt: number) => Effect.Effect<Ran<A>, E, R>
  ): Effect.Effect<Result<A>, E | Failure, R> => {
    const patience = request.inFlight === "fail" ? 0 : request.waitTimeout
    const whole = joinedTransaction(outer)((transaction) =>
      inTransaction(holding)(transaction, request, tokens.next(), patience, body)
    )
    return pipe(
      whole,
      Effect.matchEffect({
        onFailure: (error): Effect.Effect<Result<A>, E | Failure, R> => {
          if (!(error instanceof Trouble || error instanceof BeginFailure)) return Effect.fail(error)
          if (isLockTimeout(error.cause)) return inFlight(request, 1000)
          const method = error instanceof Trouble ? error.method : "begin"
          return Effect.fail(storageError(request.identifiers.operation, method)(error.cause))
        },
        onSuccess: (ended): Effect.Effect<Result<A>, E | Failure, R> => {
          if (ended._tag === "Executed") return Effect.succeed(ended)
          // To wait for another's claim would be to hold the caller's transaction open for it.
          if (ended._tag === "Changed") return inFlight(request, 1)
          return ended.reply._tag === "InFlight" ? inFlight(request, ended.reply.remaining) : met(request, ended.reply)
        }
      })
    )
  }

  /** In a transaction of its own, one caller of this process at a time: the others need no connection. */
  const own = <A, E, R>(
    request: Request,
    body: (attempt: number) => Effect.Effect<Ran<A>, E, R>,
    giveUpAt: number
  ): Effect.Effect<Result<A>, E | Failure, R> =>
    Effect.uninterruptibleMask((restore) => {
      const key = storedKey(request.identifiers)
      const other = flights.get(key)
      if (other !== undefined) {
        if (differ(request.fingerprint, other.fingerprint)) return mismatch(request)
        if (request.inFlight === "fail") return inFlight(request, 1000)
        return Effect.flatMap(Clock.currentTimeMillis, (now) =>
          now >= giveUpAt
            ? inFlight(request, 1000)
            : pipe(
                sleepUnless(giveUpAt - now, Effect.asVoid(Deferred.await(other.ended))),
                Effect.zipRight(Deferred.poll(other.ended)),
                Effect.flatMap(Option.getOrElse(() => Effect.succeed(undefined))),
                Effect.flatMap(
                  (record): Effect.Effect<Result<A>, E | Failure, R> =>
                    record === undefined ? own(request, body, giveUpAt) : recorded(request, record)
                ),
                restore
              )
        )
      }
      const ended = Deferred.unsafeMake<Completed | undefined>(FiberId.none)
      flights.set(key, { fingerprint: request.fingerprint, ended })
      return pipe(
        restore(lead(request, giveUpAt, body)),
        Effect.onExit((exit) => {
          flights.delete(key)
          return Deferred.succeed(ended, Exit.isSuccess(exit) ? exit.value.record : undefined)
        }),
        Effect.map(({ result }) => result)
      )
    })

  /** The caller waits for one try. A store that does not answer hears of it until the lease has ended by itself. */
  const release = (request: Request, token: string): Effect.Effect<void> => {
    const once = answeredWithin(request.storageTimeout)(driver.release(request.identifiers, { token }))
    const later = pipe(
      Effect.delay(once, Duration.millis(request.storageTimeout)),
      Effect.retry(Schedule.forever),
      Effect.timeoutOption(Duration.millis(leaseOf(request))),
      Effect.ignore,
      Effect.interruptible
    )
    return Effect.catchAll(once, () => Effect.asVoid(Effect.forkIn(later, scope)))
  }

  /**
   * With an attempt that is committed before the transaction, by a claim: it counts also if that rolls back or its
   * process ends, and nobody counts another while it waits for its transaction.
   */
  const counted = <A, E, R>(
    request: Request,
    body: (attempt: number) => Effect.Effect<Ran<A>, E, R>,
    giveUpAt: number
  ): Effect.Effect<Result<A>, E | Failure, R> =>
    Effect.uninterruptibleMask((restore) => {
      const { fingerprint, identifiers, retention, storageTimeout } = request
      const token = tokens.next()
      const waiting: Waiting = { giveUpAt, polls: 0 }
      const orReleased = <B, E2, R2>(effect: Effect.Effect<B, E2, R2>) =>
        Effect.onError(effect, () => release(request, token))
      const claim = driver.claim(identifiers, {
        token,
        fingerprint,
        guarantee: "at-least-once",
        lease: leaseOf(request),
        retention,
        unknownRetention: retention
      })
      /** Whether the key is claimed; where not, there is nothing to attempt. Another who is at it is waited for. */
      const ask: Effect.Effect<boolean, SqlError | IdempotencyStorageError | IdempotencyInFlightError> = Effect.flatMap(
        Clock.currentTimeMillis,
        (now) => {
          // SQLite's one connection is waited for as by the transaction that follows.
          const patience = dialect === "sqlite" ? Math.max(storageTimeout, giveUpAt - now) : storageTimeout
          return Effect.flatMap(orReleased(restore(answeredWithin(patience)(claim))), (reply) =>
            reply._tag === "InFlight"
              ? Effect.zipRight(restore(wait(request, waiting, reply.remaining)), ask)
              : Effect.succeed(reply._tag === "Claimed" || reply._tag === "AlreadyMine")
          )
        }
      )
      return pipe(
        ask,
        Effect.catchTag("SqlError", (error) => Effect.fail(storageError(identifiers.operation, "claim")(error))),
        Effect.flatMap((isClaimed) =>
          isClaimed
            ? Effect.map(orReleased(restore(lead(request, giveUpAt, body, token))), ({ result }) => result)
            : restore(own(request, body, giveUpAt))
        )
      )
    })

  return {
    run: (request, body) =>
      Effect.flatMap(Effect.zip(openTransaction, Clock.currentTimeMillis), ([outer, now]) => {
        if (outer !== undefined) return joined(outer, request, body)
        const giveUpAt = now + request.waitTimeout
        return request.countsAttempt ? counted(request, body, giveUpAt) : own(request, body, giveUpAt)
      }),
    isOpen: Effect.map(openTransaction, (transaction) => transaction !== undefined)
  }
}
