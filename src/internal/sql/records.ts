/** Rows of the table as states: read, and written only if nobody has written them since. */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import type { IdempotencyIdentifiers } from "../../IdempotencyIdentifiers.js"
import {
  type CompleteReply,
  type CompleteRequest,
  type Corrupted,
  latestInstant,
  type Outcome,
  type State
} from "../protocol.js"
import { live } from "../transition.js"
import { isDuplicate } from "./errors.js"
import { fromRow, integerOf, type Row, toRow } from "./row.js"
import type { Statements } from "./statements.js"

/** What a statement gave: the rows it returned, or how many it changed. */
export interface Result {
  readonly rows: ReadonlyArray<Row>
  readonly changed: number
}

/** Runs a statement on some connection. */
export type Run = (text: string, parameters: ReadonlyArray<unknown>) => Effect.Effect<Result, SqlError>

const isRows = (value: unknown): value is ReadonlyArray<Row> => Array.isArray(value)

const countOf = (value: unknown, ...names: ReadonlyArray<string>): number => {
  for (const name of names) if (Predicate.hasProperty(value, name)) return integerOf(value[name]) ?? 0
  return 0
}

/** What the clients of the databases give as it comes: each in its own shape. */
export const resultOf = (raw: unknown): Result => {
  if (isRows(raw)) return { rows: raw, changed: raw.length }
  const rows = Predicate.hasProperty(raw, "rows") && isRows(raw.rows) ? raw.rows : []
  return { rows, changed: countOf(raw, "rowCount", "changes", "affectedRows") }
}

/** A key as it was found: its row's version, if it has a row, and the database's time. */
export interface Found {
  readonly now: number
  readonly version: number | undefined
  readonly state: State | Corrupted | undefined
}

export const identityOf = ({ idempotencyKey, operation, scope }: IdempotencyIdentifiers): ReadonlyArray<string> => [
  operation,
  scope ?? "",
  idempotencyKey
]

/** As Postgres sends it with a notification. No part holds a colon. */
export const nameOf = (identifiers: IdempotencyIdentifiers): string => identityOf(identifiers).join(":")

/** Outcome, result and retention of a completed row. */
export const completionOf = (outcome: Outcome, retention: number): ReadonlyArray<unknown> => [
  outcome._tag,
  outcome._tag === "Unavailable" ? null : outcome.encoded,
  Math.max(1, Math.ceil(retention))
]

const nameOfRow = (row: Row): string => `${row["operation"]}:${row["scope"]}:${row["idempotency_key"]}`

/** Until when what was found is judged as it was: then a lease lapses, or the record expires. */
const judgedUntil = ({ now, state }: Found): number => {
  if (state === undefined || state._tag === "Corrupted") return latestInstant
  const instants = state._tag === "Processing" ? [state.leaseUntil, state.expiresAt] : [state.expiresAt]
  return Math.min(latestInstant, ...instants.filter((instant) => instant > now))
}

export const foundOf = (row: Row): Found => ({
  now: integerOf(row["now"]) ?? 0,
  version: integerOf(row["version"]),
  state: row["operation"] === null || row["operation"] === undefined ? undefined : fromRow(row)
})

export interface Records {
  readonly now: Effect.Effect<number, SqlError>
  readonly read: (identifiers: IdempotencyIdentifiers) => Effect.Effect<Found, SqlError>
  /** The same in a transaction, as it is and not as of the transaction's start. */
  readonly readCurrent: (identifiers: IdempotencyIdentifiers) => Effect.Effect<Found, SqlError>
  /** The same in a transaction, which then holds the row. */
  readonly readLocked: (identifiers: IdempotencyIdentifiers) => Effect.Effect<Found, SqlError>
  readonly readMany: (identifiers: ReadonlyArray<IdempotencyIdentifiers>) => Effect.Effect<Array<Found>, SqlError>
  /** Fails with a lock timeout, and at once, where a transaction holds one of the rows. */
  readonly available: (identifiers: ReadonlyArray<IdempotencyIdentifiers>) => Effect.Effect<void, SqlError>
  /** Stores the state of a key that has no row, unless it has one by now. */
  readonly insert: (identifiers: IdempotencyIdentifiers, state: State) => Effect.Effect<boolean, SqlError>
  /** The same for many; the names of those that are known to be stored. */
  readonly insertMany: (
    states: ReadonlyArray<{ readonly identifiers: IdempotencyIdentifiers; readonly state: State }>
  ) => Effect.Effect<ReadonlySet<string>, SqlError>
  /** Deletes what was found of settled keys, where it has not changed since; the names of those that are known to be gone. */
  readonly deleteMany: (
    keys: ReadonlyArray<{ readonly identifiers: IdempotencyIdentifiers; readonly version: number }>
  ) => Effect.Effect<ReadonlySet<string>, SqlError>
  /** Replaces what was found (`undefined`: by nothing), unless it has changed since, or is no longer judged the same. */
  readonly replace: (
    identifiers: IdempotencyIdentifiers,
    found: Found,
    state: State | undefined
  ) => Effect.Effect<boolean, SqlError>
  /** Completes a live claim of the token; `undefined` if there is none, or the database would not tell. */
  readonly complete: (
    identifiers: IdempotencyIdentifiers,
    request: CompleteRequest
  ) => Effect.Effect<Extract<CompleteReply, { readonly _tag: "Done" }> | undefined, SqlError>
  /** Renews these leases, all of one length; the names of those that were, none where the database would not tell. */
  readonly renew: (
    lease: number,
    leases: ReadonlyArray<{ readonly identifiers: IdempotencyIdentifiers; readonly token: string }>
  ) => Effect.Effect<ReadonlySet<string>, SqlError>
}

