/**
 * The protocol as a pure, total function: state of a key × operation × now → next state and reply.
 * The memory store is this function over a `Map`; every other store is tested to agree with it.
 * A state that changes nothing is returned as it came, so that `===` tells.
 */
import type * as Protocol from "./protocol.js"
import { maxSteps, maxStepsLength } from "./protocol.js"

/** The key's next state (`undefined`: absent), and what the caller is told. */
export interface Transition<Reply> {
  readonly state: Protocol.State | undefined
  readonly reply: Reply
}

const to = <Reply>(state: Protocol.State | undefined, reply: Reply): Transition<Reply> => ({ state, reply })

type Stored = Protocol.State | undefined

/** What the key holds now: an expired state is none. */
export const live = (state: Stored, now: number): Stored =>
  state !== undefined && now >= state.expiresAt ? undefined : state

/** Fingerprints are compared only if both sides have one. */
export const differ = (a: string | undefined, b: string | undefined): boolean =>
  a !== undefined && b !== undefined && a !== b

const isLapsed = (state: Protocol.Processing, now: number): boolean => now >= state.leaseUntil

const processingExpiry = (
  { guarantee, retention, unknownRetention }: Pick<Protocol.Processing, "guarantee" | "retention" | "unknownRetention">,
  lease: number,
  now: number
): number => now + (guarantee === "at-most-once" ? unknownRetention : Math.max(retention, 2 * lease))

const asUnknown = (state: Protocol.Processing, reason: Protocol.Unknown["reason"], now: number): Protocol.Unknown => {
  const { leaseUntil: _, ...claimed } = state
  return { ...claimed, _tag: "Unknown", reason, expiresAt: now + state.unknownRetention }
}

/** Steps outlive the owner, with the fingerprint of the request they belong to; otherwise only the attempt does. */
const asReleased = (
  state: Protocol.Processing | Protocol.Unknown | Protocol.Completed,
  expiresAt: number
): Protocol.Released => {
  const steps = state._tag === "Completed" ? [] : state.steps
  return {
    _tag: "Released",
    token: state.token,
    attempt: state.attempt,
    createdAt: state.createdAt,
    expiresAt,
    retention: state._tag === "Completed" ? expiresAt - state.createdAt : state.retention,
    steps,
    fingerprint: steps.length > 0 ? state.fingerprint : undefined
  }
}

const asCompleted = (
  state: Stored,
  { token, outcome, fingerprint, retention }: Protocol.CompleteRequest,
  now: number
): Protocol.Completed => ({
  _tag: "Completed",
  token,
  outcome,
  attempt: Math.max(1, state?.attempt ?? 0),
  fingerprint: fingerprint ?? state?.fingerprint,
  createdAt: now,
  expiresAt: now + retention
})

export const claim = (stored: Stored, request: Protocol.ClaimRequest, now: number): Transition<Protocol.ClaimReply> => {
  const state = live(stored, now)
  const { token, fingerprint, guarantee, lease, retention, unknownRetention } = request

  const own = (previous: Protocol.Processing | Protocol.Released | undefined, governing: Protocol.Guarantee) => {
    const attempt = (previous?.attempt ?? 0) + 1
    const steps = previous?.steps ?? []
    const terms = { guarantee: governing, retention, unknownRetention }
    return to<Protocol.ClaimReply>(
      {
        _tag: "Processing",
        token,
        attempt,
        steps,
        ...terms,
        fingerprint: fingerprint ?? previous?.fingerprint,
        createdAt: now,
        leaseUntil: now + lease,
        expiresAt: processingExpiry(terms, lease, now)
      },
      { _tag: "Claimed", attempt, steps }
    )
  }

  if (state === undefined) return own(undefined, guarantee)
  if (state._tag === "Released") {
    if (state.token === token) return to(state, { _tag: "Refused" })
    return differ(state.fingerprint, fingerprint) ? to(state, { _tag: "Mismatch" }) : own(state, guarantee)
  }
  if (differ(state.fingerprint, fingerprint)) return to(state, { _tag: "Mismatch" })
  if (state._tag === "Completed") return to(state, { _tag: "Settled", record: state })
  if (state.token === token && !(state._tag === "Unknown" && state.reason === "held")) {
    const { attempt, steps } = state
    const restarted: Protocol.Processing = {
      _tag: "Processing",
      token,
      attempt,
      steps,
      guarantee: state.guarantee,
      retention: state.retention,
      unknownRetention: state.unknownRetention,
      fingerprint: state.fingerprint,
      createdAt: state.createdAt,
      leaseUntil: now + lease,
      expiresAt: processingExpiry(state, lease, now)
    }
    return to(restarted, { _tag: "AlreadyMine", attempt, steps })
  }
  if (state._tag === "Unknown") return to(state, { _tag: "Unknown", attempt: state.attempt })
  if (!isLapsed(state, now)) return to(state, { _tag: "InFlight", remaining: state.leaseUntil - now })
  return state.guarantee === "at-least-once"
    ? own(state, "at-least-once")
    : to(asUnknown(state, "lapsed", now), { _tag: "Unknown", attempt: state.attempt })
}

