/** The record's part of a transaction around the effect, and what is told of what it meets. */
import type { SqlError } from "@effect/sql/SqlError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import {
  IdempotencyFingerprintMismatchError,
  IdempotencyInFlightError,
  IdempotencyStorageError
} from "../../IdempotencyError.js"
import type { IdempotencyTransactions } from "../../IdempotencyTransactions.js"
import type { Completed } from "../protocol.js"
import { resultUnavailable } from "../storedRecord.js"
import { differ } from "../transition.js"
import { answeredWithin, type Transaction } from "./connections.js"
import type { Held, Holding, Owner } from "./holding.js"

type Request = IdempotencyTransactions.Request
type Failure = IdempotencyTransactions.Failure
type Ran<A> = IdempotencyTransactions.Ran<A>
type Result<A> = IdempotencyTransactions.Result<A>

/** A statement of ours failed: told apart from what the effect fails with. */
export class Trouble {
  readonly _tag = "Trouble"
  constructor(
    readonly method: string,
    readonly cause: unknown
  ) {}
}

export const trouble =
  (method: string) =>
  <A, R>(statement: Effect.Effect<A, SqlError, R>): Effect.Effect<A, Trouble, R> =>
    Effect.mapError(statement, (cause) => new Trouble(method, cause))

/** How a transaction ended. */
export type Ended<A> =
  | { readonly _tag: "Executed"; readonly value: A; readonly attempt: number; readonly record: Completed | undefined }
  | Exclude<Held, { readonly _tag: "Held" }>

export const inFlight = ({ identifiers }: Request, remaining: number) =>
  Effect.fail(
    new IdempotencyInFlightError({
      operation: identifiers.operation,
      idempotencyKey: identifiers.idempotencyKey,
      reason: "Running",
      retryAfter: Duration.millis(Math.max(1, Math.ceil(remaining)))
    })
  )

export const mismatch = ({ identifiers: { idempotencyKey, operation } }: Request) =>
  Effect.fail(new IdempotencyFingerprintMismatchError({ operation, idempotencyKey }))

export const recorded = (request: Request, record: Completed): Effect.Effect<Result<never>, Failure> =>
  differ(request.fingerprint, record.fingerprint) ? mismatch(request) : Effect.succeed({ _tag: "Recorded", record })

/** What another has left, where nothing is to be waited for. */
export const met = (
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
      // Its claim was reset: the key is anybody's.
      return inFlight(request, 1)
  }
}

/** The whole of it, in a transaction that is open. */
export const inTransaction =
  ({ finish, hold }: Holding) =>
  <A, E, R>(
    transaction: Transaction,
    request: Request,
    owner: Owner,
    patience: number,
    body: (attempt: number) => Effect.Effect<Ran<A>, E, R>
  ): Effect.Effect<Ended<A>, E | Trouble | IdempotencyStorageError, R> => {
    // A caller's transaction is the caller's to give up.
    const within = (millis: number) => answeredWithin(transaction.depth > 0 ? Number.POSITIVE_INFINITY : millis)
    return Effect.flatMap(
      trouble("claim")(within(patience + request.storageTimeout)(hold(transaction, request, owner, patience))),
      (held): Effect.Effect<Ended<A>, E | Trouble | IdempotencyStorageError, R> =>
        held._tag !== "Held"
          ? Effect.succeed(held)
          : Effect.flatMap(body(held.attempt), ({ outcome, value }) =>
              Effect.flatMap(
                trouble("complete")(
                  within(request.storageTimeout)(finish(transaction, request, owner.token, held, outcome))
                ),
                ({ done, record }) =>
                  done
                    ? Effect.succeed({ _tag: "Executed" as const, value, attempt: held.attempt, record })
                    : Effect.fail(
                        new IdempotencyStorageError({
                          operation: request.identifiers.operation,
                          method: "complete",
                          reason: "Rejected",
                          // What the effect did after the end of its transaction is there.
                          applied: "unknown",
                          cause: new Error("the effect removed its own record, or ended its own transaction")
                        })
                      )
              )
            )
    )
  }
