import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Iterable from "effect/Iterable"
import * as Schedule from "effect/Schedule"
import { IdempotencyStorageError } from "../IdempotencyError.js"
import type { IdempotencyIdentifiers } from "../IdempotencyIdentifiers.js"
import { answered, nowIn } from "./call.js"
import { decodeCursor, encodeCursor, entryOf, overview } from "./listing.js"
import type { Driver, Entry, For, InsertReply, InsertRequest, ListReply, ListRequest, State } from "./protocol.js"
import { identifiersOf, storedKey } from "./storedKey.js"
import * as transition from "./transition.js"
import { makeWakeUps } from "./wakeUps.js"

/** Keys that are looked at in one go, so that a sweep never holds up the event loop. */
const keysAtOnce = 10_000

/** Milliseconds for which others have their turn. */
const betweenSweeps = 1

const isDroppable = (state: State): boolean => state._tag === "Completed" || state._tag === "Released"

const cursorAfter = (entries: ReadonlyArray<Entry>): string | undefined => {
  const last = entries.at(-1)
  return last === undefined ? undefined : encodeCursor("memory", storedKey(last.identifiers))
}

/** The transition function over a `Map`. */
export const makeMemoryDriver = (
  capacity: number
): {
  readonly driver: Driver
  /** Drops all that has expired. */
  readonly sweep: Effect.Effect<void>
} => {
  const states = new Map<string, State>()
  /** The keys whose state may be dropped for room, longest settled first. */
  const droppable = new Set<string>()
  /** When what was inserted for less than its own time goes: a copy. */
  const goesAt = new Map<string, number>()
  const wakeUps = makeWakeUps()

  const drop = (key: string): void => {
    states.delete(key)
    droppable.delete(key)
    goesAt.delete(key)
  }

  const stored = (key: string, now: number): State | undefined => {
    const end = goesAt.get(key)
    if (end !== undefined && now >= end) drop(key)
    return states.get(key)
  }

  let cursor = states.entries()
  /** Looks at the next keys, and drops those that have expired; true once it has come to the last one. */
  const unsafeSweep = (now: number): boolean => {
    for (let looked = 0; looked < keysAtOnce; looked++) {
      const next = cursor.next()
      if (next.done === true) {
        cursor = states.entries()
        return true
      }
      const [key] = next.value
      if (transition.live(stored(key, now), now) === undefined) drop(key)
    }
    return false
  }

  /** Makes room for those of the keys that are not there yet, at the cost of none of them; false if it cannot. */
  const makeRoom = (keys: ReadonlySet<string>, now: number): boolean => {
    const excess = (): number =>
      states.size + Iterable.size(Iterable.filter(keys, (key) => !states.has(key))) - capacity
    const oldest = (): Iterable<string> =>
      Iterable.take(
        Iterable.filter(droppable, (key) => !keys.has(key)),
        excess()
      )
    if (excess() > Iterable.size(oldest())) unsafeSweep(now)
    const going = Array.from(oldest())
    if (excess() > going.length) return false
    going.forEach(drop)
    return true
  }

  const put = (key: string, state: State, now: number): boolean => {
    if (states.size >= capacity && !states.has(key) && !makeRoom(new Set([key]), now)) return false
    states.set(key, state)
    goesAt.delete(key)
    droppable.delete(key)
    if (isDroppable(state)) droppable.add(key)
    if (state._tag !== "Processing") wakeUps.unsafeNotify(key)
    return true
  }

  const full = (operation: string, method: string) =>
    new IdempotencyStorageError({
      operation,
      method,
      reason: "Rejected",
      applied: "no",
      cause: new Error(`there is no room: ${capacity} keys at most, and claims are not dropped`)
    })

  const unsafeApply = <Reply>(
    method: string,
    identifiers: IdempotencyIdentifiers,
    now: number,
    next: (state: State | undefined) => transition.Transition<Reply>
  ): Reply => {
    const key = storedKey(identifiers)
    const before = stored(key, now)
    const { reply, state } = next(before)
    if (state === undefined) drop(key)
    else if (state !== before && !put(key, state, now)) throw full(identifiers.operation, method)
    return reply
  }

  const atNow = <A>(evaluate: (now: number) => A): Effect.Effect<A, IdempotencyStorageError> =>
    answered((fiber) => {
      try {
        return Effect.succeed(evaluate(nowIn(fiber)))
      } catch (error) {
        return error instanceof IdempotencyStorageError ? Effect.fail(error) : Effect.die(error)
      }
    })

  const verb =
    <Request, Reply>(
      method: string,
      next: (state: State | undefined, request: Request, now: number) => transition.Transition<Reply>
    ) =>
    (identifiers: IdempotencyIdentifiers, request: Request) =>
      atNow((now) => unsafeApply(method, identifiers, now, (state) => next(state, request, now)))

  const insertOne = ({ identifiers, request }: For<InsertRequest>, now: number): InsertReply => {
    const key = storedKey(identifiers)
    const before = stored(key, now)
    const reply = unsafeApply("insert", identifiers, now, (state) => transition.insert(state, request, now))
    const end = now + request.retention
    if (states.get(key) !== before && end < request.expiresAt) goesAt.set(key, end)
    return reply
  }

  /** In the order of stored keys; the cursor is the last of the page. */
  const page = (request: ListRequest, now: number): ListReply => {
    const { cursor, limit } = request
    const [after, ...more] = cursor === undefined ? [""] : (decodeCursor("memory", cursor) ?? [])
    if (after === undefined || more.length > 0) return { _tag: "BadCursor" }
    const entries: Array<Entry> = []
    for (const key of [...states.keys()].filter((key) => key > after).sort()) {
      if (entries.length >= limit) return { _tag: "Page", entries, cursor: cursorAfter(entries), now }
      const state = stored(key, now)
      const identifiers = identifiersOf(key)
      const entry =
        state === undefined || identifiers === undefined
          ? undefined
          : entryOf(request, identifiers, overview(state), now)
      if (entry !== undefined) entries.push(entry)
    }
    return { _tag: "Page", entries, cursor: undefined, now }
  }

  const driver: Driver = {
    name: "memory",
    claim: verb("claim", transition.claim),
    complete: verb("complete", transition.complete),
    release: verb("release", transition.release),
    hold: verb("hold", transition.hold),
    saveStep: verb("saveStep", transition.saveStep),
    resolve: verb("resolve", transition.resolve),
    reset: verb("reset", transition.reset),
    renew: (leases) =>
      atNow((now) =>
        leases.map(({ identifiers, request }) =>
          unsafeApply("renew", identifiers, now, (state) => transition.renew(state, request, now))
        )
      ),
    read: (identifiers) => atNow((now) => identifiers.map((ids) => transition.live(stored(storedKey(ids), now), now))),
    insert: (records, { allOrNothing }) =>
      atNow((now) => {
        if (allOrNothing) {
          const attempts = records.map(
            ({ identifiers, request }) => transition.insert(stored(storedKey(identifiers), now), request, now).reply
          )
          if (attempts.some(({ _tag }) => _tag !== "Inserted")) return attempts
          const keys = new Set(records.map(({ identifiers }) => storedKey(identifiers)))
          if (!makeRoom(keys, now)) throw full(records[0]?.identifiers.operation ?? "", "insert")
        }
        return records.map((record) => insertOne(record, now))
      }),
    atomicTogether: () => true,
    remove: (identifiers) =>
      atNow((now) =>
        identifiers.map((ids) => unsafeApply("remove", ids, now, (state) => transition.remove(state, now)))
      ),
    changes: (identifiers) => wakeUps.subscribe(storedKey(identifiers)),
    list: (request) => atNow((now) => page(request, now))
  }

  const sweep = Effect.asVoid(
    Effect.repeat(Effect.map(Clock.currentTimeMillis, unsafeSweep), {
      until: (isOver) => isOver,
      schedule: Schedule.spaced(betweenSweeps)
    })
  )
  return { driver, sweep }
}
