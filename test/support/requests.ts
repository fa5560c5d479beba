/** Identifiers and claims for tests of a store's verbs. */
import * as Either from "effect/Either"
import { IdempotencyIdentifiers } from "../../src/IdempotencyIdentifiers.js"
import type { ClaimRequest } from "../../src/internal/protocol.js"

export const ids = (idempotencyKey: string, operation = "payment.charge", scope?: string): IdempotencyIdentifiers =>
  Either.getOrThrow(IdempotencyIdentifiers.from({ operation, idempotencyKey, scope }))

let count = 0
/** Identifiers that no other test uses. */
export const freshIds = (): IdempotencyIdentifiers => ids(`key-${process.pid}-${count++}`)

export const minute = 60_000

export const claimBy = (token: string, terms: Partial<ClaimRequest> = {}): ClaimRequest => ({
  token,
  fingerprint: undefined,
  guarantee: "at-least-once",
  lease: minute,
  retention: 30 * minute,
  unknownRetention: 60 * minute,
  ...terms
})
