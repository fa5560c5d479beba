/** The memory store, seen from outside: what every operation made of a key, and whether it was allowed to. */
import * as Effect from "effect/Effect"
import type { IdempotencyStorageError } from "../../src/IdempotencyError.js"
import type { IdempotencyIdentifiers } from "../../src/IdempotencyIdentifiers.js"
import { makeMemoryDriver } from "../../src/internal/memoryDriver.js"
import type { Completed, Driver, State } from "../../src/internal/protocol.js"
import type { VirtualTime } from "./virtualTime.js"

export interface Change {
  readonly at: number
  readonly key: string
  readonly process: number | undefined
  readonly method: string
  readonly token: string | undefined
  readonly before: State | undefined
  readonly after: State | undefined
  readonly reply: string
}

export interface ObservedStore {
  /** As seen by a process, or by the operator. */
  readonly driverOf: (process: number | undefined) => Driver
  /** All that is stored is lost. */
  readonly wipe: () => void
  readonly stateOf: (identifiers: IdempotencyIdentifiers) => State | undefined
  /** Every operation that changed something or was answered, in order. */
  readonly changes: ReadonlyArray<Change>
}

/** A store with a fault in it, made from the sound one. */
export type StoreMutation = (driver: Driver, now: () => number) => Driver

export const makeObservedStore = (
  time: VirtualTime,
  mutate: StoreMutation,
  onChange: (change: Change) => void
): ObservedStore => {
  const clock = time.clockOf({ pausedUntil: 0 })
  const changes: Array<Change> = []
  const make = () => {
    const { driver } = makeMemoryDriver(Number.POSITIVE_INFINITY)
    return { sound: driver, served: mutate(driver, time.now) }
  }
  let memory = make()
  const known = new Map<string, IdempotencyIdentifiers>()

  const now = <A>(effect: Effect.Effect<A, IdempotencyStorageError>): A =>
    Effect.runSync(Effect.withClock(effect, clock))
  const stateOf = (identifiers: IdempotencyIdentifiers): State | undefined => {
    const [state] = now(memory.sound.read([identifiers]))
    return state?._tag === "Corrupted" ? undefined : state
  }
  const note = (change: Omit<Change, "at">): void => {
    const noted = { ...change, at: time.now() }
    changes.push(noted)
    onChange(noted)
  }

  const observed =
    (process: number | undefined, method: string) =>
    <A>(
      identifiers: IdempotencyIdentifiers,
      token: string | undefined,
      call: (driver: Driver) => Effect.Effect<A, IdempotencyStorageError>,
      describe: (reply: A) => string
    ): Effect.Effect<A> =>
      Effect.sync(() => {
        const key = identifiers.idempotencyKey
        known.set(key, identifiers)
        const before = stateOf(identifiers)
        const reply = now(call(memory.served))
        note({ key, process, method, token, before, after: stateOf(identifiers), reply: describe(reply) })
        return reply
      })

  const tag = ({ _tag }: { readonly _tag: string }) => _tag

  return {
    driverOf: (process) => {
      const at = (method: string) => observed(process, method)
      return {
        name: "observed",
        claim: (ids, request) => at("claim")(ids, request.token, (driver) => driver.claim(ids, request), tag),
        complete: (ids, request) => at("complete")(ids, request.token, (driver) => driver.complete(ids, request), tag),
        release: (ids, request) => at("release")(ids, request.token, (driver) => driver.release(ids, request), tag),
        hold: (ids, request) => at("hold")(ids, request.token, (driver) => driver.hold(ids, request), tag),
        saveStep: (ids, request) => at("saveStep")(ids, request.token, (driver) => driver.saveStep(ids, request), tag),
        resolve: (ids, request) => at("resolve")(ids, request.token, (driver) => driver.resolve(ids, request), tag),
        reset: (ids, request) => at("reset")(ids, undefined, (driver) => driver.reset(ids, request), tag),
        renew: (leases) =>
          Effect.map(
            Effect.forEach(leases, (lease) =>
              at("renew")(
                lease.identifiers,
                lease.request.token,
                (driver) => driver.renew([lease]),
                ([reply]) => reply?._tag ?? "nothing"
              )
            ),
            (replies) => replies.flat()
          ),
        read: (identifiers) => Effect.suspend(() => memory.served.read(identifiers)),
        insert: (records, options) => Effect.suspend(() => memory.served.insert(records, options)),
        atomicTogether: () => true,
        remove: (identifiers) => Effect.suspend(() => memory.served.remove(identifiers)),
        changes: (identifiers) => Effect.suspend(() => memory.served.changes(identifiers))
      }
    },
    wipe: () => {
      const before = new Map(Array.from(known, ([key, identifiers]) => [key, stateOf(identifiers)]))
      memory = make()
      for (const [key, state] of before) {
        const change = { key, process: undefined, method: "wipe", token: undefined, reply: "Wiped" }
        note({ ...change, before: state, after: undefined })
      }
    },
    stateOf,
    changes
  }
}

const isOther = (a: string | undefined, b: string | undefined) => a !== undefined && b !== undefined && a !== b

/** What a store must never do, whatever it is asked; nothing if all is well. */
export const wrongOf = ({ after, at, before, method, reply, token }: Change): string | undefined => {
  if (before === after || method === "wipe") return undefined
  if (after === undefined) return "a key went without being removed"
  if (before === undefined) return undefined
  if (after.attempt < before.attempt) return "the attempt fell"
  if (before._tag === "Completed") return method === "reset" ? undefined : "a recorded result changed"
  if (before._tag === "Released") return before.token === token ? "a released token was given something" : undefined
  if (after._tag === "Completed" && isOther(before.fingerprint, after.fingerprint)) return "the fingerprint changed"
  if (before.token === after.token || method === "resolve") return undefined
  if (before._tag === "Unknown") return "an unknown outcome was given to another"
  if (at < before.leaseUntil) return `a live owner lost its key (${reply})`
  return before.guarantee === "at-most-once" ? "an owner under at-most-once was replaced" : undefined
}

/** A lease lapsed: its key was given to another, or is of unknown outcome from now on. */
export const isTakeOver = ({ after, before, method }: Change): boolean =>
  method === "claim" &&
  before?._tag === "Processing" &&
  (after?._tag === "Unknown" || (after?._tag === "Processing" && after.token !== before.token))

/** The record that a change brought into being. */
export const recordedBy = ({ after, before }: Change): Completed | undefined =>
  after?._tag === "Completed" && after !== before ? after : undefined
