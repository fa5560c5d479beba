/** The arguments that a script takes for one member, and how to read what it says about it. */
import type * as Protocol from "../protocol.js"
import {
  corrupted,
  decodeCompleted,
  decodeState,
  decodeSteps,
  encodeDuration,
  encodeField,
  encodeGuarantee,
  encodeInstant,
  encodeOutcome,
  payloadOf
} from "./codec.js"
import { MemberFailure } from "./errors.js"
import type { Script } from "./scripts.js"
import * as scripts from "./scripts.js"

/** What a script says about one member: a letter, and what belongs to it. */
type Member = ReadonlyArray<unknown>

export interface Verb<Request, Reply> {
  readonly method: string
  readonly script: Script
  readonly encode: (request: Request) => ReadonlyArray<string>
  readonly decode: (member: Member) => Reply
}

const unexpected = (): never => {
  throw new MemberFailure("the script gave an unexpected reply")
}

/** Fields that are numbers come as such or as text, as the client and the script have it. */
const number = (member: Member, index: number): number => Number(member[index])

const text = (member: Member, index: number): string => {
  const field = member[index]
  return typeof field === "string" ? field : unexpected()
}

const stepsOf = <Reply>(
  member: Member,
  reply: (steps: ReadonlyArray<Protocol.Step>) => Reply
): Reply | Protocol.Corrupted => {
  const payload = text(member, 2)
  const steps = payload === "" ? [] : decodeSteps(payload)
  return steps === undefined ? corrupted("the steps cannot be read") : reply(steps)
}

/** `undefined` where the other owner has not settled. */
const recordOf = <Reply>(
  member: Member,
  reply: (record: Protocol.Completed | undefined) => Reply
): Reply | Protocol.Corrupted => {
  const raw = member[1]
  if (typeof raw !== "string") return reply(undefined)
  const record = decodeCompleted(raw)
  return record._tag === "Corrupted" ? record : reply(record)
}

type Replies<Reply> = Readonly<Record<string, (member: Member) => Reply>>

/** By the letter of the reply; `X` and `E` mean the same in every script. */
const byLetter =
  <Reply>(replies: Replies<Reply>) =>
  (member: Member): Reply => {
    const letter = text(member, 0)
    if (letter === "E") throw new MemberFailure(text(member, 1))
    const decode = replies[letter]
    return decode === undefined ? unexpected() : decode(member)
  }

const unreadable = (member: Member): Protocol.Corrupted => corrupted(text(member, 1))

export const claim: Verb<Protocol.ClaimRequest, Protocol.ClaimReply> = {
  method: "claim",
  script: scripts.claim,
  encode: ({ token, fingerprint, guarantee, lease, retention, unknownRetention }) => [
    encodeField(token),
    encodeField(fingerprint),
    encodeGuarantee(guarantee),
    encodeDuration(lease),
    encodeDuration(retention),
    encodeDuration(unknownRetention)
  ],
  decode: byLetter<Protocol.ClaimReply>({
    C: (member) => stepsOf(member, (steps) => ({ _tag: "Claimed", attempt: number(member, 1), steps })),
    A: (member) => stepsOf(member, (steps) => ({ _tag: "AlreadyMine", attempt: number(member, 1), steps })),
    I: (member) => ({ _tag: "InFlight", remaining: number(member, 1) }),
    U: (member) => ({ _tag: "Unknown", attempt: number(member, 1) }),
    S: (member) => recordOf(member, (record) => (record === undefined ? unexpected() : { _tag: "Settled", record })),
    M: () => ({ _tag: "Mismatch" }),
    R: () => ({ _tag: "Refused" }),
    X: unreadable
  })
}

export const renew: Verb<Protocol.RenewRequest, Protocol.RenewReply> = {
  method: "renew",
  script: scripts.renew,
  encode: ({ token, lease }) => [encodeField(token), encodeDuration(lease)],
  decode: byLetter<Protocol.RenewReply>({
    R: () => ({ _tag: "Renewed" }),
    G: () => ({ _tag: "Gone" }),
    L: (member) => recordOf(member, (record) => ({ _tag: "Lost", record })),
    X: unreadable
  })
}

export const complete: Verb<Protocol.CompleteRequest, Protocol.CompleteReply> = {
  method: "complete",
  script: scripts.complete,
  encode: ({ token, outcome, fingerprint, retention }) => [
    encodeField(token),
    encodeOutcome(outcome),
    encodeField(fingerprint),
    encodeDuration(retention),
    payloadOf(outcome)
  ],
  decode: byLetter<Protocol.CompleteReply>({
    D: (member) => ({
      _tag: "Done",
      attempt: number(member, 1),
      createdAt: number(member, 2),
      expiresAt: number(member, 3)
    }),
    S: (member) => recordOf(member, (record) => ({ _tag: "Superseded", record })),
    M: () => ({ _tag: "Mismatch" }),
    X: unreadable
  })
}

