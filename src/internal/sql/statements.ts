/** The statements on the table: written once for a dialect and a table, with `?` for each parameter. */

import { longestTimer } from "../options.js"
import { stateColumns } from "./row.js"
import { type Dialect, quoted } from "./table.js"

/** Epoch milliseconds by the database's clock, now and not as of a transaction's start. */
export const clocks: Readonly<Record<Dialect, string>> = {
  postgres: "floor(extract(epoch from clock_timestamp()) * 1000)::bigint",
  sqlite: "CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)",
  mysql: "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000)"
}

/** Where a row's versions begin: anywhere, so that none is taken for one that had its key before and is gone. */
const births: Readonly<Record<Dialect, string>> = {
  postgres: "floor(random() * 4503599627370496)::bigint",
  sqlite: "abs(random() >> 12)",
  mysql: "FLOOR(RAND() * 4503599627370496)"
}

export const identity = ["operation", "scope", "idempotency_key"] as const
const columns = [...identity, "version", ...stateColumns]

const marks = (count: number): string => Array.from({ length: count }, () => "?").join(", ")
const repeated = (count: number, text: string): string => Array.from({ length: count }, () => text).join(", ")

const here = "operation = ? AND scope = ? AND idempotency_key = ?"

const named = (row: string): ReadonlyArray<string> => identity.map((column) => `${row}.${column}`)
const same = (row: string, other: string): string =>
  identity.map((column) => `${row}.${column} = ${other}.${column}`).join(" AND ")

/** Statements that grow with the number of their members are written once for each number. */
const bySize = (write: (count: number) => string): ((count: number) => string) => {
  const written = new Map<number, string>()
  return (count) => {
    const known = written.get(count)
    if (known !== undefined) return known
    const text = write(count)
    written.set(count, text)
    return text
  }
}

/** The parameters of Postgres are numbered. */
export const numbered = (text: string): string => {
  let n = 0
  return text.replace(/\?/g, () => `$${++n}`)
}

const claimColumns =
  "operation, scope, idempotency_key, version, state, token, attempt, fingerprint, created_at, expires_at, lease_until, guarantee, retention, unknown_retention"

/** Postgres alone: the claim of one key. Planned anew each time, it takes half of what the statement for many takes. */
const claimOne = (full: string, clock: string): string => `WITH ${clock},
fresh AS (
  INSERT INTO ${full} (${claimColumns})
  SELECT $1::text, $2::text, $3::text, ${births.postgres}, 'Processing', $4::text, 1, $5::text, now, now + $8::bigint, now + $7::bigint, $6::text, $9::bigint, $10::bigint
  FROM clock
  ON CONFLICT (operation, scope, idempotency_key) DO NOTHING
  RETURNING token
)
SELECT now, 0 AS member, EXISTS (SELECT FROM fresh) AS fresh, r.* FROM clock
LEFT JOIN ${full} AS r ON r.operation = $1 AND r.scope = $2 AND r.idempotency_key = $3`

const claimMany = (full: string, clock: string, count: number): string => {
  const asked = Array.from(
    { length: count },
    (_, index) =>
      `(${index}, ?::text, ?::text, ?::text, ?::text, ?::text, ?::text, ?::bigint, ?::bigint, ?::bigint, ?::bigint)`
  )
  return `WITH ${clock},
asked (member, operation, scope, idempotency_key, token, fingerprint, guarantee, lease, expiry, retention, unknown_retention) AS (VALUES ${asked.join(", ")}),
fresh AS (
  INSERT INTO ${full} (${claimColumns})
  SELECT operation, scope, idempotency_key, ${births.postgres}, 'Processing', token, 1, fingerprint, now, now + expiry, now + lease, guarantee, retention, unknown_retention
  FROM asked, clock ORDER BY operation, scope, idempotency_key
  ON CONFLICT (operation, scope, idempotency_key) DO NOTHING
  RETURNING operation, scope, idempotency_key, token
)
SELECT now, member, fresh.token IS NOT NULL AS fresh, r.* FROM clock, asked
LEFT JOIN fresh USING (operation, scope, idempotency_key, token)
LEFT JOIN ${full} AS r USING (operation, scope, idempotency_key)`
}

