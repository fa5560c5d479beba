/** Turns at a key, each in a transaction of its own: until one is committed, or is not worth another try. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { Connection } from "@effect/sql/SqlConnection"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { pipe } from "effect/Function"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import { type IdempotencyInFlightError, IdempotencyStorageError } from "../../IdempotencyError.js"
import type { IdempotencyTransactions } from "../../IdempotencyTransactions.js"
import { hintOf, pollDelay } from "../polling.js"
import type { Completed } from "../protocol.js"
import { sleepUnless } from "../sleep.js"
import { resultUnavailable } from "../storedRecord.js"
import type { Tokens } from "../tokens.js"
import { differ } from "../transition.js"
import type { Attempts, Counted } from "./attempts.js"
import type { Changes } from "./changes.js"
import { answeredWithin, BeginFailure, CommitFailure, ownTransaction, runOn } from "./connections.js"
import { isBusy, isConflict, isLockTimeout, sort } from "./errors.js"
import type { Holding } from "./holding.js"
import { type Ended, inFlight, inTransaction, met, mismatch, recorded, Trouble, trouble } from "./inTransaction.js"
import { makeRecords, type Run, visible } from "./records.js"
import type { Statements } from "./statements.js"
import type { Dialect } from "./table.js"

type Request = IdempotencyTransactions.Request
type Failure = IdempotencyTransactions.Failure
type Ran<A> = IdempotencyTransactions.Ran<A>
type Result<A> = IdempotencyTransactions.Result<A>

export interface TurnsDependencies {
  readonly client: SqlClient.SqlClient
  readonly dialect: Dialect
  readonly statements: Statements
  readonly holding: Holding
  readonly changes: Changes
  readonly tokens: Tokens
  readonly attempts: Attempts
}

/** What a COMMIT was for. */
interface Committing<A> {
  readonly token: string
  readonly value: A
  readonly attempt: number
}

/** A caller's turns at the key. */
interface Turns<A> {
  /** Until when others are waited for. */
  readonly giveUpAt: number
  /** How often it has asked for a key that another has. */
  polls: number
  /** Ends at the next change of the key, as far as the database tells. */
  changed: Effect.Effect<void> | undefined
  /** Of the subscription to changes. */
  readonly scope: Scope.Scope
  readonly counted: Counted | undefined
  tries: number
  /** What the last transaction was about to commit. */
  committing: Committing<A> | undefined
  /** What may have been committed, and until when to look for it. */
  readonly pending: Array<Committing<A>>
  lookUntil: number
}

/** What the caller is told, and the record, if the database told its instants. */
interface Over<A> {
  readonly _tag: "Over"
  readonly result: Result<A>
  readonly record: Completed | undefined
}

type Turn<A> =
  | Over<A>
  /** An execution outside a transaction is running. */
  | { readonly _tag: "Wait"; readonly remaining: number }
  | { readonly _tag: "Again" }

const over = (result: Result<never>): Turn<never> => ({
  _tag: "Over",
  result,
  record: result._tag === "Recorded" ? result.record : undefined
})

/** How often a transaction is tried that lost against others, and one that did not reach the database. */
const triesInConflict = 50
const triesWithoutDatabase = 4

const pauseBefore = (turn: number, shortest: number): Effect.Effect<void> =>
  Effect.flatMap(Random.nextRange(0.5, 1), (jitter) => Effect.sleep(Math.min(500, shortest * 2 ** turn) * jitter))

/** The executions of a key that this caller leads, one after the other. */
export type Lead = <A, E, R>(
  request: Request,
  giveUpAt: number,
  body: (attempt: number) => Effect.Effect<Ran<A>, E, R>
) => Effect.Effect<Over<A>, E | Failure, R>

