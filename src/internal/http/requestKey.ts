/** The key of a request that a client sends: where it comes from, and for how long it stays. */
import type * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as UrlParams from "@effect/platform/UrlParams"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { IdempotencyKey } from "../../IdempotencyKey.js"
import { IdempotentExecution } from "../../IdempotentExecution.js"
import { CurrentStep } from "../currentStep.js"
import { hashParts } from "../hash.js"
import { makeOccurrence, type Occurrence } from "./occurrences.js"

/** A key in use. */
export interface HeldKey {
  readonly key: string
  /** Says whether the request got a final answer. */
  readonly end: (isFinal: boolean) => void
}

export type KeyOf = (
  request: HttpClientRequest.HttpClientRequest,
  bodyHash: string | undefined
) => Effect.Effect<HeldKey>

const held = (key: string): HeldKey => ({ key, end: () => {} })

/** Method, URL and body, and the step that sends it: when that is replayed, the request is not sent and not counted. */
const nameOf = (
  { method, url, urlParams }: HttpClientRequest.HttpClientRequest,
  bodyHash: string | undefined,
  step: CurrentStep | undefined
): string =>
  `http:${hashParts(
    method,
    url,
    UrlParams.toString(urlParams),
    bodyHash ?? "not hashed",
    ...(step === undefined ? [] : [step.name])
  )}`

/** What the key of one call is made of within one run. */
interface Numbered {
  readonly name: string
  readonly occurrence: Occurrence
}

/**
 * The keys of one call of `execute`. All runs of the effect that it returned send one key: the given one, or a random
 * one, or within a protected effect a child of that effect's key, so that a later run of it sends the same.
 */
export const makeKeyOf = (given: ((request: HttpClientRequest.HttpClientRequest) => string) | undefined): KeyOf => {
  let own: string | undefined
  const byRun = new WeakMap<object, Numbered>()

  const newKey = (request: HttpClientRequest.HttpClientRequest): Effect.Effect<string> =>
    given === undefined ? IdempotencyKey.random : Effect.sync(() => given(request))

  const ownKey = (request: HttpClientRequest.HttpClientRequest): Effect.Effect<HeldKey> =>
    Effect.map(own === undefined ? newKey(request) : Effect.succeed(own), (key) => {
      // A run at the same time may have been the first to make it.
      own ??= key
      return held(own)
    })

  const numberedIn = (run: object, nameInRun: () => string): Numbered => {
    const known = byRun.get(run)
    if (known !== undefined) return known
    const name = nameInRun()
    const numbered = { name, occurrence: makeOccurrence(run, name) }
    byRun.set(run, numbered)
    return numbered
  }

  return (request, bodyHash) =>
    Effect.contextWithEffect((context: Context.Context<never>) => {
      const execution = Option.getOrUndefined(Context.getOption(context, IdempotentExecution))
      if (given !== undefined || execution === undefined) return ownKey(request)
      // A step of an execution further out says nothing about this one.
      const step = Option.getOrUndefined(
        Option.filter(Context.getOption(context, CurrentStep), (current) => current.execution === execution)
      )
      const { name, occurrence } = numberedIn(step ?? execution, () => nameOf(request, bodyHash, step))
      return Effect.sync(() => ({
        key: execution.childKey(`${name}:${occurrence.begin()}`),
        end: occurrence.end
      }))
    })
}
