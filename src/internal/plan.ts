/** From what a caller wrote to what the engine is asked: everything is checked before anything runs. */
import { types } from "node:util"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import { timeToLiveMillis } from "../IdempotencyDomainService.js"
import { type IdempotencyInvalidTtlError, IdempotencyValidationError } from "../IdempotencyError.js"
import { IdempotencyIdentifiers } from "../IdempotencyIdentifiers.js"
import type { AnySchema } from "./codecs.js"
import type { Engine } from "./engine/engine.js"
import type { Flight } from "./engine/flights.js"
import type { ExecutionRequest } from "./engine/request.js"
import { canonicalJson, sha256 } from "./hash.js"
import { operationIssue } from "./identifiers.js"
import { longestTimer } from "./options.js"

/** The options of `withIdempotency`, whatever their types made of them. */
export interface AnyOptions {
  readonly success?: AnySchema | undefined
  readonly error?: AnySchema | undefined
  readonly isOutcomeUnknown?: ((error: unknown) => boolean) | undefined
  readonly fingerprint?: unknown
  readonly scope?: string | undefined
  readonly timeToLive?: Duration.DurationInput | undefined
  readonly lease?: Duration.DurationInput | undefined
  readonly inFlight?: "wait" | "fail" | undefined
  readonly waitTimeout?: Duration.DurationInput | undefined
  readonly guarantee?: "at-least-once" | "at-most-once" | undefined
  readonly onStorageFailure?: "proceed" | "fail" | undefined
  readonly strategy?: "claim" | "optimistic" | undefined
  /**
   * For integrations: surrounds the effect once its key is claimed. What ends it before the effect has started is not
   * the effect's: it is neither recorded nor held, and the key is released.
   */
  readonly around?: ((self: AnyEffect, attempt: number) => AnyEffect) | undefined
}

type AnyEffect = Effect.Effect<unknown, unknown, unknown>

/** A key, or none: then the effect runs unprotected. */
export type KeyInput = string | null | undefined | Option.Option<string>

const defaultLease = 30_000
const defaultWaitTimeout = 30_000

const oneOf = (issues: Array<string>, name: string, value: unknown, ...allowed: ReadonlyArray<string>): void => {
  if (value !== undefined && !allowed.some((one) => one === value)) {
    issues.push(`${name} is neither ${allowed.map((one) => `"${one}"`).join(" nor ")}`)
  }
}

const millisBetween = (
  issues: Array<string>,
  name: string,
  input: Duration.DurationInput | undefined,
  otherwise: number,
  min: number,
  max: number
): number => {
  if (input === undefined && otherwise >= min) return otherwise
  const duration = input === undefined ? Option.some(Duration.millis(otherwise)) : Duration.decodeUnknown(input)
  const millis = Option.match(duration, { onNone: () => Number.NaN, onSome: Duration.toMillis })
  if (!(millis >= min)) issues.push(`the ${name} is not a duration of at least ${min} ms`)
  else if (millis > max) issues.push(`the ${name} is longer than ${max} ms`)
  return Math.ceil(millis)
}

const fingerprintOf = (issues: Array<string>, input: unknown): string | undefined => {
  if (input === undefined) return undefined
  if (types.isUint8Array(input)) return sha256(input)
  return Either.match(canonicalJson(input), {
    onLeft: (why) => {
      issues.push(`the fingerprint has no canonical JSON form: ${why}`)
      return undefined
    },
    onRight: sha256
  })
}

/** The text of a key, `undefined` if there is none, `null` if it is no key at all. */
const keyText = (key: unknown): string | undefined | null => {
  const value = Option.isOption(key) ? Option.getOrUndefined(key) : key
  if (value === null || value === undefined) return undefined
  return typeof value === "string" ? value : null
}

/** The request, `undefined` where the caller has no key; or what is wrong, all of it at once. */
export const plan = (
  engine: Engine,
  operation: unknown,
  key: unknown,
  options: AnyOptions,
  parent: Flight | undefined
): Either.Either<ExecutionRequest | undefined, IdempotencyValidationError | IdempotencyInvalidTtlError> => {
  const name = typeof operation === "string" ? operation.trim() : ""
  const issues: Array<string> = []
  const { guarantee = "at-least-once", inFlight = "wait", strategy = "claim" } = options
  const onStorageFailure = options.onStorageFailure ?? (guarantee === "at-most-once" ? "fail" : "proceed")

  oneOf(issues, "guarantee", guarantee, "at-least-once", "at-most-once")
  oneOf(issues, "inFlight", inFlight, "wait", "fail")
  oneOf(issues, "onStorageFailure", onStorageFailure, "proceed", "fail")
  oneOf(issues, "strategy", strategy, "claim", "optimistic")
  const lease = millisBetween(
    issues,
    "lease",
    options.lease,
    Math.max(defaultLease, 3 * engine.settings.storageTimeout),
    3 * engine.settings.storageTimeout,
    longestTimer
  )
  const waitTimeout = millisBetween(
    issues,
    "waitTimeout",
    options.waitTimeout,
    defaultWaitTimeout,
    0,
    Number.POSITIVE_INFINITY
  )
  const fingerprint = fingerprintOf(issues, options.fingerprint)

  const text = keyText(key)
  if (text === null) issues.push("the key is not a string")
  if (guarantee === "at-most-once") {
    if (text === undefined) issues.push("at-most-once needs a key")
    if (options.onStorageFailure === "proceed") issues.push(`at-most-once cannot keep onStorageFailure "proceed"`)
    if (strategy === "optimistic") issues.push(`at-most-once cannot keep strategy "optimistic"`)
  }

  const identifiers =
    typeof text === "string"
      ? IdempotencyIdentifiers.from({ operation: name, idempotencyKey: text, scope: options.scope })
      : undefined
  if (identifiers === undefined) {
    const issue = operationIssue(name)
    if (issue !== undefined) issues.push(issue)
  } else if (Either.isLeft(identifiers)) {
    issues.push(...identifiers.left.issues)
  }
  if (issues.length > 0) return Either.left(new IdempotencyValidationError({ operation: name, issues }))

  const timeToLive = timeToLiveMillis(engine.domain, name, options.timeToLive)
  if (Either.isLeft(timeToLive)) return Either.left(timeToLive.left)
  if (identifiers === undefined) return Either.right(undefined)
  if (Either.isLeft(identifiers)) return Either.left(identifiers.left)
  return Either.right({
    identifiers: identifiers.right,
    fingerprint,
    timeToLive: timeToLive.right,
    lease,
    inFlight,
    waitTimeout,
    guarantee,
    onStorageFailure,
    strategy,
    parent,
    blockedBy: "Running",
    trace: undefined
  })
}

/** Whether the store has a reason why nothing can be claimed on these terms, or from where the request is. */
export const objectionTo = (
  engine: Engine,
  request: ExecutionRequest
): Effect.Effect<IdempotencyValidationError | undefined> =>
  engine.objection === undefined
    ? Effect.succeed(undefined)
    : Effect.map(engine.objection({ ...engine.settings, ...request }), (issue) =>
        issue === undefined
          ? undefined
          : new IdempotencyValidationError({ operation: request.identifiers.operation, issues: [issue] })
      )
