/** What is particular to Redis on one node. */
import { describe, expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import type { RedisNodeClient } from "../../src/internal/redis/client.js"
import { StandaloneRedis } from "../support/redisServers.js"
import { claimBy, driverOver, freshIds, ids, majors, minute, nodeClient } from "./fixtures.js"

const sha = "A".repeat(43)

describe.each(majors)("$major", ({ ioredis, major }) => {
  layer(StandaloneRedis.layer, { excludeTestServices: true })((it) => {
    const setup = Effect.gen(function* () {
      const { command, port } = yield* StandaloneRedis
      const redis = yield* nodeClient(ioredis, port)
      return { command, port, redis, driver: yield* driverOver(redis) }
    })

    it.scoped("keys say what they are about, and no part of one can choose a slot", () =>
      Effect.gen(function* () {
        const { command, port, redis } = yield* setup
        yield* command("flushall")
        const driver = yield* driverOver(redis)
        yield* driver.claim(ids("order-1"), claimBy("t"))
        yield* driver.claim(ids("{order}%1", "pay{x}", "shop 1"), claimBy("t"))
        expect(yield* command("exists", "idempotency:payment.charge:order-1")).toBe(1)
        expect(yield* command("exists", "idempotency:pay%7Bx%7D:shop 1:%7Border%7D%251")).toBe(1)
        const prefixed = yield* nodeClient(ioredis, port, { keyPrefix: "app:" })
        yield* (yield* driverOver(prefixed, "once:")).claim(ids("order-1"), claimBy("t"))
        expect(yield* command("exists", "app:once:payment.charge:order-1")).toBe(1)
        expect(yield* command("dbsize")).toBe(3)
      })
    )

    it.scoped("a record costs little beside its payload and key, and ends by itself", () =>
      Effect.gen(function* () {
        const { command, driver } = yield* setup
        const encoded = JSON.stringify({ text: "x".repeat(186) })
        const key = freshIds()
        yield* driver.claim(key, claimBy(`${"x".repeat(22)}.zz`, { fingerprint: sha }))
        const outcome = { _tag: "Success", encoded } as const
        const token = `${"x".repeat(22)}.zz`
        yield* driver.complete(key, { token, outcome, fingerprint: sha, retention: 30 * minute })
        const stored = `idempotency:${key.operation}:${key.idempotencyKey}`
        const used = Number(yield* command("memory", "usage", stored))
        expect(used).toBeLessThanOrEqual(encoded.length + stored.length + 256)
        const left = Number(yield* command("pttl", stored))
        expect(left).toBeGreaterThan(29 * minute)
        expect(left).toBeLessThanOrEqual(30 * minute)
      })
    )

    it.scoped("a server that forgot the scripts is given them again", () =>
      Effect.gen(function* () {
        const { command, driver } = yield* setup
        const key = freshIds()
        expect(yield* driver.claim(key, claimBy("t"))).toMatchObject({ _tag: "Claimed" })
        yield* command("script", "flush")
        const replies = yield* Effect.all(
          Array.from({ length: 20 }, () => driver.claim(key, claimBy("t"))),
          { concurrency: "unbounded" }
        )
        expect(new Set(replies.map(({ _tag }) => _tag))).toEqual(new Set(["AlreadyMine"]))
      })
    )

    it.scoped("a server that does not know headers is given the scripts without", () =>
      Effect.gen(function* () {
        const { redis } = yield* setup
        let refused = 0
        const old: RedisNodeClient = {
          options: redis.options,
          config: (subcommand, parameter) => redis.config(subcommand, parameter),
          scan: (cursor, match, pattern, count, keys) => redis.scan(cursor, match, pattern, count, keys),
          duplicate: (override) => redis.duplicate(override),
          evalsha: (digest, keys, input) => redis.evalsha(digest, keys, input),
          eval: (script, keys, input) => {
            if (!script.startsWith("#!")) return redis.eval(script, keys, input)
            refused++
            return Promise.reject(
              new Error("ERR Error compiling script (new function): user_script:1: unexpected symbol")
            )
          }
        }
        yield* (yield* StandaloneRedis).command("script", "flush")
        const driver = yield* driverOver(old)
        const key = freshIds()
        expect(yield* driver.claim(key, claimBy("t"))).toMatchObject({ _tag: "Claimed" })
        expect(yield* driver.release(key, { token: "t" })).toEqual({ _tag: "Released" })
        expect(refused).toBe(1)
      })
    )

    it.scoped("what is not a record of ours is corrupted: every verb says so and changes nothing", () =>
      Effect.gen(function* () {
        const { command, driver } = yield* setup
        const outcome = { _tag: "Success", encoded: "1" } as const
        const corrupt: ReadonlyArray<(key: string) => ReadonlyArray<string>> = [
          (key) => ["set", key, "done"],
          (key) => ["set", key, "2 C t 1 1 9999999999999 0 0 s -\n1"],
          (key) => ["set", key, "1 P t 1 1 9999999999999 60000 60000 l -\n7 7 7 7\nx"],
          (key) => ["hset", key, "status", "done"],
          (key) => ["rpush", key, "done"]
        ]
        for (const write of corrupt) {
          const key = freshIds()
          const stored = `idempotency:${key.operation}:${key.idempotencyKey}`
          const [name = "", ...args] = write(stored)
          yield* command(name, ...args)
          const before = yield* command("dump", stored)
          const insert = {
            token: "t",
            outcome,
            fingerprint: undefined,
            attempt: 1,
            createdAt: 0,
            expiresAt: 9e12,
            retention: 9e5
          }
          const replies = [
            yield* driver.claim(key, claimBy("t")),
            ...(yield* driver.renew([{ identifiers: key, request: { token: "t", lease: 9 } }])),
            yield* driver.complete(key, { token: "t", outcome, fingerprint: undefined, retention: 9 }),
            yield* driver.release(key, { token: "t" }),
            yield* driver.hold(key, { token: "t" }),
            yield* driver.saveStep(key, { token: "t", name: "n", encoded: "1" }),
            yield* driver.resolve(key, { token: "t", outcome }),
            ...(yield* driver.insert([{ identifiers: key, request: insert }], { allOrNothing: false })),
            ...(yield* driver.read([key]))
          ]
          for (const reply of replies) expect(reply).toMatchObject({ _tag: "Corrupted" })
          expect(yield* driver.remove([key])).toEqual([false])
          const beside = freshIds()
          const both = [key, beside].map((identifiers) => ({ identifiers, request: insert }))
          const [first, second] = yield* driver.insert(both, { allOrNothing: true })
          expect([first?._tag, second?._tag]).toEqual(["Corrupted", "Inserted"])
          expect(yield* driver.read([beside])).toEqual([undefined])
          expect(yield* command("dump", stored)).toEqual(before)
          expect((yield* driver.insert(both, { allOrNothing: false })).map(({ _tag }) => _tag)).toEqual([
            "Corrupted",
            "Inserted"
          ])
          expect(yield* driver.reset(key, { force: false })).toEqual({ _tag: "Reset" })
          expect(yield* driver.claim(key, claimBy("t"))).toMatchObject({ _tag: "Claimed", attempt: 1 })
        }
      })
    )

    it.scoped("bulk operations take one call for up to 128 keys, in order", () =>
      Effect.gen(function* () {
        const { command, driver } = yield* setup
        const keys = Array.from({ length: 300 }, freshIds)
        const calls = Effect.map(command("info", "commandstats"), (stats) =>
          Number(/cmdstat_evalsha:calls=(\d+)/.exec(String(stats))?.[1] ?? 0)
        )
        yield* Effect.forEach(keys.slice(0, 10), (key, index) =>
          driver.claim(key, claimBy(index % 2 === 0 ? "mine" : "other"))
        )
        yield* driver.renew([])
        yield* driver.read([freshIds()])
        const before = yield* calls
        const renewed = yield* driver.renew(
          keys.map((identifiers) => ({ identifiers, request: { token: "mine", lease: minute } }))
        )
        expect(renewed.map(({ _tag }) => _tag).slice(0, 12)).toEqual([
          ...Array.from({ length: 5 }, () => ["Renewed", "Lost"]).flat(),
          "Gone",
          "Gone"
        ])
        expect(renewed).toHaveLength(300)
        expect((yield* calls) - before).toBeLessThanOrEqual(4)
      })
    )

    it.scoped("calls of one turn go in some four, each with its own fate; what is given up before is not sent", () =>
      Effect.gen(function* () {
        const { command, driver } = yield* setup
        const calls = Effect.map(command("info", "commandstats"), (stats) =>
          Number(/cmdstat_evalsha:calls=(\d+)/.exec(String(stats))?.[1] ?? 0)
        )
        const [taken, corrupt, dropped, ...free] = Array.from({ length: 40 }, freshIds)
        if (!taken || !corrupt || !dropped) return yield* Effect.dieMessage("no keys")
        yield* driver.claim(taken, claimBy("other"))
        yield* command("set", `idempotency:${corrupt.operation}:${corrupt.idempotencyKey}`, "done")
        const before = yield* calls
        const keys = [taken, corrupt, ...free]
        const [replies] = yield* Effect.all(
          [
            Effect.forEach(keys, (key) => driver.claim(key, claimBy("t")), { concurrency: "unbounded" }),
            Effect.race(driver.claim(dropped, claimBy("t")), Effect.void)
          ],
          { concurrency: "unbounded" }
        )
        expect(replies.map(({ _tag }) => _tag)).toEqual(["InFlight", "Corrupted", ...free.map(() => "Claimed")])
        // 39 keys, by ten.
        expect((yield* calls) - before).toBe(4)
        expect(yield* driver.read([dropped])).toEqual([undefined])
        const callsOf = (members: number) =>
          Effect.gen(function* () {
            const before = yield* calls
            yield* Effect.forEach(Array.from({ length: members }, freshIds), (key) => driver.claim(key, claimBy("t")), {
              concurrency: "unbounded"
            })
            return (yield* calls) - before
          })
        // So few go in one, and so many as 32 at most in each.
        expect(yield* Effect.forEach([1, 4, 5, 16, 129], callsOf)).toEqual([1, 1, 2, 4, 5])
      })
    )

    it.scoped("a change in one process wakes the waiters of another, without its polling", () =>
      Effect.gen(function* () {
        const { driver, port } = yield* setup
        const other = yield* driverOver(yield* nodeClient(ioredis, port))
        const key = freshIds()
        yield* driver.claim(key, claimBy("t"))
        const changed = yield* other.changes(key)
        // The first wake-up is for the subscription itself.
        yield* changed
        yield* Effect.fork(Effect.delay(driver.release(key, { token: "t" }), "20 millis"))
        yield* Effect.timeout(changed, "2 seconds")
        expect(yield* other.claim(key, claimBy("u"))).toMatchObject({ _tag: "Claimed", attempt: 2 })
        yield* Effect.fork(
          Effect.delay(
            driver.complete(key, {
              token: "u",
              outcome: { _tag: "Unavailable" },
              fingerprint: undefined,
              retention: minute
            }),
            "20 millis"
          )
        )
        yield* Effect.timeout(changed, "2 seconds")
      })
    )

    it.scoped("waiters hear of changes again after their connection was cut, also under the client's own prefix", () =>
      Effect.gen(function* () {
        const { command, port } = yield* setup
        const redis = yield* nodeClient(ioredis, port, { keyPrefix: "tenant:" })
        const driver = yield* driverOver(redis)
        const key = freshIds()
        yield* driver.claim(key, claimBy("t"))
        const changed = yield* driver.changes(key)
        yield* changed
        expect(yield* command("client", "kill", "type", "pubsub")).toBe(1)
        yield* Effect.timeout(changed, "3 seconds")
        yield* Effect.fork(Effect.delay(driver.release(key, { token: "t" }), "20 millis"))
        yield* Effect.timeout(changed, "2 seconds")
      })
    )

    it.scoped("one connection serves all waiters, and goes with the scope", () =>
      Effect.gen(function* () {
        const { command, driver, redis } = yield* setup
        const subscribers = Effect.map(
          command("client", "list", "type", "pubsub"),
          (list) =>
            String(list)
              .split("\n")
              .filter((line) => line !== "").length
        )
        yield* Effect.repeat(subscribers, { until: (count) => count === 0 })
        yield* Effect.scoped(
          Effect.gen(function* () {
            const scoped = yield* driverOver(redis)
            yield* Effect.forEach(Array.from({ length: 20 }, freshIds), (key) =>
              Effect.flatMap(scoped.changes(key), (changed) => changed)
            )
            expect(yield* subscribers).toBe(1)
          })
        )
        yield* Effect.repeat(subscribers, { until: (count) => count === 0 })
        expect(yield* driver.read([freshIds()])).toEqual([undefined])
      })
    )

    it.scoped("a result that a repository saved is found by another client, as raw text", () =>
      Effect.gen(function* () {
        const { command, driver } = yield* setup
        const repository = yield* IdempotencyRepository.make(driver)
        const key = freshIds()
        const encoded = JSON.stringify({ text: 'é😀\u0000\n"', n: 1.5, [major]: null })
        yield* driver.complete(key, {
          token: "t",
          outcome: { _tag: "Success", encoded },
          fingerprint: undefined,
          retention: minute
        })
        const record = yield* repository.get(key)
        expect(Option.getOrThrow(record).result).toEqual(JSON.parse(encoded))
        const stored = String(yield* command("get", `idempotency:${key.operation}:${key.idempotencyKey}`))
        expect(stored.endsWith(`\n${encoded}`)).toBe(true)
      })
    )
  })
})
