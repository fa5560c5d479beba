import * as SqlClient from "@effect/sql/SqlClient"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import type { CompleteRequest, InsertRequest } from "../../src/internal/protocol.js"
import { runAnywhere } from "../../src/internal/sql/connections.js"
import { makeSqlDriver } from "../../src/internal/sql/driver.js"
import { makeRecords, type Run } from "../../src/internal/sql/records.js"
import { makeStatements } from "../../src/internal/sql/statements.js"
import { defaultTable, dialectOf } from "../../src/internal/sql/table.js"
import { SqlIdempotencyRepository, type SqlIdempotencyRepositoryOptions } from "../../src/sql.js"
import { claimBy, freshIds, ids, minute } from "../support/requests.js"

export { claimBy, freshIds, ids, minute }

export const outcome = { _tag: "Success", encoded: "1" } as const

export const completeBy = (token: string): CompleteRequest => ({
  token,
  outcome,
  fingerprint: undefined,
  retention: minute
})

export const insertBy = (token: string): InsertRequest => ({
  token,
  outcome,
  fingerprint: undefined,
  attempt: 1,
  createdAt: 0,
  expiresAt: 9e12,
  retention: 9e5
})

/** A loaded machine may be slow to answer; what is bounded here is bounded by less. */
export const patient: SqlIdempotencyRepositoryOptions = { operationTimeout: "20 seconds" }

/** The store over the client of the context, built anew, for the scope. */
export const repositoryOf = (options: SqlIdempotencyRepositoryOptions = patient) =>
  Effect.map(Layer.build(SqlIdempotencyRepository.layerWith(options)), Context.get(IdempotencyRepository))

/** The same over a client of its own. */
export const repositoryOver = <E, R>(
  client: Layer.Layer<SqlClient.SqlClient, E, R>,
  options: SqlIdempotencyRepositoryOptions = patient
) =>
  Effect.map(
    Layer.build(SqlIdempotencyRepository.layerWith(options).pipe(Layer.provide(client))),
    Context.get(IdempotencyRepository)
  )

/** A driver over the client of the context, whose statements go the way they are given; no first claims of many. */
export const driverBy = (way: (run: Run) => Run) =>
  Effect.gen(function* () {
    const client = yield* SqlClient.SqlClient
    const dialect = yield* dialectOf(client)
    const statements = makeStatements({ dialect, table: defaultTable, channel: "", lockTimeout: 250 })
    const records = makeRecords(way(runAnywhere(client, dialect, 250)), statements)
    return makeSqlDriver({
      records,
      patience: dialect === "mysql" ? 250 : undefined,
      bounded: identity,
      claims: undefined,
      changes: { of: () => Effect.succeed(Effect.never), unsafeNotify: () => undefined },
      atomically: (body) => body(records),
      objection: () => Effect.succeed(undefined),
      list: undefined
    })
  })

export const sqlOf = <E, R>(client: Layer.Layer<SqlClient.SqlClient, E, R>) =>
  Effect.map(Layer.build(client), Context.get(SqlClient.SqlClient))

/** Rows of a statement, as the database names them. */
export const rowsOf = (sql: SqlClient.SqlClient, text: string, parameters: ReadonlyArray<unknown> = []) =>
  sql.unsafe<Readonly<Record<string, unknown>>>(text, parameters).withoutTransform

/** One number of a statement's only row. */
export const numberOf = (sql: SqlClient.SqlClient, text: string) =>
  Effect.map(rowsOf(sql, text), ([row]) => Number(Object.values(row ?? {})[0]))

/** Statements that tell how many sessions of a server wait for a lock. */
export const blockedSessions = {
  postgres: "SELECT count(*) AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock'",
  mariadb:
    "SELECT VARIABLE_VALUE AS n FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'INNODB_ROW_LOCK_CURRENT_WAITS'"
} as const

/** What is logged at a warning or above, and why. */
export const logged = <A, E, R>(effect: (messages: ReadonlyArray<string>) => Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const messages: Array<string> = []
    const logger = Logger.make(({ cause, logLevel, message }) => {
      if (logLevel.ordinal >= 30_000)
        messages.push(`${logLevel.label} ${String(message)} ${Cause.pretty(cause, { renderErrorCause: true })}`)
    })
    return Effect.provide(effect(messages), Logger.replace(Logger.defaultLogger, logger))
  })

/** What the server shows sooner or later. */
export const eventually = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  until: (value: A) => boolean,
  patience = 15_000
): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    const end = performance.now() + patience
    const loop: Effect.Effect<A, E, R> = Effect.flatMap(effect, (value) => {
      if (until(value)) return Effect.succeed(value)
      return performance.now() > end
        ? Effect.dieMessage(`still ${JSON.stringify(value)}`)
        : Effect.zipRight(Effect.sleep("20 millis"), loop)
    })
    return loop
  })
