/** Databases that are measured on, and the limits on them: the least statements, through the same client. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { Store, Subject } from "./comparisons.js"
import { fibers } from "./drive.js"
import { ensure, makeBody } from "./work.js"

type Client = SqlClient.SqlClient

/** What a database can tell of itself beyond its rows. */
export interface Database {
  readonly client: Client
  /** Statements, those of transactions included: each is a round trip. */
  readonly statements?: Effect.Effect<number>
  /** The size of the rows of the table and of their keys, on average. */
  readonly rowSize?: (table: string) => Effect.Effect<number>
}

interface Count {
  readonly count: number | string
}

export const numberOf = (rows: Effect.Effect<ReadonlyArray<Count>, SqlError>): Effect.Effect<number> =>
  Effect.orDie(Effect.map(rows, ([row]) => Number(row?.count)))

export const storeOf = ({ client, rowSize, statements }: Database, table: string): Store => ({
  empty: Effect.orDie(client.unsafe(`DELETE FROM ${table}`)),
  records: () => numberOf(client.unsafe<Count>(`SELECT count(*) AS count FROM ${table} WHERE result IS NOT NULL`)),
  ...(statements === undefined ? {} : { roundTrips: statements }),
  ...(rowSize === undefined
    ? {}
    : { overhead: (payloadBytes: number) => Effect.map(rowSize(table), (size) => size - payloadBytes) })
})

const table = "raw_records"

/** The index is what expired rows are found by: without it nothing could be deleted in time. */
const ddl = [
  `CREATE TABLE ${table} (
  operation TEXT NOT NULL,
  idempotency_key TEXT NOT NULL,
  state TEXT NOT NULL,
  token TEXT NOT NULL,
  expires_at BIGINT NOT NULL,
  result TEXT,
  PRIMARY KEY (operation, idempotency_key)
)`,
  `CREATE INDEX ${table}_expiry ON ${table} (expires_at)`
]

const statementsOf = (client: Client) => {
  const numbered = client.onDialectOrElse({ pg: () => true, orElse: () => false })
  const text = (statement: string) => {
    let n = 0
    return numbered ? statement.replace(/\?/g, () => `$${++n}`) : statement
  }
  const insert = text(
    `INSERT INTO ${table} (operation, idempotency_key, state, token, expires_at) VALUES ('bench', ?, 'Processing', ?, ?) ON CONFLICT (operation, idempotency_key) DO NOTHING RETURNING token`
  )
  const update = text(
    `UPDATE ${table} SET state = 'Completed', result = ?, expires_at = ? WHERE operation = 'bench' AND idempotency_key = ? AND token = ? RETURNING token`
  )
  const select = text(`SELECT result FROM ${table} WHERE operation = 'bench' AND idempotency_key = ?`)
  const one = (rows: ReadonlyArray<unknown>) => ensure(rows.length === 1, "a statement found no row")
  return {
    claim: (key: string, token: string) => Effect.map(client.unsafe(insert, [key, token, Date.now() + 30_000]), one),
    complete: (key: string, token: string, result: string) =>
      Effect.map(client.unsafe(update, [result, Date.now() + 1_800_000, key, token]), one),
    read: (key: string) =>
      Effect.map(client.unsafe<{ readonly result: string }>(select, [key]), ([row]): unknown =>
        JSON.parse(row?.result ?? "null")
      )
  }
}

/** Two statements, each a transaction of its own, or both in one: and one to read. */
export const rawSql = (
  database: Database,
  bytes: number
): Effect.Effect<{ readonly apart: Subject; readonly together: Subject }, SqlError> =>
  Effect.gen(function* () {
    const { client } = database
    for (const statement of ddl) yield* client.unsafe(statement)
    const { claim, complete, read } = statementsOf(client)
    const store = storeOf(database, table)
    const body = makeBody(bytes)
    let tokens = 0
    const execute = (key: string) =>
      Effect.suspend(() => {
        const token = `owner-${++tokens}`
        return claim(key, token).pipe(
          Effect.zipRight(body.effect),
          Effect.tap((result) => complete(key, token, JSON.stringify(result)))
        )
      })
    const subject = (name: string, first: Subject["first"]): Subject => ({
      name,
      role: "limit",
      body,
      store,
      first,
      replay: fibers(Effect.runPromise, read)
    })
    return {
      apart: subject("INSERT, UPDATE", fibers(Effect.runPromise, execute)),
      together: subject(
        "BEGIN, INSERT, UPDATE, COMMIT",
        fibers(Effect.runPromise, (key) => client.withTransaction(execute(key)))
      )
    }
  })
