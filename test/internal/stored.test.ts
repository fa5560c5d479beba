/** What stores write and list: keys and their identities, records, cursors. */
import { describe, expect, it } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import { IdempotencyIdentifiers } from "../../src/IdempotencyIdentifiers.js"
import { IdempotencyRecord } from "../../src/IdempotencyRecord.js"
import { decodeCursor, encodeCursor, entryOf, isAskedFor, overview } from "../../src/internal/listing.js"
import type { Completed, Processing } from "../../src/internal/protocol.js"
import { identifiersOf, storedKey } from "../../src/internal/storedKey.js"
import { encodeJson, recordOf, toInsert } from "../../src/internal/storedRecord.js"

const ids = (idempotencyKey: string, scope?: string) =>
  Either.getOrThrow(IdempotencyIdentifiers.from({ operation: "payment.charge", idempotencyKey, scope }))

const base = { token: "t", attempt: 2, fingerprint: "f", createdAt: 1_000, expiresAt: 9_000 }
const completed: Completed = { _tag: "Completed", ...base, outcome: { _tag: "Success", encoded: '"paid"' } }
const processing: Processing = {
  _tag: "Processing",
  ...base,
  steps: [{ name: "s", encoded: '"secret"' }],
  retention: 60,
  leaseUntil: 2_000,
  guarantee: "at-least-once",
  unknownRetention: 60
}

describe("the identity of a stored key", () => {
  it("is the one that it was made of", () => {
    for (const identity of [ids("k"), ids("k", "s"), ids("{k}%7B", "%{}"), ids("%25")]) {
      expect(identifiersOf(storedKey(identity))).toEqual(identity)
    }
  })

  it("is none where this library would have written another key", () => {
    for (const stored of ["", "o", "o:", ":k", "o:s:", "o:s:k:x", "o:%6B", "o:%7b", "o:%", "o:{k}", "o: k", "o:k%3A"]) {
      expect(identifiersOf(stored), stored).toBe(undefined)
    }
  })
})

describe("the record of a state", () => {
  it("is none unless it is settled", () => {
    for (const state of [undefined, processing]) {
      expect(recordOf(ids("k"), state)).toEqual(Either.right(Option.none()))
    }
  })

  it("has the outcome, the result and the times", () => {
    const record = (state: Completed) => Option.getOrThrow(Either.getOrThrow(recordOf(ids("k", "s"), state)))
    expect(record(completed)).toMatchObject({
      operation: "payment.charge",
      idempotencyKey: "k",
      scope: "s",
      outcome: "success",
      result: "paid",
      createdAt: DateTime.unsafeMake(1_000),
      expiresAt: DateTime.unsafeMake(9_000),
      fingerprint: "f",
      attempt: 2
    })
    expect(record({ ...completed, outcome: { _tag: "Failure", encoded: "" } })).toMatchObject({
      outcome: "failure",
      result: undefined
    })
    expect(record({ ...completed, outcome: { _tag: "Unavailable" } })).toMatchObject({ outcome: "unavailable" })
  })

  it("is an error where it cannot be read: of a store that says so, with its cause; of what is no record, without", () => {
    const cause = "bad bytes"
    expect(recordOf(ids("k"), { _tag: "Corrupted", cause })).toMatchObject({
      left: { operation: "payment.charge", idempotencyKey: "k", cause }
    })
    const unreadable = recordOf(ids("k"), { ...completed, outcome: { _tag: "Success", encoded: "{secret" } })
    expect(unreadable).toMatchObject({ left: { cause: { message: "what is stored is not a record" } } })
  })

  it("comes back as it was", () => {
    for (const [outcome, tag] of [
      ["success", "Success"],
      ["failure", "Failure"],
      ["unavailable", "Unavailable"]
    ] as const) {
      const result = outcome === "unavailable" ? undefined : { a: [1, null] }
      const record = new IdempotencyRecord({
        ...ids("k"),
        outcome,
        result,
        createdAt: DateTime.unsafeMake(1_000),
        expiresAt: DateTime.unsafeMake(9_000),
        fingerprint: "f",
        attempt: 3
      })
      const request = toInsert(record, "t", 4_000)
      expect(request).toEqual({
        token: "t",
        outcome:
          tag === "Unavailable"
            ? { _tag: tag }
            : { _tag: tag, encoded: result === undefined ? "" : JSON.stringify(result) },
        fingerprint: "f",
        attempt: 3,
        createdAt: 1_000,
        expiresAt: 9_000,
        retention: 5_000
      })
    }
  })
})

describe("JSON of a result", () => {
  it("is empty for what is not there, and only then", () => {
    expect([undefined, null, "", 0].map(encodeJson)).toEqual(["", "null", '""', "0"])
  })
})

describe("an entry of a list", () => {
  it("gives neither results nor steps", () => {
    expect(overview(completed)).toEqual({ ...completed, outcome: "Success" })
    expect(overview(processing)).not.toHaveProperty("steps")
    expect(JSON.stringify([overview(completed), overview(processing)])).not.toMatch(/paid|secret/)
  })

  it("is asked for by operation, by the beginning of the key, by both, or not at all", () => {
    const asked = (request: Parameters<typeof isAskedFor>[0]) => isAskedFor(request, ids("order-1"))
    const [operation, keyPrefix] = ["payment.charge", "order-"]
    const none = { operation: undefined, keyPrefix: undefined }
    for (const request of [none, { ...none, operation }, { ...none, keyPrefix }, { operation, keyPrefix }]) {
      expect(asked(request)).toBe(true)
    }
    for (const request of [
      { ...none, operation: "payment" },
      { ...none, keyPrefix: "rder" },
      { operation, keyPrefix: "x" },
      { operation: "x", keyPrefix }
    ]) {
      expect(asked(request)).toBe(false)
    }
  })

  it("is there until its end, if its state is asked for; what is corrupted has none", () => {
    const request = { operation: undefined, keyPrefix: undefined, state: undefined, cursor: undefined, limit: 10 }
    const entry = { identifiers: ids("k"), state: overview(completed) }
    expect(entryOf(request, ids("k"), overview(completed), 8_999)).toEqual(entry)
    expect(entryOf(request, ids("k"), overview(completed), 9_000)).toBe(undefined)
    expect(entryOf({ ...request, state: "Completed" }, ids("k"), overview(completed), 0)).toEqual(entry)
    expect(entryOf({ ...request, state: "Unknown" }, ids("k"), overview(completed), 0)).toBe(undefined)
    expect(entryOf({ ...request, operation: "x" }, ids("k"), overview(completed), 0)).toBe(undefined)
    const corrupted = { _tag: "Corrupted", cause: "bad bytes" } as const
    expect(entryOf(request, ids("k"), corrupted, Number.MAX_SAFE_INTEGER)).toEqual({
      identifiers: ids("k"),
      state: corrupted
    })
  })
})

describe("a cursor", () => {
  it("leads back to its place, in its own store", () => {
    const cursor = encodeCursor("memory", "é", "")
    expect(cursor).toMatch(/^[\w-]+$/)
    expect(decodeCursor("memory", cursor)).toEqual(["é", ""])
    expect(decodeCursor("redis", cursor)).toBe(undefined)
  })

  it("that this library has not made is none", () => {
    const encoded = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url")
    for (const cursor of [
      "",
      "%",
      "bm90IGpzb24",
      encoded("memory"),
      encoded(["memory", 1]),
      encoded({ 0: "memory" })
    ]) {
      expect(decodeCursor("memory", cursor), cursor).toBe(undefined)
    }
  })
})
