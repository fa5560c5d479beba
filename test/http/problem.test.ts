/** Which problem stands for which error. */
import { describe, expect, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import {
  IdempotencyFingerprintMismatchError,
  IdempotencyInFlightError,
  IdempotencyOutcomeUnknownError,
  IdempotencyResultUnavailableError,
  IdempotencyStorageError
} from "../../src/IdempotencyError.js"
import { problemOfBegin, problemOfSettle } from "../../src/internal/http/problem.js"

const about = { operation: "o", idempotencyKey: "k" }
const retryAfter = Duration.seconds(3)
const storage = new IdempotencyStorageError({ operation: "o", method: "claim", reason: "Timeout", applied: "unknown" })
const inFlight = new IdempotencyInFlightError({ ...about, reason: "Running", retryAfter })
const mismatch = new IdempotencyFingerprintMismatchError(about)

describe("a problem", () => {
  it("before a request is run", () => {
    const problem = (error: Parameters<typeof problemOfBegin>[0]) => problemOfBegin(error, Duration.seconds(5))
    expect(problem(mismatch)).toEqual({ code: "idempotency_key_reused" })
    expect(problem(inFlight)).toEqual({ code: "idempotency_request_in_flight", retryAfter })
    expect(problem(new IdempotencyOutcomeUnknownError({ ...about, attempt: 1 }))).toEqual({
      code: "idempotency_outcome_unknown"
    })
    expect(problem(new IdempotencyResultUnavailableError(about))).toEqual({ code: "idempotency_result_not_replayable" })
    expect(problem(storage)).toEqual({ code: "idempotency_storage_unavailable", retryAfter: Duration.seconds(5) })
  })

  it("after it was run: what may have happened is not said to be free to try again", () => {
    expect(problemOfSettle(mismatch)).toEqual({ code: "idempotency_key_reused" })
    expect(problemOfSettle(inFlight)).toEqual({ code: "idempotency_request_in_flight", retryAfter })
    expect(problemOfSettle(storage)).toEqual({ code: "idempotency_outcome_unknown" })
  })
})
