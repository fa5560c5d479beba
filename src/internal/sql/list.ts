/**
 * The rows of the table in the order of its primary key, a page at a time. A page looks at a stretch of the key of so many
 * rows, whatever it is to find: first where the stretch ends, then which of its rows are asked for.
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { IdempotencyIdentifiers } from "../../IdempotencyIdentifiers.js"
import { decodeCursor, encodeCursor, entryOf, overview } from "../listing.js"
import type { Driver, Entry, ListReply, ListRequest } from "../protocol.js"
import { storageError } from "./errors.js"
import type { Run } from "./records.js"
import { fromRow, integerOf, type Row, stateColumns } from "./row.js"
import { clocks, identity, numbered } from "./statements.js"
import { type Dialect, quoted } from "./table.js"

/** The rows of a stretch. */
const stretch = 5_000

/** Operation, scope (or nothing), and key. */
type Place = readonly [operation: string, scope: string, key: string]

interface Sql {
  readonly text: string
  readonly parameters: ReadonlyArray<unknown>
}

const all = identity.join(", ")

/** What is stored for a row but for its result and its steps. A record without the result that it should have shows. */
const told = [
  ...identity,
  ...stateColumns.filter((column) => column !== "result" && column !== "steps"),
  "CASE WHEN result IS NULL THEN NULL ELSE '' END AS result",
  "NULL AS steps"
].join(", ")

const and = (...conditions: ReadonlyArray<Sql>): Sql => ({
  text: conditions.map(({ text }) => text).join(" AND "),
  parameters: conditions.flatMap(({ parameters }) => parameters)
})

const rowsThat = (text: string, ...parameters: ReadonlyArray<unknown>): Sql => ({ text, parameters })

/** Written so that the database finds the place by its index: MySQL does not where rows are compared as such. */
const beyond = (
  dialect: Dialect,
  sign: ">" | "<=",
  columns: ReadonlyArray<string>,
  place: ReadonlyArray<string>
): Sql => {
  if (dialect !== "mysql")
    return rowsThat(`(${columns.join(", ")}) ${sign} (${columns.map(() => "?").join(", ")})`, ...place)
  const [column, ...further] = columns
  const [value, ...values] = place
  if (further.length === 0) return rowsThat(`${column} ${sign} ?`, value)
  const rest = beyond(dialect, sign, further, values)
  return rowsThat(`(${column} ${sign[0]} ? OR (${column} = ? AND ${rest.text}))`, value, value, ...rest.parameters)
}

/** Some database or client refuses these, and no identity holds them. */
const isForeign = (text: string): boolean => /[\0\p{Surrogate}]/u.test(text)

const placeOf = (cursor: string): Place | undefined => {
  const [operation, scope, key, ...more] = decodeCursor("sql", cursor) ?? []
  return operation === undefined || scope === undefined || key === undefined || more.length > 0
    ? undefined
    : [operation, scope, key].some(isForeign)
      ? undefined
      : [operation, scope, key]
}

const placeOfRow = (row: Row | undefined, columns: readonly [string, string, string]): Place | undefined => {
  const [operation, scope, key] = columns.map((column) => row?.[column])
  return typeof operation === "string" && typeof scope === "string" && typeof key === "string"
    ? [operation, scope, key]
    : undefined
}

const identifiersOf = ([operation, scope, key]: Place): IdempotencyIdentifiers | undefined => {
  const input = { operation, idempotencyKey: key, scope: scope === "" ? undefined : scope }
  const identifiers = Either.getOrUndefined(IdempotencyIdentifiers.from(input))
  // Another way to write the same identity is another row.
  return identifiers?.operation === operation && identifiers.idempotencyKey === key && identifiers.scope === input.scope
    ? identifiers
    : undefined
}

const cursorOf = (place: Place | undefined): string | undefined =>
  place === undefined ? undefined : encodeCursor("sql", ...place)

