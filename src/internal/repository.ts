import * as Array from "effect/Array"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { identity, pipe } from "effect/Function"
import * as HashMap from "effect/HashMap"
import * as HashSet from "effect/HashSet"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import {
  IdempotencyInFlightError,
  IdempotencyKeyCollisionError,
  IdempotencyRecordExpiredError,
  IdempotencyStorageError,
  IdempotencyValidationError
} from "../IdempotencyError.js"
import type { IdempotencyIdentifiers } from "../IdempotencyIdentifiers.js"
import { IdempotencyMetrics } from "../IdempotencyMetrics.js"
import type { IdempotencyRecord } from "../IdempotencyRecord.js"
import type { IdempotencyRepository } from "../IdempotencyRepository.js"
import { followed, nowIn, startIn } from "./call.js"
import * as eager from "./eager.js"
import { isJson } from "./hash.js"
import { longestPage } from "./listing.js"
import { metricsFromBeneath } from "./policyAndMetrics.js"
import type { Driver, Outcome } from "./protocol.js"
import { readStored } from "./protocol.js"
import { encodeJson, recordOf, resultUnavailable, toInsert } from "./storedRecord.js"
import { makeTokens } from "./tokens.js"
import { inStorageSpan, isTraced } from "./tracing.js"
import { unfailingMetrics } from "./unfailing.js"

type Repository = Context.Tag.Service<IdempotencyRepository>
type Metrics = Context.Tag.Service<IdempotencyMetrics>

/** What a call is about: an operation, or those of its many keys. */
type About = string | ReadonlyArray<{ readonly operation: string }>

/** Measures by each operation: the names of several, joined, would be a tag without bounds. */
const forEachOperation = (about: About, measure: (operation: string) => Effect.Effect<void>): Effect.Effect<void> =>
  typeof about === "string"
    ? measure(about)
    : Effect.forEach(Array.dedupe(about.map(({ operation }) => operation)), measure, { discard: true })

const measured =
  (metrics: Metrics) =>
  (about: About, method: string) =>
  <A>(call: Effect.Effect<A, IdempotencyStorageError>): Effect.Effect<A, IdempotencyStorageError> =>
    followed(call, (fiber) => {
      const start = nowIn(fiber)
      const latency = () => {
        const duration = Duration.millis(nowIn(fiber) - start)
        return forEachOperation(about, (operation) =>
          startIn(fiber, metrics.recordLatency(operation, method, duration))
        )
      }
      return (end) =>
        eager.tapBoth(end, {
          onFailure: (error) =>
            Effect.zipRight(
              latency(),
              forEachOperation(about, (operation) => metrics.recordError(operation, error.reason))
            ),
          onSuccess: latency
        })
    })

/** The operation that many identifiers share, or all of their names. */
const operationOf = (about: About): string =>
  typeof about === "string" ? about : Array.dedupe(about.map(({ operation }) => operation)).join(",")

const outcomeOf = (
  operation: string,
  resolution: IdempotencyRepository.Resolution
): Either.Either<Outcome, IdempotencyValidationError> => {
  if (resolution._tag === "Unavailable") return Either.right(resolution)
  const value = resolution._tag === "Success" ? resolution.result : resolution.error
  return value === undefined || isJson(value)
    ? Either.right({ _tag: resolution._tag, encoded: encodeJson(value) })
    : Either.left(new IdempotencyValidationError({ operation, issues: ["the result is not JSON"] }))
}

