/**
 * The verbs over the table. What each does is the transition function's to say: a verb reads the row and the
 * database's time, and writes what follows unless the row, or how it is judged, has changed in between; then again.
 */
import { SqlError } from "@effect/sql/SqlError"
import * as Array from "effect/Array"
import * as Effect from "effect/Effect"
import { identity, pipe } from "effect/Function"
import type { IdempotencyStorageError } from "../../IdempotencyError.js"
import type { IdempotencyIdentifiers } from "../../IdempotencyIdentifiers.js"
import type * as Protocol from "../protocol.js"
import * as transition from "../transition.js"
import type { Changes } from "./changes.js"
import { type Claims, inTransactionOf } from "./claims.js"
import { whileLocked } from "./connections.js"
import { isBusy, isConflict, isLockTimeout, isMembersFault, storageError } from "./errors.js"
import { type Found, membersPerStatement, nameOf, type Records, visible } from "./records.js"

/** A key that so many others change at once is tried again by the engine. */
const tries = 20

/** Sorted like the conflict of a transaction. */
const contended = (): SqlError =>
  new SqlError({
    cause: Object.assign(new Error("others change the key all the time"), { code: "40001" }),
    message: "Gave up"
  })

export interface DriverDependencies {
  readonly records: Records
  /**
   * Where a write waits for a transaction that holds its row longer than anybody waits for the write, and then still
   * takes effect, the row is asked for first, for so many milliseconds; `undefined` where it does not.
   */
  readonly patience: number | undefined
  /** What the engine asks for waits so long for a connection. */
  readonly bounded: <A>(call: Effect.Effect<A, SqlError>) => Effect.Effect<A, SqlError>
  readonly claims: Claims | undefined
  readonly changes: Changes
  /** Runs on one connection, in a transaction: all of it or nothing. */
  readonly atomically: <A>(body: (records: Records) => Effect.Effect<A, SqlError>) => Effect.Effect<A, SqlError>
  readonly objection: Protocol.Driver["objection"]
  readonly list: Protocol.Driver["list"]
}

type Next<Reply> = (state: Protocol.State | undefined, now: number) => transition.Transition<Reply>

/** Asks for rows before a write of them, and fails with a lock timeout where a transaction holds one. */
type Look = (store: Records, identifiers: ReadonlyArray<IdempotencyIdentifiers>) => Effect.Effect<void, SqlError>

const unasked: Look = () => Effect.void
const atOnce: Look = (store, identifiers) => store.available(identifiers)

const operationsOf = (members: ReadonlyArray<IdempotencyIdentifiers>): string =>
  Array.dedupe(members.map(({ operation }) => operation)).join(",")

