/** Connections for the store's own statements, never those of a transaction that its caller has open. */
import * as SqlClient from "@effect/sql/SqlClient"
import type { Connection } from "@effect/sql/SqlConnection"
import { SqlError } from "@effect/sql/SqlError"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import { isIdempotencyError } from "../../IdempotencyError.js"
import { endedWithin } from "../sleep.js"
import { isBusy, isLockTimeout } from "./errors.js"
import { type Run, resultOf } from "./records.js"
import { integerOf } from "./row.js"
import type { Dialect } from "./table.js"

/** Runs a statement on this connection. */
export const runOn =
  (connection: Connection): Run =>
  (text, parameters) =>
    Effect.map(connection.executeRaw(text, parameters), resultOf)

/** Outside the transaction that the caller may have open. */
export const outside = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.mapInputContext(effect, (context: Context.Context<never>) =>
    Context.getOption(context, SqlClient.TransactionConnection)._tag === "None"
      ? context
      : Context.omit(SqlClient.TransactionConnection)(context)
  )

/** SQLite waits for another writer in the thread of the program: for this statement it fails at once instead. */
const withoutBlocking =
  (connection: Connection) =>
  <A>(statement: Effect.Effect<A, SqlError>): Effect.Effect<A, SqlError> => {
    const pragma = (text: string) => connection.executeUnprepared(text, [], undefined)
    return Effect.acquireUseRelease(
      Effect.flatMap(pragma("PRAGMA busy_timeout"), ([row]) =>
        Effect.as(pragma("PRAGMA busy_timeout = 0"), integerOf(row?.timeout) ?? 0)
      ),
      () => statement,
      (before) => Effect.ignore(pragma(`PRAGMA busy_timeout = ${before}`))
    )
  }

/**
 * What waits for SQLite's one connection, as a transaction of this process has it, waits no longer than for another
 * process: for so many milliseconds.
 */
export const unlessBusy = (patience: number) =>
  endedWithin(
    patience,
    () =>
      new SqlError({
        cause: Object.assign(new Error("the database is busy"), { code: "SQLITE_BUSY" }),
        message: "Busy"
      })
  )

/** Tries again while it fails like this, for so many milliseconds. */
const whileFailing =
  (isWorthIt: (error: SqlError) => boolean) =>
  (patience: number) =>
  <A>(attempt: Effect.Effect<A, SqlError>): Effect.Effect<A, SqlError> =>
    Effect.flatMap(Clock.currentTimeMillis, (start) => {
      const loop: Effect.Effect<A, SqlError> = Effect.catchIf(attempt, isWorthIt, (error) =>
        Effect.flatMap(Effect.zip(Clock.currentTimeMillis, Random.nextRange(2, 15)), ([now, pause]) =>
          now - start + pause > patience ? Effect.fail(error) : Effect.zipRight(Effect.sleep(pause), loop)
        )
      )
      return loop
    })

/** Tries again while another has the database to itself, for so many milliseconds. */
export const whileBusy = whileFailing(isBusy)

/** Tries again while a transaction holds what is asked for, for so many milliseconds. */
export const whileLocked = whileFailing(isLockTimeout)

/** Statements each on some connection of its own; SQLite's are tried for so many milliseconds while it is busy. */
export const runAnywhere = (client: SqlClient.SqlClient, dialect: Dialect, patience: number): Run => {
  if (dialect !== "sqlite") {
    return (text, parameters) => Effect.map(outside(client.unsafe(text, parameters).raw), resultOf)
  }
  // The client remembers for minutes that a statement could not be prepared, as where the table was yet to be made: told
  // apart by white space, it is another statement.
  let spaces = ""
  const isUnprepared = ({ message }: SqlError) => message.startsWith("Failed to prepare")
  return (text, parameters) => {
    const once = Effect.suspend(() =>
      Effect.scoped(
        Effect.flatMap(client.reserve, (connection) =>
          withoutBlocking(connection)(runOn(connection)(text + spaces, parameters))
        )
      )
    )
    const again = Effect.suspend(() => {
      spaces = spaces.length < 1000 ? `${spaces} ` : ""
      return once
    })
    return whileBusy(patience)(Effect.catchIf(once, isUnprepared, () => again))
  }
}