/**
 * Postgres alone: claims of keys that have no row, and what is there of the others, in one round trip. A row of an open
 * transaction is waited for no longer than the lock timeout says.
 */
const claimStatement = (full: string, now: string, lockTimeout: number): ((count: number) => string) => {
  const clock = `clock AS MATERIALIZED (SELECT ${now} AS now, set_config('lock_timeout', '${lockTimeout}', true) AS patience)`
  return (count) => (count === 1 ? claimOne(full, clock) : numbered(claimMany(full, clock, count)))
}

/** The types of the columns of a first claim in a transaction, as Postgres has to be told. */
const isNumber = /^(attempt|\w+_at|lease_until|retention|unknown_retention)$/
const held = columns
  .map((column) => (column === "version" ? births.postgres : `?::${isNumber.test(column) ? "bigint" : "text"}`))
  .join(", ")

/** Postgres alone: the first claim in a transaction. The lock timeout is as it was once the row is inserted. */
const holdStatement = (
  full: string
): string => `WITH before AS MATERIALIZED (SELECT current_setting('lock_timeout') AS was),
patience AS MATERIALIZED (SELECT was, set_config('lock_timeout', ?::text, true) AS set FROM before),
fresh AS (
  INSERT INTO ${full} (${columns.join(", ")}) SELECT ${held} FROM patience
  ON CONFLICT (operation, scope, idempotency_key) DO NOTHING
  RETURNING token, set_config('lock_timeout', (SELECT was FROM before), true) AS set
)
SELECT was, (SELECT count(*) FROM fresh) AS inserted FROM patience`

/** Renewed without being read: what cannot be read is left as it is, and found out then. */
const intact = `state = 'Processing' AND attempt BETWEEN 0 AND ${Number.MAX_SAFE_INTEGER} AND lease_until IS NOT NULL AND guarantee IN ('at-least-once', 'at-most-once') AND retention IS NOT NULL AND unknown_retention IS NOT NULL AND (steps IS NULL OR substr(steps, 1, 2) = '[{')`

/** The rows that have one of so many combinations of values in these columns. */
const amongThe =
  (dialect: Dialect) =>
  (names: ReadonlyArray<string>, count: number): string => {
    // Postgres takes the parameters of a list of values for text.
    const mark = (name: string) => (dialect === "postgres" && name === "version" ? "?::bigint" : "?")
    const all = repeated(count, `(${names.map(mark).join(", ")})`)
    return `(${names.join(", ")}) IN (${dialect === "mysql" ? all : `VALUES ${all}`})`
  }

/**
 * Row by row on MySQL: of a list it may read a small table whole, and ask for rows that nobody named. A derived table on
 * the left of a join leaves it no choice.
 */
const availableStatement = (dialect: Dialect, full: string): Statements["available"] => {
  if (dialect === "sqlite") return undefined
  if (dialect === "postgres") {
    return bySize((count) =>
      numbered(`SELECT 1 FROM ${full} WHERE ${amongThe(dialect)(identity, count)} FOR NO KEY UPDATE NOWAIT`)
    )
  }
  const first = `SELECT ${identity.map((column) => `? AS ${column}`).join(", ")}`
  return bySize((count) => {
    const asked = [first, ...Array.from({ length: count - 1 }, () => `SELECT ${marks(3)}`)].join(" UNION ALL ")
    return `SELECT STRAIGHT_JOIN 1 FROM (${asked}) AS asked JOIN ${full} AS r FORCE INDEX (PRIMARY) ON ${same("r", "asked")} FOR UPDATE NOWAIT`
  })
}