export const makeSqlDriver = ({
  atomically,
  bounded,
  changes,
  claims,
  list,
  objection,
  patience,
  records
}: DriverDependencies): Protocol.Driver => {
  const patiently: Look = patience === undefined ? unasked : (store, all) => whileLocked(patience)(atOnce(store, all))

  /** What others have written in between, or a transaction that met another one, is tried again at once. */
  const again = <A>(attempt: Effect.Effect<A | undefined, SqlError>): Effect.Effect<A, SqlError> => {
    const loop = (left: number): Effect.Effect<A, SqlError> =>
      attempt.pipe(
        Effect.catchAll((error) =>
          isConflict(error) && !isBusy(error) && left > 1
            ? Effect.succeed<A | undefined>(undefined)
            : Effect.fail(error)
        ),
        Effect.flatMap((done) => {
          if (done !== undefined) return Effect.succeed(done)
          return left > 1 ? loop(left - 1) : Effect.fail(contended())
        })
      )
    return loop(tries)
  }

  const write = (
    store: Records,
    identifiers: IdempotencyIdentifiers,
    found: Found,
    state: Protocol.State | undefined,
    look: Look
  ): Effect.Effect<boolean, SqlError> => {
    const written =
      found.version === undefined && state !== undefined
        ? store.insert(identifiers, state)
        : store.replace(identifiers, found, state)
    return Effect.tap(Effect.zipRight(look(store, [identifiers]), written), (done) => {
      if (done && state?._tag !== "Processing") changes.unsafeNotify(identifiers)
    })
  }

  /** The reply to what was found, once what follows from it is written; `undefined` if that was too late. */
  const apply = <Reply>(
    store: Records,
    identifiers: IdempotencyIdentifiers,
    found: Found,
    next: Next<Reply>,
    look: Look
  ): Effect.Effect<Reply | Protocol.Corrupted | undefined, SqlError> => {
    if (found.state?._tag === "Corrupted") return Effect.succeed(found.state)
    const before = transition.live(found.state, found.now)
    const { reply, state } = next(before, found.now)
    return state === before
      ? Effect.succeed(reply)
      : Effect.map(write(store, identifiers, found, state, look), (done) => (done ? reply : undefined))
  }

  const settle = <Reply>(
    identifiers: IdempotencyIdentifiers,
    next: Next<Reply>,
    first?: Found,
    look = patiently
  ): Effect.Effect<Reply | Protocol.Corrupted, SqlError> => {
    let found = first
    return again(
      Effect.suspend(() => {
        const known = found
        found = undefined
        return Effect.flatMap(known === undefined ? records.read(identifiers) : Effect.succeed(known), (read) =>
          apply(records, identifiers, read, next, look)
        )
      })
    )
  }

  const verb =
    <Request, Reply>(
      method: string,
      next: (state: Protocol.State | undefined, request: Request, now: number) => transition.Transition<Reply>,
      within: DriverDependencies["bounded"] = identity
    ) =>
    (
      identifiers: IdempotencyIdentifiers,
      request: Request
    ): Effect.Effect<Reply | Protocol.Corrupted, IdempotencyStorageError> =>
      Effect.mapError(
        within(settle(identifiers, (state, now) => next(state, request, now))),
        storageError(identifiers.operation, method)
      )

  /**
   * A row that an open transaction holds, or all of SQLite: an owner may well be running, and nobody knows for how long.
   * Whoever waits asks again before that.
   */
  const heldByTransaction: Protocol.ClaimReply = { _tag: "InFlight", remaining: inTransactionOf }

  const claim: Protocol.Driver["claim"] = (identifiers, request) => {
    const first = claims === undefined ? Effect.succeed(undefined) : claims.claim(identifiers, request)
    const settled = Effect.flatMap(first, (tried) =>
      tried?._tag === "Claimed"
        ? Effect.succeed<Protocol.ClaimReply>(tried)
        : settle(identifiers, (state, now) => transition.claim(state, request, now), tried?.found)
    )
    return Effect.catchAll(bounded(settled), (error) =>
      isLockTimeout(error) || isBusy(error)
        ? Effect.succeed(heldByTransaction)
        : Effect.fail(storageError(identifiers.operation, "claim")(error))
    )
  }

  /** A row that cannot be read goes altogether. */
  const discard = (identifiers: IdempotencyIdentifiers): Effect.Effect<Protocol.ResetReply, IdempotencyStorageError> =>
    Effect.mapError(
      again(
        Effect.flatMap(records.read(identifiers), (found) =>
          found.state?._tag === "Corrupted"
            ? Effect.map(
                write(records, identifiers, found, undefined, patiently),
                (done): Protocol.ResetReply | undefined => (done ? { _tag: "Reset" } : undefined)
              )
            : Effect.succeed<Protocol.ResetReply>({ _tag: "Reset" })
        )
      ),
      storageError(identifiers.operation, "reset")
    )

  /** What an owner does nearly always is one statement where the database tells what it did. */
  const complete: Protocol.Driver["complete"] = (identifiers, request) => {
    const completed = Effect.flatMap(records.complete(identifiers, request), (done) => {
      if (done === undefined) return settle(identifiers, (state, now) => transition.complete(state, request, now))
      changes.unsafeNotify(identifiers)
      return Effect.succeed(done)
    })
    return Effect.mapError(bounded(completed), (error) =>
      // "no" would be taken for a refusal of this outcome, and another recorded in its place.
      storageError(identifiers.operation, "complete", isBusy(error))(error)
    )
  }

  /** All that were found in one read; `together` does what it can in one statement, and names what it has done. */
  const settleAll = <Request, Reply>(
    method: string,
    members: ReadonlyArray<Protocol.For<Request>>,
    next: (state: Protocol.State | undefined, request: Request, now: number) => transition.Transition<Reply>,
    together: (
      found: ReadonlyArray<Found>
    ) => Effect.Effect<{ readonly names: ReadonlySet<string>; readonly reply: Reply }, SqlError>
  ): Effect.Effect<Array<Reply | Protocol.Corrupted>, IdempotencyStorageError> => {
    const all = members.map(({ identifiers }) => identifiers)
    const failed = (isPartly: boolean) => Effect.mapError(storageError(operationsOf(all), method, isPartly))
    const settleEach = (done: { readonly names: ReadonlySet<string>; readonly reply: Reply }) =>
      Effect.forEach(
        members,
        ({ identifiers, request }) => {
          if (!done.names.has(nameOf(identifiers)))
            return settle(identifiers, (state, now) => next(state, request, now))
          changes.unsafeNotify(identifiers)
          return Effect.succeed(done.reply)
        },
        { concurrency: 8 }
      )
    return pipe(
      failed(false)(records.readMany(all)),
      Effect.flatMap((found) => failed(members.length > membersPerStatement)(together(found))),
      Effect.flatMap((done) => failed(members.length > 1)(settleEach(done)))
    )
  }

  const availableOf = (members: ReadonlyArray<{ readonly identifiers: IdempotencyIdentifiers }>) =>
    patiently(
      records,
      members.map(({ identifiers }) => identifiers)
    )

  const insert = (members: ReadonlyArray<Protocol.For<Protocol.InsertRequest>>) =>
    settleAll<Protocol.InsertRequest, Protocol.InsertReply>("insert", members, transition.insert, (found) => {
      const absent = members.flatMap(({ identifiers, request }, index) => {
        const { now, version } = found[index] ?? { now: 0, version: 0 }
        const { state } = transition.insert(undefined, request, now)
        return version === undefined && state !== undefined ? [{ identifiers, state }] : []
      })
      return Effect.map(Effect.zipRight(availableOf(absent), records.insertMany(absent)), (names) => ({
        names,
        reply: { _tag: "Inserted" }
      }))
    })

  const remove = (identifiers: ReadonlyArray<IdempotencyIdentifiers>) =>
    settleAll(
      "remove",
      identifiers.map((ids) => ({ identifiers: ids, request: undefined })),
      (state, _, now) => transition.remove(state, now),
      (found) => {
        const settled = identifiers.flatMap((ids, index) => {
          const { state, version } = found[index] ?? { state: undefined, version: undefined }
          return state?._tag === "Completed" && version !== undefined ? [{ identifiers: ids, version }] : []
        })
        return Effect.map(records.deleteMany(settled), (names) => ({ names, reply: true }))
      }
    )

  /** Each by itself: what others do to one key, or hold its row for, is no reason not to renew another. */
  const renewApart = (leases: ReadonlyArray<Protocol.For<Protocol.RenewRequest>>) => {
    const all = leases.map(({ identifiers }) => identifiers)
    // Which of them it is, only a look at each tells; many that are held take no longer than an attempt may.
    const looking = Effect.catchIf(Effect.as(atOnce(records, all), unasked), isLockTimeout, () =>
      Effect.succeed(atOnce)
    )
    return Effect.flatMap(Effect.zip(records.readMany(all), looking), ([found, look]) =>
      Effect.forEach(
        leases,
        ({ identifiers, request }, index) =>
          Effect.catchIf(
            settle(identifiers, (state, now) => transition.renew(state, request, now), found[index], look),
            (error) => isMembersFault(error) || isConflict(error),
            (error) =>
              Effect.succeed<Protocol.RenewReply>({
                _tag: "Failed",
                error: storageError(identifiers.operation, "renew")(error)
              })
          ),
        { concurrency: 8 }
      )
    )
  }

  const renew: Protocol.Driver["renew"] = (leases) => {
    const byLease = Array.groupBy(leases, ({ request }) => String(Math.ceil(request.lease)))
    const renewed = Effect.forEach(Object.values(byLease), (group) =>
      records.renew(
        Math.ceil(group[0].request.lease),
        group.map(({ identifiers, request }) => ({ identifiers, token: request.token }))
      )
    )
    const replies = Effect.flatMap(renewed, (groups): Effect.Effect<ReadonlyArray<Protocol.RenewReply>, SqlError> => {
      const isRenewed = ({ identifiers }: Protocol.For<unknown>) =>
        groups.some((names) => names.has(nameOf(identifiers)))
      const others = leases.filter((lease) => !isRenewed(lease))
      if (others.length === 0) return Effect.succeed(leases.map(() => ({ _tag: "Renewed" })))
      return Effect.map(renewApart(others), (apart) => {
        const remaining = apart.values()
        return leases.map((lease) =>
          isRenewed(lease) ? { _tag: "Renewed" } : (remaining.next().value ?? { _tag: "Gone" })
        )
      })
    })
    return Effect.mapError(
      bounded(replies),
      storageError(operationsOf(leases.map(({ identifiers }) => identifiers)), "renew")
    )
  }

  const insertTogether = (
    members: ReadonlyArray<Protocol.For<Protocol.InsertRequest>>
  ): Effect.Effect<ReadonlyArray<Protocol.InsertReply>, SqlError> => {
    const all = members.map(({ identifiers }) => identifiers)
    const together = again(
      atomically((store) =>
        Effect.flatMap(store.readMany(all), (found) => {
          const replies = members.map(({ request }, index): Protocol.InsertReply => {
            const { now, state } = found[index] ?? { now: 0, state: undefined }
            return state?._tag === "Corrupted" ? state : transition.insert(state, request, now).reply
          })
          if (replies.some(({ _tag }) => _tag !== "Inserted")) return Effect.succeed(replies)
          const writes = Effect.forEach(members, ({ identifiers, request }, index) =>
            apply(
              store,
              identifiers,
              found[index] ?? { now: 0, version: undefined, state: undefined },
              (state, now) => transition.insert(state, request, now),
              unasked
            )
          )
          // One that comes too late takes the others with it.
          return Effect.flatMap(writes, (written) =>
            written.includes(undefined) ? Effect.fail(contended()) : Effect.succeed(replies)
          )
        })
      )
    )
    return Effect.zipRight(availableOf(members), together)
  }

  return {
    name: "sql",
    objection,
    claim,
    renew,
    complete,
    release: verb("release", transition.release, bounded),
    hold: verb("hold", transition.hold, bounded),
    saveStep: verb("saveStep", transition.saveStep, bounded),
    resolve: verb("resolve", transition.resolve),
    reset: (identifiers, { force }) =>
      Effect.flatMap(
        verb("reset", (state, _, now) => transition.reset(state, { force }, now))(identifiers, undefined),
        (reply) => (reply._tag === "Corrupted" ? discard(identifiers) : Effect.succeed(reply))
      ),
    read: (identifiers) =>
      Effect.mapBoth(bounded(records.readMany(identifiers)), {
        onFailure: storageError(operationsOf(identifiers), "read"),
        onSuccess: (found) => found.map(visible)
      }),
    insert: (members, { allOrNothing }) =>
      allOrNothing && members.length > 1
        ? Effect.mapError(
            insertTogether(members),
            storageError(operationsOf(members.map(({ identifiers }) => identifiers)), "insert")
          )
        : insert(members),
    atomicTogether: () => true,
    remove: (identifiers) => Effect.map(remove(identifiers), (removed) => removed.map((was) => was === true)),
    changes: changes.of,
    list
  }
}
