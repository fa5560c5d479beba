/** Rows that this library did not write, and what callers and operators get over them: as `storedBytes.test.ts`. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import * as Layer from "effect/Layer"
import { stateColumns } from "../../src/internal/sql/row.js"
import { SqlIdempotencyRepository } from "../../src/sql.js"
import { repositoryOf, rowsOf } from "../sql/fixtures.js"
import { Mariadb, mysqlClient, Postgres, pgClient, SqliteFile, sqliteClient } from "../support/databases.js"
import { examine, holdsFor, hostileStore, payloads } from "../support/hostileStores.js"
import { isProof } from "../support/proof.js"
import { freshIds } from "../support/requests.js"
import { type Column, dueOfRow, type Row } from "./rowFormat.js"

const far = 4_000_000_000_000
const nothing: Row = {
  state: "Processing",
  token: "t",
  attempt: 1,
  fingerprint: null,
  created_at: 1000,
  expires_at: far,
  lease_until: null,
  guarantee: null,
  reason: null,
  retention: null,
  unknown_retention: null,
  steps: null,
  outcome: null,
  result: null
}
const terms = { retention: 60_000, unknown_retention: 60_000 }

/** Rows as this version writes them, of every state. */
const sound: { readonly [state: string]: Row } = {
  processing: { ...nothing, ...terms, lease_until: far, guarantee: "at-least-once" },
  lapsed: { ...nothing, ...terms, lease_until: 2000, guarantee: "at-most-once", fingerprint: "print" },
  steps: {
    ...nothing,
    ...terms,
    lease_until: 2000,
    guarantee: "at-least-once",
    steps: '[{"name":"one","encoded":"1"}]'
  },
  unknown: { ...nothing, ...terms, state: "Unknown", guarantee: "at-most-once", reason: "held" },
  completed: { ...nothing, state: "Completed", outcome: "Success", result: '{"id":"ch-1"}' },
  failed: { ...nothing, state: "Completed", outcome: "Failure", result: '"declined"' },
  released: { ...nothing, state: "Released", retention: 60_000, attempt: 3 }
}

const numeric = ["attempt", "created_at", "expires_at", "lease_until", "retention", "unknown_retention"] as const
const textual = ["state", "token", "fingerprint", "guarantee", "reason", "steps", "outcome", "result"] as const
const required: ReadonlyArray<Column> = ["state", "token", "attempt", "created_at", "expires_at"]

const numbers: ReadonlyArray<unknown> = [
  null,
  0,
  -1,
  "9007199254740993",
  "9223372036854775807",
  "-9223372036854775808",
  "8640000000000001",
  "99999999999999"
]
const texts: ReadonlyArray<unknown> = [
  null,
  "",
  "-",
  "processing",
  "Processing",
  "Completed",
  "Success",
  "Unavailable",
  "at-least-once",
  "held",
  "__proto__",
  "constructor",
  "null",
  "[]",
  "{}",
  "[null]",
  '[{"name":"__proto__","encoded":"{}"}]',
  '[{"name":1,"encoded":"1"}]',
  "é😀",
  "x".repeat(10_000)
]
/** Columns of SQLite hold anything. */
const anything: ReadonlyArray<unknown> = [...numbers, ...texts, 1.5, Buffer.from([0, 255]), "a\u0000b", 1e308]

interface Change {
  readonly column: Column
  readonly value: unknown
}

interface Database {
  readonly isUntyped?: boolean
  readonly place?: (index: number) => string
  /** How long a text of a column may be, but for results and steps. */
  readonly longest?: number
  readonly holdsNul?: boolean
  /** Which columns are gone through in the short form. */
  readonly columns?: ReadonlyArray<Column>
}

const isPossible = ({ column, value }: Change) => value !== null || !required.includes(column)

const changesOf = ({ isUntyped = false, longest = Number.POSITIVE_INFINITY }: Database): ReadonlyArray<Change> =>
  [
    ...numeric.flatMap((column) => (isUntyped ? anything : numbers).map((value) => ({ column, value }))),
    ...textual.flatMap((column) => (isUntyped ? anything : texts).map((value) => ({ column, value })))
  ]
    .filter(isPossible)
    .filter(({ column, value }) => column === "result" || column === "steps" || !(String(value).length > longest))

