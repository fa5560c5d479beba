import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import type * as Scope from "effect/Scope"
import type { IdempotencyStorageError } from "../../IdempotencyError.js"
import type { IdempotencyIdentifiers } from "../../IdempotencyIdentifiers.js"
import type { Call } from "../call.js"
import type * as Protocol from "../protocol.js"
import { storedKey } from "../storedKey.js"
import * as transition from "../transition.js"
import { makeCalls, type Otherwise } from "./calls.js"
import { isCluster, issueFor, makeSend, type RedisClient } from "./client.js"
import type { Confirming } from "./confirming.js"
import { isRefusedForMemory, storageError } from "./errors.js"
import { makeList } from "./list.js"
import { slotOf } from "./slots.js"
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

/** Claims and completions that replicas confirm. */
export interface Durable {
  readonly confirming: Confirming
  /** Counts a result that was recorded, but not confirmed. */
  readonly recordUnconfirmed: (operation: string) => Effect.Effect<void>
}

const isOwner = ({ _tag }: Protocol.ClaimReply): boolean => _tag === "Claimed" || _tag === "AlreadyMine"
const isDone = ({ _tag }: Protocol.CompleteReply): boolean => _tag === "Done"

/**
 * The verbs as scripts, one call each; in a cluster a call per key, unless the prefix puts all keys in one slot.
 * `explain` may know more about a failure than the client says.
 */
export const makeRedisDriver = (
  client: RedisClient,
  keyPrefix: string,
  changes: Changes,
  explain: (error: unknown) => unknown = identity,
  durable?: Durable
): RedisDriver => {
  // The client adds its own prefix to the keys of a script, but not to the channels of a subscription.
  const fullPrefix = `${client.options.keyPrefix ?? ""}${keyPrefix}`
  const sharesSlot = !isCluster(client) || hasHashTag(fullPrefix)
  const keyOf = (identifiers: IdempotencyIdentifiers): string => keyPrefix + storedKey(identifiers)
  // No identity has this key: theirs hold a colon after the prefix.
  const nobodysKey = `${keyPrefix}probe`
  const refail = (operation: string, method: string) => {
    const toStorageError = storageError(operation, method)
    return (error: unknown) => toStorageError(explain(error))
  }
  const calls = makeCalls({
    send: makeSend(client, issueFor(client)),
    keyOf,
    refail,
    turn: isCluster(client) ? undefined : (flush) => process.nextTick(flush)
  })
  const { call, chunked, one, together } = calls
  const confirmed = durable === undefined ? calls : makeCalls({ ...durable.confirming, keyOf, refail })

  const many = <Request, Reply>(verb: Verb<Request, Reply>, members: ReadonlyArray<Protocol.For<Request>>) =>
    chunked(verb, members, sharesSlot ? undefined : 1)

  const snapshot = one(verbs.read)
  const renewOne = one(verbs.renew)

  /** A server that is full still reads: what is not claimable is answered from what is stored, by the server's time. */
  const claimFromSnapshot = (
    identifiers: IdempotencyIdentifiers,
    request: Protocol.ClaimRequest,
    refusal: IdempotencyStorageError
  ): Call<Protocol.ClaimReply, IdempotencyStorageError> =>
    snapshot(identifiers, undefined).followed(() =>
      Effect.matchEffect({
        onFailure: () => Effect.fail(refusal),
        onSuccess: ({ now, state }) => {
          if (state?._tag === "Corrupted") return Effect.succeed(state)
          const { reply } = transition.claim(state, request, now)
          return isOwner(reply) ? Effect.fail(refusal) : Effect.succeed(reply)
        }
      })
    )

  /** Its node's failure is not that of the leases on other nodes. */
  const renewAlone = ({ identifiers, request }: Protocol.For<Protocol.RenewRequest>) =>
    Effect.catchAll(renewOne(identifiers, request), (error) =>
      Effect.succeed<Protocol.RenewReply>({ _tag: "Failed", error })
    )

  // One that is not confirmed fails and stays: the next attempt finds it and asks again for its confirmation, and the
  // engine releases it when it gives up.
  const claiming: Otherwise<Protocol.ClaimRequest, Protocol.ClaimReply> = {
    hasWritten: isOwner,
    instead: (error, identifiers, request) =>
      isRefusedForMemory(error.cause) ? claimFromSnapshot(identifiers, request, error) : undefined
  }

  const completing: Otherwise<Protocol.CompleteRequest, Protocol.CompleteReply> = {
    hasWritten: isDone,
    unconfirmed: (reply, { operation }) => Effect.as(durable?.recordUnconfirmed(operation) ?? Effect.void, reply)
  }

  const driver: Protocol.Driver = {
    name: "redis",
    claim: confirmed.one(verbs.claim, claiming),
    complete: confirmed.one(verbs.complete, completing),
    release: one(verbs.release),
    hold: one(verbs.hold),
    saveStep: one(verbs.saveStep),
    resolve: one(verbs.resolve),
    reset: one(verbs.reset),
    renew: (leases) =>
      sharesSlot || leases.length === 1
        ? many(verbs.renew, leases)
        : Effect.forEach(leases, renewAlone, { concurrency: "unbounded" }),
    read: (identifiers) =>
      Effect.map(many(verbs.read, unbound(identifiers)), (snapshots) => snapshots.map(({ state }) => state)),
    insert: (records, { allOrNothing }) =>
      records.length > 1 && allOrNothing ? together(verbs.insertTogether, records) : many(verbs.insert, records),
    partOf: isCluster(client)
      ? (identifiers) => client.slots[slotOf(fullPrefix + storedKey(identifiers))]?.[0] ?? ""
      : undefined,
    atomicTogether: (identifiers) => sharesSlot || new Set(identifiers.map(keyOf)).size <= 1,
    remove: (identifiers) => many(verbs.remove, unbound(identifiers)),
    changes: (identifiers) => changes.of(fullPrefix + storedKey(identifiers)),
    objection: durable?.confirming.objection,
    list: makeList({
      client,
      fullPrefix,
      refail,
      look: (identifiers) => many(verbs.list, unbound(identifiers)),
      now: (operation) =>
        Effect.map(call(verbs.list, operation, [nobodysKey], [undefined]), ([found]) => found?.now ?? 0)
    })
  }

  const probe = Effect.zipRight(
    call(verbs.probe, "", [nobodysKey], [undefined]),
    durable === undefined ? Effect.void : Effect.mapError(durable.confirming.probe, refail("", "probe"))
  )

  return { driver, probe }
}