export const makeList = (run: Run, dialect: Dialect, table: string): NonNullable<Driver["list"]> => {
  const full = quoted(dialect, table)
  const submit = ({ parameters, text }: Sql) => run(dialect === "postgres" ? numbered(text) : text, parameters)

  /** One row: the time, and the last row of the stretch unless the table ends before it. */
  const endOf = ({ parameters, text }: Sql, order: string): Sql => ({
    parameters,
    text: `SELECT ${clocks[dialect]} AS now, r.* FROM (SELECT 1 AS one) AS one LEFT JOIN (SELECT ${all} FROM ${full} WHERE ${text} ORDER BY ${order} LIMIT 1 OFFSET ${stretch - 1}) AS r ON 1 = 1`
  })

  /** SQLite counts characters as the others do; columns of it that hold no text are none of ours. */
  const beginning = (prefix: string): Sql => rowsThat(`substr(idempotency_key, 1, ${[...prefix].length}) = ?`, prefix)
  const texts = dialect === "sqlite" ? identity.map((column) => rowsThat(`typeof(${column}) = 'text'`)) : []

  const page = (request: ListRequest, from: Place): Effect.Effect<ListReply, SqlError> => {
    const { keyPrefix, limit, operation, state } = request
    // Of one operation the rest of the key is compared alone: MySQL would sort all of its rows else.
    const fixed = operation === undefined ? 0 : 1
    const columns = identity.slice(fixed)
    const order = columns.join(", ")
    const after = and(
      ...(operation === undefined ? [] : [rowsThat("operation = ?", operation)]),
      beyond(dialect, ">", columns, from.slice(fixed)),
      ...texts
    )
    // Which rows cannot be read is not for the database to say: of these, all of the stretch are looked at.
    const most = state === "Corrupted" ? stretch : limit
    return Effect.flatMap(submit(endOf(after, order)), ({ rows: [first] }) => {
      const now = integerOf(first?.["now"]) ?? 0
      const end = placeOfRow(first, identity)
      const asked = and(
        after,
        ...(end === undefined ? [] : [beyond(dialect, "<=", columns, end.slice(fixed))]),
        ...(keyPrefix === undefined ? [] : [beginning(keyPrefix)]),
        ...(state === undefined || state === "Corrupted" ? [] : [rowsThat("state = ?", state)]),
        rowsThat("expires_at > ?", now)
      )
      const text = `SELECT ${told} FROM ${full} WHERE ${asked.text} ORDER BY ${order} LIMIT ${most}`
      return Effect.map(submit({ ...asked, text }), ({ rows }): ListReply => {
        const entries: Array<Entry> = []
        for (const row of rows) {
          const place = placeOfRow(row, identity)
          const identifiers = place === undefined ? undefined : identifiersOf(place)
          const found = fromRow(row)
          const entry =
            identifiers === undefined
              ? undefined
              : entryOf(request, identifiers, found._tag === "Corrupted" ? found : overview(found), now)
          if (entry !== undefined) entries.push(entry)
          if (entries.length === limit) return { _tag: "Page", entries, cursor: cursorOf(place), now }
        }
        // A page that is as long as it may be ends where its last row is.
        const last = rows.length < most ? end : placeOfRow(rows.at(-1), identity)
        return { _tag: "Page", entries, cursor: cursorOf(last), now }
      })
    })
  }

  return (request) => {
    const { cursor, keyPrefix, operation } = request
    const start: Place = [operation ?? "", "", ""]
    const place = cursor === undefined ? start : placeOf(cursor)
    if (place === undefined) return Effect.succeed({ _tag: "BadCursor" })
    // A cursor of another operation is no place in this one, which is begun anew.
    const from = operation === undefined || place[0] === operation ? place : start
    const isHopeless = [operation ?? "", keyPrefix ?? ""].some(isForeign)
    return Effect.mapError(
      isHopeless
        ? Effect.map(run(`SELECT ${clocks[dialect]} AS now`, []), ({ rows: [row] }) => ({
            _tag: "Page" as const,
            entries: [],
            cursor: undefined,
            now: integerOf(row?.["now"]) ?? 0
          }))
        : page(request, from),
      storageError(operation ?? "", "list")
    )
  }
}
