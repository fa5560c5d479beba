/**
 * What a case of the contract suite is, and what its body is given.
 *
 * A case must hold on a slow machine against a server with a clock of its own: what must still be live has a lease of
 * minutes; what must have lapsed or expired has a few milliseconds, and `pass` follows, which takes far longer.
 */
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { IdempotencyIdentifiers } from "../../IdempotencyIdentifiers.js"
import { IdempotencyRecord } from "../../IdempotencyRecord.js"
import { IdempotencyRepository } from "../../IdempotencyRepository.js"
import type { Json } from "../../Jsonable.js"
import type * as Protocol from "../protocol.js"

/** How the time of the store is made to pass. */
export type Advance = (duration: Duration.Duration) => Effect.Effect<void>

export interface ContractCase {
  readonly group: string
  readonly name: string
  readonly run: (advance: Advance) => Effect.Effect<void, unknown, IdempotencyRepository>
}

/** Milliseconds of a lease or retention that `pass` outlasts. */
export const moment = 5
const passing = Duration.millis(60)

export const minute = 60_000
export const hour = 60 * minute

/** The lease of an owner that is running. */
export const lease = 10 * minute

export const success = (encoded = '"done"'): Protocol.Outcome => ({ _tag: "Success", encoded })

/** The parts of an identity; those left out have a default. */
export interface Identity {
  readonly operation?: string
  readonly key?: string
  readonly scope?: string
}

export const makeFixture = (repository: Context.Tag.Service<IdempotencyRepository>, advance: Advance) => {
  const { claims } = repository
  const unique = globalThis.crypto.randomUUID()

  /** Identifiers of this run of the case alone: equal inputs give equal identifiers. */
  const ids = ({ key = "", operation = "contract", scope }: Identity = {}): IdempotencyIdentifiers =>
    Either.getOrThrow(IdempotencyIdentifiers.from({ operation, idempotencyKey: `${unique}${key}`, scope }))

  const claim = (of: IdempotencyIdentifiers, token: string, request: Partial<Protocol.ClaimRequest> = {}) =>
    claims.claim(of, {
      token,
      fingerprint: undefined,
      guarantee: "at-least-once",
      lease,
      retention: hour,
      unknownRetention: 2 * hour,
      ...request
    })

  const complete = (of: IdempotencyIdentifiers, token: string, request: Partial<Protocol.CompleteRequest> = {}) =>
    claims.complete(of, { token, outcome: success(), fingerprint: undefined, retention: hour, ...request })

  const renew = (of: IdempotencyIdentifiers, token: string, forMillis = lease) =>
    Effect.map(claims.renew([{ identifiers: of, request: { token, lease: forMillis } }]), ([reply]) => reply)

  const read = (of: IdempotencyIdentifiers) => Effect.map(claims.read([of]), ([state]) => state)

  const record = (
    of: IdempotencyIdentifiers,
    result: Json | undefined,
    timeToLive: Duration.DurationInput = "1 hour"
  ) => IdempotencyRecord.create({ ...of, result, timeToLive })

  const after = (duration: Duration.DurationInput) => advance(Duration.decode(duration))

  /** Leases and retentions of a {@link moment} end. */
  const pass = after(passing)

  return {
    repository,
    claims,
    after,
    pass,
    unique,
    ids,
    claim,
    complete,
    renew,
    read,
    release: (of: IdempotencyIdentifiers, token: string) => claims.release(of, { token }),
    hold: (of: IdempotencyIdentifiers, token: string) => claims.hold(of, { token }),
    saveStep: (of: IdempotencyIdentifiers, token: string, name: string, encoded = '"step"') =>
      claims.saveStep(of, { token, name, encoded }),
    record,
    save: (of: IdempotencyIdentifiers, result: Json | undefined) =>
      Effect.tap(record(of, result), (made) => repository.save(made)),
    /** The key has an owner that stopped answering. */
    lapse: (of: IdempotencyIdentifiers, token: string, request: Partial<Protocol.ClaimRequest> = {}) =>
      Effect.zipLeft(claim(of, token, { lease: moment, ...request }), pass)
  }
}

export type Fixture = ReturnType<typeof makeFixture>

/** The cases of one group. */
export const group =
  (group: string) =>
  (cases: {
    readonly [name: string]: (fixture: Fixture) => Effect.Effect<void, unknown>
  }): ReadonlyArray<ContractCase> =>
    Object.entries(cases).map(([name, body]) => ({
      group,
      name,
      run: (advance) =>
        Effect.flatMap(IdempotencyRepository, (repository) =>
          Effect.suspend(() => body(makeFixture(repository, advance)))
        )
    }))

/** A record as plain data. */
export const plain = (record: IdempotencyRecord) => ({
  ...record,
  createdAt: record.createdAt.epochMillis,
  expiresAt: record.expiresAt.epochMillis
})
