/** The record of a settled state, and back. */
import * as DateTime from "effect/DateTime"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import { IdempotencyResultUnavailableError } from "../IdempotencyError.js"
import type { IdempotencyIdentifiers } from "../IdempotencyIdentifiers.js"
import { IdempotencyRecord } from "../IdempotencyRecord.js"
import type { Json } from "../Jsonable.js"
import type { Completed, Corrupted, InsertRequest, State } from "./protocol.js"

/** JSON text, where the empty text is `undefined`. */
export const encodeJson = (value: Json | undefined): string => (value === undefined ? "" : JSON.stringify(value))
export const decodeJson = (text: string): Json | undefined => (text === "" ? undefined : JSON.parse(text))

export const resultUnavailable = (
  { idempotencyKey, operation }: { readonly idempotencyKey: string; readonly operation: string },
  cause?: unknown
): IdempotencyResultUnavailableError => new IdempotencyResultUnavailableError({ operation, idempotencyKey, cause })

/** A caller's schema does not fit what was recorded. What it says of it would repeat the result. */
export const undecodable = (about: Parameters<typeof resultUnavailable>[0]): IdempotencyResultUnavailableError =>
  resultUnavailable(about, new Error("the schema that this caller gives does not decode what was recorded"))

const outcomeNames = { Success: "success", Failure: "failure", Unavailable: "unavailable" } as const

const toRecord = (identifiers: IdempotencyIdentifiers, state: Completed): IdempotencyRecord =>
  new IdempotencyRecord({
    ...identifiers,
    outcome: outcomeNames[state.outcome._tag],
    result: state.outcome._tag === "Unavailable" ? undefined : decodeJson(state.outcome.encoded),
    createdAt: DateTime.unsafeMake(state.createdAt),
    expiresAt: DateTime.unsafeMake(state.expiresAt),
    fingerprint: state.fingerprint,
    attempt: state.attempt
  })

/** The settled record of a state; `None` for every other state; an error if it cannot be read. */
export const recordOf = (
  identifiers: IdempotencyIdentifiers,
  state: State | Corrupted | undefined
): Either.Either<Option.Option<IdempotencyRecord>, IdempotencyResultUnavailableError> => {
  if (state?._tag === "Corrupted") return Either.left(resultUnavailable(identifiers, state.cause))
  if (state?._tag !== "Completed") return Either.right(Option.none())
  return Either.try({
    try: () => Option.some(toRecord(identifiers, state)),
    // What a parser says would repeat the result.
    catch: () => resultUnavailable(identifiers, new Error("what is stored is not a record"))
  })
}

export const toInsert = (record: IdempotencyRecord, token: string, now: number): InsertRequest => {
  const encoded = encodeJson(record.result)
  return {
    token,
    outcome:
      record.outcome === "success"
        ? { _tag: "Success", encoded }
        : record.outcome === "failure"
          ? { _tag: "Failure", encoded }
          : { _tag: "Unavailable" },
    fingerprint: record.fingerprint,
    attempt: record.attempt,
    createdAt: record.createdAt.epochMillis,
    expiresAt: record.expiresAt.epochMillis,
    retention: record.expiresAt.epochMillis - now
  }
}