export const makeRepository = (
  driver: Driver,
  options: IdempotencyRepository.Options = {}
): Effect.Effect<Repository> =>
  Effect.map(Effect.scoped(Layer.build(metricsFromBeneath)), (beneath): Repository => {
    const metrics = unfailingMetrics(Context.get(beneath, IdempotencyMetrics))
    const measure = measured(metrics)
    const tokens = makeTokens()
    const timeout = Duration.decode(options.operationTimeout ?? "1 second")

    const spanned =
      (about: About, method: string) =>
      <A>(call: Effect.Effect<A, IdempotencyStorageError>): Effect.Effect<A, IdempotencyStorageError> =>
        Effect.withFiberRuntime((fiber) =>
          isTraced(fiber) ? inStorageSpan(undefined, driver.name, operationOf(about), method, call, identity) : call
        )

    /** A call on behalf of a user: measured, and never waiting on the client library alone. */
    const bounded =
      (about: About, method: string, applied: "no" | "unknown") =>
      <A>(call: Effect.Effect<A, IdempotencyStorageError>): Effect.Effect<A, IdempotencyStorageError> =>
        pipe(
          // A client that does not let itself be interrupted is not waited for.
          Effect.disconnect(call),
          Effect.timeoutFail({
            duration: timeout,
            onTimeout: () =>
              new IdempotencyStorageError({ operation: operationOf(about), method, reason: "Timeout", applied })
          }),
          measure(about, method),
          spanned(about, method)
        )

    const read = (method: string, identifiers: ReadonlyArray<IdempotencyIdentifiers>) =>
      pipe(driver.read(identifiers), bounded(identifiers, method, "no"))

    /** For who decides by what is stored: another process may have made a copy old. */
    const readPastCopies = (method: string, identifiers: ReadonlyArray<IdempotencyIdentifiers>) =>
      pipe(readStored(driver, identifiers), bounded(identifiers, method, "no"))

    const refuseExpired = (records: ReadonlyArray<IdempotencyRecord>, now: number) => {
      const expired = records.find((record) => record.expiresAt.epochMillis <= now)
      return expired === undefined
        ? Effect.void
        : Effect.fail(
            new IdempotencyRecordExpiredError({
              operation: expired.operation,
              idempotencyKey: expired.idempotencyKey
            })
          )
    }

    const collision = (records: ReadonlyArray<IdempotencyRecord>) => {
      const keys = records.map((record) => record.idempotencyKey)
      return Array.isNonEmptyArray(keys)
        ? Effect.zipRight(
            Effect.forEach(records, ({ operation }) => metrics.recordCollision(operation), { discard: true }),
            Effect.fail(new IdempotencyKeyCollisionError({ operation: operationOf(records), keys }))
          )
        : Effect.void
    }

    const insert = (records: ReadonlyArray<IdempotencyRecord>, method: string, allOrNothing: boolean) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) => {
        const token = tokens.next()
        const [first, duplicates] = withoutDuplicates(records)
        const requests = first.map((record) => ({
          identifiers: record.identifiers,
          request: toInsert(record, token, now)
        }))
        // For each of the first, whether something is in its way. Of duplicates, all or nothing is nothing.
        const blocked =
          requests.length === 0
            ? Effect.succeed([])
            : allOrNothing && duplicates.length > 0
              ? Effect.map(
                  readPastCopies(
                    method,
                    first.map((record) => record.identifiers)
                  ),
                  Array.map((state) => state !== undefined && state._tag !== "Released")
                )
              : Effect.map(
                  pipe(driver.insert(requests, { allOrNothing }), bounded(records, method, "unknown")),
                  Array.map(({ _tag }) => _tag !== "Inserted")
                )
        return pipe(
          refuseExpired(records, now),
          Effect.zipRight(blocked),
          Effect.flatMap((inTheWay) => collision([...first.filter((_, index) => inTheWay[index]), ...duplicates]))
        )
      })

    const remove = (method: string, identifiers: ReadonlyArray<IdempotencyIdentifiers>) =>
      identifiers.length === 0
        ? Effect.succeed([])
        : pipe(driver.remove(identifiers), bounded(identifiers, method, "unknown"))

    const inFlight = ({ idempotencyKey, operation }: IdempotencyIdentifiers, remaining: number) =>
      Effect.fail(
        new IdempotencyInFlightError({
          operation,
          idempotencyKey,
          reason: "Running",
          retryAfter: Duration.millis(remaining)
        })
      )

    return {
      get: (identifiers) =>
        pipe(
          read("get", [identifiers]),
          Effect.flatMap(([state]) => recordOf(identifiers, state)),
          Effect.tap((record) =>
            Option.isSome(record) ? metrics.recordHit(identifiers.operation) : metrics.recordMiss(identifiers.operation)
          )
        ),

      save: (record) => insert([record], "save", false),

      delete: (identifiers) => Effect.map(remove("delete", [identifiers]), ([was]) => was === true),

      getMany: (identifiers) => {
        const wanted = Array.fromIterable(HashSet.fromIterable(identifiers))
        if (wanted.length === 0) return Effect.succeed(HashMap.empty())
        return pipe(
          read("getMany", wanted),
          Effect.flatMap((states) =>
            Effect.forEach(wanted, (ids, index) =>
              Effect.map(recordOf(ids, states[index]), (record) => [ids, record] as const)
            )
          ),
          Effect.map(Array.filterMap(([ids, record]) => Option.map(record, (found) => [ids, found] as const))),
          Effect.tap((found) =>
            forEachOperation(wanted, (operation) => {
              const among = ({ operation: of }: IdempotencyIdentifiers) => of === operation
              const hits = found.filter(([ids]) => among(ids)).length
              const misses = wanted.filter(among).length - hits
              return Effect.zipRight(
                hits === 0 ? Effect.void : metrics.recordBulkHit(operation, hits),
                misses === 0 ? Effect.void : metrics.recordBulkMiss(operation, misses)
              )
            })
          ),
          Effect.map(HashMap.fromIterable)
        )
      },

      saveMany: (records, { rollbackOnError = false } = {}) => {
        const all = Array.fromIterable(records)
        return rollbackOnError && !driver.atomicTogether(all.map((record) => record.identifiers))
          ? Effect.fail(
              new IdempotencyValidationError({
                operation: operationOf(all),
                issues: ["rollbackOnError cannot be kept across the slots of a cluster"]
              })
            )
          : insert(all, "saveMany", rollbackOnError)
      },

      deleteMany: (identifiers) =>
        Effect.map(
          remove("deleteMany", Array.fromIterable(HashSet.fromIterable(identifiers))),
          (removed) => removed.filter(Boolean).length
        ),

      inspect: (identifiers) =>
        Effect.flatMap(readPastCopies("inspect", [identifiers]), ([state]) =>
          state?._tag === "Corrupted"
            ? Effect.fail(resultUnavailable(identifiers, state.cause))
            : Effect.succeed(Option.fromNullable(state))
        ),

      reset: (identifiers, { force = false } = {}) =>
        pipe(
          driver.reset(identifiers, { force }),
          bounded(identifiers.operation, "reset", "unknown"),
          Effect.flatMap((reply) =>
            reply._tag === "InFlight" ? inFlight(identifiers, reply.remaining) : Effect.succeed(reply._tag === "Reset")
          )
        ),

      resolve: (identifiers, resolution) =>
        Effect.flatMap(outcomeOf(identifiers.operation, resolution), (outcome) =>
          pipe(
            driver.resolve(identifiers, { token: tokens.next(), outcome }),
            bounded(identifiers.operation, "resolve", "unknown"),
            Effect.flatMap((reply) =>
              reply._tag === "InFlight"
                ? inFlight(identifiers, reply.remaining)
                : Effect.succeed(reply._tag === "Resolved")
            )
          )
        ),

      list: ({ cursor, keyPrefix, limit = 100, operation, state } = {}) => {
        const about = operation ?? ""
        const refused = (issue: string) =>
          Effect.fail(new IdempotencyValidationError({ operation: about, issues: [issue] }))
        if (driver.list === undefined) return refused(`the ${driver.name} store cannot list its keys`)
        if (!(Number.isSafeInteger(limit) && limit >= 1 && limit <= longestPage)) {
          return refused(`limit is not a whole number between 1 and ${longestPage}`)
        }
        return pipe(
          driver.list({ cursor, keyPrefix, limit, operation, state }),
          bounded(about, "list", "no"),
          Effect.flatMap((reply) =>
            reply._tag === "BadCursor" ? refused("the cursor is not one of this store") : Effect.succeed(reply)
          )
        )
      },

      claims: {
        claim: (ids, request) => measure(ids.operation, "claim")(driver.claim(ids, request)),
        complete: (ids, request) => measure(ids.operation, "complete")(driver.complete(ids, request)),
        release: (ids, request) => measure(ids.operation, "release")(driver.release(ids, request)),
        hold: (ids, request) => measure(ids.operation, "hold")(driver.hold(ids, request)),
        saveStep: (ids, request) => measure(ids.operation, "saveStep")(driver.saveStep(ids, request)),
        renew: (leases) =>
          measure(
            leases.map(({ identifiers }) => identifiers),
            "renew"
          )(driver.renew(leases)),
        read: (identifiers) => measure(identifiers, "read")(driver.read(identifiers)),
        readStored: (identifiers) => measure(identifiers, "read")(readStored(driver, identifiers)),
        readCopy: driver.readCopy,
        changes: driver.changes,
        objection: driver.objection,
        partOf: driver.partOf
      },

      driver
    }
  })

/** Each identity's first record, and the records that came after it. */
const withoutDuplicates = (
  records: ReadonlyArray<IdempotencyRecord>
): readonly [first: ReadonlyArray<IdempotencyRecord>, duplicates: ReadonlyArray<IdempotencyRecord>] => {
  let seen = HashSet.empty<IdempotencyIdentifiers>()
  const [duplicates, first] = Array.partition(records, (record) => {
    const isNew = !HashSet.has(seen, record.identifiers)
    seen = HashSet.add(seen, record.identifiers)
    return isNew
  })
  return [first, duplicates]
}
