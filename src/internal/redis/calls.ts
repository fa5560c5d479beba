/** Verbs as Effects: one call for one member, for many, or for all that came in the same turn of the event loop. */
import * as Array from "effect/Array"
import * as Effect from "effect/Effect"
import type { IdempotencyStorageError } from "../../IdempotencyError.js"
import type { IdempotencyIdentifiers } from "../../IdempotencyIdentifiers.js"
import { type AnyFiber, Call, type GiveUp, type Resume } from "../call.js"
import type { For } from "../protocol.js"
import type { Confirmation, Send, Turn } from "./client.js"
import { MemberFailure, ofPart } from "./errors.js"
import type { Script } from "./scripts.js"
import type { Verb } from "./verbs.js"

/** What one call may hold: so that a script never holds up the server for long. */
const mostKeysPerCall = 128
const lengthPerCall = 1_048_576

/**
 * What comes in a turn goes in some four calls: the client reads an answer while the server works on the next. With 16
 * callers a first execution takes 0.7 of the time that it takes with all of them in one call, with 100 callers 0.75.
 */
const callsPerTurn = 4
const fewestGathered = 4
const mostGathered = 32

const gatheredPerCall = (members: number): number =>
  Math.min(Math.max(Math.ceil(members / callsPerTurn), fewestGathered), mostGathered)

/** Members in order, so many to a chunk at most, and as many as one call may hold. */
const chunksOf = <A>(
  members: ReadonlyArray<A>,
  most: number,
  lengthOf: (member: A) => number
): Array<Array.NonEmptyArray<A>> => {
  const chunks: Array<Array.NonEmptyArray<A>> = []
  let length = 0
  for (const member of members) {
    const last = chunks[chunks.length - 1]
    const own = lengthOf(member)
    length += own
    if (last !== undefined && last.length < most && length <= lengthPerCall) {
      last.push(member)
    } else {
      chunks.push([member])
      length = own
    }
  }
  return chunks
}

const lengthOf = (args: ReadonlyArray<string>): number => args.reduce((sum, { length }) => sum + length, 0)

/** One key, its arguments, and who waits for what the script says about it. */
interface Member {
  readonly key: string
  readonly args: ReadonlyArray<string>
  readonly onReply: (reply: unknown, confirmation: Confirmation | undefined) => void
  readonly onFailure: (error: unknown) => void
  /** Nobody waits any more: what has not been sent need not be. */
  readonly givenUp: boolean
}

/** How a verb's calls are sent and read. */
interface Terms<Request, Reply> {
  readonly verb: Verb<Request, Reply>
  readonly otherwise: Otherwise<Request, Reply>
  readonly keyOf: CallOptions["keyOf"]
  readonly refail: CallOptions["refail"]
  readonly give: (member: Member) => void
}

/** Its members are its own: closures for each of them were a tenth of what a replay allocates. */
class OneCall<Request, Reply> extends Call<Reply, IdempotencyStorageError> {
  constructor(
    private readonly terms: Terms<Request, Reply>,
    private readonly identifiers: IdempotencyIdentifiers,
    private readonly request: Request
  ) {
    super()
  }

  start(fiber: AnyFiber, resume: Resume<Reply, IdempotencyStorageError>): GiveUp {
    const { identifiers, request, terms } = this
    const member = new OneMember(terms, identifiers, request, fiber, resume)
    terms.give(member)
    return () => {
      member.givenUp = true
    }
  }
}

class OneMember<Request, Reply> implements Member {
  readonly key: string
  readonly args: ReadonlyArray<string>
  givenUp = false

  constructor(
    private readonly terms: Terms<Request, Reply>,
    private readonly identifiers: IdempotencyIdentifiers,
    private readonly request: Request,
    private readonly fiber: AnyFiber,
    private readonly resume: Resume<Reply, IdempotencyStorageError>
  ) {
    this.key = terms.keyOf(identifiers)
    this.args = terms.verb.encode(request)
  }

  onReply(raw: unknown, confirmation: Confirmation | undefined): void {
    // What is given up was measured.
    if (this.givenUp && confirmation === undefined) return
    const { otherwise, verb } = this.terms
    try {
      const reply = verb.decode(memberOf(raw))
      if (confirmation === undefined || otherwise.hasWritten?.(reply) !== true) {
        this.resume(Effect.succeed(reply))
      } else {
        void confirmation.then((cause) => this.resume(this.unlessUnconfirmed(reply, cause)))
      }
    } catch (error) {
      this.onFailure(error)
    }
  }

  onFailure(cause: unknown): void {
    const error = this.refailed(cause)
    const other = this.terms.otherwise.instead?.(error, this.identifiers, this.request)
    if (other === undefined) this.resume(Effect.fail(error))
    else other.start(this.fiber, this.resume)
  }

  private unlessUnconfirmed(reply: Reply, cause: Error | undefined): Effect.Effect<Reply, IdempotencyStorageError> {
    if (cause === undefined) return Effect.succeed(reply)
    const error = this.refailed(cause)
    return this.terms.otherwise.unconfirmed?.(reply, error) ?? Effect.fail(error)
  }

  private refailed(cause: unknown): IdempotencyStorageError {
    const { refail, verb } = this.terms
    return refail(this.identifiers.operation, verb.method)(cause)
  }
}

