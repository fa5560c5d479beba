/**
 * An effect and its record in one transaction. A duplicate blocks on the record's row until the first has committed or
 * rolled back; what happens to the transaction itself (a conflict, a COMMIT without an answer) is looked up or tried
 * again if it is ours, and passed on if it is the caller's.
 */
import type * as SqlClient from "@effect/sql/SqlClient"
import { SqlError } from "@effect/sql/SqlError"
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import { pipe } from "effect/Function"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import {
  IdempotencyFingerprintMismatchError,
  IdempotencyInFlightError,
  IdempotencyStorageError
} from "../../IdempotencyError.js"
import type { IdempotencyTransactions } from "../../IdempotencyTransactions.js"
import { pollDelay } from "../polling.js"
import type { Completed, Driver } from "../protocol.js"
import { storedKey } from "../storedKey.js"
import { resultUnavailable } from "../storedRecord.js"
import type { Tokens } from "../tokens.js"
import type { Changes } from "./changes.js"
import {
  answeredWithin,
  BeginFailure,
  CommitFailure,
  joinedTransaction,
  openTransaction,
  ownTransaction,
  runOn,
  type Transaction
} from "./connections.js"
import { isBusy, isConflict, isLockTimeout, sort, storageError } from "./errors.js"
import { type Held, makeHolding } from "./holding.js"
import { makeRecords, type Run, visible } from "./records.js"
import type { Statements } from "./statements.js"
import type { Dialect } from "./table.js"

type Service = Context.Tag.Service<IdempotencyTransactions>
type Request = IdempotencyTransactions.Request
type Failure = IdempotencyTransactions.Failure
type Ran<A> = IdempotencyTransactions.Ran<A>
type Result<A> = IdempotencyTransactions.Result<A>

export interface TransactionsDependencies {
  readonly client: SqlClient.SqlClient
  readonly dialect: Dialect
  readonly statements: Statements
  readonly changes: Changes
  readonly tokens: Tokens
  readonly driver: Driver
}

/** A statement of ours failed: told apart from what the effect fails with. */
class Trouble {
  readonly _tag = "Trouble"
  constructor(
    readonly method: string,
    readonly cause: SqlError
  ) {}
}

const trouble =
  (method: string) =>
  <A, R>(statement: Effect.Effect<A, SqlError, R>): Effect.Effect<A, Trouble, R> =>
    Effect.mapError(statement, (cause) => new Trouble(method, cause))

/** How a transaction ended. */
type Ended<A> =
  | { readonly _tag: "Executed"; readonly value: A; readonly attempt: number; readonly record: Completed | undefined }
  | Exclude<Held, { readonly _tag: "Held" }>

/** Somebody in this process is at the key; it ends with the record, if there is one. */
interface Flight {
  readonly fingerprint: string | undefined
  readonly ended: Deferred.Deferred<Completed | undefined>
}

/** What a COMMIT was for. */
interface Committing<A> {
  readonly token: string
  readonly value: A
  readonly attempt: number
}

/** A caller's turns at the key. */
interface Turns<A> {
  readonly giveUpAt: number
  tries: number
  polls: number
  /** What the last transaction was about to commit. */
  committing: Committing<A> | undefined
  /** What may have been committed, and until when to look for it. */
  pending: (Committing<A> & { readonly until: number }) | undefined
}

type Turn<A> =
  | { readonly _tag: "Over"; readonly result: Result<A>; readonly record: Completed | undefined }
  /** An execution outside a transaction is running. */
  | { readonly _tag: "Wait"; readonly remaining: number }
  | { readonly _tag: "Again" }

const over = (result: Result<never>): Turn<never> => ({
  _tag: "Over",
  result,
  record: result._tag === "Recorded" ? result.record : undefined
})

const differ = (a: string | undefined, b: string | undefined): boolean => a !== undefined && b !== undefined && a !== b

/** How often a transaction is tried that lost against others, and one that did not reach the database. */
const triesInConflict = 50
const triesWithoutDatabase = 4

const noAnswer = () => new SqlError({ cause: new Error("the database did not answer in time"), message: "No answer" })