export const renew = (
  stored: Stored,
  { token, lease }: Protocol.RenewRequest,
  now: number
): Transition<Protocol.RenewReply> => {
  const state = live(stored, now)
  if (state === undefined) return to(state, { _tag: "Gone" })
  if (state._tag !== "Processing" || state.token !== token) {
    return to(state, { _tag: "Lost", record: state._tag === "Completed" ? state : undefined })
  }
  return to({ ...state, leaseUntil: now + lease, expiresAt: processingExpiry(state, lease, now) }, { _tag: "Renewed" })
}

export const complete = (
  stored: Stored,
  request: Protocol.CompleteRequest,
  now: number
): Transition<Protocol.CompleteReply> => {
  const state = live(stored, now)
  const { token, fingerprint } = request
  const mine = state?.token === token
  if (state?._tag === "Completed") {
    if (mine) return to(state, done(state))
    return to(
      state,
      differ(state.fingerprint, fingerprint) ? { _tag: "Mismatch" } : { _tag: "Superseded", record: state }
    )
  }
  const free = state === undefined || state._tag === "Released"
  if (free ? mine : !mine) return to(state, { _tag: "Superseded", record: undefined })
  const completed = asCompleted(state, request, now)
  return to(completed, done(completed))
}

const done = ({ attempt, createdAt, expiresAt }: Protocol.Completed): Protocol.CompleteReply => ({
  _tag: "Done",
  attempt,
  createdAt,
  expiresAt
})

export const release = (
  stored: Stored,
  { token }: { readonly token: string },
  now: number
): Transition<Protocol.ReleaseReply> => {
  const state = live(stored, now)
  if (state === undefined || state.token !== token || state._tag === "Completed") return to(state, { _tag: "NotHeld" })
  if (state._tag === "Released") return to(state, { _tag: "Released" })
  if (state._tag === "Unknown" && state.reason === "held") return to(state, { _tag: "NotHeld" })
  return to(asReleased(state, now + state.retention), { _tag: "Released" })
}

export const hold = (
  stored: Stored,
  { token }: { readonly token: string },
  now: number
): Transition<Protocol.HoldReply> => {
  const state = live(stored, now)
  if (state?.token !== token) return to(state, { _tag: "NotHeld" })
  if (state._tag === "Processing") return to(asUnknown(state, "held", now), { _tag: "Held" })
  return to(state, { _tag: state._tag === "Unknown" && state.reason === "held" ? "Held" : "NotHeld" })
}

export const saveStep = (
  stored: Stored,
  { token, name, encoded }: Protocol.SaveStepRequest,
  now: number
): Transition<Protocol.SaveStepReply> => {
  const state = live(stored, now)
  if (state?._tag !== "Processing" || state.token !== token) return to(state, { _tag: "NotHeld" })
  if (state.steps.some((step) => step.name === name)) return to(state, { _tag: "Saved" })
  const steps = [...state.steps, { name, encoded }]
  const length = steps.reduce((sum, step) => sum + step.name.length + step.encoded.length, 0)
  return steps.length > maxSteps || length > maxStepsLength
    ? to(state, { _tag: "TooLarge" })
    : to({ ...state, steps }, { _tag: "Saved" })
}

export const resolve = (
  stored: Stored,
  { token, outcome }: Protocol.ResolveRequest,
  now: number
): Transition<Protocol.ResolveReply> => {
  const state = live(stored, now)
  switch (state?._tag) {
    case "Processing":
      if (!isLapsed(state, now)) return to(state, { _tag: "InFlight", remaining: state.leaseUntil - now })
      break
    case "Unknown":
      break
    default:
      return to(state, { _tag: state?._tag === "Completed" && state.token === token ? "Resolved" : "NotUnknown" })
  }
  const request = { token, outcome, fingerprint: undefined, retention: state.retention }
  return to(asCompleted(state, request, now), { _tag: "Resolved" })
}

export const reset = (
  stored: Stored,
  { force }: { readonly force: boolean },
  now: number
): Transition<Protocol.ResetReply> => {
  const state = live(stored, now)
  if (state === undefined) return to(state, { _tag: "Absent" })
  switch (state._tag) {
    case "Released":
      return to(state, { _tag: "Reset" })
    case "Completed":
      return to(asReleased(state, state.expiresAt), { _tag: "Reset" })
    case "Processing":
      if (!force && !isLapsed(state, now)) return to(state, { _tag: "InFlight", remaining: state.leaseUntil - now })
  }
  return to(asReleased(state, now + state.retention), { _tag: "Reset" })
}

export const insert = (
  stored: Stored,
  { token, outcome, fingerprint, attempt, createdAt, expiresAt }: Protocol.InsertRequest,
  now: number
): Transition<Protocol.InsertReply> => {
  const state = live(stored, now)
  if (state?._tag === "Completed" && state.token === token) return to(state, { _tag: "Inserted" })
  if (state !== undefined && state._tag !== "Released") return to(state, { _tag: "Collision" })
  return to(
    {
      _tag: "Completed",
      token,
      outcome,
      fingerprint,
      attempt: Math.max(attempt, state?.attempt ?? 0),
      createdAt,
      expiresAt
    },
    { _tag: "Inserted" }
  )
}

export const remove = (stored: Stored, now: number): Transition<boolean> => {
  const state = live(stored, now)
  return state?._tag === "Completed" ? to(undefined, true) : to(state, false)
}
