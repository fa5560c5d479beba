/** Rows of SQL, read a second time by the description of their columns: what a store must make of any row. */
import * as Predicate from "effect/Predicate"
import type { stateColumns } from "../../src/internal/sql/row.js"
import type { Due } from "../support/hostileStores.js"

export type Column = (typeof stateColumns)[number]
export type Row = Readonly<Record<Column, unknown>>

/** Whole numbers, as such or in decimal digits: a column of numbers makes numbers of these. */
const isWhole = (value: unknown, most = Number.MAX_SAFE_INTEGER): boolean => {
  const number = typeof value === "string" && /^-?\d+$/.test(value) ? Number(value) : value
  return typeof number === "number" && Number.isSafeInteger(number) && Math.abs(number) <= most
}

const isInstant = (value: unknown): boolean => isWhole(value, 8.64e15)

/** A column of texts makes texts of numbers, too. */
const isText = (value: unknown): boolean => typeof value === "string" || typeof value === "number"

const isStep = (value: unknown): boolean =>
  Predicate.isRecord(value) && typeof value["name"] === "string" && typeof value["encoded"] === "string"

const areSteps = (value: unknown): boolean => {
  if (value === null) return true
  try {
    const steps: unknown = JSON.parse(String(value))
    return Array.isArray(steps) && steps.every(isStep)
  } catch {
    return false
  }
}

const isGuarantee = (value: unknown): boolean => value === "at-least-once" || value === "at-most-once"
const isReason = (value: unknown): boolean => value === "held" || value === "lapsed"

const isOwned = ({ attempt, created_at, expires_at, fingerprint, token }: Row): boolean =>
  isText(token) &&
  isWhole(attempt) &&
  (fingerprint === null || isText(fingerprint)) &&
  isInstant(created_at) &&
  isInstant(expires_at)

const isClaimed = (row: Row): boolean => isOwned(row) && isWhole(row.retention) && areSteps(row.steps)

const hasTerms = (row: Row): boolean => isClaimed(row) && isGuarantee(row.guarantee) && isWhole(row.unknown_retention)

const read = (row: Row): Due | undefined => {
  const { lease_until, outcome, reason, result, state } = row
  switch (state) {
    case "Released":
      return isClaimed(row) ? { state } : undefined
    case "Processing":
      return hasTerms(row) && isInstant(lease_until) ? { state } : undefined
    case "Unknown":
      return hasTerms(row) && isReason(reason) ? { state } : undefined
    case "Completed":
      if (!isOwned(row)) return undefined
      if (outcome === "Unavailable") return { state, outcome: { _tag: outcome } }
      return (outcome === "Success" || outcome === "Failure") && isText(result)
        ? { state, outcome: { _tag: outcome, encoded: String(result) } }
        : undefined
    default:
      return undefined
  }
}

/** What a store must make of this row. */
export const dueOfRow = (row: Row): Due => {
  const due = read(row) ?? { state: "Corrupted" }
  return due.state !== "Corrupted" && Number(row.expires_at) <= Date.now() ? { state: "Absent" } : due
}