const pauseBefore = (turn: number, shortest: number): Effect.Effect<void> =>
  Effect.flatMap(Random.nextRange(0.5, 1), (jitter) => Effect.sleep(Math.min(500, shortest * 2 ** turn) * jitter))

export const makeTransactions = (dependencies: TransactionsDependencies): Service => {
  const { changes, client, dialect, driver, statements, tokens } = dependencies
  const flights = new Map<string, Flight>()
  const { finish, hold } = makeHolding(statements)

  const inFlight = ({ identifiers }: Request, remaining: number) =>
    Effect.fail(
      new IdempotencyInFlightError({
        operation: identifiers.operation,
        idempotencyKey: identifiers.idempotencyKey,
        reason: "Running",
        retryAfter: Duration.millis(Math.max(1, Math.ceil(remaining)))
      })
    )

  const mismatch = ({ identifiers: { idempotencyKey, operation } }: Request) =>
    Effect.fail(new IdempotencyFingerprintMismatchError({ operation, idempotencyKey }))

  const recorded = (request: Request, record: Completed): Effect.Effect<Result<never>, Failure> =>
    differ(request.fingerprint, record.fingerprint) ? mismatch(request) : Effect.succeed({ _tag: "Recorded", record })

  /** What another has left, where nothing is to be waited for. */
  const met = (
    request: Request,
    reply: Exclude<Extract<Held, { readonly _tag: "Met" }>["reply"], { readonly _tag: "InFlight" }>
  ): Effect.Effect<Result<never>, Failure> => {
    switch (reply._tag) {
      case "Settled":
        return recorded(request, reply.record)
      case "Mismatch":
        return mismatch(request)
      case "Unknown":
        return Effect.fail(
          resultUnavailable(request.identifiers, new Error("an execution outside a transaction may have happened"))
        )
      case "Corrupted":
        return Effect.fail(resultUnavailable(request.identifiers, reply.cause))
      case "Refused":
        return Effect.dieMessage("a token that was never used cannot be refused")
    }
  }

  /** The whole of it, in a transaction that is open. */
  const inTransaction = <A, E, R>(
    transaction: Transaction,
    request: Request,
    token: string,
    patience: number,
    body: (attempt: number) => Effect.Effect<Ran<A>, E, R>
  ): Effect.Effect<Ended<A>, E | Trouble | IdempotencyStorageError, R> => {
    // A caller's transaction is the caller's to give up.
    const within = (millis: number) => answeredWithin(transaction.depth > 0 ? Duration.infinity : millis)
    return Effect.flatMap(
      trouble("claim")(within(patience + request.storageTimeout)(hold(transaction, request, token, patience))),
      (held): Effect.Effect<Ended<A>, E | Trouble | IdempotencyStorageError, R> =>
        held._tag !== "Held"
          ? Effect.succeed(held)
          : Effect.flatMap(body(held.attempt), ({ outcome, value }) =>
              Effect.flatMap(
                trouble("complete")(within(request.storageTimeout)(finish(transaction, request, token, held, outcome))),
                ({ done, record }) =>
                  done
                    ? Effect.succeed({ _tag: "Executed" as const, value, attempt: held.attempt, record })
                    : Effect.fail(
                        new IdempotencyStorageError({
                          operation: request.identifiers.operation,
                          method: "complete",
                          reason: "Rejected",
                          applied: "no",
                          cause: new Error("the effect removed its own record, or ended its own transaction")
                        })
                      )
              )
            )
    )
  }

  const joined = <A, E, R>(
    outer: Transaction,
    request: Request,
    body: (attempt: number) => Effect.Effect<Ran<A>, E, R>
  ): Effect.Effect<Result<A>, E | Failure, R> => {
    const patience = request.inFlight === "fail" ? 0 : request.waitTimeout
    const whole = joinedTransaction(outer)((transaction) =>
      inTransaction(transaction, request, tokens.next(), patience, body)
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

  /** What is committed, if that decides: perhaps by this caller, whose COMMIT was not answered. */
  const lookUp = <A>(
    run: Run,
    request: Request,
    turns: Turns<A>
  ): Effect.Effect<Turn<A> | undefined, Failure | Trouble> => {
    const reading = makeRecords(run, statements).read(request.identifiers)
    return Effect.flatMap(
      trouble("read")(answeredWithin(request.storageTimeout)(reading)),
      (found): Effect.Effect<Turn<A> | undefined, Failure> => {
        const state = visible(found)
        const { pending } = turns
        switch (state?._tag) {
          case "Corrupted":
            return Effect.fail(resultUnavailable(request.identifiers, state.cause))
          case "Completed":
            return pending?.token === state.token
              ? Effect.succeed({ _tag: "Over", result: { _tag: "Executed", ...pending }, record: state })
              : Effect.map(recorded(request, state), over)
          case "Processing":
            return Effect.succeed(
              found.now < state.leaseUntil ? { _tag: "Wait", remaining: state.leaseUntil - found.now } : undefined
            )
          default:
            return Effect.succeed(undefined)
        }
      }
    )
  }

  /** What a transaction met, or what it is about to commit. */
  const turnOf = <A>(
    request: Request,
    turns: Turns<A>,
    token: string,
    ended: Ended<A>
  ): Effect.Effect<Turn<A>, Failure> => {
    switch (ended._tag) {
      case "Changed":
        return Effect.succeed({ _tag: "Again" })
      case "Met":
        return ended.reply._tag === "InFlight"
          ? Effect.succeed({ _tag: "Wait", remaining: ended.reply.remaining })
          : Effect.map(met(request, ended.reply), over)
      case "Executed":
        turns.committing = { token, value: ended.value, attempt: ended.attempt }
        return Effect.succeed({ _tag: "Over", result: ended, record: ended.record })
    }
  }

  const takeTurn = <A, E, R>(
    request: Request,
    turns: Turns<A>,
    body: (attempt: number) => Effect.Effect<Ran<A>, E, R>
  ): Effect.Effect<Turn<A>, E | Failure | Trouble | CommitFailure | BeginFailure, R> =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const token = tokens.next()
      const left = Math.max(0, turns.giveUpAt - now)
      const opening = { isolation: request.isolation, patience: Math.max(left, request.storageTimeout) }
      return ownTransaction(
        client,
        dialect,
        opening
      )(
        (transaction) =>
          Effect.flatMap(
            inTransaction(transaction, request, token, request.inFlight === "fail" ? 0 : left, body),
            (ended) => turnOf(request, turns, token, ended)
          ),
        (connection) => lookUp(runOn(connection), request, turns)
      )
    })

  /** Whether another turn may go better, after a pause. */
  const recovered = <A, E>(
    request: Request,
    turns: Turns<A>,
    error: E | Failure | Trouble | CommitFailure | BeginFailure
  ): Effect.Effect<Turn<A>, E | Failure> =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const isOurs = error instanceof Trouble || error instanceof CommitFailure || error instanceof BeginFailure
      const cause = isOurs ? error.cause : error
      const { applied, reason } = sort(cause)
      if (error instanceof CommitFailure && applied === "unknown" && turns.committing !== undefined) {
        turns.pending ??= { ...turns.committing, until: now + request.waitTimeout }
      }
      turns.tries++
      // SQLite has one writer, and does not say which key it writes.
      if (error instanceof BeginFailure && isBusy(cause) && now < turns.giveUpAt) {
        return Effect.as(pauseBefore(3, 1), { _tag: "Again" })
      }
      if (isConflict(cause) && turns.tries < triesInConflict) {
        return Effect.as(pauseBefore(Math.min(turns.tries, 6), 1), { _tag: "Again" })
      }
      if (!isOurs) return Effect.fail(error)
      if (error instanceof Trouble && isLockTimeout(cause)) return inFlight(request, 1000)
      const isAway = reason === "Unavailable" || reason === "Timeout"
      const isWorthIt = turns.pending === undefined ? turns.tries < triesWithoutDatabase : now < turns.pending.until
      if (isAway && isWorthIt) return Effect.as(pauseBefore(turns.tries, 25), { _tag: "Again" })
      const method = error instanceof Trouble ? error.method : error instanceof CommitFailure ? "commit" : "begin"
      return Effect.fail(
        new IdempotencyStorageError({
          operation: request.identifiers.operation,
          method,
          reason,
          // Only what was to be committed can have been.
          applied: turns.pending === undefined ? "no" : "unknown",
          cause
        })
      )
    })

  /** Waits for an execution outside a transaction, with none open. */
  const wait = (request: Request, turns: Turns<unknown>, remaining: number): Effect.Effect<void, Failure> =>
    Effect.flatMap(Clock.currentTimeMillis, (now) =>
      request.inFlight === "fail" || now >= turns.giveUpAt
        ? inFlight(request, remaining)
        : Effect.scoped(
            Effect.flatMap(Effect.zip(pollDelay(turns.polls++), changes.of(request.identifiers)), ([delay, changed]) =>
              Effect.raceFirst(Effect.sleep(Math.min(delay, remaining + 1, turns.giveUpAt - now)), changed)
            )
          )
    )

  const lead = <A, E, R>(
    request: Request,
    turns: Turns<A>,
    body: (attempt: number) => Effect.Effect<Ran<A>, E, R>
  ): Effect.Effect<Extract<Turn<A>, { readonly _tag: "Over" }>, E | Failure, R> =>
    pipe(
      takeTurn(request, turns, body),
      Effect.catchAll((error) => recovered<A, E>(request, turns, error)),
      Effect.flatMap((turn) => {
        if (turn._tag === "Over") return Effect.succeed(turn)
        const next = Effect.suspend(() => lead(request, turns, body))
        return turn._tag === "Wait" ? Effect.zipRight(wait(request, turns, turn.remaining), next) : next
      })
    )

  /** In a transaction of its own, one caller of this process at a time: the others need no connection. */
  const own = <A, E, R>(
    request: Request,
    body: (attempt: number) => Effect.Effect<Ran<A>, E, R>,
    giveUpAt: number
  ): Effect.Effect<Result<A>, E | Failure, R> =>
    Effect.suspend(() => {
      const key = storedKey(request.identifiers)
      const other = flights.get(key)
      if (other !== undefined) {
        if (differ(request.fingerprint, other.fingerprint)) return mismatch(request)
        if (request.inFlight === "fail") return inFlight(request, 1000)
        return Effect.flatMap(Clock.currentTimeMillis, (now) =>
          now >= giveUpAt
            ? inFlight(request, 1000)
            : Effect.flatMap(
                Effect.timeoutOption(Deferred.await(other.ended), giveUpAt - now),
                (ended): Effect.Effect<Result<A>, E | Failure, R> => {
                  const record = Option.getOrUndefined(ended)
                  return record === undefined ? own(request, body, giveUpAt) : recorded(request, record)
                }
              )
        )
      }
      const ended = Deferred.unsafeMake<Completed | undefined>(FiberId.none)
      flights.set(key, { fingerprint: request.fingerprint, ended })
      const turns: Turns<A> = { giveUpAt, tries: 0, polls: 0, committing: undefined, pending: undefined }
      return pipe(
        lead(request, turns, body),
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
    isOpen: Effect.map(openTransaction, (transaction) => transaction !== undefined),
    countAttempt: ({ fingerprint, identifiers, retention, storageTimeout }) => {
      const token = tokens.next()
      const claim = driver.claim(identifiers, {
        token,
        fingerprint,
        guarantee: "at-least-once",
        // Should the process end before the release, the next one waits no longer.
        lease: 3 * storageTimeout,
        retention,
        unknownRetention: retention
      })
      const counted = Effect.flatMap(claim, (reply) =>
        reply._tag === "Claimed" || reply._tag === "AlreadyMine"
          ? Effect.as(driver.release(identifiers, { token }), reply.attempt)
          : Effect.succeed(undefined)
      )
      return Effect.timeoutFail(Effect.disconnect(counted), {
        duration: storageTimeout,
        onTimeout: () => storageError(identifiers.operation, "claim")(noAnswer())
      })
    }
  }
}
