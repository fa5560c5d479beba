import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import type * as Scope from "effect/Scope"
import type { IdempotencyStorageError } from "../../IdempotencyError.js"
import type { IdempotencyIdentifiers } from "../../IdempotencyIdentifiers.js"
import type * as Protocol from "../protocol.js"
import { storedKey } from "../storedKey.js"
import * as transition from "../transition.js"
import { makeCalls } from "./calls.js"
import { isCluster, makeSend, type RedisClient } from "./client.js"
import { isRefusedForMemory, storageError } from "./errors.js"
import type { Verb } from "./verbs.js"
import * as verbs from "./verbs.js"

/** Whether the server takes the slot of a key from its prefix: the first braces hold something. */
const hasHashTag = (prefix: string): boolean => {
  const open = prefix.indexOf("{")
  return open !== -1 && prefix.indexOf("}", open + 1) > open + 1
}

const unbound = (identifiers: ReadonlyArray<IdempotencyIdentifiers>): ReadonlyArray<Protocol.For<void>> =>
  identifiers.map((one) => ({ identifiers: one, request: undefined }))

/** How waiters learn of changes. */
export interface Changes {
  readonly of: (channel: string) => Effect.Effect<Effect.Effect<void>, never, Scope.Scope>
}

export interface RedisDriver {
  readonly driver: Protocol.Driver
  /** Whether the server would run the scripts, without a change. */
  readonly probe: Effect.Effect<void, IdempotencyStorageError>
}

/**
 * The verbs as scripts, one call each; in a cluster a call per key, unless the prefix puts all keys in one slot.
 * `explain` may know more about a failure than the client says.
 */
export const makeRedisDriver = (
  client: RedisClient,
  keyPrefix: string,
  changes: Changes,
  explain: (error: unknown) => unknown = identity
): RedisDriver => {
  // The client adds its own prefix to the keys of a script, but not to the channels of a subscription.
  const fullPrefix = `${client.options.keyPrefix ?? ""}${keyPrefix}`
  const sharesSlot = !isCluster(client) || hasHashTag(fullPrefix)
  const keyOf = (identifiers: IdempotencyIdentifiers): string => keyPrefix + storedKey(identifiers)
  const refail = (operation: string, method: string) => {
    const toStorageError = storageError(operation, method)
    return (error: unknown) => toStorageError(explain(error))
  }
  const { call, chunked, one, together } = makeCalls({
    send: makeSend(client),
    keyOf,
    refail,
    gather: !isCluster(client)
  })

  const many = <Request, Reply>(
    verb: Verb<Request, Reply>,
    members: ReadonlyArray<Protocol.For<Request>>
  ): Effect.Effect<Array<Reply>, IdempotencyStorageError> => {
    if (members.length === 0) return Effect.succeed([])
    if (sharesSlot) return chunked(verb, members)
    const each = one(verb)
    return Effect.forEach(members, ({ identifiers, request }) => each(identifiers, request), {
      concurrency: "unbounded"
    })
  }

  const claim = one(verbs.claim)
  const snapshot = one(verbs.read)
  const renewOne = one(verbs.renew)

  /** A server that is full still reads: what is not claimable is answered from what is stored, by the server's time. */
  const claimFromSnapshot = (
    identifiers: IdempotencyIdentifiers,
    request: Protocol.ClaimRequest,
    refusal: IdempotencyStorageError
  ): Effect.Effect<Protocol.ClaimReply, IdempotencyStorageError> =>
    Effect.matchEffect(snapshot(identifiers, undefined), {
      onFailure: () => Effect.fail(refusal),
      onSuccess: ({ now, state }) => {
        if (state?._tag === "Corrupted") return Effect.succeed(state)
        const { reply } = transition.claim(state, request, now)
        return reply._tag === "Claimed" || reply._tag === "AlreadyMine" ? Effect.fail(refusal) : Effect.succeed(reply)
      }
    })

  /** Its node's failure is not that of the leases on other nodes. */
  const renewAlone = ({ identifiers, request }: Protocol.For<Protocol.RenewRequest>) =>
    Effect.catchAll(renewOne(identifiers, request), (error) =>
      Effect.succeed<Protocol.RenewReply>({ _tag: "Failed", error })
    )

  const driver: Protocol.Driver = {
    name: "redis",
    claim: (identifiers, request) =>
      Effect.catchAll(claim(identifiers, request), (error) =>
        isRefusedForMemory(error.cause) ? claimFromSnapshot(identifiers, request, error) : Effect.fail(error)
      ),
    complete: one(verbs.complete),
    release: one(verbs.release),
    hold: one(verbs.hold),
    saveStep: one(verbs.saveStep),
    resolve: one(verbs.resolve),
    reset: one(verbs.reset),
    renew: (leases) =>
      sharesSlot ? many(verbs.renew, leases) : Effect.forEach(leases, renewAlone, { concurrency: "unbounded" }),
    read: (identifiers) =>
      Effect.map(many(verbs.read, unbound(identifiers)), (snapshots) => snapshots.map(({ state }) => state)),
    insert: (records, { allOrNothing }) =>
      records.length > 1 && allOrNothing ? together(verbs.insertTogether, records) : many(verbs.insert, records),
    atomicTogether: (identifiers) => sharesSlot || new Set(identifiers.map(keyOf)).size <= 1,
    remove: (identifiers) => many(verbs.remove, unbound(identifiers)),
    changes: (identifiers) => changes.of(fullPrefix + storedKey(identifiers))
  }

  // No identity has this key: theirs hold a colon after the prefix.
  const probe = Effect.asVoid(call(verbs.probe, "", [`${keyPrefix}probe`], [undefined]))

  return { driver, probe }
}
