/** Every kind of state and operation of the transition function, for tables and properties. */
import * as FastCheck from "effect/FastCheck"
import type * as Protocol from "../../src/internal/protocol.js"
import * as transition from "../../src/internal/transition.js"

/** The present of these states. */
export const now = 1_000_000
export const outcome: Protocol.Outcome = { _tag: "Success", encoded: "1" }

const owned = { token: "a", attempt: 2, fingerprint: "f", createdAt: now - 100, expiresAt: now + 5_000 }
const claimed = { ...owned, steps: [], retention: 7_000 }
const terms = { guarantee: "at-least-once", unknownRetention: 9_000 } as const

/** Held by token `a`, attempt 2, with a lease of 1,000 to go. */
export const processing: Protocol.Processing = { ...claimed, ...terms, _tag: "Processing", leaseUntil: now + 1_000 }
/** The same, whose lease ends just now. */
export const lapsed: Protocol.Processing = { ...processing, leaseUntil: now }
export const lapsedOnce: Protocol.Processing = { ...lapsed, guarantee: "at-most-once" }
export const held: Protocol.Unknown = { ...claimed, ...terms, _tag: "Unknown", reason: "held" }
export const unknown: Protocol.Unknown = { ...held, guarantee: "at-most-once", reason: "lapsed" }
export const completed: Protocol.Completed = { ...owned, _tag: "Completed", outcome }
export const released: Protocol.Released = { ...claimed, fingerprint: undefined, _tag: "Released" }
export const steps: ReadonlyArray<Protocol.Step> = [{ name: "one", encoded: "1" }]
export const releasedWithSteps: Protocol.Released = { ...released, fingerprint: "f", steps }

export const claimRequest: Protocol.ClaimRequest = {
  token: "b",
  fingerprint: "f",
  guarantee: "at-least-once",
  lease: 1_000,
  retention: 8_000,
  unknownRetention: 20_000
}
export const completeRequest: Protocol.CompleteRequest = { token: "b", outcome, fingerprint: "f", retention: 8_000 }

/** One operation, of whatever verb. */
export interface Operation {
  readonly verb:
    | "claim"
    | "renew"
    | "complete"
    | "release"
    | "hold"
    | "saveStep"
    | "resolve"
    | "reset"
    | "insert"
    | "remove"
  readonly token: string
  readonly apply: (state: Protocol.State | undefined, now: number) => transition.Transition<unknown>
}

const token = FastCheck.constantFrom("a", "b", "c")
const fingerprint = FastCheck.constantFrom(undefined, "f", "g")
const guarantee = FastCheck.constantFrom<Array<Protocol.Guarantee>>("at-least-once", "at-most-once")
const duration = FastCheck.constantFrom(1, 1_000, 60_000)
const anyOutcome = FastCheck.constantFrom<Array<Protocol.Outcome>>(
  { _tag: "Success", encoded: "" },
  { _tag: "Success", encoded: "2" },
  { _tag: "Failure", encoded: "3" },
  { _tag: "Unavailable" }
)
const someSteps = FastCheck.constantFrom<Array<ReadonlyArray<Protocol.Step>>>([], steps)

const operation = <Request>(
  verb: Operation["verb"],
  request: FastCheck.Arbitrary<Request & { readonly token: string }>,
  next: (
    state: Protocol.State | undefined,
    request: Request & { readonly token: string },
    now: number
  ) => transition.Transition<unknown>
): FastCheck.Arbitrary<Operation> =>
  request.map((made) => ({
    verb,
    token: made.token,
    apply: (state, at) => next(state, made, at),
    [FastCheck.toStringMethod]: () => `${verb} ${JSON.stringify(made)}`
  }))

export const anyOperation: FastCheck.Arbitrary<Operation> = FastCheck.oneof(
  operation(
    "claim",
    FastCheck.record({
      token,
      fingerprint,
      guarantee,
      lease: duration,
      retention: duration,
      unknownRetention: duration
    }),
    transition.claim
  ),
  operation("renew", FastCheck.record({ token, lease: duration }), transition.renew),
  operation(
    "complete",
    FastCheck.record({ token, outcome: anyOutcome, fingerprint, retention: duration }),
    transition.complete
  ),
  operation("release", FastCheck.record({ token }), transition.release),
  operation("hold", FastCheck.record({ token }), transition.hold),
  operation(
    "saveStep",
    FastCheck.record({ token, name: FastCheck.constantFrom("one", "two"), encoded: FastCheck.constantFrom("1", "") }),
    transition.saveStep
  ),
  operation(
    "resolve",
    FastCheck.record({ token: FastCheck.constant("operator"), outcome: anyOutcome }),
    transition.resolve
  ),
  operation(
    "reset",
    FastCheck.record({ token: FastCheck.constant("operator"), force: FastCheck.boolean() }),
    transition.reset
  ),
  operation(
    "insert",
    FastCheck.record({
      token: FastCheck.constant("operator"),
      outcome: anyOutcome,
      fingerprint,
      attempt: FastCheck.nat(4),
      retention: duration
    }),
    (state, request, at) =>
      transition.insert(state, { ...request, createdAt: at, expiresAt: at + request.retention }, at)
  ),
  operation("remove", FastCheck.record({ token: FastCheck.constant("operator") }), (state, _, at) =>
    transition.remove(state, at)
  )
)

const instant = FastCheck.constantFrom(now - 1, now, now + 1, now + 60_000)

const anyOwned = {
  token,
  attempt: FastCheck.integer({ min: 1, max: 4 }),
  fingerprint,
  createdAt: FastCheck.constant(now - 100),
  expiresAt: instant
}
const anyClaimed = { ...anyOwned, steps: someSteps, retention: duration }

/** Every kind of state, live, lapsing and expiring; `undefined` is absent. */
export const anyState: FastCheck.Arbitrary<Protocol.State | undefined> = FastCheck.oneof(
  FastCheck.constant(undefined),
  FastCheck.record({
    ...anyClaimed,
    _tag: FastCheck.constant("Processing" as const),
    leaseUntil: instant,
    guarantee,
    unknownRetention: duration
  }),
  FastCheck.record({
    ...anyClaimed,
    _tag: FastCheck.constant("Unknown" as const),
    reason: FastCheck.constantFrom("lapsed" as const, "held" as const),
    guarantee,
    unknownRetention: duration
  }),
  FastCheck.record({ ...anyOwned, _tag: FastCheck.constant("Completed" as const), outcome: anyOutcome }),
  FastCheck.record({ ...anyClaimed, _tag: FastCheck.constant("Released" as const) })
)
