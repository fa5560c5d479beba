/** Verbs as Effects: one call for one member, for many, or for all that came in the same turn of the event loop. */
import * as Array from "effect/Array"
import * as Effect from "effect/Effect"
import type { IdempotencyStorageError } from "../../IdempotencyError.js"
import type { IdempotencyIdentifiers } from "../../IdempotencyIdentifiers.js"
import type { For } from "../protocol.js"
import type { Send } from "./client.js"
import { MemberFailure } from "./errors.js"
import type { Script } from "./scripts.js"
import type { Verb } from "./verbs.js"

/** What one call may hold: so that a script never holds up the server for long. */
const keysPerCall = 128
const lengthPerCall = 1_048_576

/** Members in order, as many to a chunk as one call may hold. */
const chunksOf = <A>(members: ReadonlyArray<A>, lengthOf: (member: A) => number): Array<Array.NonEmptyArray<A>> => {
  const chunks: Array<Array.NonEmptyArray<A>> = []
  let length = 0
  for (const member of members) {
    const last = chunks[chunks.length - 1]
    const own = lengthOf(member)
    length += own
    if (last !== undefined && last.length < keysPerCall && length <= lengthPerCall) {
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
  readonly onReply: (reply: unknown) => void
  readonly onFailure: (error: unknown) => void
  /** Nobody waits any more: what has not been sent need not be. */
  givenUp: boolean
}

const post = (send: Send, script: Script, members: ReadonlyArray<Member>): void =>
  send(
    script,
    members.map(({ key }) => key),
    members.flatMap(({ args }) => args),
    (replies) => {
      for (const [index, { onReply }] of members.entries()) onReply(isArray(replies) ? replies[index] : undefined)
    },
    (error) => {
      for (const { onFailure } of members) onFailure(error)
    }
  )

/** What comes in one turn of the event loop goes as one call: a call costs the client and the server more than a member. */
const makeGathering = (send: Send, script: Script): ((member: Member) => void) => {
  let gathered: Array<Member> = []
  const flush = () => {
    const members = gathered.filter(({ givenUp }) => !givenUp)
    gathered = []
    for (const chunk of chunksOf(members, ({ args }) => lengthOf(args))) post(send, script, chunk)
  }
  return (member) => {
    if (gathered.length === 0) process.nextTick(flush)
    gathered.push(member)
  }
}

/** How calls find keys and name failures. */
export interface CallOptions {
  readonly send: Send
  readonly keyOf: (identifiers: IdempotencyIdentifiers) => string
  /** Whether calls of one turn go together: not in a cluster, where a slot that moves refuses calls of several keys. */
  readonly gather: boolean
  readonly refail: (operation: string, method: string) => (error: unknown) => IdempotencyStorageError
}

export interface Calls {
  readonly one: <Request, Reply>(
    verb: Verb<Request, Reply>
  ) => (identifiers: IdempotencyIdentifiers, request: Request) => Effect.Effect<Reply, IdempotencyStorageError>
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
  /** As few calls as may hold them, all sent before the first is waited for. */
  readonly chunked: <Request, Reply>(
    verb: Verb<Request, Reply>,
    members: ReadonlyArray<For<Request>>
  ) => Effect.Effect<Array<Reply>, IdempotencyStorageError>
}

export const makeCalls = ({ gather, keyOf, refail, send }: CallOptions): Calls => {
  const one: Calls["one"] = ({ decode, encode, method, script }) => {
    const give = gather ? makeGathering(send, script) : (member: Member) => post(send, script, [member])
    return (identifiers, request) =>
      Effect.async((resume) => {
        const onFailure = (error: unknown) => resume(Effect.fail(refail(identifiers.operation, method)(error)))
        const member: Member = {
          key: keyOf(identifiers),
          args: encode(request),
          onReply: (reply) => {
            try {
              resume(Effect.succeed(decode(memberOf(reply))))
            } catch (error) {
              onFailure(error)
            }
          },
          onFailure,
          givenUp: false
        }
        give(member)
        return Effect.sync(() => {
          member.givenUp = true
        })
      })
  }

  const call: Calls["call"] = ({ decode, encode, method, script }, operation, keys, requests) =>
    Effect.async((resume) => {
      const onFailure = (error: unknown) => resume(Effect.fail(refail(operation, method)(error)))
      send(
        script,
        keys,
        requests.flatMap(encode),
        (replies) => {
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

  const chunked: Calls["chunked"] = (verb, members) =>
    Effect.map(
      Effect.forEach(
        chunksOf(members, ({ request }) => lengthOf(verb.encode(request))),
        (chunk) => together(verb, chunk),
        { concurrency: "unbounded" }
      ),
      Array.flatten
    )

  return { one, call, together, chunked }
}

const operationOf = (members: ReadonlyArray<For<unknown>>): string =>
  Array.dedupe(members.map(({ identifiers }) => identifiers.operation)).join(",")

const isArray = (value: unknown): value is ReadonlyArray<unknown> => globalThis.Array.isArray(value)

const memberOf = (reply: unknown): ReadonlyArray<unknown> => {
  if (!isArray(reply)) throw new MemberFailure("the script gave an unexpected reply")
  return reply
}
