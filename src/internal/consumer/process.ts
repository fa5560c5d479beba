/** One message: its id becomes a key, its handler a protected effect, and the outcome one of two. */
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import * as Option from "effect/Option"
import { MessageOutcome } from "../../consumer/MessageOutcome.js"
import { MessagePoisonedError } from "../../consumer/MessagePoisonedError.js"
import { IdempotencyValidationError } from "../../IdempotencyError.js"
import { IdempotencyKey } from "../../IdempotencyKey.js"
import { execute } from "../execute.js"
import { executeTransaction } from "../executeTransaction.js"
import { keyIssue } from "../identifiers.js"
import type { AnyOptions, KeyInput } from "../plan.js"
import type { Telling } from "../results.js"

export type AnyEffect<A = unknown> = Effect.Effect<A, unknown, unknown>

/** The options of `process`, whatever their types made of them. */
export interface AnyOneOptions extends Omit<AnyOptions, "around" | "strategy"> {
  readonly onMissingId?: "refuse" | "run" | undefined
  readonly maxAttempts?: number | undefined
  readonly transactional?: boolean | undefined
}

/** What the handler waits for once its message is claimed. */
export type Admission = <A>(handler: AnyEffect<A>) => AnyEffect<A>

/* From the id of a message, which may be any string, to a key. */

/** What a hashed id looks like. */
const hashed = /^[\w-]{43}$/

/**
 * The id itself where it is a key as it stands, else its hash. An id that looks like a hash is hashed too, so that no
 * message can pose as another; so is one with outer white space, which a key would lose.
 */
const messageKey = (messageId: string): IdempotencyKey =>
  messageId === messageId.trim() && !hashed.test(messageId) && keyIssue(messageId) === undefined
    ? // What a key has to be was just checked.
      (messageId as IdempotencyKey)
    : IdempotencyKey.fromUntrusted("message", messageId)

/** The id as it was given, `undefined` where there is none. A blank id tells no messages apart: it is none. */
const givenId = (input: KeyInput): string | undefined => {
  const id = Option.isOption(input) ? Option.getOrUndefined(input) : input
  return id === null || (typeof id === "string" && id.trim() === "") ? undefined : id
}

export const keyOf = (input: KeyInput): Option.Option<IdempotencyKey> => {
  const id = givenId(input)
  return typeof id === "string" ? Option.some(messageKey(id)) : Option.none()
}

/* What is wrong with the options that the engine does not know. */

/** What is wrong with a count that is to be at least one. */
export const countIssue = (name: string, count: unknown): string | undefined =>
  typeof count === "number" && Number.isSafeInteger(count) && count >= 1
    ? undefined
    : `${name} is not an integer of at least 1`

/** What a transaction decides by itself. */
const withoutMeaning = ["error", "isOutcomeUnknown", "lease", "guarantee", "onStorageFailure"] as const

const issuesOf = (options: AnyOneOptions, id: string | undefined): Array<string> => {
  const { maxAttempts, onMissingId = "refuse", transactional } = options
  const issues: Array<string> = []
  if (transactional === true) {
    const given = withoutMeaning.filter((name) => options[name] !== undefined)
    issues.push(...given.map((name) => `${name} has no meaning in a transaction`))
  }
  if (onMissingId !== "refuse" && onMissingId !== "run") issues.push(`onMissingId is neither "refuse" nor "run"`)
  const issue = maxAttempts === undefined ? undefined : countIssue("maxAttempts", maxAttempts)
  if (issue !== undefined) issues.push(issue)
  if (id === undefined && onMissingId !== "run") issues.push("the message has no id")
  else if (id !== undefined && typeof id !== "string") issues.push("the id of the message is not a string")
  return issues
}

export const invalid = (consumer: string, issues: ReadonlyArray<string>): IdempotencyValidationError =>
  new IdempotencyValidationError({ operation: String(consumer).trim(), issues })

const processed = (value: unknown): MessageOutcome<unknown> => MessageOutcome.Processed({ value })

const telling: Telling<MessageOutcome<unknown>> = {
  executed: processed,
  unprotected: processed,
  replayed: (value) => MessageOutcome.Duplicate({ value })
}

export const processWith = (
  handler: AnyEffect,
  consumer: string,
  messageId: KeyInput,
  options: AnyOneOptions = {},
  admission: Admission = identity
): AnyEffect<MessageOutcome<unknown>> =>
  Effect.suspend(() => {
    const id = givenId(messageId)
    const issues = issuesOf(options, id)
    if (issues.length > 0) return Effect.fail(invalid(consumer, issues))
    const { maxAttempts, onMissingId: _, transactional, ...others } = options
    const unlessPoisoned = (self: AnyEffect, attempt: number): AnyEffect =>
      id !== undefined && maxAttempts !== undefined && attempt > maxAttempts
        ? Effect.fail(new MessagePoisonedError({ operation: consumer.trim(), messageId: id, attempt, maxAttempts }))
        : self
    // A broker delivers again: nobody has to wait.
    const inFlight = options.inFlight ?? "fail"
    if (id !== undefined && transactional === true) {
      const countsAttempt = maxAttempts !== undefined
      const policy = { ...others, inFlight, countsAttempt, around: unlessPoisoned }
      // Whoever waits to be admitted holds no connection meanwhile.
      return admission(executeTransaction(handler, consumer, messageKey(id), policy, telling))
    }
    const around = (self: AnyEffect, attempt: number) => unlessPoisoned(admission(self), attempt)
    const key = id === undefined ? undefined : messageKey(id)
    return execute(handler, consumer, key, { ...others, inFlight, strategy: "claim", around }, telling)
  })
