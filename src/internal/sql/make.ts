import * as SqlClient from "@effect/sql/SqlClient"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { identity, pipe } from "effect/Function"
import type * as Scope from "effect/Scope"
import type { IdempotencyStorageError, IdempotencyValidationError } from "../../IdempotencyError.js"
import { IdempotencyRepository } from "../../IdempotencyRepository.js"
import { IdempotencyTransactions } from "../../IdempotencyTransactions.js"
import { sha256Hex } from "../hash.js"
import { makeTokens } from "../tokens.js"
import { logsAboutStore } from "../tracing.js"
import { makeAttempts } from "./attempts.js"
import { makeSqlChanges } from "./changes.js"
import { makeClaims } from "./claims.js"
import {
  answeredWithin,
  openTransaction,
  ownTransaction,
  runAnywhere,
  runOn,
  unlessBusy,
  whileBusy
} from "./connections.js"
import { type DriverDependencies, makeSqlDriver } from "./driver.js"
import { storageError } from "./errors.js"
import { makeList } from "./list.js"
import { makeRecords } from "./records.js"
import { makeStatements } from "./statements.js"
import { defaultTable, dialectOf, validTable } from "./table.js"
import { makeTransactions } from "./transactions.js"

/** Options of every layer, as its users give them. */
export interface Settings {
  readonly table?: string | undefined
  readonly startup?: "log" | "fail" | undefined
  readonly operationTimeout?: Duration.DurationInput | undefined
}

/** Milliseconds that the store waits for a row that a transaction holds: less than an attempt of the engine's. */
const patience = 250

/** Milliseconds that an operation of the store's own on one connection may wait for that connection. */
const reserveTimeout = 1000

/** Where Postgres tells of changes of the table: a name of 63 bytes at most. */
const channelOf = (table: string): string =>
  table.length <= 63 ? table.replaceAll(".", "_") : `idempotency_${sha256Hex(table).slice(0, 32)}`

/** Milliseconds for which the layer tries to reach the database while it is built. */
const startupTimeout = 5000

const objection = () =>
  Effect.map(openTransaction, (transaction) =>
    transaction === undefined
      ? undefined
      : "a claim outlives its caller's transaction: inside one use withIdempotentTransaction, or claim before it is opened"
  )

export const makeSql = ({
  operationTimeout,
  startup = "fail",
  table = defaultTable
}: Settings): Effect.Effect<
  Context.Context<IdempotencyRepository | IdempotencyTransactions>,
  IdempotencyStorageError | IdempotencyValidationError,
  SqlClient.SqlClient | Scope.Scope
> =>
  Effect.gen(function* () {
    const client = yield* SqlClient.SqlClient
    const dialect = yield* dialectOf(client)
    const channel = channelOf(yield* validTable(table))
    const statements = makeStatements({ dialect, table, channel, lockTimeout: patience })
    const run = runAnywhere(client, dialect, patience)

    const probe = Effect.forEach(statements.probe, (text) => run(text, []), { discard: true }).pipe(
      answeredWithin(startupTimeout),
      Effect.mapError(storageError("", "probe"))
    )
    yield* startup === "fail"
      ? probe
      : Effect.catchAll(probe, (error) =>
          Effect.logWarning("idempotency: the database cannot be used yet; operations fail until it can", error).pipe(
            logsAboutStore("sql")
          )
        )

    const records = makeRecords(run, statements)
    const changes = yield* makeSqlChanges(client, channel, run, statements.await)
    const dependencies: DriverDependencies = {
      records,
      patience: dialect === "mysql" ? patience : undefined,
      bounded: dialect === "sqlite" ? unlessBusy(patience) : identity,
      changes,
      claims: statements.claim === undefined ? undefined : yield* makeClaims(run, statements.claim),
      atomically: (body) =>
        pipe(
          ownTransaction(client, dialect, { patience: reserveTimeout })(({ connection }) =>
            body(makeRecords(runOn(connection), statements))
          ),
          Effect.catchTags({
            BeginFailure: ({ cause }) => Effect.fail(cause),
            CommitFailure: ({ cause }) => Effect.fail(cause)
          }),
          whileBusy(patience)
        ),
      objection,
      list: makeList(run, dialect, table)
    }
    const tokens = makeTokens()
    // What attempts ask for has a time of its own.
    const unbounded: DriverDependencies = { ...dependencies, bounded: identity }
    const attempts = makeAttempts({
      tokens,
      driver: makeSqlDriver(unbounded),
      dialect,
      driverOver: (run) => makeSqlDriver({ ...unbounded, records: makeRecords(run, statements), claims: undefined }),
      scope: yield* Effect.scope
    })
    const transactions = makeTransactions({ client, dialect, statements, changes, tokens, attempts })
    const repository = yield* IdempotencyRepository.make(makeSqlDriver(dependencies), { operationTimeout })
    return Context.make(IdempotencyRepository, repository).pipe(Context.add(IdempotencyTransactions, transactions))
  })
