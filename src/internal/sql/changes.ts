/** Who waits in this process for changes of a key: told by this process, and on Postgres by all others. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { pipe } from "effect/Function"
import * as Predicate from "effect/Predicate"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { IdempotencyIdentifiers } from "../../IdempotencyIdentifiers.js"
import { makeWakeUps } from "../wakeUps.js"
import { identityOf, nameOf, type Run } from "./records.js"

export interface Changes {
  readonly of: (identifiers: IdempotencyIdentifiers) => Effect.Effect<Effect.Effect<void>, never, Scope.Scope>
  readonly unsafeNotify: (identifiers: IdempotencyIdentifiers) => void
}

/** What the client for Postgres can do beyond the others. */
interface Listening {
  readonly listen: (channel: string) => Stream.Stream<string, SqlError>
}

const canListen = (client: SqlClient.SqlClient): client is SqlClient.SqlClient & Listening =>
  Predicate.hasProperty(client, "listen") && Predicate.isFunction(client.listen)

/** A connection that broke in silence is not heard of: it is replaced after so long, and waiters poll in the meantime. */
const connectionLife = Duration.minutes(1)

const pauseAfterFailure = Effect.flatMap(Random.nextRange(1000, 5000), (millis) =>
  Effect.sleep(Duration.millis(millis))
)

/** Wakes waiters by what other processes notify; one connection, while somebody waits. */
const heard = (
  client: Listening,
  channel: string,
  isWanted: Effect.Effect<void>,
  onName: (name: string) => void
): Effect.Effect<never, never, Scope.Scope> =>
  pipe(
    isWanted,
    Effect.zipRight(
      pipe(
        client.listen(channel),
        Stream.runForEach((name) => Effect.sync(() => onName(name))),
        // The client ends a subscription by asking a server that may be silent: nobody waits for that.
        Effect.disconnect,
        Effect.timeoutOption(connectionLife)
      )
    ),
    Effect.catchAllCause((cause) =>
      Effect.zipRight(
        Effect.logDebug("idempotency: notifications of changes cannot be heard; waiters poll", cause),
        pauseAfterFailure
      )
    ),
    Effect.forever
  )

export const makeSqlChanges = (
  client: SqlClient.SqlClient,
  channel: string,
  run: Run,
  markAwaited: string
): Effect.Effect<Changes, never, Scope.Scope> =>
  Effect.gen(function* () {
    const wanted = yield* Effect.makeLatch(false)
    const names = new Set<string>()
    const wakeUps = makeWakeUps({
      onFirst: (name) => {
        names.add(name)
        wanted.unsafeOpen()
      },
      onLast: (name) => {
        names.delete(name)
        if (names.size === 0) wanted.unsafeClose()
      }
    })
    const unsafeNotify = (identifiers: IdempotencyIdentifiers) => wakeUps.unsafeNotify(nameOf(identifiers))
    if (!canListen(client)) return { of: (identifiers) => wakeUps.subscribe(nameOf(identifiers)), unsafeNotify }

    yield* pipe(
      heard(client, channel, wanted.await, wakeUps.unsafeNotify),
      Effect.interruptible,
      Effect.annotateLogs({ fiber: "idempotency.sql.changes", "idempotency.store": "sql" }),
      Effect.forkScoped
    )
    return {
      of: (identifiers) =>
        Effect.zipLeft(
          wakeUps.subscribe(nameOf(identifiers)),
          Effect.ignore(run(markAwaited, identityOf(identifiers)))
        ),
      unsafeNotify
    }
  })