const suite = <E>(name: string, client: Layer.Layer<SqlClient.SqlClient, E>, database: Database = {}) =>
  layer(client, { excludeTestServices: true, timeout: 60_000 })(name, (it) => {
    const setup = Effect.gen(function* () {
      yield* SqlIdempotencyRepository.migration
      const sql = yield* SqlClient.SqlClient
      const store = yield* hostileStore(yield* repositoryOf())
      const columns = ["operation", "scope", "idempotency_key", "version", ...stateColumns]
      const { place = () => "?" } = database
      const places = columns.map((_, index) => place(index))
      const insert = `INSERT INTO idempotency_records (${columns.join()}) VALUES (${places.join()})`
      const forget = `DELETE FROM idempotency_records WHERE operation = ${place(0)} AND idempotency_key = ${place(1)}`
      return (row: Row) =>
        Effect.suspend(() => {
          const ids = freshIds()
          const write = Effect.zipRight(
            rowsOf(sql, forget, [ids.operation, ids.idempotencyKey]),
            rowsOf(sql, insert, [
              ids.operation,
              "",
              ids.idempotencyKey,
              1,
              ...stateColumns.map((column) => row[column])
            ])
          )
          return examine(store, ids, write, dueOfRow(row))
        })
    })

    const changes = changesOf(database)

    it.scoped.each(Object.entries(sound))("%s rows are read as they are", ([, row]) =>
      Effect.gen(function* () {
        const examined = yield* setup
        expect(yield* examined(row)).toEqual([])
      })
    )

    const columns = isProof ? stateColumns : (database.columns ?? ["state", "created_at", "expires_at"])
    for (const column of columns) {
      it.scoped(
        `${column} holds what it should not`,
        () =>
          Effect.gen(function* () {
            const examined = yield* setup
            const problems: Array<string> = []
            const states = Object.entries(sound).filter(([state]) => isProof || state === "completed")
            for (const [state, row] of states) {
              const own = changes.filter((change) => change.column === column)
              for (const { value } of own) {
                const found = yield* examined({ ...row, [column]: value })
                problems.push(...found.map((problem) => `${state}, ${String(value).slice(0, 40)}: ${problem}`))
              }
            }
            expect(problems).toEqual([])
          }),
        120_000
      )
    }

    it.scoped(
      "several columns do",
      () =>
        Effect.gen(function* () {
          const examined = yield* setup
          const change = FastCheck.constantFrom(...changes)
          const row = FastCheck.record({
            base: FastCheck.constantFrom(...Object.values(sound)),
            changed: FastCheck.array(change, { minLength: 1, maxLength: 4 })
          }).map(({ base, changed }) => {
            const row: Record<Column, unknown> = { ...base }
            for (const { column, value } of changed) row[column] = value
            return row
          })
          yield* holdsFor(row, isProof ? 500 : 20, examined)
        }),
      120_000
    )

    it.scoped.each(payloads)("a result that is %s", ([, encoded]) =>
      Effect.gen(function* () {
        const examined = yield* setup
        const isStorable = database.holdsNul !== false || !encoded.includes("\u0000")
        if (isStorable) expect(yield* examined({ ...nothing, ...sound["completed"], result: encoded })).toEqual([])
        expect({}).not.toHaveProperty("polluted")
      })
    )

    const mebibytes = isProof ? 10 : 2

    it.scoped(
      `${mebibytes} MiB`,
      () =>
        Effect.gen(function* () {
          const examined = yield* setup
          const long = "x".repeat(mebibytes * 1024 * 1024)
          expect(yield* examined({ ...nothing, ...sound["completed"], result: `"${long}"` })).toEqual([])
          const steps = JSON.stringify([{ name: "one", encoded: long }])
          if (isProof) expect(yield* examined({ ...nothing, ...sound["steps"], steps })).toEqual([])
        }),
      120_000
    )
  })

suite("Postgres", pgClient.pipe(Layer.provide(Postgres.layer)), {
  place: (index) => `$${index + 1}`,
  holdsNul: false
})
suite("SQLite", sqliteClient.pipe(Layer.provide(SqliteFile.layer)), { isUntyped: true })
suite("MariaDB", mysqlClient.pipe(Layer.provide(Mariadb.layer)), { longest: 255, columns: ["expires_at"] })
