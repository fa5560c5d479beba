/**
 * Attempts that are counted: each is claimed, and committed, on the connection on which its transaction then begins. It
 * counts also if that rolls back or its process ends.
 */
import type { Connection } from "@effect/sql/SqlConnection"
import type { SqlError } from "@effect/sql/SqlError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { pipe } from "effect/Function"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { IdempotencyStorageError } from "../../IdempotencyError.js"
import type { IdempotencyTransactions } from "../../IdempotencyTransactions.js"
import type { ClaimReply, Driver } from "../protocol.js"
import type { Tokens } from "../tokens.js"
import { answeredWithin, BeginFailure, endTimeout, runAlone } from "./connections.js"
import { isBusy } from "./errors.js"
import { Trouble } from "./inTransaction.js"
import type { Run } from "./records.js"
import type { Dialect } from "./table.js"

type Request = IdempotencyTransactions.Request

/** The claim of an attempt. It stays when a transaction rolls back, and is renewed before the next. */
export interface Counted {
  readonly token: string
  /** Whether it may be stored. */
  mayBeStored: boolean
}

export interface Attempts {
  /** Nothing where the request does not ask for it. */
  readonly of: (request: Request) => Counted | undefined
  /** Outside of a transaction. Where another process has SQLite to itself, none can begin. */
  readonly claim: (
    connection: Connection,
    request: Request,
    counted: Counted
  ) => Effect.Effect<ClaimReply, Trouble | BeginFailure>
  /** For the next to come, where the attempt has failed. The caller waits for one try. */
  readonly release: (request: Request, counted: Counted) => Effect.Effect<void>
}

export interface AttemptsDependencies {
  readonly tokens: Tokens
  readonly driver: Driver
  readonly dialect: Dialect
  readonly driverOver: (run: Run) => Driver
  readonly scope: Scope.Scope
}

/** Until the transaction has the row, which keeps others away from then on. */
const leaseOf = ({ storageTimeout }: Request): number => endTimeout + 3 * storageTimeout

export const makeAttempts = ({ dialect, driver, driverOver, scope, tokens }: AttemptsDependencies): Attempts => ({
  of: ({ countsAttempt }) => (countsAttempt ? { token: tokens.next(), mayBeStored: false } : undefined),

  claim: (connection, request, counted) =>
    Effect.suspend(() => {
      const { fingerprint, identifiers, retention, storageTimeout } = request
      const was = counted.mayBeStored
      counted.mayBeStored = true
      const run = runAlone(connection, dialect)
      const seen: { busy?: SqlError } = {}
      const claim = driverOver((text, parameters) =>
        Effect.tapError(run(text, parameters), (error) =>
          Effect.sync(() => {
            if (isBusy(error)) seen.busy = error
          })
        )
      ).claim(identifiers, {
        token: counted.token,
        fingerprint,
        guarantee: "at-least-once",
        lease: leaseOf(request),
        retention,
        unknownRetention: retention
      })
      return Effect.matchEffect(answeredWithin(storageTimeout)(claim), {
        onFailure: (error) => {
          if (error._tag === "SqlError") return Effect.fail(new Trouble("claim", error))
          if (error.applied === "no") counted.mayBeStored = was
          return Effect.fail(new Trouble("claim", error.cause))
        },
        onSuccess: (reply): Effect.Effect<ClaimReply, BeginFailure> => {
          if (reply._tag === "Claimed" || reply._tag === "AlreadyMine") return Effect.succeed(reply)
          counted.mayBeStored = was
          return reply._tag === "InFlight" && seen.busy !== undefined
            ? Effect.fail(new BeginFailure(seen.busy))
            : Effect.succeed(reply)
        }
      })
    }),

  release: (request, { mayBeStored, token }) => {
    if (!mayBeStored) return Effect.void
    const once = answeredWithin(request.storageTimeout)(driver.release(request.identifiers, { token }))
    const isWorthIt = (error: SqlError | IdempotencyStorageError) =>
      error._tag === "SqlError" || error.reason !== "Misconfigured"
    const later = pipe(
      Effect.delay(once, Duration.millis(request.storageTimeout)),
      Effect.retry({ schedule: Schedule.forever, while: isWorthIt }),
      // Then it has ended by itself.
      Effect.timeoutOption(Duration.millis(leaseOf(request))),
      Effect.ignore,
      Effect.interruptible,
      Effect.forkIn(scope)
    )
    return Effect.matchEffect(once, {
      onFailure: (error) => (isWorthIt(error) ? Effect.asVoid(later) : Effect.void),
      // A claim that was given up may be on its way behind this answer.
      onSuccess: ({ _tag }) => (_tag === "Released" ? Effect.void : Effect.asVoid(later))
    })
  }
})
