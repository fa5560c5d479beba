/**
 * An effect and its record in one transaction. A duplicate blocks on the record's row until the first has committed or
 * rolled back; what happens to the transaction itself (a conflict, a COMMIT without an answer) is looked up or tried
 * again if it is ours, and passed on if it is the caller's.
 */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import { pipe } from "effect/Function"
import * as Option from "effect/Option"
import type { IdempotencyTransactions } from "../../IdempotencyTransactions.js"
import type { Completed } from "../protocol.js"
import { sleepUnless } from "../sleep.js"
import { storedKey } from "../storedKey.js"
import { differ } from "../transition.js"
import { BeginFailure, joinedTransaction, openTransaction, type Transaction } from "./connections.js"
import { isLockTimeout, storageError } from "./errors.js"
import { makeHolding } from "./holding.js"
import { inFlight, inTransaction, met, mismatch, recorded, Trouble } from "./inTransaction.js"
import { makeLead, type TurnsDependencies } from "./turns.js"

type Service = Context.Tag.Service<IdempotencyTransactions>
type Request = IdempotencyTransactions.Request
type Failure = IdempotencyTransactions.Failure
type Ran<A> = IdempotencyTransactions.Ran<A>
type Result<A> = IdempotencyTransactions.Result<A>

export type TransactionsDependencies = Omit<TurnsDependencies, "holding">

/** Somebody in this process is at the key; it ends with the record, if there is one. */
interface Flight {
  readonly fingerprint: string | undefined
  readonly ended: Deferred.Deferred<Completed | undefined>
}

export const makeTransactions = (dependencies: TransactionsDependencies): Service => {
  const { statements, tokens } = dependencies
  const holding = makeHolding(statements)
  const lead = makeLead({ ...dependencies, holding })
  const flights = new Map<string, Flight>()

  const joined = <A, E, R>(
    outer: Transaction,
    request: Request,
    body: (attempt: number) => Effect.Effect<Ran<A>, E, R>
  ): Effect.Effect<Result<A>, E | Failure, R> => {
    const patience = request.inFlight === "fail" ? 0 : request.waitTimeout
    const whole = joinedTransaction(outer)((transaction) =>
      inTransaction(holding)(transaction, request, { token: tokens.next(), claimedBy: undefined }, patience, body)
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

  return {
    run: (request, body) =>
      Effect.flatMap(openTransaction, (outer) =>
        outer === undefined
          ? Effect.flatMap(Clock.currentTimeMillis, (now) => own(request, body, now + request.waitTimeout))
          : joined(outer, request, body)
      ),
    isOpen: Effect.map(openTransaction, (transaction) => transaction !== undefined)
  }
}