/** Statements each by itself on this connection. */
export const runAlone = (connection: Connection, dialect: Dialect): Run =>
  dialect !== "sqlite"
    ? runOn(connection)
    : (text, parameters) => withoutBlocking(connection)(runOn(connection)(text, parameters))

/** A transaction that is open on a connection. */
export interface Transaction {
  readonly connection: Connection
  /** 0 for one of ours, else the number of its savepoint within the caller's. */
  readonly depth: number
}

/** How a transaction is opened. */
export interface Opening {
  /** As the database spells it. */
  readonly isolation?: string | undefined
  /** Milliseconds to wait for a connection. */
  readonly patience: number
}

/** There is no connection, or no transaction was opened on it. */
export class BeginFailure {
  readonly _tag = "BeginFailure"
  constructor(readonly cause: SqlError) {}
}

/** COMMIT failed, or nobody knows. */
export class CommitFailure {
  readonly _tag = "CommitFailure"
  constructor(readonly cause: SqlError) {}
}

const beginnings = (dialect: Dialect, isolation: string | undefined): ReadonlyArray<string> => {
  switch (dialect) {
    case "sqlite":
      return ["BEGIN IMMEDIATE"]
    case "postgres":
      return [isolation === undefined ? "BEGIN" : `BEGIN ISOLATION LEVEL ${isolation}`]
    case "mysql":
      return isolation === undefined
        ? ["START TRANSACTION"]
        : [`SET TRANSACTION ISOLATION LEVEL ${isolation}`, "START TRANSACTION"]
  }
}

const command = (connection: Connection, text: string): Effect.Effect<void, SqlError> =>
  Effect.asVoid(connection.executeUnprepared(text, [], undefined))

const noAnswer = (): SqlError =>
  new SqlError({
    cause: Object.assign(new Error("the database did not answer in time"), { code: "ETIMEDOUT" }),
    message: "No answer"
  })

/** What is not answered in so many milliseconds is waited for no longer. */
export const answeredWithin = (millis: number) => endedWithin(millis, noAnswer)

/** Milliseconds that a transaction's start may take, and its end. */
export const endTimeout = 5000

const commit = (connection: Connection): Effect.Effect<void, CommitFailure> =>
  Effect.mapError(answeredWithin(endTimeout)(command(connection, "COMMIT")), (cause) => new CommitFailure(cause))

/** Rolls back what there may be, then gives the connection back: one that does not answer is not given to the next. */
const giveBack = (connection: Connection, scope: Scope.CloseableScope): Effect.Effect<Fiber.RuntimeFiber<void>> =>
  Effect.forkDaemon(Effect.ensuring(Effect.ignore(command(connection, "ROLLBACK")), Scope.close(scope, Exit.void)))

/** Whoever waits for that does not wait for a server that is silent. */
const rollback = (connection: Connection, scope: Scope.CloseableScope): Effect.Effect<void> =>
  Effect.flatMap(giveBack(connection, scope), (fiber) =>
    Effect.asVoid(Effect.timeoutOption(Effect.interruptible(Fiber.await(fiber)), Duration.millis(endTimeout)))
  )

/**
 * The client of Postgres forgets a connection that comes after its caller has gone: so it is waited for. To be called
 * where interruption is off: what was reserved is the caller's to close.
 */
const reserve = (
  client: SqlClient.SqlClient,
  scope: Scope.CloseableScope,
  patience: number,
  restore: <A, E>(effect: Effect.Effect<A, E>) => Effect.Effect<A, E>
): Effect.Effect<Connection, SqlError> => {
  const noConnection = () =>
    new SqlError({ cause: new Error("all connections are taken"), message: "Failed to acquire connection in time" })
  return Effect.flatMap(Effect.forkDaemon(Scope.extend(client.reserve, scope)), (fiber) =>
    Effect.onExit(restore(endedWithin(patience, noConnection)(Fiber.join(fiber))), (exit) =>
      Exit.isSuccess(exit)
        ? Effect.void
        : Effect.forkDaemon(Effect.zipRight(Fiber.await(fiber), Scope.close(scope, exit)))
    )
  )
}

