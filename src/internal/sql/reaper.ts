import * as SqlClient from "@effect/sql/SqlClient"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { pipe } from "effect/Function"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { IdempotencyValidationError } from "../../IdempotencyError.js"
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

const optionsOf = ({ batchSize = 1000, interval = "1 minute" }: ReaperSettings) => {
  const issues: Array<string> = []
  if (!(Number.isInteger(batchSize) && batchSize >= 1 && batchSize <= largestBatch)) {
    issues.push(`batchSize is not a whole number between 1 and ${largestBatch}`)
  }
  const pause = Option.match(Duration.decodeUnknown(interval), { onNone: () => Number.NaN, onSome: Duration.toMillis })
  if (!(pause >= shortestInterval && pause <= Duration.toMillis("24 days"))) {
    issues.push(`interval is not a duration between ${shortestInterval} ms and 24 days`)
  }
  return issues.length > 0
    ? Effect.fail(new IdempotencyValidationError({ operation: "", issues }))
    : Effect.succeed({ batchSize, pause })
}

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
      Effect.annotateLogs("fiber", "idempotency.sql.reaper"),
      Effect.forkScoped
    )
  })
