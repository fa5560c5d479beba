/** What a failure of a database or its client says about the statement: whether it was applied, and whose fault it is. */
import * as Predicate from "effect/Predicate"
import { IdempotencyStorageError } from "../../IdempotencyError.js"

type Sorted = Pick<IdempotencyStorageError, "applied" | "reason">

const unavailable: Sorted = { reason: "Unavailable", applied: "no" }
const refused: Sorted = { reason: "Rejected", applied: "no" }
const misconfigured: Sorted = { reason: "Misconfigured", applied: "no" }
const lockedOut: Sorted = { reason: "Timeout", applied: "no" }
const cut: Sorted = { reason: "Unavailable", applied: "unknown" }

/** A failing statement is rolled back, so that it was not applied; a connection that breaks says nothing. */
const byCode: ReadonlyArray<readonly [RegExp, Sorted]> = [
  // Postgres: https://www.postgresql.org/docs/current/errcodes-appendix.html
  [/^(40001|40P01)$/, unavailable],
  // That a lock is not to be had is an answer; that a statement is cancelled shows a database that does not get on.
  [/^55P03$/, lockedOut],
  [/^(57014|53300|57P03|25006|57P05)$/, unavailable],
  [/^(57P01|57P02|08...)$/, cut],
  [/^(28...|3D000|3F000|42...)$/, misconfigured],
  // SQLite: https://www.sqlite.org/rescode.html
  // Another writes: it is there.
  [/^SQLITE_(BUSY|LOCKED)/, refused],
  [/^SQLITE_(ERROR|NOTADB|CANTOPEN|PERM|AUTH|READONLY|MISMATCH)/, misconfigured],
  // MySQL and MariaDB, whose 1969 is a statement that took too long, and 1927 a connection that was killed
  [/^ER_(LOCK_DEADLOCK|QUERY_INTERRUPTED|QUERY_TIMEOUT|1969)$/, unavailable],
  [/^ER_(LOCK_WAIT_TIMEOUT|LOCK_NOWAIT)$/, lockedOut],
  [/^ER_(CON_COUNT_ERROR|OPTION_PREVENTS_STATEMENT|CANT_EXECUTE_IN_READ_ONLY_TRANSACTION)$/, unavailable],
  [/^ER_(SERVER_SHUTDOWN|NORMAL_SHUTDOWN|NEW_ABORTING_CONNECTION|CONNECTION_KILLED|1927)$/, cut],
  [
    /^ER_(NO_SUCH_TABLE|BAD_FIELD_ERROR|PARSE_ERROR|\w*ACCESS_DENIED\w*|BAD_DB_ERROR|NO_DB_ERROR|NOT_SUPPORTED\w*|UNKNOWN_STORAGE_ENGINE)$/,
    misconfigured
  ],
  [/^ETIMEDOUT$/, { reason: "Timeout", applied: "unknown" }],
  // The system, before anything was sent
  [/^(ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|ENOENT|EACCES)$/, unavailable],
  // The system and the clients, after that
  [/^(E[A-Z]+|PROTOCOL_\w+)$/, cut],
  // Whatever else a server says to a statement
  [/^([0-9A-Z]{5}|SQLITE_\w+|ER_\w+)$/, refused]
]

/** A code of the server, of the client, or of the system. */
export const codeOf = (error: unknown): string | undefined => {
  for (let inner = error, depth = 0; inner !== undefined && inner !== null && depth < 5; depth++) {
    if (inner instanceof AggregateError && inner.errors.length > 0) inner = inner.errors[0]
    if (Predicate.hasProperty(inner, "code") && typeof inner.code === "string") return inner.code
    // The client has names for the numbers of MySQL, and none for those that only MariaDB has.
    if (Predicate.hasProperty(inner, "sqlState") && Predicate.hasProperty(inner, "errno")) return `ER_${inner.errno}`
    inner = Predicate.hasProperty(inner, "cause") ? inner.cause : undefined
  }
  return undefined
}

const messageOf = (error: unknown): string =>
  Predicate.hasProperty(error, "message") && typeof error.message === "string" ? error.message : String(error)

export const sort = (error: unknown): Sorted => {
  // The client had no connection to send it on.
  if (/acquire connection|Failed to connect/.test(messageOf(error))) {
    const sorted = sortByCode(codeOf(error))
    return sorted?.reason === "Misconfigured" ? sorted : unavailable
  }
  // Everything else that has no code is trouble with a connection.
  return sortByCode(codeOf(error)) ?? cut
}

const sortByCode = (code: string | undefined): Sorted | undefined =>
  code === undefined ? undefined : byCode.find(([pattern]) => pattern.test(code))?.[1]

/** The transaction met another one, and can be tried again from its start. */
export const isConflict = (error: unknown): boolean =>
  /^(40001|40P01|ER_LOCK_DEADLOCK|SQLITE_BUSY\w*|SQLITE_LOCKED\w*|ER_CHECKREAD)$/.test(codeOf(error) ?? "")

/** The database is somebody else's for the moment: SQLite has one writer. */
export const isBusy = (error: unknown): boolean => /^SQLITE_(BUSY|LOCKED)/.test(codeOf(error) ?? "")

/** A lock was not to be had in the time given. */
export const isLockTimeout = (error: unknown): boolean =>
  /^(55P03|ER_LOCK_WAIT_TIMEOUT|ER_LOCK_NOWAIT)$/.test(codeOf(error) ?? "")

/** One of the members, and not the database or the way there, is why a statement for many failed. */
export const isMembersFault = (error: unknown): boolean => isLockTimeout(error) || sort(error).reason === "Rejected"

/** Such a row exists. */
export const isDuplicate = (error: unknown): boolean =>
  /^(23505|ER_DUP_ENTRY|SQLITE_CONSTRAINT_(PRIMARYKEY|UNIQUE))$/.test(codeOf(error) ?? "")

/**
 * What `mayBeApplied` is never told to have changed nothing, though the statement that failed did: an earlier part of it
 * may have taken effect, or it has to be sent again as it is.
 */
export const storageError =
  (operation: string, method: string, mayBeApplied = false) =>
  (cause: unknown): IdempotencyStorageError => {
    const { applied, reason } = sort(cause)
    return new IdempotencyStorageError({
      operation,
      method,
      reason,
      applied: mayBeApplied ? "unknown" : applied,
      cause
    })
  }
