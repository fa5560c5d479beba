/** What a failure of the client or the server says about the command: whether it was applied, and whose fault it is. */
import * as Predicate from "effect/Predicate"
import { IdempotencyStorageError } from "../../IdempotencyError.js"

type Sorted = Pick<IdempotencyStorageError, "applied" | "reason">

/** A member of a call failed inside the script. */
export class MemberFailure extends Error {
  override readonly name = "MemberFailure"
}

/** Replicas did not confirm in time what was written; or it cannot be known whether, as `cause` says. */
export class Unconfirmed extends Error {
  override readonly name = "Unconfirmed"
}

const unavailable: Sorted = { reason: "Unavailable", applied: "no" }
const refused: Sorted = { reason: "Rejected", applied: "no" }
const misconfigured: Sorted = { reason: "Misconfigured", applied: "no" }
const cut: Sorted = { reason: "Unavailable", applied: "unknown" }
const failed: Sorted = { reason: "Rejected", applied: "unknown" }

/** By the first word of a server's error. */
const byCode: Readonly<Record<string, Sorted>> = {
  NOSCRIPT: unavailable,
  READONLY: unavailable,
  LOADING: unavailable,
  MASTERDOWN: unavailable,
  CLUSTERDOWN: unavailable,
  TRYAGAIN: unavailable,
  BUSY: unavailable,
  OOM: refused,
  MISCONF: refused,
  NOREPLICAS: refused,
  NOAUTH: misconfigured,
  WRONGPASS: misconfigured,
  NOPERM: misconfigured,
  CROSSSLOT: misconfigured,
  // A client that does not follow redirections is talking to a node of a cluster.
  MOVED: misconfigured,
  ASK: misconfigured
}

/** Before anything was sent. */
const notConnected = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOENT",
  "EACCES"
])

/** The client's word for "not connected, nothing sent". */
const offline = /enableOfflineQueue options is false/

const byMessage: ReadonlyArray<readonly [RegExp, Sorted]> = [
  [offline, unavailable],
  [/max number of clients reached/, unavailable],
  [/^connect ETIMEDOUT/, unavailable],
  [/^(Command timed out|Blocking command timed out)/, { reason: "Timeout", applied: "unknown" }],
  [/^(Connection is closed|Cluster is ended|Too many Cluster redirections|None of startup nodes)/, cut],
  [/^(Socket timeout|Socket closed|Command aborted|Reached the max retries per request)/, cut],
  [/executing the script can't (run|access)|ACL failure in script/, { reason: "Misconfigured", applied: "unknown" }],
  [/cluster support disabled|^ERR unknown command/, misconfigured]
]

/** What the client wraps around a server's words while it connects. */
const handshake = /^Ready check failed: /

export const messageOf = (error: unknown): string =>
  Predicate.hasProperty(error, "message") && typeof error.message === "string"
    ? error.message.replace(handshake, "")
    : String(error)

const codeOf = (error: unknown): string | undefined => /^[A-Z]+(?= |$)/.exec(messageOf(error))?.[0]

const systemCodeOf = (error: unknown): unknown => (Predicate.hasProperty(error, "code") ? error.code : undefined)

/** The failure beneath an aggregate of the client's. */
const innermost = (error: unknown): unknown => {
  if (Predicate.hasProperty(error, "lastNodeError") && error.lastNodeError instanceof Error) {
    return innermost(error.lastNodeError)
  }
  if (error instanceof AggregateError && error.errors.length > 0) return innermost(error.errors[0])
  return error
}

export const sort = (error: unknown): Sorted => {
  if (error instanceof Unconfirmed) {
    return { reason: error.cause === undefined ? "Rejected" : sort(error.cause).reason, applied: "unknown" }
  }
  const inner = innermost(error)
  const code = codeOf(inner)
  const known = code === undefined ? undefined : byCode[code]
  if (known !== undefined) return known
  const message = messageOf(inner)
  const said = byMessage.find(([pattern]) => pattern.test(message))?.[1]
  if (said !== undefined) return said
  const system = systemCodeOf(inner)
  if (typeof system === "string") return notConnected.has(system) ? unavailable : cut
  // Whatever else a server or a script says; and whatever else a client says, which is trouble with a connection.
  return isReply(inner) ? failed : cut
}

const isReply = (error: unknown): boolean =>
  error instanceof MemberFailure || (error instanceof Error && error.name === "ReplyError")

/** The failure of a part, as that of the whole, whose other parts may have been done. */
export const ofPart = ({ cause, method, operation, reason }: IdempotencyStorageError): IdempotencyStorageError =>
  new IdempotencyStorageError({ operation, method, reason, applied: "unknown", cause })

export const isNotConnected = (error: unknown): boolean => offline.test(messageOf(error))

/** The script is not in the server's memory. */
export const isNoScript = (error: unknown): boolean => codeOf(error) === "NOSCRIPT"

/** A server from before Redis 7 takes the script's header for Lua. */
export const isUnknownHeader = (error: unknown): boolean => /compiling script|shebang/.test(messageOf(error))

/** The server refuses writes for want of memory, disk or replicas, and still reads. */
export const isRefusedForMemory = (error: unknown): boolean => byCode[codeOf(error) ?? ""] === refused

export const storageError =
  (operation: string, method: string) =>
  (cause: unknown): IdempotencyStorageError =>
    new IdempotencyStorageError({ operation, method, ...sort(cause), cause })