const post = (send: Send, script: Script, members: ReadonlyArray<Member>): void =>
  send(
    script,
    members.map(({ key }) => key),
    members.flatMap(({ args }) => args),
    ({ confirmation, replies }) => {
      for (const [index, member] of members.entries()) {
        member.onReply(isArray(replies) ? replies[index] : undefined, confirmation)
      }
    },
    (error) => {
      for (const member of members) member.onFailure(error)
    }
  )

/** What comes in one turn of the event loop shares calls: a call costs the client and the server more than a member. */
const makeGathering = (send: Send, script: Script, turn: Turn): ((member: Member) => void) => {
  let gathered: Array<Member> = []
  const flush = () => {
    const members = gathered.filter(({ givenUp }) => !givenUp)
    gathered = []
    const chunks = chunksOf(members, gatheredPerCall(members.length), ({ args }) => lengthOf(args))
    for (const chunk of chunks) post(send, script, chunk)
  }
  return (member) => {
    if (gathered.length === 0) turn(flush)
    gathered.push(member)
  }
}

/** How calls find keys and name failures. */
export interface CallOptions {
  readonly send: Send
  readonly keyOf: (identifiers: IdempotencyIdentifiers) => string
  /** When calls of one turn go together: never in a cluster, where a slot that moves refuses calls of several keys. */
  readonly turn: Turn | undefined
  readonly refail: (operation: string, method: string) => (error: unknown) => IdempotencyStorageError
}

/** What a verb does about ends that are not the common one. */
export interface Otherwise<Request, Reply> {
  /** May know another call for one that failed. */
  readonly instead?: (
    error: IdempotencyStorageError,
    identifiers: IdempotencyIdentifiers,
    request: Request
  ) => Call<Reply, IdempotencyStorageError> | undefined
  /** Whether a reply says that something was written, which then waits for its confirmation, where there are any. */
  readonly hasWritten?: (reply: Reply) => boolean
  /** What becomes of a reply without its confirmation: it fails, unless this says otherwise. Takes no time. */
  readonly unconfirmed?: (reply: Reply, error: IdempotencyStorageError) => Effect.Effect<Reply, IdempotencyStorageError>
}

export interface Calls {
  readonly one: <Request, Reply>(
    verb: Verb<Request, Reply>,
    otherwise?: Otherwise<Request, Reply>
  ) => (identifiers: IdempotencyIdentifiers, request: Request) => Call<Reply, IdempotencyStorageError>
  /** One call for keys that need not be those of identities. */
  readonly call: <Request, Reply>(
    verb: Verb<Request, Reply>,
    operation: string,
    keys: ReadonlyArray<string>,
    requests: ReadonlyArray<Request>
  ) => Effect.Effect<Array<Reply>, IdempotencyStorageError>
  /** One call for all of them. */
  readonly together: <Request, Reply>(
    verb: Verb<Request, Reply>,
    members: ReadonlyArray<For<Request>>
  ) => Effect.Effect<Array<Reply>, IdempotencyStorageError>
  /**
   * As few calls as may hold them, of so many keys at most, all sent before the first is waited for. Where one fails,
   * what the others were to write may have been written.
   */
  readonly chunked: <Request, Reply>(
    verb: Verb<Request, Reply>,
    members: ReadonlyArray<For<Request>>,
    keysPerCall?: number
  ) => Effect.Effect<Array<Reply>, IdempotencyStorageError>
}

export const makeCalls = ({ keyOf, refail, send, turn }: CallOptions): Calls => {
  const one = <Request, Reply>(verb: Verb<Request, Reply>, otherwise: Otherwise<Request, Reply> = {}) => {
    const { script } = verb
    const give =
      turn === undefined ? (member: Member) => post(send, script, [member]) : makeGathering(send, script, turn)
    const terms: Terms<Request, Reply> = { verb, otherwise, keyOf, refail, give }
    return (identifiers: IdempotencyIdentifiers, request: Request) => new OneCall(terms, identifiers, request)
  }

  const call: Calls["call"] = ({ decode, encode, method, script }, operation, keys, requests) =>
    Effect.async((resume) => {
      const onFailure = (error: unknown) => resume(Effect.fail(refail(operation, method)(error)))
      send(
        script,
        keys,
        requests.flatMap(encode),
        ({ replies }) => {
          try {
            const all = isArray(replies) ? replies : []
            resume(Effect.succeed(keys.map((_, index) => decode(memberOf(all[index])))))
          } catch (error) {
            onFailure(error)
          }
        },
        onFailure
      )
    })

  const together: Calls["together"] = (verb, members) =>
    call(
      verb,
      operationOf(members),
      members.map(({ identifiers }) => keyOf(identifiers)),
      members.map(({ request }) => request)
    )

  const chunked: Calls["chunked"] = (verb, members, keysPerCall = mostKeysPerCall) => {
    const chunks = chunksOf(members, keysPerCall, ({ request }) => lengthOf(verb.encode(request)))
    const all = Effect.map(
      Effect.forEach(chunks, (chunk) => together(verb, chunk), { concurrency: "unbounded" }),
      Array.flatten
    )
    return verb.script.writes && chunks.length > 1 ? Effect.mapError(all, ofPart) : all
  }

  return { one, call, together, chunked }
}

const operationOf = (members: ReadonlyArray<For<unknown>>): string =>
  Array.dedupe(members.map(({ identifiers }) => identifiers.operation)).join(",")

const isArray = (value: unknown): value is ReadonlyArray<unknown> => globalThis.Array.isArray(value)

const memberOf = (reply: unknown): ReadonlyArray<unknown> => {
  if (!isArray(reply)) throw new MemberFailure("the script gave an unexpected reply")
  return reply
}
