/** A store made of the transition function, of which any part can be replaced by a faulty one. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { IdempotencyIdentifiers } from "../../src/IdempotencyIdentifiers.js"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import { decodeCursor, encodeCursor, entryOf, overview } from "../../src/internal/listing.js"
import type { Driver, ListReply, ListRequest, State } from "../../src/internal/protocol.js"
import { storedKey } from "../../src/internal/storedKey.js"
import * as transition from "../../src/internal/transition.js"

type Transitions = Omit<typeof transition, "live">

/** What may be wrong with a store. */
export interface Fault {
  readonly transitions?: Partial<Transitions>
  readonly keyOf?: (identifiers: IdempotencyIdentifiers) => string
  /** Asked before each operation: whether it is never answered. */
  readonly hangs?: () => boolean
  /** Reads, lets others go first, then writes. */
  readonly notAtomic?: boolean
  /** A lease ends by the clock of who asked for it, and is judged by the store's. */
  readonly leasesByClientsClock?: boolean
  /** When the key really goes, whatever its state says. */
  readonly timeToLive?: (state: State, before: State | undefined, now: number) => number
  /** What becomes of the replies to many, by what a sound one would answer. */
  readonly batch?: <Reply>(replies: ReadonlyArray<Reply>) => ReadonlyArray<Reply>
  /** Many are saved all or none, it says, and saves none. */
  readonly savesNoneTogether?: boolean
  /** What becomes of a list, by what a sound one would answer. */
  readonly list?: (sound: (request: ListRequest) => ListReply, request: ListRequest) => ListReply
  /** Cannot list. */
  readonly noList?: boolean
}

interface Stored {
  readonly identifiers: IdempotencyIdentifiers
  readonly state: State
  readonly goesAt: number
}

const makeFaultyDriver = (fault: Fault, storeNow: () => number): Driver => {
  const stored = new Map<string, Stored>()
  const step = { ...transition, ...fault.transitions }
  const keyOf = fault.keyOf ?? storedKey

  const apply = <Reply>(
    identifiers: IdempotencyIdentifiers,
    next: (state: State | undefined, now: number) => transition.Transition<Reply>
  ): Effect.Effect<Reply> =>
    Effect.gen(function* () {
      const now = storeNow()
      const ahead = (yield* Clock.currentTimeMillis) - now
      const key = keyOf(identifiers)
      const found = stored.get(key)
      const before = found !== undefined && now < found.goesAt ? found.state : undefined
      if (fault.hangs?.()) yield* Effect.never
      if (fault.notAtomic === true) yield* Effect.yieldNow()
      const { reply, state: sound } = next(before, now)
      const state =
        fault.leasesByClientsClock === true && sound?._tag === "Processing" && sound !== before
          ? { ...sound, leaseUntil: sound.leaseUntil + ahead }
          : sound
      if (state === undefined) stored.delete(key)
      else if (state !== before) {
        stored.set(key, { identifiers, state, goesAt: fault.timeToLive?.(state, before, now) ?? state.expiresAt })
      }
      return reply
    })

  const together = <A, Reply>(all: ReadonlyArray<A>, one: (member: A) => Effect.Effect<Reply>) =>
    Effect.map(Effect.forEach(all, one), (replies) => fault.batch?.(replies) ?? replies)

  const page = (request: ListRequest): ListReply => {
    const [after, ...more] = request.cursor === undefined ? [""] : (decodeCursor("faulty", request.cursor) ?? [])
    if (after === undefined || more.length > 0) return { _tag: "BadCursor" }
    const now = storeNow()
    const entries = Array.from(stored.values())
      .filter(({ goesAt, identifiers }) => now < goesAt && storedKey(identifiers) > after)
      .sort((one, other) => (storedKey(one.identifiers) < storedKey(other.identifiers) ? -1 : 1))
      .flatMap(({ identifiers, state }) => entryOf(request, identifiers, overview(state), now) ?? [])
    const last = entries[request.limit - 1]
    const cursor =
      last === undefined || entries.length <= request.limit
        ? undefined
        : encodeCursor("faulty", storedKey(last.identifiers))
    return { _tag: "Page", entries: entries.slice(0, request.limit), cursor, now }
  }

  return {
    name: "faulty",
    list: fault.noList
      ? undefined
      : (request) => Effect.sync(() => (fault.list === undefined ? page(request) : fault.list(page, request))),
    claim: (ids, request) => apply(ids, (state, now) => step.claim(state, request, now)),
    complete: (ids, request) => apply(ids, (state, now) => step.complete(state, request, now)),
    release: (ids, request) => apply(ids, (state, now) => step.release(state, request, now)),
    hold: (ids, request) => apply(ids, (state, now) => step.hold(state, request, now)),
    saveStep: (ids, request) => apply(ids, (state, now) => step.saveStep(state, request, now)),
    resolve: (ids, request) => apply(ids, (state, now) => step.resolve(state, request, now)),
    reset: (ids, request) => apply(ids, (state, now) => step.reset(state, request, now)),
    renew: (leases) =>
      together(leases, ({ identifiers, request }) =>
        apply(identifiers, (state, now) => step.renew(state, request, now))
      ),
    read: (all) => together(all, (ids) => apply(ids, (state, now) => ({ state, reply: transition.live(state, now) }))),
    insert: (records, { allOrNothing }) =>
      together(records, ({ identifiers, request }) =>
        apply(identifiers, (state, now) => {
          const next = step.insert(state, request, now)
          return allOrNothing && records.length > 1 ? { ...next, state } : next
        })
      ),
    // Else no batch can be rolled back.
    atomicTogether: (identifiers) => identifiers.length <= 1 || fault.savesNoneTogether === true,
    remove: (all) => together(all, (ids) => apply(ids, step.remove)),
    changes: () => Effect.succeed(Effect.never)
  }
}

/** The store has a clock of its own. */
export const faultyStore = (fault: Fault, storeNow: () => number): Layer.Layer<IdempotencyRepository> =>
  Layer.effect(
    IdempotencyRepository,
    Effect.suspend(() => IdempotencyRepository.make(makeFaultyDriver(fault, storeNow)))
  )