export const makeLead = ({
  attempts,
  changes,
  client,
  dialect,
  holding,
  statements,
  tokens
}: TurnsDependencies): Lead => {
  /** Waits for an execution outside a transaction, with none open. */
  const wait = <A>(
    request: Request,
    turns: Turns<A>,
    remaining: number
  ): Effect.Effect<void, IdempotencyInFlightError> =>
    Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      if (request.inFlight === "fail" || now >= turns.giveUpAt) return yield* inFlight(request, remaining)
      turns.changed ??= yield* Scope.extend(hintOf(changes.of(request.identifiers)), turns.scope)
      const delay = yield* pollDelay(turns.polls++)
      yield* sleepUnless(Math.min(delay, remaining + 1, turns.giveUpAt - now), turns.changed)
    })

  /** What is recorded: perhaps by this caller. */
  const settled = <A>(request: Request, turns: Turns<A>, record: Completed): Effect.Effect<Turn<A>, Failure> => {
    const own = turns.pending.find(({ token }) => token === record.token)
    return own === undefined
      ? Effect.map(recorded(request, record), over)
      : Effect.succeed({ _tag: "Over", result: { _tag: "Executed", ...own }, record })
  }

  /** Counts the attempt, unless what is there decides. */
  const count = <A>(
    connection: Connection,
    request: Request,
    turns: Turns<A>,
    counted: Counted
  ): Effect.Effect<Turn<A> | undefined, Failure | Trouble | BeginFailure> =>
    Effect.flatMap(
      attempts.claim(connection, request, counted),
      (reply): Effect.Effect<Turn<A> | undefined, Failure> => {
        switch (reply._tag) {
          case "Claimed":
          case "AlreadyMine":
            return Effect.succeed(undefined)
          case "InFlight":
            return Effect.succeed({ _tag: "Wait", remaining: reply.remaining })
          case "Settled":
            return settled(request, turns, reply.record)
          default:
            return Effect.map(met(request, reply), over)
        }
      }
    )

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
        switch (state?._tag) {
          case "Corrupted":
            return Effect.fail(resultUnavailable(request.identifiers, state.cause))
          case "Completed":
            return settled(request, turns, state)
          case "Processing":
            if (differ(request.fingerprint, state.fingerprint)) return mismatch(request)
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
      const { counted } = turns
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
            inTransaction(holding)(
              transaction,
              request,
              { token, claimedBy: counted?.token },
              request.inFlight === "fail" ? 0 : left,
              body
            ),
            (ended) => turnOf(request, turns, token, ended)
          ),
        (connection) =>
          counted === undefined ? lookUp(runOn(connection), request, turns) : count(connection, request, turns, counted)
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
        if (turns.pending.length === 0) turns.lookUntil = now + request.waitTimeout
        turns.pending.push(turns.committing)
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
      const isWorthIt = turns.pending.length === 0 ? turns.tries < triesWithoutDatabase : now < turns.lookUntil
      if (isAway && isWorthIt) return Effect.as(pauseBefore(turns.tries, 25), { _tag: "Again" })
      const method = error instanceof Trouble ? error.method : error instanceof CommitFailure ? "commit" : "begin"
      return Effect.fail(
        new IdempotencyStorageError({
          operation: request.identifiers.operation,
          method,
          reason,
          // Only what was to be committed can have been.
          applied: turns.pending.length === 0 ? "no" : "unknown",
          cause
        })
      )
    })

  const lead = <A, E, R>(
    request: Request,
    turns: Turns<A>,
    body: (attempt: number) => Effect.Effect<Ran<A>, E, R>
  ): Effect.Effect<Over<A>, E | Failure, R> =>
    pipe(
      takeTurn(request, turns, body),
      Effect.catchAll((error) => recovered<A, E>(request, turns, error)),
      Effect.flatMap((turn) => {
        if (turn._tag === "Over") return Effect.succeed(turn)
        const next = Effect.suspend(() => lead(request, turns, body))
        return turn._tag === "Wait" ? Effect.zipRight(wait(request, turns, turn.remaining), next) : next
      })
    )

  return (request, giveUpAt, body) => {
    const counted = attempts.of(request)
    const led = Effect.scopedWith((scope) =>
      lead(
        request,
        {
          giveUpAt,
          scope,
          counted,
          tries: 0,
          polls: 0,
          changed: undefined,
          committing: undefined,
          pending: [],
          lookUntil: 0
        },
        body
      )
    )
    return counted === undefined ? led : Effect.onError(led, () => attempts.release(request, counted))
  }
}