const ofToken = ({ token }: { readonly token: string }): ReadonlyArray<string> => [encodeField(token)]

export const release: Verb<{ readonly token: string }, Protocol.ReleaseReply> = {
  method: "release",
  script: scripts.release,
  encode: ofToken,
  decode: byLetter<Protocol.ReleaseReply>({
    R: () => ({ _tag: "Released" }),
    N: () => ({ _tag: "NotHeld" }),
    X: unreadable
  })
}

export const hold: Verb<{ readonly token: string }, Protocol.HoldReply> = {
  method: "hold",
  script: scripts.hold,
  encode: ofToken,
  decode: byLetter<Protocol.HoldReply>({
    H: () => ({ _tag: "Held" }),
    N: () => ({ _tag: "NotHeld" }),
    X: unreadable
  })
}

export const saveStep: Verb<Protocol.SaveStepRequest, Protocol.SaveStepReply> = {
  method: "saveStep",
  script: scripts.saveStep,
  encode: ({ token, name, encoded }) => [
    encodeField(token),
    name,
    encoded,
    name.length.toString(),
    encoded.length.toString()
  ],
  decode: byLetter<Protocol.SaveStepReply>({
    S: () => ({ _tag: "Saved" }),
    T: () => ({ _tag: "TooLarge" }),
    N: () => ({ _tag: "NotHeld" }),
    X: unreadable
  })
}

export const resolve: Verb<Protocol.ResolveRequest, Protocol.ResolveReply> = {
  method: "resolve",
  script: scripts.resolve,
  encode: ({ token, outcome }) => [encodeField(token), encodeOutcome(outcome), payloadOf(outcome)],
  decode: byLetter<Protocol.ResolveReply>({
    R: () => ({ _tag: "Resolved" }),
    I: (member) => ({ _tag: "InFlight", remaining: number(member, 1) }),
    N: () => ({ _tag: "NotUnknown" }),
    X: unreadable
  })
}

export const reset: Verb<{ readonly force: boolean }, Protocol.ResetReply> = {
  method: "reset",
  script: scripts.reset,
  encode: ({ force }) => [force ? "1" : "0"],
  decode: byLetter<Protocol.ResetReply>({
    R: () => ({ _tag: "Reset" }),
    I: (member) => ({ _tag: "InFlight", remaining: number(member, 1) }),
    A: () => ({ _tag: "Absent" })
  })
}

/** What is stored, and the server's time when it was read. */
export interface Snapshot {
  readonly state: Protocol.State | Protocol.Corrupted | undefined
  readonly now: number
}

export const read: Verb<void, Snapshot> = {
  method: "read",
  script: scripts.read,
  encode: () => [],
  decode: byLetter<Snapshot>({
    V: (member) => ({ state: decodeState(text(member, 1), number(member, 3)), now: number(member, 2) }),
    N: () => ({ state: undefined, now: 0 }),
    X: (member) => ({ state: unreadable(member), now: 0 })
  })
}

/** The same without results and steps: nothing of what a completed record holds but its kind. */
export const list: Verb<void, Snapshot> = {
  method: "list",
  script: scripts.list,
  encode: () => [],
  decode: byLetter<Snapshot>({
    V: (member) => ({ state: decodeState(text(member, 1), number(member, 3)), now: number(member, 2) }),
    N: (member) => ({ state: undefined, now: number(member, 1) }),
    X: (member) => ({ state: unreadable(member), now: number(member, 2) })
  })
}

export const insert: Verb<Protocol.InsertRequest, Protocol.InsertReply> = {
  method: "insert",
  script: scripts.insert,
  encode: ({ token, outcome, fingerprint, attempt, createdAt, expiresAt, retention }) => [
    encodeField(token),
    encodeOutcome(outcome),
    encodeField(fingerprint),
    attempt.toString(),
    encodeInstant(createdAt),
    encodeInstant(expiresAt),
    encodeDuration(retention),
    payloadOf(outcome)
  ],
  decode: byLetter<Protocol.InsertReply>({
    I: () => ({ _tag: "Inserted" }),
    C: () => ({ _tag: "Collision" }),
    X: unreadable
  })
}

/** All or none, in one call. */
export const insertTogether: Verb<Protocol.InsertRequest, Protocol.InsertReply> = {
  ...insert,
  script: scripts.insertTogether
}

export const remove: Verb<void, boolean> = {
  method: "remove",
  script: scripts.remove,
  encode: () => [],
  decode: byLetter<boolean>({ R: () => true, N: () => false })
}

export const probe: Verb<void, void> = {
  method: "probe",
  script: scripts.probe,
  encode: () => [],
  decode: byLetter<void>({ R: () => undefined })
}
