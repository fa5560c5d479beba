/** The table of records: its name, its shape, and the statements that make it, in each dialect. */
import type * as SqlClient from "@effect/sql/SqlClient"
import * as Either from "effect/Either"
import { IdempotencyValidationError } from "../../IdempotencyError.js"

/** The databases that the store speaks to; `mysql` is also MariaDB. */
export type Dialect = "postgres" | "sqlite" | "mysql"

export const defaultTable = "idempotency_records"

const namePattern = /^[A-Za-z_][A-Za-z0-9_]{0,47}(\.[A-Za-z_][A-Za-z0-9_]{0,47})?$/

const refuse = (issue: string): IdempotencyValidationError =>
  new IdempotencyValidationError({ operation: "", issues: [issue] })

export const validTable = (table: string): Either.Either<string, IdempotencyValidationError> =>
  namePattern.test(table)
    ? Either.right(table)
    : Either.left(
        refuse("the table is not a name of letters, digits and underscores, 48 at most, with or without a schema")
      )

const dialects: ReadonlyArray<Dialect> = ["postgres", "sqlite", "mysql"]

export const dialectOf = (client: SqlClient.SqlClient): Either.Either<Dialect, IdempotencyValidationError> => {
  const name = client.onDialectOrElse({
    pg: () => "postgres",
    sqlite: () => "sqlite",
    mysql: () => "mysql",
    orElse: () => "this database"
  })
  return Either.fromNullable(
    dialects.find((dialect) => dialect === name),
    () => refuse("the SQL store speaks to Postgres, SQLite and MySQL, not to this database")
  )
}

/** The name as it stands in statements. It is validated: quoting keeps its case and lets it be a reserved word. */
export const quoted = (dialect: Dialect, table: string): string => {
  const mark = dialect === "mysql" ? "`" : `"`
  return table
    .split(".")
    .map((part) => mark + part + mark)
    .join(".")
}

interface Types {
  readonly name: (length: number) => string
  readonly text: string
  readonly longText: string
  readonly flag: string
}

const types: Readonly<Record<Dialect, Types>> = {
  postgres: { name: () => "TEXT", text: "TEXT", longText: "TEXT", flag: "BOOLEAN NOT NULL DEFAULT FALSE" },
  sqlite: { name: () => "TEXT", text: "TEXT", longText: "TEXT", flag: "INTEGER NOT NULL DEFAULT 0" },
  // Compared byte by byte: keys that differ in case or accents are different keys.
  mysql: {
    name: (length) => `VARCHAR(${length}) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin`,
    text: "VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    longText: "LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    flag: "BOOLEAN NOT NULL DEFAULT FALSE"
  }
}

/**
 * The statements that make the table and its index, in order; harmless where they exist. Instants are epoch
 * milliseconds by the clock of the database, durations milliseconds.
 */
export const ddl = (dialect: Dialect, table: string): ReadonlyArray<string> => {
  const { flag, longText, name, text } = types[dialect]
  const full = quoted(dialect, table)
  const local = table.slice(table.indexOf(".") + 1)
  // An index is named within the schema of its table; SQLite wants the schema with the index, and not with the table.
  const index = quoted(dialect, `${dialect === "sqlite" ? table : local}_expiry`)
  const indexed = dialect === "sqlite" ? quoted(dialect, local) : full
  const engine = dialect === "mysql" ? " ENGINE = InnoDB" : ""
  const inline = dialect === "mysql" ? `,\n  INDEX ${index} (expires_at)` : ""
  const create = `CREATE TABLE IF NOT EXISTS ${full} (
  operation ${name(100)} NOT NULL,
  scope ${name(255)} NOT NULL,
  idempotency_key ${name(255)} NOT NULL,
  version BIGINT NOT NULL,
  state ${text} NOT NULL,
  token ${text} NOT NULL,
  attempt BIGINT NOT NULL,
  fingerprint ${text},
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  lease_until BIGINT,
  guarantee ${text},
  reason ${text},
  retention BIGINT,
  unknown_retention BIGINT,
  steps ${longText},
  outcome ${text},
  result ${longText},
  awaited ${flag},
  PRIMARY KEY (operation, scope, idempotency_key)${inline}
)${engine}`
  return dialect === "mysql" ? [create] : [create, `CREATE INDEX IF NOT EXISTS ${index} ON ${indexed} (expires_at)`]
}