const inside = <A, E, R>({ connection, depth }: Transaction, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.mapInputContext(effect, (context: Context.Context<R>) =>
    Context.add(context, SqlClient.TransactionConnection, [connection, depth])
  )

const nothing = Effect.succeed(undefined)

/** All statements were answered, and say so. */
const isRefusal = (cause: Cause.Cause<unknown>): boolean =>
  Option.exists(Cause.failureOption(cause), isIdempotencyError)

/**
 * Runs in a transaction of its own: rolled back unless the effect succeeds. What cannot be committed is rolled back, or
 * its connection is one that broke, which the client does not use again. `before` runs on the connection first, and no
 * transaction is opened if it has an answer.
 */
export const ownTransaction =
  (client: SqlClient.SqlClient, dialect: Dialect, { isolation, patience }: Opening) =>
  <A, E, R>(
    body: (transaction: Transaction) => Effect.Effect<A, E, R>,
    before: (connection: Connection) => Effect.Effect<A | undefined, E | BeginFailure, R> = () => nothing
  ): Effect.Effect<A, E | BeginFailure | CommitFailure, R> =>
    Effect.uninterruptibleMask((restore) => {
      const begin = (connection: Connection) => {
        const beginning = Effect.forEach(beginnings(dialect, isolation), (text) => command(connection, text), {
          discard: true
        })
        return Effect.mapError(
          dialect === "sqlite" ? withoutBlocking(connection)(beginning) : answeredWithin(endTimeout)(beginning),
          (cause) => new BeginFailure(cause)
        )
      }
      const transact = (connection: Connection) => {
        const transaction: Transaction = { connection, depth: 0 }
        const run = inside(
          transaction,
          Effect.suspend(() => body(transaction))
        )
        return Effect.zipRight(begin(connection), Effect.zipLeft(restore(run), commit(connection)))
      }
      return Effect.flatMap(Scope.make(), (scope) =>
        Effect.flatMap(
          Effect.mapError(reserve(client, scope, patience, restore), (cause) => new BeginFailure(cause)),
          (connection) =>
            Effect.flatMap(
              Effect.onError(restore(before(connection)), (cause) =>
                isRefusal(cause) ? Scope.close(scope, Exit.void) : giveBack(connection, scope)
              ),
              (answer) =>
                answer !== undefined
                  ? Effect.as(Scope.close(scope, Exit.void), answer)
                  : Effect.onExit(transact(connection), (exit) =>
                      Exit.isSuccess(exit) ? Scope.close(scope, exit) : rollback(connection, scope)
                    )
            )
        )
      )
    })

/** Runs within the caller's transaction, behind a savepoint: undone unless the effect succeeds. */
export const joinedTransaction =
  (outer: Transaction) =>
  <A, E, R>(body: (transaction: Transaction) => Effect.Effect<A, E, R>): Effect.Effect<A, E | BeginFailure, R> =>
    Effect.uninterruptibleMask((restore) => {
      const transaction: Transaction = { connection: outer.connection, depth: outer.depth + 1 }
      const name = `effect_sql_${transaction.depth}`
      return command(outer.connection, `SAVEPOINT ${name}`).pipe(
        Effect.mapError((cause) => new BeginFailure(cause)),
        Effect.zipRight(
          Effect.onError(
            restore(
              inside(
                transaction,
                Effect.suspend(() => body(transaction))
              )
            ),
            () => Effect.ignore(command(outer.connection, `ROLLBACK TO SAVEPOINT ${name}`))
          )
        )
      )
    })

/** The transaction that the caller has open. */
export const openTransaction: Effect.Effect<Transaction | undefined> = Effect.map(
  Effect.serviceOption(SqlClient.TransactionConnection),
  (found) => (found._tag === "None" ? undefined : { connection: found.value[0], depth: found.value[1] })
)
