import * as SqlClient from "@effect/sql/SqlClient"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { pipe } from "effect/Function"
import type * as Scope from "effect/Scope"
import type { IdempotencyValidationError } from "../../IdempotencyError.js"
import { longestTimer, readOptions } from "../options.js"
import { runAnywhere } from "./connections.js"
import { makeStatements } from "./statements.js"
import { defaultTable, dialectOf, validTable } from "./table.js"

export interface ReaperSettings {
  readonly table?: string | undefined
  readonly batchSize?: number | undefined
  readonly interval?: Duration.DurationInput | undefined
}

const largestBatch = 10_000
const shortestInterval = 10

/** Between two batches: others come first. */
const pauseMillis = 20

/** Milliseconds to wait for a row or a database that somebody else holds: there is another batch. */
const patience = 250

/** A batch that is not answered is given up: the connection may have broken in silence. */
const batchTimeout = Duration.seconds(30)

const optionsOf = ({ batchSize = 1000, interval = "1 minute" }: ReaperSettings) =>
  readOptions(({ duration, whole }) => ({
    batchSize: whole("batchSize", batchSize, largestBatch),
    pause: duration("interval", interval, longestTimer, shortestInterval)
  }))

/** Deletes expired rows, batch after batch, then waits. */
export const makeReaper = (
  settings: ReaperSettings
): Effect.Effect<void, IdempotencyValidationError, SqlClient.SqlClient | Scope.Scope> =>
  Effect.gen(function* () {
    const client = yield* SqlClient.SqlClient
    const dialect = yield* dialectOf(client)
    const table = yield* validTable(settings.table ?? defaultTable)
    const { batchSize, pause } = yield* optionsOf(settings)
    const statements = makeStatements({ dialect, table, channel: "", lockTimeout: patience })
    const batch = pipe(
      runAnywhere(client, dialect, patience)(statements.reap(batchSize), []),
      Effect.map(({ changed }) => changed),
      Effect.disconnect,
      Effect.timeout(batchTimeout)
    )
    yield* pipe(
      batch,
      Effect.flatMap((deleted) => Effect.sleep(deleted < batchSize ? pause : pauseMillis)),
      Effect.catchAllCause((cause) =>
        Effect.zipRight(
          Effect.logWarning("idempotency: expired rows could not be deleted; tried again later", cause),
          Effect.sleep(pause)
        )
      ),
      Effect.forever,
      Effect.interruptible,
      Effect.annotateLogs({ fiber: "idempotency.sql.reaper", "idempotency.store": "sql" }),
      Effect.forkScoped
    )
  })
