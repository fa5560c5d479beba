/** What becomes of a tiered repository whose stores fail, and of the copies of what is removed. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import { IdempotencyRecord } from "../src/IdempotencyRecord.js"
import { makeTiered, meanwhile, settled, timed } from "./support/tieredStores.js"
import { claimBy, completeBy, ids } from "./support/watchedStore.js"

describe("a fast store that is away", () => {
  for (const health of ["failing", "silent", "stuck", "dying"] as const) {
    it.scoped(`(${health}) changes no result, and costs little`, () =>
      Effect.gen(function* () {
        const { calls, claim, complete, fast, repository } = yield* makeTiered({ fastTimeout: "100 millis" })
        fast.health = health
        const most = health === "silent" || health === "stuck" ? 100 : 0

        const first = yield* timed(claim("a", "f"))
        expect(first.value).toMatchObject({ _tag: "Claimed" })
        expect(first.elapsed).toBeLessThanOrEqual(most)
        // Left alone for a second.
        calls()
        const next = yield* timed(Effect.all([complete("a", "f"), claim("b", "f"), repository.get(ids())]))
        expect(next).toMatchObject({ elapsed: 0, value: [{ _tag: "Done" }, settled(), { _tag: "Some" }] })
        expect(calls().fast).toEqual([])
        // Then one caller finds out for all.
        yield* TestClock.adjust("1 second")
        const both = yield* timed(Effect.all([claim("b", "f"), claim("c", "f")], { concurrency: "unbounded" }))
        expect(both.value).toMatchObject([settled(), settled()])
        expect(both.elapsed).toBeLessThanOrEqual(most)
        expect(calls().fast).toEqual(["read"])
        // A removal is tried all the same, and not waited for.
        const reset = yield* timed(repository.reset(ids()))
        expect(reset).toMatchObject({ elapsed: 0, value: true })
        yield* meanwhile
        expect(calls().fast).toEqual(["remove"])
        expect((yield* timed(claim("d", "f"))).value).toMatchObject({ _tag: "Claimed", attempt: 2 })
      })
    )
  }

  it.scoped("is used again once it answers, which is logged", () => {
    const messages: Array<unknown> = []
    const logger = Logger.make(({ message }) => messages.push(message))
    return Effect.gen(function* () {
      const { calls, claim, fast, settle } = yield* makeTiered()
      yield* settle()
      fast.health = "failing"
      yield* claim("b", "f")
      yield* claim("b", "f")
      yield* TestClock.adjust("1 second")
      yield* claim("b", "f")
      expect(messages).toHaveLength(1)
      fast.health = "sound"
      yield* TestClock.adjust("1 second")
      calls()
      expect(yield* claim("b", "f")).toMatchObject(settled())
      expect(yield* claim("b", "f")).toMatchObject(settled())
      expect(calls()).toEqual({ fast: ["read", "read"], durable: [] })
      expect(messages).toHaveLength(2)
    }).pipe(Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
  })

  it.scoped("but a copy that it refuses to hold is no reason to leave it alone", () =>
    Effect.gen(function* () {
      const { calls, claim, fast, settle } = yield* makeTiered()
      fast.health = "refusing"
      yield* settle()
      fast.health = "sound"
      calls()
      yield* claim("b", "f")
      yield* meanwhile
      yield* claim("c", "f")
      expect(calls()).toEqual({ fast: ["read", "insert", "read"], durable: ["claim"] })
    })
  )

  it.scoped("is left alone too where its callers give up before it is known to be away", () =>
    Effect.gen(function* () {
      const { calls, claim, fast } = yield* makeTiered({ fastTimeout: "100 millis" })
      fast.health = "silent"
      const givingUp = yield* Effect.fork(claim("a", "f"))
      yield* TestClock.adjust("80 millis")
      yield* Fiber.interrupt(givingUp)
      calls()
      expect(yield* timed(claim("b", "f"))).toMatchObject({ elapsed: 0, value: { _tag: "Claimed" } })
      expect(calls().fast).toEqual([])
    })
  )

  it.scoped("but not for one that gives up at once", () =>
    Effect.gen(function* () {
      const { calls, claim, fast, settle } = yield* makeTiered({ fastTimeout: "100 millis" })
      yield* settle()
      fast.health = "silent"
      const givingUp = yield* Effect.fork(claim("b", "f"))
      yield* TestClock.adjust("5 millis")
      yield* Fiber.interrupt(givingUp)
      fast.health = "sound"
      calls()
      expect(yield* claim("b", "f")).toMatchObject(settled())
      expect(calls()).toEqual({ fast: ["read"], durable: [] })
    })
  )

  it.scoped("holds up no caller that cannot be interrupted, and no end of the layer", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { claim, complete, fast, repository } = yield* Scope.extend(makeTiered(), scope)
      yield* claim("a", "f")
      fast.health = "silent"
      yield* complete("a", "f")
      expect((yield* timed(Effect.uninterruptible(claim("b", "f")))).value).toMatchObject(settled())
      yield* TestClock.adjust("1 second")
      expect((yield* timed(Effect.uninterruptible(repository.reset(ids())))).value).toBe(true)
      expect((yield* timed(Scope.close(scope, Exit.void))).elapsed).toBeLessThanOrEqual(100)
    })
  )

  it.scoped("does not keep the durable store's hints from waiters; both wake them", () =>
    Effect.gen(function* () {
      for (const source of ["durable", "fast"] as const) {
        const stores = yield* makeTiered()
        if (source === "durable") stores.fast.health = "silent"
        const changed = yield* stores.repository.claims.changes(ids())
        yield* meanwhile
        const waiting = yield* Effect.fork(changed)
        yield* meanwhile
        yield* stores[source].contents.complete(ids(), completeBy("a"))
        yield* meanwhile
        expect(Option.isSome(yield* Fiber.poll(waiting))).toBe(true)
        yield* Fiber.interrupt(waiting)
      }
    })
  )
})

describe("a durable store that is away", () => {
  it.scoped("is a storage failure, except where a settled copy answers", () =>
    Effect.gen(function* () {
      const { claim, complete, durable, repository, settle } = yield* makeTiered()
      yield* settle()
      durable.health = "failing"
      const unavailable = { _tag: "IdempotencyStorageError", reason: "Unavailable" }
      expect(yield* claim("b", "f")).toMatchObject(settled())
      expect(Option.isSome(yield* repository.get(ids()))).toBe(true)
      const elsewhere = ids("elsewhere")
      const record = yield* IdempotencyRecord.create({
        operation: "o",
        idempotencyKey: "r",
        result: 1,
        timeToLive: 1e6
      })
      const calls: ReadonlyArray<Effect.Effect<unknown, { readonly _tag: string }>> = [
        repository.claims.claim(elsewhere, claimBy("a")),
        repository.get(elsewhere),
        repository.getMany([ids(), elsewhere]),
        repository.save(record),
        repository.delete(ids()),
        repository.reset(ids()),
        repository.resolve(ids(), { _tag: "Unavailable" }),
        complete("b", "f")
      ]
      for (const call of calls) expect(yield* Effect.flip(call)).toMatchObject(unavailable)
    })
  )
})

describe("removal", () => {
  it.scoped("empties both", () =>
    Effect.gen(function* () {
      for (const method of ["reset", "delete"] as const) {
        const { copy, durable, repository, settle } = yield* makeTiered()
        yield* settle()
        expect(yield* repository[method](ids())).toBe(true)
        expect(yield* copy).toBeUndefined()
        expect(Option.isNone(yield* repository.get(ids()))).toBe(true)
        expect(durable.calls).toContain("read")
      }
    })
  )

  it.scoped("is over when the copy is gone", () =>
    Effect.gen(function* () {
      const { fast, repository, settle } = yield* makeTiered()
      yield* settle()
      fast.beforeReply = (method) => (method === "remove" ? Effect.sleep("50 millis") : Effect.void)
      expect(yield* timed(repository.reset(ids()))).toEqual({ elapsed: 50, value: true })
    })
  )

  it.scoped("takes an old copy that the durable store knows nothing of; so do saving and resolving", () =>
    Effect.gen(function* () {
      const record = yield* IdempotencyRecord.create({ ...ids(), result: "saved", timeToLive: "1 hour" })
      for (const [held, method] of [
        [false, "reset"],
        [false, "delete"],
        [false, "save"],
        [true, "resolve"]
      ] as const) {
        const { copy, durable, repository, settle } = yield* makeTiered()
        yield* settle()
        // Another process, whose removal of the copy failed.
        yield* durable.contents.reset(ids(), { force: true })
        if (held) {
          yield* durable.contents.claim(ids(), claimBy("b"))
          yield* durable.contents.hold(ids(), { token: "b" })
        } else {
          yield* durable.contents.claim(ids(), claimBy("b"))
          yield* durable.contents.complete(ids(), completeBy("b"))
          yield* durable.contents.remove([ids()])
        }
        if (method === "save") yield* repository.save(record)
        else if (method === "resolve") expect(yield* repository.resolve(ids(), { _tag: "Unavailable" })).toBe(true)
        else expect(yield* repository[method](ids())).toBe(false)
        expect([method, yield* copy]).toEqual([method, undefined])
      }
    })
  )

  it.scoped("without an answer takes the copy too: it may have been made", () =>
    Effect.gen(function* () {
      const { claim, durable, repository, settle } = yield* makeTiered()
      yield* settle()
      durable.health = "lost"
      yield* Effect.flip(repository.reset(ids()))
      durable.health = "sound"
      expect(yield* claim("b", "f")).toMatchObject({ _tag: "Claimed", attempt: 2 })
    })
  )

  it.scoped("that the fast store misses leaves the old copy for at most fastTimeToLive", () =>
    Effect.gen(function* () {
      const { claim, fast, repository, settle } = yield* makeTiered({ fastTimeToLive: "5 seconds" })
      yield* settle()
      fast.health = "refusing"
      expect(yield* repository.reset(ids())).toBe(true)
      fast.health = "sound"
      expect(yield* claim("b", "f")).toMatchObject(settled())
      yield* TestClock.adjust("5 seconds")
      expect(yield* claim("b", "f")).toMatchObject({ _tag: "Claimed", attempt: 2 })
    })
  )

  it.scoped("is not undone by a replay that was on its way", () =>
    Effect.gen(function* () {
      const { claim, copy, durable, fast, repository, settle } = yield* makeTiered()
      yield* settle()
      yield* fast.contents.remove([ids()])
      durable.beforeReply = (method) => (method === "claim" ? Effect.sleep("1 second") : Effect.void)
      const replay = yield* Effect.fork(claim("b", "f"))
      yield* meanwhile
      yield* repository.reset(ids())
      yield* TestClock.adjust("1 second")
      expect(yield* Fiber.join(replay)).toMatchObject(settled())
      yield* meanwhile
      expect(yield* copy).toBeUndefined()
    })
  )
})
