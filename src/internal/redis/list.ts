/**
 * The keys of a store, a page at a time: `SCAN` on one primary after the other, and the headers of what it finds.
 *
 * A place in the list is the primaries that are done, and how far the next one is. One that is a primary no longer has a
 * successor, which is begun anew: a scan is about the tables of one server. So keys come twice rather than never, as long
 * as slots do not move meanwhile.
 */
import * as Effect from "effect/Effect"
import type { IdempotencyStorageError } from "../../IdempotencyError.js"
import type { IdempotencyIdentifiers } from "../../IdempotencyIdentifiers.js"
import { decodeCursor, encodeCursor, entryOf, isAskedFor, overview } from "../listing.js"
import type { Driver, Entry, ListReply, ListRequest } from "../protocol.js"
import { escape, identifiersOf } from "../storedKey.js"
import { isCluster, type RedisClient, type RedisNodeClient } from "./client.js"
import { MemberFailure } from "./errors.js"
import type { Snapshot } from "./verbs.js"

/** A page asks a server so often at most, each time for so many keys, and looks at so many of them or a few more. */
const scansPerPage = 10
const keysPerScan = 1_000
const looksPerPage = 2_000

/** How far a list is: where `SCAN` goes on at a primary, unless that is done; and the primaries that are. */
interface Place {
  readonly node: string | undefined
  readonly scan: string
  readonly done: ReadonlyArray<string>
}

const start: Place = { node: undefined, scan: "0", done: [] }

/** A server counts with 64 bits. */
const isScan = (text: string): boolean => /^\d{1,20}$/.test(text) && BigInt(text) < 2n ** 64n

const placeOf = (cursor: string): Place | undefined => {
  const [node, scan, ...done] = decodeCursor("redis", cursor) ?? []
  return node !== undefined && scan !== undefined && isScan(scan) ? { node, scan, done } : undefined
}

const cursorOf = ({ done, node = "", scan }: Place): string => encodeCursor("redis", node, scan, ...done)

interface Primary {
  readonly name: string
  readonly node: RedisNodeClient
}

/** In the order of their names, which is the same for every client. One server alone needs none. */
const primariesOf = (client: RedisClient): ReadonlyArray<Primary> =>
  isCluster(client)
    ? client
        .nodes("master")
        .map((node) => ({ name: `${node.options.host}:${node.options.port}`, node }))
        .sort((one, other) => (one.name < other.name ? -1 : 1))
    : [{ name: "node", node: client }]

/** Where to go on, if there is more. */
const nextOf = (
  primaries: ReadonlyArray<Primary>,
  { done, node, scan }: Place
): (Primary & { readonly scan: string }) | undefined => {
  const current = primaries.find(({ name }) => name === node)
  if (current !== undefined) return { ...current, scan }
  const next = primaries.find(({ name }) => !done.includes(name))
  return next === undefined ? undefined : { ...next, scan: "0" }
}

/** Matches the text alone. */
const literal = (text: string): string => text.replace(/[*?[\]\\]/g, "\\$&")

/** Matches the keys that are asked for, and some that are not: a scope is anything, or missing. */
const patternOf = (fullPrefix: string, { keyPrefix, operation }: ListRequest): string => {
  const before = operation === undefined ? "*:" : `${literal(escape(operation))}:`
  const after = keyPrefix === undefined ? "" : literal(escape(keyPrefix))
  return `${literal(fullPrefix)}${before}${operation === undefined || after === "" ? "" : "*"}${after}*`
}

/** As many as should hold what a page is still short of, by what was found among those that were scanned before. */
const countFor = (missing: number, found: number, scanned: number): number =>
  Math.min(keysPerScan, Math.ceil((missing * (scanned + 1)) / (found + 1)))

const isText = (value: unknown): value is string => typeof value === "string"

const decodeScan = (reply: unknown): { readonly next: string; readonly keys: ReadonlyArray<string> } => {
  const [next, keys] = Array.isArray(reply) ? reply : []
  if (!isText(next) || !Array.isArray(keys)) throw new MemberFailure("the server gave an unexpected reply")
  return { next, keys: keys.filter(isText) }
}

export interface ListDependencies {
  readonly client: RedisClient
  /** What keys begin with, the client's own prefix included: `SCAN` names them as they are. */
  readonly fullPrefix: string
  readonly refail: (operation: string, method: string) => (error: unknown) => IdempotencyStorageError
  /** What is stored, but for results and steps. */
  readonly look: (
    identifiers: ReadonlyArray<IdempotencyIdentifiers>
  ) => Effect.Effect<ReadonlyArray<Snapshot>, IdempotencyStorageError>
  /** The time of a server. */
  readonly now: (operation: string) => Effect.Effect<number, IdempotencyStorageError>
}

export const makeList =
  ({ client, fullPrefix, look, now, refail }: ListDependencies): NonNullable<Driver["list"]> =>
  (request) =>
    Effect.gen(function* () {
      let place = request.cursor === undefined ? start : placeOf(request.cursor)
      if (place === undefined) return { _tag: "BadCursor" }
      const fail = refail(request.operation ?? "", "list")
      const pattern = patternOf(fullPrefix, request)
      // First of all, as a client that is not connected yet knows no primaries.
      const at = yield* now(request.operation ?? "")
      const entries: Array<Entry> = []
      const seen = new Set<string>()
      let scanned = 0
      for (let scans = 0; ; scans++) {
        const primaries = primariesOf(client)
        if (primaries.length === 0) return yield* Effect.fail(fail(new Error("no primary of the cluster is known")))
        const primary = nextOf(primaries, place)
        if (primary === undefined) return { _tag: "Page", entries, cursor: undefined, now: at }
        if (scans === scansPerPage || seen.size >= looksPerPage || entries.length >= request.limit) {
          return { _tag: "Page", entries, cursor: cursorOf(place), now: at }
        }
        const { name, node, scan } = primary
        const count = countFor(request.limit - entries.length, entries.length, scanned)
        const { keys, next } = yield* Effect.tryPromise({
          try: () => node.scan(scan, "MATCH", pattern, "COUNT", count).then(decodeScan),
          catch: fail
        })
        scanned += count
        place = next === "0" ? { ...start, done: [...place.done, name] } : { node: name, scan: next, done: place.done }
        const found = keys.flatMap((key) => {
          const identifiers = seen.has(key) ? undefined : identifiersOf(key.slice(fullPrefix.length))
          if (identifiers === undefined || !isAskedFor(request, identifiers)) return []
          seen.add(key)
          return [identifiers]
        })
        const snapshots = found.length === 0 ? [] : yield* look(found)
        for (const [index, identifiers] of found.entries()) {
          const state = snapshots[index]?.state
          if (state === undefined) continue
          const told = state._tag === "Corrupted" ? state : overview(state)
          const entry = entryOf(request, identifiers, told, at)
          if (entry !== undefined) entries.push(entry)
        }
      }
    }) satisfies Effect.Effect<ListReply, IdempotencyStorageError>
