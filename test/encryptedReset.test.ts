/** What `reset` makes of steps that are encrypted: those that will never be read do not keep their key. */
import { expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/TestClock"
import { Idempotency } from "../src/Idempotency.js"
import { IdempotencyDomainService } from "../src/IdempotencyDomainService.js"
import { IdempotencyMetrics } from "../src/IdempotencyMetrics.js"
import { IdempotencyRepository } from "../src/IdempotencyRepository.js"
import { ResultCipher } from "../src/ResultCipher.js"
import { withIdempotency } from "../src/withIdempotency.js"
import { withIdempotentStep } from "../src/withIdempotentStep.js"
import { recordingLogs } from "./support/recordingLogs.js"
import { claimBy, completeBy, ids, makeWatchedStore, type WatchedStore } from "./support/watchedStore.js"

const keyOf = (id: string, fill: number) => ({ id, key: Redacted.make(new Uint8Array(32).fill(fill)) })
const [older, newer] = [keyOf("older", 1), keyOf("newer", 2)]
const cipherOf = (...keys: ReadonlyArray<ResultCipher.Key>) => Layer.orDie(ResultCipher.layer({ keys }))

const processOver = (store: WatchedStore, cipher: Layer.Layer<ResultCipher>) =>
  Layer.build(
    Idempotency.layer.pipe(
      Layer.provideMerge(IdempotencyRepository.layerEncrypted()),
      Layer.provide([store.layer, cipher, IdempotencyDomainService.layer]),
      Layer.provide(IdempotencyMetrics.layerNoop)
    )
  )

const unavailable = { _tag: "IdempotencyResultUnavailableError" }

/** An owner that crashed after a step, which `cipher` is to read; its lease has passed. */
const setup = (cipher: Layer.Layer<ResultCipher>) =>
  Effect.gen(function* () {
    const store = makeWatchedStore()
    const crashed = Context.get(yield* processOver(store, cipherOf(older)), IdempotencyRepository)
    yield* crashed.claims.claim(ids(), { ...claimBy("crashed", "f"), lease: 1 })
    yield* crashed.claims.saveStep(ids(), { token: "crashed", name: "reserve", encoded: '"r-1"' })
    const context = yield* processOver(store, cipher)
    let reserved = 0
    const call = Effect.sync(() => `again ${++reserved}`).pipe(
      withIdempotentStep("reserve"),
      withIdempotency("o", "k"),
      Effect.provide(context)
    )
    const repository = Context.get(context, IdempotencyRepository)
    const stored = Effect.map(store.contents.read([ids()]), ([state]) => state)
    return { call, repository, reset: repository.reset(ids(), { force: true }), store, stored }
  })

it.scoped("steps that do not open are dropped: the key is free, and its attempts go on", () =>
  Effect.gen(function* () {
    const { call, reset, stored } = yield* setup(cipherOf(newer))
    expect(yield* reset).toBe(true)
    expect(yield* stored).toMatchObject({ _tag: "Released", attempt: 1, steps: [], fingerprint: undefined })
    expect(yield* call).toBe("again 1")
    expect(yield* stored).toMatchObject({ _tag: "Completed", attempt: 2 })
  })
)

it.scoped("an owner whose steps were dropped is refused from then on", () =>
  Effect.gen(function* () {
    const { call, repository, reset, stored } = yield* setup(cipherOf(newer))
    const { claims } = repository
    expect(yield* reset).toBe(true)
    const released = yield* stored
    expect(released).toMatchObject({ _tag: "Released", token: "crashed" })
    expect(yield* claims.complete(ids(), completeBy("crashed"))).toEqual({ _tag: "Superseded", record: undefined })
    expect(yield* claims.claim(ids(), { ...claimBy("crashed"), guarantee: "at-most-once" })).toEqual({
      _tag: "Refused"
    })
    expect(yield* stored).toEqual(released)
    expect(yield* call).toBe("again 1")
  })
)

it.scoped("that steps are dropped is logged, without what identifies their key", () =>
  Effect.gen(function* () {
    const { layer, logs } = recordingLogs()
    const kept = yield* setup(cipherOf(newer, older))
    yield* Effect.provide(kept.reset, layer)
    expect(logs).toEqual([])
    const { reset } = yield* setup(cipherOf(newer))
    yield* Effect.provide(reset, layer)
    expect(logs).toEqual([
      {
        level: "WARN",
        message: 'idempotency: steps of "o" are dropped, as they cannot be decrypted',
        annotations: { "idempotency.operation": "o", "idempotency.key.hash": expect.stringMatching(/^[0-9a-f]{16}$/) }
      }
    ])
  })
)

it.scoped("the log tells why: steps are dropped, a result is not recorded", () =>
  Effect.gen(function* () {
    const causes: Array<string> = []
    const logger = Logger.make(({ cause }) => causes.push(Cause.pretty(cause)))
    const { reset } = yield* setup(cipherOf(newer))
    const away = Layer.succeed(ResultCipher, {
      encrypt: () => Effect.fail(new Error("the key service is away")),
      decrypt: () => Effect.fail(new Error("the key service is away"))
    })
    const { claims } = Context.get(yield* processOver(makeWatchedStore(), away), IdempotencyRepository)
    yield* Effect.zipRight(reset, claims.complete(ids(), completeBy("a"))).pipe(
      Effect.provide(Logger.replace(Logger.defaultLogger, logger))
    )
    expect(causes).toEqual([
      expect.stringContaining("under a key that is not given here"),
      expect.stringContaining("the key service is away")
    ])
  })
)

it.scoped("steps in a form of another version are kept, and those of another kind are not", () =>
  Effect.gen(function* () {
    for (const [encoded, isKept] of [
      ["enc2.s.older.AAAA", true],
      ["enc1.t.older.AAAA", false]
    ] as const) {
      const { call, reset, store, stored } = yield* setup(cipherOf(older))
      yield* store.contents.reset(ids(), { force: true })
      yield* store.contents.claim(ids(), claimBy("other"))
      yield* store.contents.saveStep(ids(), { token: "other", name: "ship", encoded })
      expect(yield* reset).toBe(true)
      expect(yield* stored).toMatchObject({
        _tag: "Released",
        token: "other",
        steps: isKept ? [{ name: "reserve" }, { name: "ship" }] : []
      })
      expect(yield* Effect.either(call)).toMatchObject(isKept ? { left: unavailable } : { right: "again 1" })
    }
  })
)

it.scoped("so they are once a caller has met them, and where they are not encrypted", () =>
  Effect.gen(function* () {
    const { call, reset, store, stored } = yield* setup(cipherOf(older))
    yield* store.contents.reset(ids(), { force: true })
    yield* store.contents.claim(ids(), claimBy("forger"))
    yield* store.contents.saveStep(ids(), { token: "forger", name: "other", encoded: '"forged"' })
    yield* store.contents.release(ids(), { token: "forger" })
    expect(yield* Effect.flip(call)).toMatchObject(unavailable)
    expect(yield* reset).toBe(true)
    expect(yield* call).toBe("again 1")
    expect(yield* stored).toMatchObject({ attempt: 4 })
  })
)

it.scoped("steps that open are kept", () =>
  Effect.gen(function* () {
    const { call, reset, store, stored } = yield* setup(cipherOf(newer, older))
    expect(yield* reset).toBe(true)
    expect(yield* stored).toMatchObject({ _tag: "Released", attempt: 1, steps: [{ name: "reserve" }] })
    expect(store.calls.filter((method) => method === "insert")).toEqual([])
    expect(yield* call).toBe("r-1")
  })
)

it.scoped("steps are kept while the cipher is away, and go once it knows that it will never read them", () =>
  Effect.gen(function* () {
    let refusal = new Error("away")
    const cipher = Layer.succeed(ResultCipher, {
      encrypt: (plain) => Effect.succeed(plain),
      decrypt: (text) => Effect.suspend(() => (text.startsWith("older.") ? Effect.fail(refusal) : Effect.succeed(text)))
    })
    const { call, reset, stored } = yield* setup(cipher)
    expect(yield* reset).toBe(true)
    expect(yield* stored).toMatchObject({ _tag: "Released", steps: [{ name: "reserve" }] })
    expect(yield* Effect.flip(call)).toMatchObject(unavailable)
    refusal = new ResultCipher.Undecryptable("its key was destroyed")
    expect(yield* reset).toBe(true)
    expect(yield* call).toBe("again 1")
  })
)

it.scoped("one step that will never be read drops none while another may be read later, in any order", () =>
  Effect.gen(function* () {
    for (const neverFirst of [true, false]) {
      const errors = new Map<string, Error>()
      const cipher = Layer.succeed(ResultCipher, {
        encrypt: (plain) => Effect.succeed(plain),
        decrypt: (text, { step = "" }) => Effect.suspend(() => Effect.fail(errors.get(step) ?? new Error(text)))
      })
      const { call, reset, store, stored } = yield* setup(cipher)
      yield* store.contents.reset(ids(), { force: true })
      yield* store.contents.claim(ids(), claimBy("later"))
      yield* store.contents.saveStep(ids(), { token: "later", name: "ship", encoded: "enc1.s.ours" })
      const never = new ResultCipher.Undecryptable("its key was destroyed")
      errors.set(neverFirst ? "reserve" : "ship", never)
      errors.set(neverFirst ? "ship" : "reserve", new Error("the key service is away"))
      expect(yield* reset).toBe(true)
      expect(yield* stored).toMatchObject({ _tag: "Released", steps: [{ name: "reserve" }, { name: "ship" }] })
      errors.set("reserve", never).set("ship", never)
      expect(yield* reset).toBe(true)
      expect(yield* call).toBe("again 1")
    }
  })
)

it.scoped("a record without steps, a key that nobody knows and a live owner are as they were", () =>
  Effect.gen(function* () {
    const store = makeWatchedStore()
    const { claims, reset } = Context.get(yield* processOver(store, cipherOf(newer)), IdempotencyRepository)
    expect(yield* reset(ids())).toBe(false)
    yield* claims.claim(ids(), claimBy("a"))
    expect(yield* Effect.flip(reset(ids()))).toMatchObject({ _tag: "IdempotencyInFlightError" })
    yield* claims.complete(ids(), completeBy("a"))
    expect(yield* reset(ids())).toBe(true)
    expect(yield* store.contents.read([ids()])).toMatchObject([{ _tag: "Released", token: "a" }])
  })
)

it.scoped("who claims the key meanwhile keeps it", () =>
  Effect.gen(function* () {
    for (const [meanwhile, after] of [
      ["reset", "read"],
      ["read", "insert"]
    ] as const) {
      const { reset, store, stored } = yield* setup(cipherOf(newer))
      store.beforeReply = (method) =>
        method === meanwhile ? Effect.orDie(store.contents.claim(ids(), claimBy("quick"))) : Effect.void
      store.calls.length = 0
      expect(yield* reset).toBe(true)
      expect(store.calls.at(-1)).toBe(after)
      expect(yield* stored).toMatchObject({ _tag: "Processing", token: "quick", attempt: 2 })
    }
  })
)

it.scoped("a store that fails meanwhile is told, and the next reset frees the key", () =>
  Effect.gen(function* () {
    for (const failing of ["read", "insert"] as const) {
      const { call, reset, store } = yield* setup(cipherOf(newer))
      store.beforeReply = (method) =>
        Effect.sync(() => {
          if (method === (failing === "read" ? "reset" : "insert")) store.health = "failing"
        })
      expect(yield* Effect.flip(reset)).toMatchObject({
        _tag: "IdempotencyStorageError",
        method: "reset",
        reason: "Unavailable",
        applied: "unknown"
      })
      store.health = "sound"
      store.beforeReply = () => Effect.void
      expect(yield* reset).toBe(true)
      expect(yield* call).toBe("again 1")
    }
  })
)

it.scoped("a reset that takes too long frees the key all the same", () =>
  Effect.gen(function* () {
    const { call, reset, store, stored } = yield* setup(cipherOf(newer))
    store.beforeReply = (method) => (method === "insert" ? Effect.sleep("2 seconds") : Effect.void)
    const late = yield* Effect.fork(Effect.flip(reset))
    yield* Effect.yieldNow().pipe(Effect.repeatN(50))
    expect(yield* stored).toMatchObject({ _tag: "Completed" })
    yield* TestClock.adjust("1 second")
    expect(yield* Fiber.join(late)).toMatchObject({ method: "reset", reason: "Timeout", applied: "unknown" })
    yield* TestClock.adjust("1 second")
    expect(yield* stored).toMatchObject({ _tag: "Released", token: "crashed", steps: [] })
    expect(yield* call).toBe("again 1")
  })
)

it("an error of a text that will never be decrypted may tell its cause", () => {
  const cause = new Error("destroyed")
  expect(new ResultCipher.Undecryptable("its key is gone", { cause }).cause).toBe(cause)
})
