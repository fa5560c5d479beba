import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { IdempotencyValidationError } from "../IdempotencyError.js"
import type { IdempotencyRepository } from "../IdempotencyRepository.js"
import { readOptions } from "./options.js"
import type { Completed, Driver } from "./protocol.js"
import { type Copies, type Copy, withCopies } from "./settledCopies.js"
import { storedKey } from "./storedKey.js"

interface Entry {
  readonly record: Completed
  readonly until: number
  readonly bytes: number
}

/** Copies in this process, least recently used first; those that are used no more go first. */
const makeLocalCopies = (capacity: number, maxBytes: number): Copies => {
  const entries = new Map<string, Entry>()
  let bytes = 0

  const drop = (key: string, entry: Entry): void => {
    entries.delete(key)
    bytes -= entry.bytes
  }

  const get = (key: string, now: number): Completed | undefined => {
    const entry = entries.get(key)
    if (entry === undefined) return undefined
    if (now >= entry.until) {
      drop(key, entry)
      return undefined
    }
    entries.delete(key)
    entries.set(key, entry)
    return entry.record
  }

  const put = ({ identifiers, record, until }: Copy): void => {
    const key = storedKey(identifiers)
    const before = entries.get(key)
    if (before !== undefined) drop(key, before)
    // An unavailable result may be one that this process could not store, and another still can.
    if (record.outcome._tag === "Unavailable") return
    const entry = { record, until, bytes: Buffer.byteLength(key) + Buffer.byteLength(record.outcome.encoded) }
    if (entry.bytes > maxBytes) return
    entries.set(key, entry)
    bytes += entry.bytes
    for (const [oldest, its] of entries) {
      if (entries.size <= capacity && bytes <= maxBytes) return
      drop(oldest, its)
    }
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
          if (entry !== undefined) drop(key, entry)
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
