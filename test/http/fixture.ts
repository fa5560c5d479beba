/** What the cases of the HTTP suite share: a site with a handler that counts, and how it is asked. */
import { expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { Idempotency } from "../../src/Idempotency.js"
import type { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import { type Reply, type Sent, send } from "./rawClient.js"
import type { Answer, Handler, Mount, Options } from "./support.js"

/** What a suite runs on. */
export type Services = Idempotency | IdempotencyRepository

/** A test in its own scope, on the real clock. */
export type Case = (name: string, test: () => Effect.Effect<void, never, Services | Scope.Scope>) => void

export interface Site {
  readonly url: string
  /** How often the handler has run. */
  readonly runs: () => number
  readonly send: (sent?: Sent) => Effect.Effect<Reply>
}

/** Answers with the number of the run, so that a replay can be told from a run. */
export const numbered =
  (answer: Answer = {}): ((run: number) => Answer) =>
  (run) => ({
    status: 201,
    headers: { "content-type": "application/json", location: `/charges/${run}` },
    body: JSON.stringify({ run }),
    ...answer
  })

type Behaviour = (run: number, ...asked: Parameters<Handler>) => Answer | ReturnType<Handler>

export const start = (
  mount: Mount,
  behaviour: Behaviour = numbered(),
  options: Partial<Options> = {}
): Effect.Effect<Site, never, Idempotency | Scope.Scope> =>
  Effect.gen(function* () {
    let runs = 0
    const handler: Handler = (asked) =>
      Effect.suspend(() => {
        const answered = behaviour(++runs, asked)
        return Effect.isEffect(answered) ? answered : Effect.succeed(answered)
      })
    const merged = { scope: "global", ...options } as Options
    const url = yield* mount.serve(handler, merged)
    return { url, runs: () => runs, send: (sent) => send(url, sent) }
  })

let count = 0
/** A key that no other test uses. */
export const freshKey = (): string => `key-${process.pid}-${count++}`

/** Whether the reply is a replay of the first one: all that is recorded is the same, and a header says so. */
export const expectReplay = (replay: Reply, first: Reply): void => {
  expect(first.headers["idempotent-replayed"]).toBeUndefined()
  expect(replay.headers["idempotent-replayed"]).toBe("true")
  expect(replay.status).toBe(first.status)
  expect(replay.body.equals(first.body)).toBe(true)
  for (const name of ["content-type", "content-language", "location", "etag", "link", "cache-control"]) {
    expect(replay.headers[name]).toBe(first.headers[name])
  }
}

/** Whether the reply is the problem, with all of its members. */
export const expectProblem = (
  reply: Reply,
  expected: { readonly status: number; readonly title: string; readonly code: string; readonly retryable: boolean }
): void => {
  expect(reply.headers["content-type"]).toBe("application/problem+json")
  const { detail, ...rest }: { readonly detail: string } = JSON.parse(reply.text)
  expect(rest).toEqual({ type: "about:blank", ...expected })
  expect(typeof detail).toBe("string")
  expect(reply.status).toBe(expected.status)
  expect(reply.headers["idempotent-replayed"]).toBeUndefined()
  expect(reply.headers["retry-after"] !== undefined).toBe(expected.retryable)
}

export const problems = {
  missing: { status: 400, title: "Idempotency-Key is missing", code: "idempotency_key_missing", retryable: false },
  invalid: { status: 400, title: "Idempotency-Key is invalid", code: "idempotency_key_invalid", retryable: false },
  reused: { status: 422, title: "Idempotency-Key is already used", code: "idempotency_key_reused", retryable: false },
  inFlight: {
    status: 409,
    title: "A request is outstanding for this Idempotency-Key",
    code: "idempotency_request_in_flight",
    retryable: true
  },
  unknown: {
    status: 409,
    title: "The outcome of this request is unknown",
    code: "idempotency_outcome_unknown",
    retryable: false
  },
  notReplayable: {
    status: 409,
    title: "The result of this request cannot be replayed",
    code: "idempotency_result_not_replayable",
    retryable: false
  },
  storage: {
    status: 503,
    title: "Idempotency storage is unavailable",
    code: "idempotency_storage_unavailable",
    retryable: true
  },
  tooLarge: {
    status: 413,
    title: "The request is too large",
    code: "idempotency_request_too_large",
    retryable: false
  },
  unreadable: {
    status: 400,
    title: "The request cannot be read",
    code: "idempotency_request_unreadable",
    retryable: false
  }
} as const

/** Waits until what others do has come about. */
export const until = (condition: () => boolean): Effect.Effect<void> =>
  Effect.sleep("2 millis").pipe(
    Effect.repeat({ until: condition }),
    Effect.timeoutFail({
      duration: "10 seconds",
      onTimeout: () => new Error("what was waited for did not come about")
    }),
    Effect.orDie,
    Effect.asVoid
  )

/** Nothing of the engine's is left under way. */
export const settled: Effect.Effect<void, never, Idempotency> = Effect.flatMap(Idempotency, ({ underWay }) =>
  until(() => Object.values(underWay()).every((number) => number === 0))
)
