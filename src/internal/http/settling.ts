/** What is recorded of a response, and when: once per ownership, by whoever comes first. */
import type * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { Ownership, SettleError, Settlement } from "../engine/request.js"
import type { Outcome } from "../protocol.js"
import { logsAbout } from "../tracing.js"
import type { ResponsePolicy, Rules } from "./options.js"
import { problemOfSettle, problemResponse } from "./problem.js"
import { type Replaying, replayed } from "./replay.js"
import { bodyOf, drain, type ResponseBody, replacedBy, tee, withStream } from "./responseBody.js"
import { encodeResponse } from "./responseRecord.js"

type Response = HttpServerResponse.HttpServerResponse

/** What the platform answers with when a client has gone: never a handler's response. */
const clientGone = 499

export interface Settling {
  /** For the response that is about to be sent, and that replaces it. The first response counts. */
  readonly final: (response: Response) => Effect.Effect<Response>
  /** Whether somebody has seen to the key. */
  readonly isTaken: () => boolean
  /** Records a response that nobody is there to get. */
  readonly alone: (response: Response) => Effect.Effect<void>
  readonly abandon: (how: "release" | "hold") => Effect.Effect<void>
  /** Ends the ownership of a response that was not sent to its end, if it was not. */
  readonly cutShort: Effect.Effect<void>
}

const unavailable: Outcome = { _tag: "Unavailable" }

/** Only where somebody waits for another owner, which hooks and the layer's fibers do without interruption. */
const unrestored = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => effect

export const makeSettling = (call: Replaying & { readonly policy: Rules }, ownership: Ownership): Settling => {
  const { policy } = call
  const { identifiers } = call.execution
  const { operation } = identifiers
  let isTaken = false
  let cutShort: Effect.Effect<void> = Effect.void

  const notReplayable = (why: string): Effect.Effect<Outcome> =>
    Effect.as(
      Effect.logWarning(
        `idempotency: a response of "${operation}" is not recorded, and will not be replayed: it ${why}`
      ).pipe(logsAbout(identifiers)),
      unavailable
    )

  const outcomeOf = (response: Response, bytes: Uint8Array | undefined): Effect.Effect<Outcome> => {
    if (bytes === undefined) return notReplayable("was not sent to its end, or is too large")
    if (bytes.length > policy.maxResponseBytes) return notReplayable(`has more than ${policy.maxResponseBytes} bytes`)
    return Effect.orElse(
      Effect.try((): Outcome => ({ _tag: "Success", encoded: encodeResponse(response, bytes, policy.kept) })),
      () => notReplayable("has a status or a header that HTTP does not know")
    )
  }

  const settle = (response: Response, bytes: Uint8Array | undefined) =>
    Effect.flatMap(outcomeOf(response, bytes), (outcome) =>
      Effect.withFiberRuntime<Settlement, SettleError>((fiber) =>
        ownership.settle(outcome, { fiber, restore: unrestored })
      )
    )

  /** For whom the response itself is lost or on its way: what became of it can only be told to the log. */
  const settleQuietly = (response: Response, bytes: Uint8Array | undefined): Effect.Effect<void> =>
    Effect.catchAllCause(Effect.asVoid(settle(response, bytes)), (cause) =>
      Effect.logWarning(`idempotency: a response of "${operation}" is not recorded`, cause).pipe(logsAbout(identifiers))
    )

  /** What is sent of a response that has been settled: itself, or what counts or has gone wrong in its place. */
  const given = (response: Response, settled: Effect.Effect<Settlement, SettleError>): Effect.Effect<Response> => {
    const inPlace = (other: Response) => replacedBy(response, other, policy.kept)
    return Effect.matchEffect(settled, {
      onFailure: (error) => Effect.sync(() => inPlace(problemResponse(problemOfSettle(error), policy.problemType))),
      onSuccess: (settlement) =>
        settlement._tag === "Replaced"
          ? Effect.map(replayed(call, settlement.record.outcome), inPlace)
          : Effect.succeed(response)
    })
  }

  /** What is sent, and what becomes of the key. Whatever dies here, the key does not stay claimed. */
  const decided = <A>(
    response: Response,
    use: (body: ResponseBody, policyOfResponse: ResponsePolicy) => Effect.Effect<A>
  ): Effect.Effect<A> =>
    Effect.onError(
      Effect.suspend(() => {
        const body = bodyOf(response)
        return use(body, policy.onResponse(body.response))
      }),
      () => ownership.abandon(policy.onStop)
    )

  const record = (response: Response): Effect.Effect<Response> =>
    decided(response, (body, policyOfResponse) => {
      if (body._tag === "Known") {
        return policyOfResponse === "replay"
          ? given(body.response, settle(body.response, body.bytes))
          : Effect.as(ownership.abandon(policyOfResponse), body.response)
      }
      let isStarted = false
      let isEnded = false
      const end = (bytes: Uint8Array | undefined): Effect.Effect<void> =>
        Effect.suspend(() => {
          if (isEnded) return Effect.void
          isEnded = true
          return policyOfResponse === "replay"
            ? settleQuietly(body.response, bytes)
            : ownership.abandon(policyOfResponse)
        })
      const teed = Stream.suspend(() => {
        isStarted = true
        return tee(body.stream, policy.maxResponseBytes, end)
      })
      // Nobody came for it: then it is read here, as that of a client that went away earlier.
      cutShort = Effect.suspend(() =>
        isStarted ? end(undefined) : Effect.flatMap(drain(body.stream, policy.maxResponseBytes), end)
      )
      return Effect.succeed(withStream(body.response, teed))
    })

  const alone = (response: Response): Effect.Effect<void> =>
    decided(response, (body, policyOfResponse) => {
      isTaken = true
      if (policyOfResponse !== "replay") return ownership.abandon(policyOfResponse)
      return body._tag === "Known"
        ? settleQuietly(body.response, body.bytes)
        : Effect.flatMap(drain(body.stream, policy.maxResponseBytes), (bytes) => settleQuietly(body.response, bytes))
    })

  return {
    final: (response) =>
      Effect.suspend(() => {
        if (isTaken || response.status === clientGone) return Effect.succeed(response)
        isTaken = true
        return record(response)
      }),
    isTaken: () => isTaken,
    alone,
    abandon: (how) =>
      Effect.suspend(() => {
        isTaken = true
        return ownership.abandon(how)
      }),
    cutShort: Effect.suspend(() => cutShort)
  }
}
