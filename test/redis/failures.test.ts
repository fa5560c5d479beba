/** What the server refuses, and where there is none. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { Outcome } from "../../src/internal/protocol.js"
import { type RedisServer, standalone, standaloneWith } from "../support/redisServers.js"
import { claimBy, driverOver, freshIds, insertBy, majors, minute, nodeClient } from "./fixtures.js"

const success: Outcome = { _tag: "Success", encoded: '"paid"' }
const completeBy = (token: string, fingerprint?: string) => ({
  token,
  outcome: success,
  fingerprint,
  retention: minute
})

const outOfMemory = ({ command }: RedisServer) => command("config", "set", "maxmemory", "1")

describe.each(majors)("$major", ({ ioredis }) => {
  it.scopedLive("a full server refuses only what could be claimed, and still takes what was claimed before", () =>
    Effect.gen(function* () {
      const server = yield* standaloneWith("--maxmemory-policy", "noeviction")
      const driver = yield* driverOver(yield* nodeClient(ioredis, server.port))
      const [settled, running, lapsed, held, released, absent, corrupt] = Array.from({ length: 7 }, freshIds)
      if (!settled || !running || !lapsed || !held || !released || !absent || !corrupt) return yield* Effect.die("keys")
      yield* driver.complete(settled, completeBy("t", "print"))
      yield* driver.claim(running, claimBy("t"))
      yield* driver.claim(lapsed, claimBy("t", { guarantee: "at-most-once", lease: 1 }))
      yield* driver.claim(held, claimBy("t"))
      yield* driver.hold(held, { token: "t" })
      yield* driver.claim(released, claimBy("t"))
      yield* driver.release(released, { token: "t" })
      yield* server.command("set", `idempotency:${corrupt.operation}:${corrupt.idempotencyKey}`, "done")
      yield* outOfMemory(server)

      expect(yield* driver.claim(settled, claimBy("u"))).toMatchObject({
        _tag: "Settled",
        record: { outcome: success }
      })
      expect(yield* driver.claim(settled, claimBy("u", { fingerprint: "other" }))).toEqual({ _tag: "Mismatch" })
      expect(yield* driver.claim(running, claimBy("u"))).toMatchObject({ _tag: "InFlight" })
      expect(yield* driver.claim(lapsed, claimBy("u"))).toEqual({ _tag: "Unknown", attempt: 1 })
      expect(yield* driver.claim(held, claimBy("u"))).toEqual({ _tag: "Unknown", attempt: 1 })
      expect(yield* driver.claim(released, claimBy("t"))).toEqual({ _tag: "Refused" })
      expect(yield* driver.claim(corrupt, claimBy("u"))).toMatchObject({ _tag: "Corrupted" })
      for (const claimable of [absent, released]) {
        const error = yield* Effect.flip(driver.claim(claimable, claimBy("u")))
        expect(error).toMatchObject({ method: "claim", reason: "Rejected", applied: "no", operation: "payment.charge" })
      }
      const step = { token: "t", name: "n", encoded: "1" }
      expect(yield* Effect.flip(driver.saveStep(running, step))).toMatchObject({ reason: "Rejected", applied: "no" })

      const renewed = yield* driver.renew([{ identifiers: running, request: { token: "t", lease: minute } }])
      expect(renewed).toEqual([{ _tag: "Renewed" }])
      expect(yield* driver.complete(running, completeBy("t"))).toMatchObject({ _tag: "Done" })
      expect(yield* driver.release(lapsed, { token: "t" })).toEqual({ _tag: "Released" })
      expect(yield* driver.resolve(held, { token: "r", outcome: success })).toEqual({ _tag: "Resolved" })
    })
  )

  it.scopedLive("a server that wants more replicas refuses claims, and answers what is settled", () =>
    Effect.gen(function* () {
      const { command, port } = yield* standalone
      const driver = yield* driverOver(yield* nodeClient(ioredis, port))
      const settled = freshIds()
      yield* driver.complete(settled, completeBy("t"))
      yield* command("config", "set", "min-replicas-to-write", "1")
      expect(yield* driver.claim(settled, claimBy("u"))).toMatchObject({ _tag: "Settled" })
      expect(yield* Effect.flip(driver.claim(freshIds(), claimBy("u")))).toMatchObject({
        reason: "Rejected",
        applied: "no"
      })
    })
  )

  it.scopedLive("a replica answers no claim, not even a settled one", () =>
    Effect.gen(function* () {
      const primary = yield* standaloneWith("--repl-diskless-sync-delay", "0")
      const replica = yield* standaloneWith("--replicaof", "127.0.0.1", `${primary.port}`)
      const settled = freshIds()
      yield* (yield* driverOver(yield* nodeClient(ioredis, primary.port))).complete(settled, completeBy("t"))
      yield* Effect.repeat(replica.command("dbsize"), { until: (size) => size === 1 })
      const driver = yield* driverOver(yield* nodeClient(ioredis, replica.port))
      const error = yield* Effect.flip(driver.claim(settled, claimBy("u")))
      expect(error).toMatchObject({ reason: "Unavailable", applied: "no" })
      expect(String(error.cause)).toContain("READONLY")
    })
  )

  it.scopedLive("a stale replica does not answer reads", () =>
    Effect.gen(function* () {
      const replica = yield* standaloneWith("--replicaof", "127.0.0.1", "1", "--replica-serve-stale-data", "no")
      const driver = yield* driverOver(yield* nodeClient(ioredis, replica.port, { enableReadyCheck: false }))
      for (const count of [1, 300]) {
        const reading = driver.read(Array.from({ length: count }, freshIds))
        expect(yield* Effect.flip(reading)).toMatchObject({ reason: "Unavailable", applied: "no" })
      }
    })
  )

  it.scopedLive("what the user may not do is a misconfiguration", () =>
    Effect.gen(function* () {
      const { command, port } = yield* standalone
      const user = (name: string, ...rules: ReadonlyArray<string>) =>
        Effect.zipRight(
          command("acl", "setuser", name, "on", ">secret", ...rules),
          nodeClient(ioredis, port, { username: name, password: "secret", enableReadyCheck: false })
        )
      const claimAs = (name: string, ...rules: ReadonlyArray<string>) =>
        Effect.gen(function* () {
          const driver = yield* driverOver(yield* user(name, ...rules))
          return yield* Effect.flip(driver.claim(freshIds(), claimBy("t")))
        })
      yield* (yield* driverOver(yield* nodeClient(ioredis, port))).claim(freshIds(), claimBy("t"))
      expect(yield* claimAs("noscripts", "~*", "+@all", "-@scripting")).toMatchObject({
        reason: "Misconfigured",
        applied: "no"
      })
      expect(yield* claimAs("otherkeys", "~other:*", "+@all")).toMatchObject({ reason: "Misconfigured", applied: "no" })
      expect(yield* claimAs("noset", "~*", "+@all", "-set")).toMatchObject({ reason: "Misconfigured" })
      yield* command("config", "set", "requirepass", "secret")
      const anonymous = yield* driverOver(yield* nodeClient(ioredis, port, { enableReadyCheck: false }))
      expect(yield* Effect.flip(anonymous.claim(freshIds(), claimBy("t")))).toMatchObject({
        reason: "Misconfigured",
        applied: "no"
      })
    })
  )

  it.scopedLive("without channel permissions only the wake-ups are missing", () =>
    Effect.gen(function* () {
      const { command, port } = yield* standalone
      yield* command("acl", "setuser", "quiet", "on", ">secret", "~*", "+@all", "resetchannels")
      const redis = yield* nodeClient(ioredis, port, { username: "quiet", password: "secret" })
      const driver = yield* driverOver(redis)
      const key = freshIds()
      const changed = yield* driver.changes(key)
      expect(yield* driver.complete(key, completeBy("t"))).toMatchObject({ _tag: "Done" })
      expect(yield* Effect.timeoutOption(changed, "300 millis")).toMatchObject({ _tag: "None" })
    })
  )

  it.scopedLive("a connection that is cut while a command is out leaves its fate unknown; the next may succeed", () =>
    Effect.gen(function* () {
      const { command, port } = yield* standalone
      const redis = yield* nodeClient(ioredis, port, { maxRetriesPerRequest: 0, retryStrategy: () => 100 })
      const driver = yield* driverOver(redis)
      const key = freshIds()
      yield* driver.claim(key, claimBy("t"))
      yield* command("client", "pause", "600", "all")
      const claiming = yield* Effect.fork(Effect.flip(driver.claim(key, claimBy("u"))))
      yield* Effect.sleep("50 millis")
      redis.disconnect()
      expect(yield* Fiber.join(claiming)).toMatchObject({ reason: "Unavailable", applied: "unknown" })
    })
  )

  it.scopedLive("a server that is full before the last of several calls may have done what came before", () =>
    Effect.gen(function* () {
      const server = yield* standaloneWith("--maxmemory-policy", "noeviction")
      const driver = yield* driverOver(yield* nodeClient(ioredis, server.port))
      const insert = (count: number) =>
        driver.insert(
          // More than half of what a call may hold, so that each has its own.
          Array.from({ length: count }, () => ({
            identifiers: freshIds(),
            request: insertBy("t", "1".repeat(900_000))
          })),
          { allOrNothing: false }
        )
      const used = /used_memory:(\d+)/.exec(String(yield* server.command("info", "memory")))?.[1]
      yield* server.command("config", "set", "maxmemory", Number(used) + 5_000_000)
      expect(yield* Effect.flip(insert(12))).toMatchObject({ reason: "Rejected", applied: "unknown" })
      expect(Number(yield* server.command("dbsize"))).toBeGreaterThan(0)
      yield* outOfMemory(server)
      expect(yield* Effect.flip(insert(1))).toMatchObject({ reason: "Rejected", applied: "no" })
    })
  )

  it.scopedLive("many members in a call fail together only when the call does", () =>
    Effect.gen(function* () {
      const server = yield* standalone
      const driver = yield* driverOver(yield* nodeClient(ioredis, server.port))
      const keys = Array.from({ length: 3 }, freshIds)
      yield* server.command("set", `idempotency:${keys[1]?.operation}:${keys[1]?.idempotencyKey}`, "done")
      yield* Effect.forEach([keys[0], keys[2]], (key) => (key ? driver.claim(key, claimBy("t")) : Effect.void))
      const renewed = yield* driver.renew(
        keys.map((identifiers) => ({ identifiers, request: { token: "t", lease: minute } }))
      )
      expect(renewed.map(({ _tag }) => _tag)).toEqual(["Renewed", "Corrupted", "Renewed"])
    })
  )
})
