/** The record's part of a transaction: its row is claimed before the effect, and completed after it. */
import type { SqlError } from "@effect/sql/SqlError"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { IdempotencyTransactions } from "../../IdempotencyTransactions.js"
import type { ClaimReply, Completed, Outcome, State } from "../protocol.js"
import * as transition from "../transition.js"
import { runOn, type Transaction } from "./connections.js"
import { completionOf, type Found, identityOf, makeRecords, type Run } from "./records.js"
import { integerOf, toRow } from "./row.js"
import type { Statements } from "./statements.js"

type Request = IdempotencyTransactions.Request

/** What the transaction meets: the key is its own, or it is as another left it. */
export type Held =
  | { readonly _tag: "Held"; readonly attempt: number; readonly fingerprint: string | undefined }
  | { readonly _tag: "Met"; readonly reply: Exclude<ClaimReply, { readonly _tag: "Claimed" | "AlreadyMine" }> }
  /** The row changed while it was looked at. */
  | { readonly _tag: "Changed" }

export interface Owner {
  /** Of this transaction alone: what it has not written itself, it does not complete. */
  readonly token: string
  /** The token of a claim that is committed, and that the transaction takes over. */
  readonly claimedBy: string | undefined
}

export interface Holding {
  /** Waits for a row that another transaction holds for so many milliseconds, then fails with a lock timeout. */
  readonly hold: (
    transaction: Transaction,
    request: Request,
    owner: Owner,
    patience: number
  ) => Effect.Effect<Held, SqlError>
  /** Whether the row was still there, and the completed record, if the database tells its instants. */
  readonly finish: (
    transaction: Transaction,
    request: Request,
    token: string,
    held: Extract<Held, { readonly _tag: "Held" }>,
    outcome: Outcome
  ) => Effect.Effect<{ readonly done: boolean; readonly record: Completed | undefined }, SqlError>
}

/** Until the transaction commits nobody sees these instants, and then they are replaced. */
const claimOf = (request: Request, token: string) => ({
  token,
  fingerprint: request.fingerprint,
  guarantee: "at-least-once" as const,
  lease: request.retention,
  retention: request.retention,
  unknownRetention: request.retention
})

export const makeHolding = (statements: Statements): Holding => {
  const { lockTimeout } = statements

  const setLockTimeout = (run: Run, value: string): Effect.Effect<void, SqlError> =>
    lockTimeout === undefined ? Effect.void : Effect.asVoid(run(...lockTimeout.set(value)))

  /** Whether the claim was inserted; where not, the lock timeout is still set, and this is what it was. */
  const insert = (
    run: Run,
    request: Request,
    state: State,
    patience: number
  ): Effect.Effect<{ readonly inserted: boolean; readonly was: string }, SqlError> => {
    if (lockTimeout === undefined) {
      return Effect.map(makeRecords(run, statements).insert(request.identifiers, state), (inserted) => ({
        inserted,
        was: ""
      }))
    }
    const millis = lockTimeout.ofMillis(patience)
    if (statements.hold !== undefined) {
      return Effect.map(
        run(statements.hold, [millis, ...identityOf(request.identifiers), ...toRow(state)]),
        ({ rows: [row] }) => ({ inserted: integerOf(row?.["inserted"]) === 1, was: String(row?.["was"] ?? "0") })
      )
    }
    return Effect.gen(function* () {
      const { rows } = yield* run(lockTimeout.read, [])
      const was = String(rows[0]?.["was"] ?? "50")
      const restored = setLockTimeout(run, was)
      const inserting = Effect.zipRight(
        setLockTimeout(run, millis),
        makeRecords(run, statements).insert(request.identifiers, state)
      )
      const inserted = yield* Effect.onError(inserting, () => Effect.ignore(restored))
      if (inserted) yield* restored
      return { inserted, was }
    })
  }

  /**
   * What another has recorded, or is running, is read, and locked no more than the insert that met it has done: others
   * would wait for a transaction that only looks. What may be claimed is locked, and judged again.
   */
  const judge = (run: Run, request: Request, { claimedBy, token }: Owner): Effect.Effect<Held, SqlError> => {
    const records = makeRecords(run, statements)
    const judged = (found: Found, isLocked: boolean): Effect.Effect<Held, SqlError> => {
      const stored = found.state
      if (stored?._tag === "Corrupted") return Effect.succeed({ _tag: "Met", reply: stored })
      const { reply, state } = transition.claim(stored, claimOf(request, claimedBy ?? token), found.now)
      if (reply._tag !== "Claimed" && reply._tag !== "AlreadyMine") return Effect.succeed({ _tag: "Met", reply })
      if (!isLocked) {
        return Effect.flatMap(records.readLocked(request.identifiers), (locked) => judged(locked, true))
      }
      if (found.version === undefined) return Effect.succeed({ _tag: "Changed" })
      return Effect.map(records.replace(request.identifiers, found, state && { ...state, token }), (done) =>
        done ? { _tag: "Held", attempt: reply.attempt, fingerprint: state?.fingerprint } : { _tag: "Changed" }
      )
    }
    return Effect.flatMap(records.readCurrent(request.identifiers), (found) => judged(found, false))
  }

  return {
    hold: (transaction, request, owner, patience) => {
      const run = runOn(transaction.connection)
      return Effect.flatMap(Clock.currentTimeMillis, (now) => {
        const { state } = transition.claim(undefined, claimOf(request, owner.token), now)
        if (state === undefined) return Effect.dieMessage("an absent key can be claimed")
        return Effect.flatMap(
          insert(run, request, state, patience),
          ({ inserted, was }): Effect.Effect<Held, SqlError> => {
            if (inserted) return Effect.succeed({ _tag: "Held", attempt: 1, fingerprint: request.fingerprint })
            const restored = setLockTimeout(run, was)
            return Effect.zipLeft(
              Effect.onError(judge(run, request, owner), () => Effect.ignore(restored)),
              restored
            )
          }
        )
      })
    },
    finish: (transaction, { identifiers, retention }, token, { attempt, fingerprint }, outcome) =>
      Effect.map(
        runOn(transaction.connection)(statements.finish, [
          ...completionOf(outcome, retention),
          ...identityOf(identifiers),
          token
        ]),
        ({ changed, rows: [row] }) => {
          const createdAt = integerOf(row?.["created_at"])
          const expiresAt = integerOf(row?.["expires_at"])
          const isTold = createdAt !== undefined && expiresAt !== undefined
          const record: Completed | undefined = isTold
            ? { _tag: "Completed", token, attempt, fingerprint, outcome, createdAt, expiresAt }
            : undefined
          return { done: changed > 0, record }
        }
      )
  }
}
