/** The same driver on a cluster: every call goes to the node of its key. */
import { describe, expect, layer } from "@effect/vitest"
import * as Arr from "effect/Array"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HashMap from "effect/HashMap"
import * as Schedule from "effect/Schedule"
import type { IdempotencyIdentifiers } from "../../src/IdempotencyIdentifiers.js"
import { IdempotencyRecord } from "../../src/IdempotencyRecord.js"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import { encodeCursor } from "../../src/internal/listing.js"
import type { Outcome } from "../../src/internal/protocol.js"
import { storedKey } from "../../src/internal/storedKey.js"
import { ClusterRedis } from "../support/redisServers.js"
import { tcpProxy } from "../support/tcpProxy.js"
import { claimBy, clusterClient, driverOver, freshIds, insertBy, keysOf, majors, minute, pagesOf } from "./fixtures.js"

const success: Outcome = { _tag: "Success", encoded: "1" }

const recordOf = (identifiers: IdempotencyIdentifiers): IdempotencyRecord =>
  new IdempotencyRecord({
    ...identifiers,
    outcome: "success",
    result: 1,
    createdAt: DateTime.unsafeMake(Date.now()),
    expiresAt: DateTime.unsafeMake(Date.now() + 10 * minute),
    fingerprint: undefined,
    attempt: 1
  })

