/** What a list costs a server, and what it makes of keys that are not the store's. */
import { describe, expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { encodeCursor } from "../../src/internal/listing.js"
import { storedKey } from "../../src/internal/storedKey.js"
import { StandaloneRedis, standaloneWith } from "../support/redisServers.js"
import { tcpProxy } from "../support/tcpProxy.js"
import {
  claimBy,
  driverOver,
  entriesOf,
  freshIds,
  ids,
  insertBy,
  keysOf,
  majors,
  minute,
  nodeClient,
  pagesOf
} from "./fixtures.js"

const fill = `for n = 1, ARGV[2] do redis.call('SET', ARGV[1] .. n, ARGV[3]) end`
const foreign = 20_000

describe.each(majors)("$major", ({ ioredis }) => {
  layer(StandaloneRedis.layer, { excludeTestServices: true })("a list", (it) => {
    const setup = Effect.gen(function* () {
      const { command, port } = yield* StandaloneRedis
      yield* command("flushall")
      const driver = yield* driverOver(yield* nodeClient(ioredis, port))
      const insert = (count: number, encoded?: string) =>
        Effect.suspend(() => {
          const keys = Array.from({ length: count }, freshIds)
          const records = keys.map((identifiers) => ({ identifiers, request: insertBy("t", encoded) }))
          return Effect.as(driver.insert(records, { allOrNothing: false }), keys.map(storedKey).sort())
        })
      /** How often the server was asked for this since the last time. */
      const counted = Effect.map(
        Effect.zipLeft(command("info", "commandstats"), command("config", "resetstat")),
        (info) => {
          const [scan, looks] = ["scan", "getrange"].map((name) =>
            Number(new RegExp(`cmdstat_${name}:calls=(\\d+)`).exec(String(info))?.[1] ?? 0)
          )
          return { scan, looks }
        }
      )
      return { command, port, driver, insert, counted }
    })

    it.scoped("of 3,000 keys holds each once, in pages of about the length that was asked for", () =>
      Effect.gen(function* () {
        const { driver, insert } = yield* setup
        const expected = yield* insert(3_000)
        const pages = yield* pagesOf(driver, { limit: 100 })
        expect(keysOf(pages)).toEqual(expected)
        expect(Math.max(...pages.map(({ entries }) => entries.length))).toBeLessThan(150)
        expect(pages.length).toBeLessThan(60)
        expect(keysOf(yield* pagesOf(driver, { limit: 1_000 }))).toEqual(expected)
      })
    )

    it.scoped("asks a server for a bounded work per page, however few keys it finds", () =>
      Effect.gen(function* () {
        const { command, counted, driver, insert } = yield* setup
        yield* command("eval", fill, 0, "foreign:", foreign, "x")
        const [expected] = yield* insert(1)
        yield* counted
        const pages = yield* pagesOf(driver)
        const { looks, scan } = yield* counted
        expect(keysOf(pages)).toEqual([expected])
        // Some pages are empty, and none asks more than ten times.
        expect(pages.length).toBeGreaterThanOrEqual(foreign / 10_000)
        expect(pages.length).toBeLessThan(6)
        expect(scan).toBeLessThanOrEqual(10 * pages.length)
        expect(looks).toBe(1)
      })
    )

    it.scoped("looks at a bounded number of keys per page, whatever state is asked for", () =>
      Effect.gen(function* () {
        const { counted, driver, insert } = yield* setup
        yield* insert(6_000)
        yield* counted
        const pages = yield* pagesOf(driver, { state: "Unknown" })
        expect(entriesOf(pages)).toEqual([])
        expect(pages.length).toBeGreaterThan(1)
        expect((yield* counted).looks).toBeLessThanOrEqual(3_100 * pages.length)
      })
    )

    it.scoped("transfers no results", () =>
      Effect.gen(function* () {
        const { insert, port } = yield* setup
        const proxy = yield* tcpProxy(port)
        const expected = yield* insert(20, `"${"x".repeat(1_048_576)}"`)
        const driver = yield* driverOver(yield* nodeClient(ioredis, proxy.port))
        yield* pagesOf(driver)
        const before = proxy.passed()
        expect(keysOf(yield* pagesOf(driver))).toEqual(expected)
        expect(proxy.passed() - before).toBeLessThan(20_000)
      })
    )

    it.scoped("leaves out what is no key of the store, and tells of values that cannot be read", () =>
      Effect.gen(function* () {
        const { command, driver } = yield* setup
        const long = ids("long")
        yield* driver.claim(long, claimBy("t", { fingerprint: "é".repeat(5_000) }))
        const stays = ids("stays")
        yield* driver.claim(stays, claimBy("t"))
        yield* command("persist", `idempotency:${storedKey(stays)}`)
        for (const key of [
          "a:b",
          "idempotency:",
          "idempotency:a",
          "idempotency:a:b:c:d",
          "idempotency:a:%zz:{",
          "other:a:b"
        ]) {
          yield* command("set", key, "x")
        }
        yield* command("set", "idempotency:a:text", "x")
        yield* command("set", "idempotency:a:empty", "")
        yield* command("set", "idempotency:a:other", "2 C t 1 0 9000000000000 0 0 s -\n1")
        yield* command("set", "idempotency:a:cut", "1 C t 1 0 9000000000000 0 0 s -")
        yield* command("set", "idempotency:a:endless", "1".repeat(100_000))
        yield* command("set", "idempotency:a:expired", "1 C t 1 0 1 0 0 s -\n1")
        yield* command("rpush", "idempotency:a:list", "x")
        const found = new Map<string, unknown>(
          entriesOf(yield* pagesOf(driver)).map(
            ({ identifiers, state }) => [identifiers.idempotencyKey, state] as const
          )
        )
        expect([...found.keys()].sort()).toEqual(["cut", "empty", "endless", "list", "long", "other", "stays", "text"])
        for (const key of ["cut", "empty", "endless", "list", "other", "text"]) {
          expect(found.get(key)).toMatchObject({ _tag: "Corrupted" })
        }
        expect(found.get("long")).toMatchObject({ _tag: "Processing", fingerprint: "é".repeat(5_000) })
        expect(found.get("stays")).toMatchObject({ _tag: "Processing", expiresAt: expect.any(Number) })
        expect(keysOf(yield* pagesOf(driver, { state: "Corrupted", limit: 1 }))).toHaveLength(6)
      })
    )

    it.scoped("is of one prefix, also that of the client, whatever they hold", () =>
      Effect.gen(function* () {
        const { command, port } = yield* setup
        const prefixes = ["", "*", "[a-z]", "x\\", "a?", "[", "{}", "%7B"]
        for (const own of prefixes) {
          for (const prefix of prefixes) {
            const client = yield* nodeClient(ioredis, port, { keyPrefix: own })
            yield* (yield* driverOver(client, `${prefix}:`)).claim(ids(`of ${own} and ${prefix}`), claimBy("t"))
          }
        }
        yield* command("set", "axx::", "x")
        for (const own of prefixes) {
          for (const prefix of prefixes) {
            const client = yield* nodeClient(ioredis, port, { keyPrefix: own })
            const driver = yield* driverOver(client, `${prefix}:`)
            const shared = own + prefix
            const expected = prefixes
              .flatMap((one) =>
                prefixes.filter((other) => one + other === shared).map((other) => `of ${one} and ${other}`)
              )
              .map((key) => storedKey(ids(key)))
            expect(keysOf(yield* pagesOf(driver)), JSON.stringify([own, prefix])).toEqual(expected.sort())
          }
        }
      })
    )

    it.scoped("refuses cursors that are not a place in it", () =>
      Effect.gen(function* () {
        const { driver } = yield* setup
        const all = { operation: undefined, keyPrefix: undefined, state: undefined, limit: 1 }
        for (const cursor of [
          encodeCursor("sql", "a", "b", "c"),
          encodeCursor("redis"),
          encodeCursor("redis", "node"),
          encodeCursor("redis", "node", "-1"),
          encodeCursor("redis", "node", "18446744073709551616"),
          encodeCursor("redis", "node", "1 MATCH *")
        ]) {
          expect(yield* driver.list?.(Object.assign({ cursor }, all)) ?? Effect.void).toEqual({ _tag: "BadCursor" })
        }
      })
    )
  })
})

layer(StandaloneRedis.layer, { excludeTestServices: true })("a list of an older server", (it) => {
  it.scoped("tells when a claim ends by what is left of it", () =>
    Effect.gen(function* () {
      // As before Redis 7.
      const { port } = yield* standaloneWith("--rename-command", "pexpiretime", "")
      for (const { ioredis } of majors) {
        const driver = yield* driverOver(yield* nodeClient(ioredis, port))
        const key = freshIds()
        yield* driver.claim(key, claimBy("t", { retention: 10 * minute, lease: minute }))
        const [entry] = entriesOf(yield* pagesOf(driver, { keyPrefix: key.idempotencyKey }))
        const [state] = yield* driver.read([key])
        if (state?._tag !== "Processing" || entry?.state._tag !== "Processing") return expect(entry).toBe("a claim")
        expect(Math.abs(entry.state.expiresAt - state.expiresAt)).toBeLessThan(1_000)
      }
    })
  )
})
