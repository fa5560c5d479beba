import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { IdempotencyValidationError } from "../IdempotencyError.js"
import type { IdempotencyRepository } from "../IdempotencyRepository.js"
import { Chain, type Link } from "./chain.js"
import { readOptions } from "./options.js"
import type { Completed, Driver } from "./protocol.js"
import { type Copies, type Copy, withCopies } from "./settledCopies.js"
import { storedKey } from "./storedKey.js"

interface Entry extends Link<Entry> {
  readonly key: string
  readonly record: Completed
  readonly until: number
  readonly bytes: number
}

/** Copies in this process; those that are used no more go first. */
const makeLocalCopies = (capacity: number, maxBytes: number): Copies => {
  const entries = new Map<string, Entry>()
  /** Least recently used first. */
  const uses = new Chain<Entry>()
  let bytes = 0

  const drop = (entry: Entry): void => {
    entries.delete(entry.key)
    uses.delete(entry)
    bytes -= entry.bytes
  }

  const get = (key: string, now: number): Completed | undefined => {
    const entry = entries.get(key)
    if (entry === undefined) return undefined
    if (now >= entry.until) {
      drop(entry)
      return undefined
    }
    uses.delete(entry)
    uses.add(entry)
    return entry.record
  }

  const put = ({ identifiers, record, until }: Copy): void => {
    const key = storedKey(identifiers)
    const before = entries.get(key)
    if (before !== undefined) drop(before)
    // An unavailable result may be one that this process could not store, and another still can.
    if (record.outcome._tag === "Unavailable") return
    const entry: Entry = {
      isIn: false,
      previous: undefined,
      next: undefined,
      key,
      record,
      until,
      bytes: Buffer.byteLength(key) + Buffer.byteLength(record.outcome.encoded)
    }
    if (entry.bytes > maxBytes) return
    entries.set(key, entry)
    uses.add(entry)
    bytes += entry.bytes
    while (uses.first !== undefined && (entries.size > capacity || bytes > maxBytes)) drop(uses.first)
  }

  return {
    get: (identifiers) =>
      Effect.map(Clock.currentTimeMillis, (now) => identifiers.map((ids) => get(storedKey(ids), now))),
    unsafeGet: (identifiers, now) => get(storedKey(identifiers), now),
    put: (copies) => Effect.sync(() => copies.forEach(put)),
    remove: (identifiers) =>
      Effect.sync(() => {
        for (const ids of identifiers) {
          const key = storedKey(ids)
          const entry = entries.get(key)
          if (entry !== undefined) drop(entry)
        }
      })
  }
}

/** What puts a cache before a driver. */
export const makeLocalCache = (
  options: IdempotencyRepository.LocalCacheOptions
): Effect.Effect<(driver: Driver) => Driver, IdempotencyValidationError> =>
  Effect.map(
    readOptions(({ duration, whole }) => ({
      capacity: whole("capacity", options.capacity ?? 10_000),
      maxBytes: whole("maxBytes", options.maxBytes ?? 64 * 1_048_576),
      timeToLive: duration("timeToLive", options.timeToLive ?? "10 seconds")
    })),
    ({ capacity, maxBytes, timeToLive }) =>
      (driver) => ({
        ...withCopies(driver, makeLocalCopies(capacity, maxBytes), timeToLive),
        name: `local+${driver.name}`
      })
  )
