/** What a request is refused with: `application/problem+json` (RFC 9457). */
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Duration from "effect/Duration"
import type { BeginError, SettleError } from "../engine/request.js"

/** What the problem is, for programs. */
export type ProblemCode =
  | "idempotency_key_missing"
  | "idempotency_key_invalid"
  | "idempotency_key_reused"
  | "idempotency_request_in_flight"
  | "idempotency_outcome_unknown"
  | "idempotency_result_not_replayable"
  | "idempotency_storage_unavailable"
  | "idempotency_request_too_large"
  | "idempotency_request_unreadable"

interface Definition {
  readonly status: number
  readonly title: string
  readonly detail: string
  /** Whether the same request, sent again later, may be answered otherwise. */
  readonly retryable: boolean
}

const definitions: { readonly [Code in ProblemCode]: Definition } = {
  idempotency_key_missing: {
    status: 400,
    title: "Idempotency-Key is missing",
    detail: "This operation needs a key: send one that no other request has, and send it again with every retry.",
    retryable: false
  },
  idempotency_key_invalid: {
    status: 400,
    title: "Idempotency-Key is invalid",
    detail: "Send one string of 1 to 255 printable ASCII characters.",
    retryable: false
  },
  idempotency_key_reused: {
    status: 422,
    title: "Idempotency-Key is already used",
    detail: "This key was sent with another request: a new request needs a new key.",
    retryable: false
  },
  idempotency_request_in_flight: {
    status: 409,
    title: "A request is outstanding for this Idempotency-Key",
    detail: "The first request with this key is still being processed: send this one again later.",
    retryable: true
  },
  idempotency_outcome_unknown: {
    status: 409,
    title: "The outcome of this request is unknown",
    detail:
      "A request with this key may have taken effect, and is not processed again: find out before sending it with a new key.",
    retryable: false
  },
  idempotency_result_not_replayable: {
    status: 409,
    title: "The result of this request cannot be replayed",
    detail:
      "A request with this key was processed, and is not processed again; its response was not kept: ask for its result otherwise.",
    retryable: false
  },
  idempotency_storage_unavailable: {
    status: 503,
    title: "Idempotency storage is unavailable",
    detail: "The request was not processed: send it again later.",
    retryable: true
  },
  idempotency_request_too_large: {
    status: 413,
    title: "The request is too large",
    detail: "Requests with an idempotency key may not be so large: send less at once.",
    retryable: false
  },
  idempotency_request_unreadable: {
    status: 400,
    title: "The request cannot be read",
    detail: "The request's content did not arrive whole, or has no fingerprint: send it whole, and well-formed.",
    retryable: false
  }
}

export interface Problem {
  readonly code: ProblemCode
  /** Before the usual one. Never repeats what the client sent. */
  readonly detail?: string | undefined
  readonly retryAfter?: Duration.Duration | undefined
}

/** Whole seconds, at least 1. */
const inSeconds = (duration: Duration.Duration): string =>
  `${Math.max(1, Math.ceil(Math.min(Duration.toSeconds(duration), Number.MAX_SAFE_INTEGER)))}`

export const problemResponse = (
  { code, detail, retryAfter }: Problem,
  typeOf: (code: ProblemCode) => string
): HttpServerResponse.HttpServerResponse => {
  const definition = definitions[code]
  const body = {
    type: typeOf(code),
    title: definition.title,
    status: definition.status,
    detail: detail === undefined ? definition.detail : `${detail} ${definition.detail}`,
    code,
    retryable: definition.retryable
  }
  return HttpServerResponse.text(JSON.stringify(body), {
    status: definition.status,
    contentType: "application/problem+json",
    ...(retryAfter === undefined ? {} : { headers: { "retry-after": inSeconds(retryAfter) } })
  })
}

/** Why nothing was run for this request. */
export const problemOfBegin = (error: BeginError, storageRetryAfter: Duration.Duration): Problem => {
  switch (error._tag) {
    case "IdempotencyFingerprintMismatchError":
      return { code: "idempotency_key_reused" }
    case "IdempotencyInFlightError":
      return { code: "idempotency_request_in_flight", retryAfter: error.retryAfter }
    case "IdempotencyOutcomeUnknownError":
      return { code: "idempotency_outcome_unknown" }
    case "IdempotencyResultUnavailableError":
      return { code: "idempotency_result_not_replayable" }
    case "IdempotencyStorageError":
      return { code: "idempotency_storage_unavailable", retryAfter: storageRetryAfter }
  }
}

/** Why the response to a request that was run is not given: it is not the one that counts, or not recorded. */
export const problemOfSettle = (error: SettleError): Problem => {
  switch (error._tag) {
    case "IdempotencyFingerprintMismatchError":
      return { code: "idempotency_key_reused" }
    case "IdempotencyInFlightError":
      return { code: "idempotency_request_in_flight", retryAfter: error.retryAfter }
    case "IdempotencyStorageError":
      return { code: "idempotency_outcome_unknown" }
  }
}