export interface Statements {
  readonly now: string
  /**
   * In a transaction: inserts a claim, waiting for another's as long as the first parameter says, in milliseconds →
   * whether it was `inserted`, and what the lock timeout `was`; it is that again if so. Further parameters: identity
   * and the state's columns.
   */
  readonly hold: string | undefined
  /** How long a transaction waits for a row that another holds. MySQL counts in seconds, and for the connection. */
  readonly lockTimeout:
    | {
        /** → what it `was`. */
        readonly read: string
        readonly set: (value: string) => readonly [text: string, parameters: ReadonlyArray<unknown>]
        readonly ofMillis: (millis: number) => string
      }
    | undefined
  /**
   * In a transaction: what is claimed by the token is completed → the record's instants, if the database tells.
   * Parameters: outcome, result, retention, identity, token.
   */
  readonly finish: string
  /**
   * The same outside of one, where the row is a claim that is live → the record's instants and attempt; undefined where
   * the database would not tell. The fingerprint stays unless there is another: it comes after the retention.
   */
  readonly complete: string | undefined
  /**
   * Claims keys that have no row → for each member its number, whether it was claimed, and else the columns of the row
   * there is, if any. Parameters: identity, token, fingerprint, guarantee, lease, expiry, retention and retention of an
   * unknown outcome, for each.
   */
  readonly claim: ((count: number) => string) | undefined
  /** → one row: `now`, and the columns, `null` where there is no row. Parameters: identity. */
  readonly read: string
  /**
   * In a transaction: the row as it is, and no row where there is none. MySQL would show it as of the transaction's first
   * read, but not to whoever locks it against writes.
   */
  readonly readCurrent: string
  /** The same, and locks the row against others until the transaction ends. */
  readonly readLocked: string
  /** → `now` and the columns of the rows there are. Parameters: identities. */
  readonly readMany: (count: number) => string
  /**
   * Rows where there are none → the identities of those that were inserted; on MySQL nothing, and an error if there was
   * one of them. Parameters: identity and the state's columns, for each.
   */
  readonly insert: (count: number) => string
  /** Parameters: the state's columns, identity, version, and the instant before which it may be done. */
  readonly update: string
  /** Parameters: identity, version, and the instant before which it may be done. */
  readonly delete: string
  /** Fails at once where a transaction holds one of the rows, which a write would wait for. Parameters: identities. */
  readonly available: ((count: number) => string) | undefined
  /** Rows that have not expired → the identities of those that were deleted. Parameters: identity and version of each. */
  readonly deleteMany: ((count: number) => string) | undefined
  /** Live claims that no transaction holds → the identities of those that were renewed. Parameters: lease, twice the lease, identity and token of each. */
  readonly renew: ((count: number) => string) | undefined
  /** Somebody waits for what becomes of the key. Parameters: identity. */
  readonly await: string
  /** Deletes expired rows, as many as the limit says. */
  readonly reap: (limit: number) => string
  /**
   * Answer if the table is there, with these columns, and on Postgres of these types; and on MySQL, if a row can be asked
   * for without waiting for it, which needs no right to write.
   */
  readonly probe: ReadonlyArray<string>
}

/** Postgres counts in 32 bits, and neither database knows of infinity. */
const wholeMillis = (millis: number): number => Math.min(longestTimer, Math.ceil(millis))

const lockTimeouts: Readonly<Record<Dialect, Statements["lockTimeout"]>> = {
  postgres: {
    read: "SELECT current_setting('lock_timeout') AS was",
    set: (value) => ["SELECT set_config('lock_timeout', $1, true)", [value]],
    // Also what a row's neighbours lock for a moment counts as waiting.
    ofMillis: (millis) => String(Math.max(50, wholeMillis(millis)))
  },
  sqlite: undefined,
  mysql: {
    read: "SELECT @@SESSION.innodb_lock_wait_timeout AS was",
    // Not a parameter: the client would send a floating-point number, which the server refuses.
    set: (value) => [`SET SESSION innodb_lock_wait_timeout = ${Number(value)}`, []],
    ofMillis: (millis) => String(Math.max(1, Math.ceil(wholeMillis(millis) / 1000)))
  }
}

