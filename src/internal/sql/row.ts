/** A state as a row of the table, and back. */
import * as Predicate from "effect/Predicate"
import { type Corrupted, type Guarantee, isInstant, type Outcome, type State, type Step } from "../protocol.js"

/** The columns of a state, after those of the identity and the version. */
export const stateColumns = [
  "state",
  "token",
  "attempt",
  "fingerprint",
  "created_at",
  "expires_at",
  "lease_until",
  "guarantee",
  "reason",
  "retention",
  "unknown_retention",
  "steps",
  "outcome",
  "result"
] as const

type Column = (typeof stateColumns)[number]
type Value = string | number | null

/** Instants and durations are whole; three centuries are the longest. */
const whole = (millis: number): number => Math.min(Math.trunc(millis), 1e13)

/** The values of {@link stateColumns}. */
export const toRow = (state: State): ReadonlyArray<Value> => {
  const values: Record<Column, Value> = {
    state: state._tag,
    token: state.token,
    attempt: state.attempt,
    fingerprint: state.fingerprint ?? null,
    created_at: whole(state.createdAt),
    expires_at: whole(state.expiresAt),
    lease_until: null,
    guarantee: null,
    reason: null,
    retention: null,
    unknown_retention: null,
    steps: null,
    outcome: null,
    result: null
  }
  if (state._tag === "Completed") {
    values.outcome = state.outcome._tag
    values.result = state.outcome._tag === "Unavailable" ? null : state.outcome.encoded
  } else {
    values.retention = whole(state.retention)
    values.steps = state.steps.length === 0 ? null : JSON.stringify(state.steps)
  }
  if (state._tag === "Processing" || state._tag === "Unknown") {
    values.guarantee = state.guarantee
    values.unknown_retention = whole(state.unknownRetention)
  }
  if (state._tag === "Processing") values.lease_until = whole(state.leaseUntil)
  if (state._tag === "Unknown") values.reason = state.reason
  return stateColumns.map((column) => values[column])
}

export type Row = Readonly<Record<string, unknown>>

/** Thrown by what reads a row, and turned into `Corrupted`. */
class Unreadable extends Error {}

const refuse = (column: Column): never => {
  throw new Unreadable(`the column ${column} does not hold what this version writes`)
}

const textOf = (row: Row, column: Column): string => {
  const value = row[column]
  return typeof value === "string" ? value : refuse(column)
}

const digits = /^-?\d+$/

/** What a driver makes of a 64-bit integer: a number, a bigint, or decimal digits. No text is a number besides. */
export const integerOf = (value: unknown): number | undefined => {
  const isWritten = typeof value === "bigint" || (typeof value === "string" && digits.test(value))
  const number = isWritten ? Number(value) : value
  return typeof number === "number" && Number.isSafeInteger(number) ? number : undefined
}

const numberOf = (row: Row, column: Column): number => integerOf(row[column]) ?? refuse(column)

/** Epoch milliseconds, as far as dates go. */
const instantOf = (row: Row, column: Column): number => {
  const instant = numberOf(row, column)
  return isInstant(instant) ? instant : refuse(column)
}

const guaranteeOf = (row: Row): Guarantee => {
  const value = row["guarantee"]
  return value === "at-least-once" || value === "at-most-once" ? value : refuse("guarantee")
}

const isStep = (value: unknown): value is Step =>
  Predicate.hasProperty(value, "name") &&
  typeof value.name === "string" &&
  Predicate.hasProperty(value, "encoded") &&
  typeof value.encoded === "string"

const stepsOf = (row: Row): ReadonlyArray<Step> => {
  const text = row["steps"]
  if (text === null) return []
  let steps: unknown
  try {
    steps = JSON.parse(textOf(row, "steps"))
  } catch {
    return refuse("steps")
  }
  return Array.isArray(steps) && steps.every(isStep)
    ? steps.map(({ encoded, name }) => ({ name, encoded }))
    : refuse("steps")
}

const outcomeOf = (row: Row): Outcome => {
  const tag = row["outcome"]
  if (tag === "Unavailable") return { _tag: tag }
  return tag === "Success" || tag === "Failure" ? { _tag: tag, encoded: textOf(row, "result") } : refuse("outcome")
}

const stateOf = (row: Row): State => {
  const fingerprint = row["fingerprint"]
  const owned = {
    token: textOf(row, "token"),
    attempt: numberOf(row, "attempt"),
    fingerprint: fingerprint === null ? undefined : textOf(row, "fingerprint"),
    createdAt: instantOf(row, "created_at"),
    expiresAt: instantOf(row, "expires_at")
  }
  const tag = row["state"]
  if (tag === "Completed") return { _tag: tag, ...owned, outcome: outcomeOf(row) }
  const claimed = { ...owned, retention: numberOf(row, "retention"), steps: stepsOf(row) }
  if (tag === "Released") return { _tag: tag, ...claimed }
  const terms = () => ({
    ...claimed,
    guarantee: guaranteeOf(row),
    unknownRetention: numberOf(row, "unknown_retention")
  })
  if (tag === "Processing") return { _tag: tag, ...terms(), leaseUntil: instantOf(row, "lease_until") }
  if (tag !== "Unknown") return refuse("state")
  const reason = row["reason"]
  return { _tag: tag, ...terms(), reason: reason === "held" || reason === "lapsed" ? reason : refuse("reason") }
}

/** The state of a row. */
export const fromRow = (row: Row): State | Corrupted => {
  try {
    return stateOf(row)
  } catch (error) {
    if (error instanceof Unreadable) return { _tag: "Corrupted", cause: error.message }
    throw error
  }
}