describe.each(majors)("$major on a cluster", ({ ioredis }) => {
  layer(ClusterRedis.layer, { excludeTestServices: true, timeout: "60 seconds" })((it) => {
    const setup = Effect.gen(function* () {
      const { nodes, servers } = yield* ClusterRedis
      const redis = yield* clusterClient(ioredis, nodes.slice(0, 2))
      return { redis, servers, nodes, driver: yield* driverOver(redis) }
    })

    it.scoped("what was sent before all nodes were lost may have been applied", () =>
      Effect.gen(function* () {
        const { nodes } = yield* ClusterRedis
        const proxies = yield* Effect.forEach(nodes, ({ port }) => tcpProxy(port))
        const host = "127.0.0.1"
        const natMap = Object.fromEntries(
          proxies.map(({ port }, index) => [`${host}:${nodes[index]?.port}`, { host, port }])
        )
        const at = proxies.map(({ port }) => ({ host, port }))
        const redis = yield* clusterClient(ioredis, at, { natMap, enableOfflineQueue: false })
        const driver = yield* driverOver(redis)
        yield* Effect.retry(driver.claim(freshIds(), claimBy("t")), Schedule.spaced("20 millis"))
        // All are connected, and know the script.
        yield* Effect.forEach(Array.from({ length: 40 }, freshIds), (each) => driver.claim(each, claimBy("t")))
        yield* Effect.promise(() => Promise.all(redis.nodes("all").map((node) => node.config("GET", "port"))))
        const key = freshIds()
        for (const proxy of proxies) {
          yield* proxy.loseReplyTo((request) => {
            const isClaim = request.includes(key.idempotencyKey)
            if (isClaim) for (const other of proxies) if (other !== proxy) Effect.runSync(other.cut)
            return isClaim
          })
        }
        const claiming = yield* Effect.fork(Effect.flip(driver.claim(key, claimBy("t"))))
        yield* Effect.repeat(Effect.sleep("1 millis"), { until: () => proxies.some(({ lost }) => lost() > 0) })
        for (const { cut } of proxies) yield* cut
        expect(yield* Fiber.join(claiming)).toMatchObject({ reason: "Unavailable", applied: "unknown" })
        expect((yield* (yield* setup).driver.read([key]))[0]).toMatchObject({ _tag: "Processing" })
        // What is not sent at all is not.
        const unsent = yield* Effect.flip(driver.claim(freshIds(), claimBy("t")))
        expect(unsent).toMatchObject({ reason: "Unavailable", applied: "no" })
      })
    )

    it.scoped("every verb, on keys of every node", () =>
      Effect.gen(function* () {
        const { driver } = yield* setup
        const keys = Array.from({ length: 40 }, freshIds)
        const each = <A, E>(use: (key: IdempotencyIdentifiers) => Effect.Effect<A, E>) =>
          Effect.map(Effect.forEach(keys, use, { concurrency: "unbounded" }), (all) => [
            ...new Set(all.map((one) => JSON.stringify(one)))
          ])
        expect(yield* each((key) => driver.claim(key, claimBy("t")))).toEqual([
          '{"_tag":"Claimed","attempt":1,"steps":[]}'
        ])
        expect(yield* each((key) => driver.saveStep(key, { token: "t", name: "n", encoded: "1" }))).toEqual([
          '{"_tag":"Saved"}'
        ])
        const renewed = yield* driver.renew(
          keys.map((identifiers) => ({ identifiers, request: { token: "t", lease: minute } }))
        )
        expect(new Set(renewed.map(({ _tag }) => _tag))).toEqual(new Set(["Renewed"]))
        expect(yield* each((key) => driver.hold(key, { token: "t" }))).toEqual(['{"_tag":"Held"}'])
        expect(yield* each((key) => driver.resolve(key, { token: "r", outcome: success }))).toEqual([
          '{"_tag":"Resolved"}'
        ])
        expect(yield* each((key) => driver.reset(key, { force: false }))).toEqual(['{"_tag":"Reset"}'])
        expect(yield* each((key) => driver.claim(key, claimBy("u")))).toEqual([
          '{"_tag":"Claimed","attempt":2,"steps":[]}'
        ])
        expect(yield* each((key) => driver.release(key, { token: "u" }))).toEqual(['{"_tag":"Released"}'])
        const complete = { token: "v", outcome: success, fingerprint: undefined, retention: minute }
        expect(yield* each((key) => Effect.map(driver.complete(key, complete), ({ _tag }) => _tag))).toEqual(['"Done"'])
        const states = yield* driver.read(keys)
        expect(new Set(states.map((state) => state?._tag))).toEqual(new Set(["Completed"]))
        expect(yield* driver.remove(keys)).toEqual(keys.map(() => true))
      })
    )

    it.scoped("records in bulk, with each member's fate its own", () =>
      Effect.gen(function* () {
        const { driver } = yield* setup
        const repository = yield* IdempotencyRepository.make(driver)
        const keys = Array.from({ length: 50 }, freshIds)
        const [taken] = keys
        if (taken === undefined) return
        yield* driver.claim(taken, claimBy("t"))
        const error = yield* Effect.flip(repository.saveMany(keys.map(recordOf)))
        expect(error).toMatchObject({ _tag: "IdempotencyKeyCollisionError", keys: [taken.idempotencyKey] })
        expect(HashMap.size(yield* repository.getMany(keys))).toBe(49)
        expect(yield* repository.deleteMany(keys)).toBe(49)
      })
    )

    it.scoped("what one node refuses while others wrote may have been done; what it refuses alone was not", () =>
      Effect.gen(function* () {
        const { driver, servers } = yield* setup
        const [first] = servers
        if (first === undefined) return yield* Effect.die("no servers")
        const { primaryOf } = yield* ClusterRedis
        const wanting = (replicas: number) => first.command("config", "set", "min-replicas-to-write", replicas)
        yield* Effect.acquireRelease(wanting(5), () => wanting(0))
        const keys = Array.from({ length: 30 }, freshIds)
        const [refused, taken] = Arr.partition(keys, (key) => primaryOf(`idempotency:${storedKey(key)}`) !== 0)
        expect(refused.length).toBeGreaterThan(0)
        expect(taken.length).toBeGreaterThan(0)
        const insert = (those: ReadonlyArray<IdempotencyIdentifiers>) =>
          driver.insert(
            those.map((identifiers) => ({ identifiers, request: insertBy("t") })),
            { allOrNothing: false }
          )
        expect(yield* Effect.flip(insert(keys))).toMatchObject({ reason: "Rejected", applied: "unknown" })
        // All calls had been sent when the first of them failed.
        yield* Effect.repeat(driver.read(taken), { until: (states) => states.every((state) => state !== undefined) })
        expect(new Set(yield* driver.read(refused))).toEqual(new Set([undefined]))
        expect(yield* Effect.flip(driver.remove(keys))).toMatchObject({ reason: "Rejected", applied: "unknown" })
        expect(yield* Effect.flip(insert(refused.slice(0, 1)))).toMatchObject({ reason: "Rejected", applied: "no" })
      })
    )

    it.scoped("all or nothing is refused across slots, before anything is written, and kept within one", () =>
      Effect.gen(function* () {
        const { driver, redis } = yield* setup
        const keys = Array.from({ length: 4 }, freshIds)
        const [first] = keys
        if (first === undefined) return
        const across = yield* IdempotencyRepository.make(driver)
        const refused = yield* Effect.flip(across.saveMany(keys.map(recordOf), { rollbackOnError: true }))
        expect(refused).toMatchObject({ _tag: "IdempotencyValidationError" })
        expect(HashMap.size(yield* across.getMany(keys))).toBe(0)
        yield* across.saveMany([recordOf(first)], { rollbackOnError: true })

        for (const untagged of ["{}:", "{", "}{", "x"]) {
          expect((yield* driverOver(redis, untagged)).atomicTogether(keys)).toBe(false)
        }
        const tagged = yield* driverOver(redis, "{shop}:")
        const within = yield* IdempotencyRepository.make(tagged)
        expect(tagged.atomicTogether(keys)).toBe(true)
        yield* tagged.claim(first, claimBy("t"))
        const collision = yield* Effect.flip(within.saveMany(keys.map(recordOf), { rollbackOnError: true }))
        expect(collision).toMatchObject({ _tag: "IdempotencyKeyCollisionError", keys: [first.idempotencyKey] })
        expect(HashMap.size(yield* within.getMany(keys))).toBe(0)
        yield* within.saveMany(keys.slice(1).map(recordOf), { rollbackOnError: true })
        expect(HashMap.size(yield* within.getMany(keys))).toBe(3)
      })
    )

    it.scoped("a list goes over every primary, also where one is not there any more", () =>
      Effect.gen(function* () {
        const { nodes, servers } = yield* ClusterRedis
        const driver = yield* driverOver(
          yield* clusterClient(ioredis, nodes, { keyPrefix: `${freshIds().idempotencyKey}*` })
        )
        const keys = Array.from({ length: 200 }, freshIds)
        yield* driver.insert(
          keys.map((identifiers) => ({ identifiers, request: insertBy("t") })),
          { allOrNothing: false }
        )
        const expected = keys.map(storedKey).sort()
        for (const limit of [7, 1_000]) {
          const pages = yield* pagesOf(driver, { limit })
          expect(keysOf(pages)).toEqual(expected)
          expect(Math.abs((pages[0]?.now ?? 0) - Date.now())).toBeLessThan(minute)
        }
        // The first primary is done, and the one that was next has been replaced.
        const [first] = servers
          .slice(0, 3)
          .map(({ port }) => `127.0.0.1:${port}`)
          .sort()
        const rest = keysOf(yield* pagesOf(driver, { cursor: encodeCursor("redis", "127.0.0.1:1", "77", first ?? "") }))
        const done = expected.filter((key) => !rest.includes(key))
        expect(rest.length).toBeGreaterThan(0)
        expect(done.length).toBeGreaterThan(0)
        expect(keysOf(yield* pagesOf(driver, { cursor: encodeCursor("redis", first ?? "", "0") }))).toEqual(expected)
      })
    )

    it.scoped("a change through one client wakes the waiters of another, whatever node either is connected to", () =>
      Effect.gen(function* () {
        const { driver, nodes } = yield* setup
        const other = yield* driverOver(yield* clusterClient(ioredis, nodes.slice(3)))
        const keys = Array.from({ length: 6 }, freshIds)
        yield* Effect.forEach(keys, (key) =>
          Effect.gen(function* () {
            yield* driver.claim(key, claimBy("t"))
            const changed = yield* other.changes(key)
            yield* Effect.timeout(changed, "3 seconds")
            yield* Effect.fork(Effect.delay(driver.release(key, { token: "t" }), "50 millis"))
            yield* Effect.timeout(changed, "2 seconds")
          })
        )
      })
    )

    it.scoped("nodes that forgot the scripts are given them again", () =>
      Effect.gen(function* () {
        const { driver, servers } = yield* setup
        yield* Effect.forEach(servers, ({ command }) => command("script", "flush"))
        const keys = Array.from({ length: 30 }, freshIds)
        const replies = yield* Effect.forEach(keys, (key) => driver.claim(key, claimBy("t")), {
          concurrency: "unbounded"
        })
        expect(new Set(replies.map(({ _tag }) => _tag))).toEqual(new Set(["Claimed"]))
      })
    )
  })
})