export interface StatementOptions {
  readonly dialect: Dialect
  readonly table: string
  /** Where Postgres tells of changes. */
  readonly channel: string
  /** Milliseconds that Postgres waits for a row that an open transaction holds. */
  readonly lockTimeout: number
}

export const makeStatements = ({ channel, dialect, lockTimeout, table }: StatementOptions): Statements => {
  const now = clocks[dialect]
  const full = quoted(dialect, table)
  const finish = dialect === "postgres" ? numbered : (text: string) => text
  const isMysql = dialect === "mysql"
  const among = amongThe(dialect)

  const read = `SELECT ${now} AS now, r.* FROM (SELECT 1 AS one) AS one LEFT JOIN ${full} AS r ON ${identity
    .map((column) => `r.${column} = ?`)
    .join(" AND ")}`

  const readHere = `SELECT ${now} AS now, r.* FROM ${full} AS r WHERE ${here}`

  // Told only if somebody waits: the notifications of Postgres make commits wait for each other.
  const notification =
    dialect === "postgres"
      ? `CASE WHEN awaited THEN pg_notify('${channel}', operation || ':' || scope || ':' || idempotency_key) END`
      : undefined
  const told = notification === undefined ? "" : ` RETURNING ${notification}`
  const instants = isMysql
    ? ""
    : ` RETURNING created_at, expires_at${notification === undefined ? "" : `, ${notification}`}`

  const greatest = dialect === "sqlite" ? "MAX" : "GREATEST"
  const patiently =
    dialect === "postgres"
      ? `WITH patience AS MATERIALIZED (SELECT set_config('lock_timeout', '${lockTimeout}', true) AS set, ${now} AS at) `
      : ""
  const patient = dialect === "postgres" ? " FROM patience" : ""
  // By way of the patience that comes before the row.
  const born = dialect === "postgres" ? `${births.postgres} * (SELECT 1 FROM patience)` : births[dialect]
  const andPatient = dialect === "postgres" ? " AND patience.set IS NOT NULL" : ""
  // Columns of other types cannot be united with these.
  const typed = dialect === "postgres" ? ` UNION ALL SELECT ${held.replaceAll("?", "NULL")}, FALSE WHERE FALSE` : ""
  const identities = isMysql ? "" : " RETURNING operation, scope, idempotency_key"
  const ignoring = isMysql ? "" : " ON CONFLICT (operation, scope, idempotency_key) DO NOTHING"

  // On Postgres each question for the time has an answer of its own: what belongs together is of one.
  const at = dialect === "postgres" ? "patience.at" : now
  const completed = `version = version + 1, state = 'Completed', outcome = ?, result = ?, created_at = ${at}, expires_at = ${at} + ?, lease_until = NULL, guarantee = NULL, retention = NULL, unknown_retention = NULL, steps = NULL`

  return {
    claim: dialect === "postgres" ? bySize(claimStatement(full, now, lockTimeout)) : undefined,
    hold: dialect === "postgres" ? numbered(holdStatement(full)) : undefined,
    lockTimeout: lockTimeouts[dialect],
    finish: finish(
      `${dialect === "postgres" ? `WITH patience AS MATERIALIZED (SELECT ${now} AS at) ` : ""}UPDATE ${full} SET ${completed}${patient} WHERE ${here} AND token = ?${instants}`
    ),
    complete: isMysql
      ? undefined
      : finish(
          `${patiently}UPDATE ${full} SET ${completed}, fingerprint = COALESCE(?, fingerprint)${patient} WHERE ${here} AND token = ? AND ${intact} AND expires_at > ${now}${andPatient}${instants}, attempt`
        ),
    now: `SELECT ${now} AS now`,
    read: finish(read),
    readCurrent: isMysql ? `${readHere} LOCK IN SHARE MODE` : finish(read),
    readLocked: finish(dialect === "sqlite" ? read : `${readHere} FOR UPDATE`),
    readMany: bySize((count) => finish(`SELECT ${now} AS now, r.* FROM ${full} AS r WHERE ${among(identity, count)}`)),
    insert: bySize((count) =>
      finish(
        `${patiently}INSERT INTO ${full} (${columns.join(", ")}) VALUES ${repeated(count, `(${marks(3)}, ${born}, ${marks(stateColumns.length)})`)}${ignoring}${identities}`
      )
    ),
    available: availableStatement(dialect, full),
    update: finish(
      `${patiently}UPDATE ${full} SET version = version + 1, ${stateColumns.map((column) => `${column} = ?`).join(", ")}${patient} WHERE ${here} AND version = ? AND ${now} < ?${andPatient}${told}`
    ),
    deleteMany: isMysql
      ? undefined
      : bySize((count) =>
          finish(
            `${patiently}DELETE FROM ${full}${patient.replace("FROM", "USING")} WHERE ${among([...identity, "version"], count)} AND expires_at > ${now}${andPatient}${identities}`
          )
        ),
    delete: finish(
      `${patiently}DELETE FROM ${full}${patient.replace("FROM", "USING")} WHERE ${here} AND version = ? AND ${now} < ?${andPatient}`
    ),
    renew: isMysql
      ? undefined
      : bySize((count) => {
          const mine = `WHERE ${among([...identity, "token"], count)} AND ${intact} AND expires_at > ${now}`
          const renewed = (at: string, lease: string, shortest: string) =>
            `version = version + 1, lease_until = ${at} + ${lease}, expires_at = ${at} + CASE WHEN guarantee = 'at-most-once' THEN unknown_retention ELSE ${greatest}(retention, ${shortest}) END`
          return dialect === "postgres"
            ? numbered(`WITH terms AS MATERIALIZED (SELECT ${now} AS at, ?::bigint AS lease, ?::bigint AS shortest),
mine AS MATERIALIZED (SELECT ${identity.join(", ")} FROM ${full} ${mine} FOR NO KEY UPDATE SKIP LOCKED)
UPDATE ${full} AS r SET ${renewed("at", "lease", "shortest")} FROM terms, mine AS m WHERE ${same("r", "m")} RETURNING ${named("r").join(", ")}`)
            : `UPDATE ${full} SET ${renewed(now, "?", "?")} ${mine}${identities}`
        }),
    await: finish(
      `${patiently}UPDATE ${full} SET awaited = TRUE${patient} WHERE ${here} AND state <> 'Completed' AND NOT awaited${andPatient}`
    ),
    reap: (limit) => {
      // Asked once for the statement: what may change while it runs is of no use to the index on Postgres.
      const expired = `FROM ${full} WHERE expires_at <= (SELECT ${now})`
      const oldest = `ORDER BY expires_at LIMIT ${limit}`
      switch (dialect) {
        case "postgres":
          return `WITH expired AS MATERIALIZED (SELECT ${identity.join(", ")} ${expired} ${oldest} FOR UPDATE SKIP LOCKED) DELETE FROM ${full} AS r USING expired AS e WHERE ${same("r", "e")}`
        case "sqlite":
          return `DELETE FROM ${full} WHERE rowid IN (SELECT rowid ${expired} ${oldest})`
        case "mysql":
          return `DELETE ${expired} ${oldest}`
      }
    },
    probe: [
      `SELECT ${columns.join(", ")}, awaited FROM ${full} WHERE 1 = 0${typed}`,
      ...(isMysql ? ["SELECT 1 FROM (SELECT 1 AS one) AS one FOR UPDATE NOWAIT"] : [])
    ]
  }
}
