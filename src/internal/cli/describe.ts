/** What is stored for a key, for people and for programs. Tokens of owners are for neither. */
import * as Either from "effect/Either"
import type { IdempotencyIdentifiers } from "../../IdempotencyIdentifiers.js"
import { overview } from "../listing.js"
import type { Corrupted, Entry, Outcome, Overview, State, Step } from "../protocol.js"
import { decodeJson } from "../storedRecord.js"
import { duration, instant, printable } from "./text.js"

export const stateNames = {
  processing: "Processing",
  unknown: "Unknown",
  completed: "Completed",
  released: "Released",
  corrupted: "Corrupted"
} as const

export type StateName = keyof typeof stateNames

export const identity = ({ idempotencyKey, operation, scope }: IdempotencyIdentifiers) => ({
  operation,
  scope: scope ?? null,
  key: idempotencyKey
})

/** A key in a sentence. */
export const named = ({ idempotencyKey, operation, scope }: IdempotencyIdentifiers): string =>
  printable(`${operation} ${idempotencyKey}${scope === undefined ? "" : ` (scope ${scope})`}`)

/** What the overview of a key is for programs. Durations are in milliseconds. */
export const overviewDocument = (identifiers: IdempotencyIdentifiers, state: Overview | Corrupted, now: number) => {
  const key = identity(identifiers)
  if (state._tag === "Corrupted") return { ...key, state: "corrupted", cause: state.cause }
  const owned = {
    ...key,
    state: state._tag.toLowerCase(),
    attempt: state.attempt,
    createdAt: instant(state.createdAt),
    age: now - state.createdAt,
    expiresAt: instant(state.expiresAt),
    fingerprint: state.fingerprint ?? null
  }
  switch (state._tag) {
    case "Processing":
      return {
        ...owned,
        guarantee: state.guarantee,
        leaseUntil: instant(state.leaseUntil),
        leaseRemaining: Math.max(0, state.leaseUntil - now),
        lapsed: now >= state.leaseUntil
      }
    case "Unknown":
      return { ...owned, guarantee: state.guarantee, reason: state.reason }
    case "Completed":
      return { ...owned, outcome: state.outcome.toLowerCase() }
    case "Released":
      return owned
  }
}

const lease = (leaseUntil: number, now: number): string =>
  now < leaseUntil ? `${duration(leaseUntil - now)} left` : `lapsed ${duration(now - leaseUntil)} ago`

/** What an overview says beside the state's name. */
const detail = (state: Overview | Corrupted, now: number): string => {
  switch (state._tag) {
    case "Corrupted":
      return state.cause
    case "Processing":
      return `lease ${lease(state.leaseUntil, now)}`
    case "Unknown":
      return state.reason
    case "Completed":
      return state.outcome.toLowerCase()
    case "Released":
      return ""
  }
}

/** A state in a sentence. */
export const summary = (state: State, now: number): string => {
  const said = detail(overview(state), now)
  return `${state._tag.toLowerCase()}, attempt ${state.attempt}${said === "" ? "" : `, ${said}`}`
}

export const tableHead = ["OPERATION", "SCOPE", "KEY", "STATE", "ATTEMPT", "AGE", "EXPIRES IN", ""] as const

/** A row of the table. */
export const tableRow = ({ identifiers, state }: Entry, now: number): ReadonlyArray<string> => {
  const instants =
    state._tag === "Corrupted"
      ? ["", "", ""]
      : [String(state.attempt), duration(now - state.createdAt), duration(state.expiresAt - now)]
  return [
    identifiers.operation,
    identifiers.scope ?? "",
    identifiers.idempotencyKey,
    state._tag.toLowerCase(),
    ...instants,
    detail(state, now)
  ].map(printable)
}

/** Results are JSON text, unless somebody else has written them. */
const parsed = (encoded: string) =>
  Either.match(
    Either.try(() => decodeJson(encoded)),
    { onLeft: () => ({ text: encoded }), onRight: (value) => ({ result: value ?? null }) }
  )

const outcomeDocument = (outcome: Outcome, showResult: boolean) =>
  outcome._tag === "Unavailable"
    ? {}
    : { resultLength: outcome.encoded.length, ...(showResult ? parsed(outcome.encoded) : {}) }

const stepDocument = ({ encoded, name }: Step, showResult: boolean) => ({
  name,
  resultLength: encoded.length,
  ...(showResult ? parsed(encoded) : {})
})

/** All there is to know of a key, for programs; results only if they are asked for. */
export const stateDocument = (identifiers: IdempotencyIdentifiers, state: State, now: number, showResult: boolean) => ({
  ...overviewDocument(identifiers, overview(state), now),
  ...(state._tag === "Completed"
    ? outcomeDocument(state.outcome, showResult)
    : { steps: state.steps.map((step) => stepDocument(step, showResult)) })
})

const shown = (encoded: string, showResult: boolean): string =>
  showResult ? (encoded === "" ? "none" : encoded) : `hidden, ${encoded.length} characters: --show-result shows it`

const resultRows = (outcome: Outcome, showResult: boolean): ReadonlyArray<readonly [string, string]> => {
  switch (outcome._tag) {
    case "Success":
      return [["result", shown(outcome.encoded, showResult)]]
    case "Failure":
      return [["failure", shown(outcome.encoded, showResult)]]
    case "Unavailable":
      return [["result", "it ran, and its result could not be stored"]]
  }
}

/** The same for people: what it is called, and what it is. */
export const stateRows = (
  identifiers: IdempotencyIdentifiers,
  state: State,
  now: number,
  showResult: boolean
): ReadonlyArray<readonly [string, string]> => {
  const { idempotencyKey, operation, scope } = identifiers
  const said = detail(overview(state), now)
  const particular: ReadonlyArray<readonly [string, string]> =
    state._tag === "Completed"
      ? resultRows(state.outcome, showResult)
      : state.steps.map(({ encoded, name }, index) => [
          index === 0 ? "steps" : "",
          `${name}: ${shown(encoded, showResult)}`
        ])
  const rows: ReadonlyArray<readonly [string, string]> = [
    ["operation", operation],
    ...(scope === undefined ? [] : [["scope", scope] as const]),
    ["key", idempotencyKey],
    ["state", `${state._tag.toLowerCase()}${said === "" ? "" : `, ${said}`}`],
    ["attempt", String(state.attempt)],
    ["age", `${duration(now - state.createdAt)}, since ${instant(state.createdAt)}`],
    ["expires", `in ${duration(state.expiresAt - now)}, at ${instant(state.expiresAt)}`],
    ...("guarantee" in state ? [["guarantee", state.guarantee] as const] : []),
    ["fingerprint", state.fingerprint ?? "none"],
    ...particular
  ]
  return rows.map(([name, value]) => [name, printable(value)])
}