/** Statements hold so many members at most: their parameters are counted in 16 bits. */
export const membersPerStatement = 500

const chunked = <A>(all: ReadonlyArray<A>): Array<ReadonlyArray<A>> =>
  Array.from({ length: Math.ceil(all.length / membersPerStatement) }, (_, index) =>
    all.slice(index * membersPerStatement, (index + 1) * membersPerStatement)
  )

const rowOf = ({ identifiers, state }: { readonly identifiers: IdempotencyIdentifiers; readonly state: State }) => [
  ...identityOf(identifiers),
  ...toRow(state)
]

/** The names that a statement for each chunk gives. */
const namesOf = <A>(
  all: ReadonlyArray<A>,
  statement: (chunk: ReadonlyArray<A>) => Effect.Effect<ReadonlyArray<string>, SqlError>
): Effect.Effect<ReadonlySet<string>, SqlError> =>
  Effect.map(Effect.forEach(chunked(all), statement), (names) => new Set(names.flat()))

const nameOfRows = ({ rows }: Result): ReadonlyArray<string> => rows.map(nameOfRow)

const first = ({ rows }: Result): Row => rows[0] ?? {}

export const makeRecords = (run: Run, statements: Statements): Records => {
  const now = Effect.map(run(statements.now, []), (result) => integerOf(first(result)["now"]) ?? 0)

  const readChunk = (identifiers: ReadonlyArray<IdempotencyIdentifiers>) =>
    Effect.flatMap(run(statements.readMany(identifiers.length), identifiers.flatMap(identityOf)), ({ rows }) => {
      const byName = new Map(rows.map((row) => [nameOfRow(row), foundOf(row)] as const))
      const answer = (at: number) =>
        identifiers.map((ids) => byName.get(nameOf(ids)) ?? { now: at, version: undefined, state: undefined })
      const at = rows[0] === undefined ? undefined : integerOf(rows[0]["now"])
      return at === undefined ? Effect.map(now, answer) : Effect.succeed(answer(at))
    })

  const readBy = (statement: string) => (identifiers: IdempotencyIdentifiers) =>
    Effect.map(run(statement, identityOf(identifiers)), (result) => foundOf(first(result)))

  /** What is done for many in one statement; for none where the database would not tell for which it was. */
  const together = <A>(
    statement: ((count: number) => string) | undefined,
    all: ReadonlyArray<A>,
    parametersOf: (member: A) => ReadonlyArray<unknown>,
    first: ReadonlyArray<unknown> = []
  ) =>
    statement === undefined
      ? Effect.succeed(new Set<string>())
      : namesOf(all, (chunk) =>
          Effect.map(run(statement(chunk.length), [...first, ...chunk.flatMap(parametersOf)]), nameOfRows)
        )

  return {
    now,
    read: readBy(statements.read),
    readCurrent: readBy(statements.readCurrent),
    readLocked: readBy(statements.readLocked),
    readMany: (identifiers) => Effect.map(Effect.forEach(chunked(identifiers), readChunk), (chunks) => chunks.flat()),
    available: (identifiers) => Effect.asVoid(together(statements.available, identifiers, identityOf)),
    insert: (identifiers, state) =>
      run(statements.insert(1), rowOf({ identifiers, state })).pipe(
        Effect.map(({ changed }) => changed > 0),
        Effect.catchAll((error) => (isDuplicate(error) ? Effect.succeed(false) : Effect.fail(error)))
      ),
    insertMany: (states) =>
      namesOf(states, (chunk) =>
        run(statements.insert(chunk.length), chunk.flatMap(rowOf)).pipe(
          Effect.map((result) =>
            result.rows.length === 0 && result.changed === chunk.length
              ? chunk.map(({ identifiers }) => nameOf(identifiers))
              : nameOfRows(result)
          ),
          // Where the database does not tell which of them it was, none is known to be stored.
          Effect.catchAll((error) => (isDuplicate(error) ? Effect.succeed([]) : Effect.fail(error)))
        )
      ),
    deleteMany: (keys) =>
      together(statements.deleteMany, keys, ({ identifiers, version }) => [...identityOf(identifiers), version]),
    replace: (identifiers, found, state) => {
      const unchanged = [...identityOf(identifiers), found.version, judgedUntil(found)]
      return Effect.map(
        state === undefined
          ? run(statements.delete, unchanged)
          : run(statements.update, [...toRow(state), ...unchanged]),
        ({ changed }) => changed > 0
      )
    },
    complete: (identifiers, { fingerprint, outcome, retention, token }) =>
      statements.complete === undefined
        ? Effect.succeed(undefined)
        : Effect.map(
            run(statements.complete, [
              ...completionOf(outcome, retention),
              fingerprint ?? null,
              ...identityOf(identifiers),
              token
            ]),
            ({ rows: [row] }) => {
              const [attempt, createdAt, expiresAt] = ["attempt", "created_at", "expires_at"].map((column) =>
                integerOf(row?.[column])
              )
              return attempt === undefined || createdAt === undefined || expiresAt === undefined
                ? undefined
                : { _tag: "Done", attempt, createdAt, expiresAt }
            }
          ),
    renew: (lease, leases) =>
      together(statements.renew, leases, ({ identifiers, token }) => [...identityOf(identifiers), token], [
        lease,
        2 * lease
      ])
  }
}

/** What is there for whoever reads: an expired state is none. */
export const visible = ({ now, state }: Found): State | Corrupted | undefined =>
  state?._tag === "Corrupted" ? state : live(state, now)
