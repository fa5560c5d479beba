/** Encryption at rest: the contract beneath it, what is refused, and what the store gets to see. */
import { describe, expect, it, layer as withLayer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/TestClock"
import { Idempotency } from "../src/Idempotency.js"
import { IdempotencyDomainService } from "../src/IdempotencyDomainService.js"
import { IdempotencyMetrics } from "../src/IdempotencyMetrics.js"
import { IdempotencyRecord } from "../src/IdempotencyRecord.js"
import { IdempotencyRepository } from "../src/IdempotencyRepository.js"
import { IdempotencyTransactions } from "../src/IdempotencyTransactions.js"
import { makeMemoryDriver } from "../src/internal/memoryDriver.js"
import type { Completed, Outcome, State } from "../src/internal/protocol.js"
import { agreesWithModel } from "../src/internal/testing/model.js"
import { MemoryIdempotencyRepository } from "../src/MemoryIdempotencyRepository.js"
import { ResultCipher } from "../src/ResultCipher.js"
import { withIdempotency } from "../src/withIdempotency.js"
import { withIdempotentStep } from "../src/withIdempotentStep.js"
import { claimBy, completeBy, ids, makeWatchedStore } from "./support/watchedStore.js"

const keyOf = (id: string, fill = 7) => ({ id, key: Redacted.make(new Uint8Array(32).fill(fill)) })
const cipherOf = (...keys: ReadonlyArray<ResultCipher.Key>) => Layer.orDie(ResultCipher.layer({ keys }))

const encrypted = IdempotencyRepository.layerEncrypted().pipe(
  Layer.provide([MemoryIdempotencyRepository.layer, cipherOf(keyOf("a"))])
)

describe("the contract, in its short form", () => {
  withLayer(encrypted)((it) => {
    it.effect("random operations agree with the model", () =>
      agreesWithModel(TestClock.adjust, { runs: 10, seed: undefined, timeout: 15_000 })
    )
  })
})

interface Options extends IdempotencyRepository.EncryptedOptions {
  readonly keys?: ReadonlyArray<ResultCipher.Key>
  readonly cipher?: Layer.Layer<ResultCipher>
}

const processOver = (
  store: { readonly layer: Layer.Layer<IdempotencyRepository> },
  { cipher, keys = [keyOf("a")], ...options }: Options = {}
) =>
  Layer.build(
    Idempotency.layer.pipe(
      Layer.provideMerge(IdempotencyRepository.layerEncrypted(options)),
      Layer.provide([store.layer, cipher ?? cipherOf(...keys), IdempotencyDomainService.layer]),
      Layer.provide(IdempotencyMetrics.layerNoop)
    )
  )

class Declined extends Schema.TaggedError<Declined>()("Declined", { secret: Schema.String }) {}

const secret = "4111-1111"
const unavailable = { _tag: "IdempotencyResultUnavailableError" }

const setup = (options?: Options) =>
  Effect.gen(function* () {
    const store = makeWatchedStore()
    const context = yield* processOver(store, options)
    const runs: Array<string> = []
    const charge = (key: string) =>
      Effect.suspend(() => {
        runs.push(key)
        return Effect.succeed({ card: secret, run: runs.length })
      }).pipe(withIdempotency("o", key), Effect.provide(context))
    const stored = (key: string) => Effect.map(store.contents.read([ids(key)]), ([state]) => state)
    const completed = (key: string) =>
      Effect.map(stored(key), (state): Completed => {
        if (state?._tag !== "Completed") throw new Error(`it is ${state?._tag}`)
        return state
      })
    /** What somebody who can write to the store makes of a record. */
    const forge = (key: string, { _tag: _, ...record }: Completed) =>
      Effect.zipRight(
        store.contents.remove([ids(key)]),
        store.contents.insert([{ identifiers: ids(key), request: { ...record, retention: 3_600_000 } }], {
          allOrNothing: false
        })
      )
    return {
      charge,
      completed,
      context,
      forge,
      repository: Context.get(context, IdempotencyRepository),
      runs,
      store,
      stored
    }
  })

const payload = (outcome: Outcome): string => (outcome._tag === "Unavailable" ? "" : outcome.encoded)

describe("what is stored", () => {
  it.scoped("gives nothing away: successes, failures, steps, saved and resolved records", () =>
    Effect.gen(function* () {
      const { charge, context, repository, runs, stored } = yield* setup()
      const once = yield* charge("success")
      expect(yield* charge("success")).toEqual(once)
      expect(runs).toEqual(["success"])

      const declined = Effect.fail(new Declined({ secret })).pipe(
        withIdempotency("o", "failure", { error: Declined }),
        Effect.provide(context)
      )
      expect(yield* Effect.flip(declined)).toMatchObject({ _tag: "Declined", secret })
      expect(yield* Effect.flip(declined)).toMatchObject({ _tag: "Declined", secret })

      let stepRuns = 0
      let isDown = true
      const stepwise = Effect.sync(() => `${secret} ${++stepRuns}`).pipe(
        withIdempotentStep("first"),
        Effect.flatMap((first) => (isDown ? Effect.die("down") : Effect.succeed(first))),
        withIdempotency("o", "steps"),
        Effect.provide(context)
      )
      expect(Exit.isFailure(yield* Effect.exit(stepwise))).toBe(true)
      const released = yield* stored("steps")
      expect(released).toMatchObject({ _tag: "Released", steps: [{ name: "first" }] })
      expect(yield* repository.inspect(ids("steps"))).toMatchObject(
        Option.some({ steps: [{ name: "first", encoded: `"${secret} 1"` }] })
      )
      isDown = false
      expect(yield* stepwise).toBe(`${secret} 1`)

      yield* repository.save(yield* IdempotencyRecord.create({ ...ids("saved"), result: secret, timeToLive: "1 hour" }))
      yield* repository.claims.claim(ids("resolved"), claimBy("t"))
      yield* repository.claims.hold(ids("resolved"), { token: "t" })
      yield* repository.resolve(ids("resolved"), { _tag: "Success", result: secret })
      for (const key of ["saved", "resolved"]) {
        expect(yield* repository.get(ids(key))).toMatchObject(Option.some({ result: secret }))
      }
      const states: ReadonlyArray<State | undefined | { readonly _tag: "Corrupted" }> = [
        released,
        ...(yield* Effect.forEach(["success", "failure", "steps", "saved", "resolved"], stored))
      ]
      expect(states).toHaveLength(6)
      expect(JSON.stringify(states)).not.toContain(secret)
      expect(JSON.stringify(states).match(/enc1\.[ts]\.a\./g)).toHaveLength(6)
    })
  )

  it.scoped("is read after a rotation, and not without its key", () =>
    Effect.gen(function* () {
      const { charge, store } = yield* setup()
      yield* charge("1")
      const replayBy = (...keys: ReadonlyArray<ResultCipher.Key>) =>
        Effect.flatMap(processOver(store, { keys }), (context) =>
          Effect.dieMessage("it ran").pipe(withIdempotency("o", "1"), Effect.provide(context))
        )
      expect(yield* replayBy(keyOf("b", 8), keyOf("a"))).toMatchObject({ card: secret })
      expect(yield* Effect.flip(replayBy(keyOf("b", 8)))).toMatchObject(unavailable)
      expect(yield* Effect.flip(replayBy(keyOf("a", 8)))).toMatchObject(unavailable)
    })
  )
})

describe("what is refused, and never run again", () => {
  it.scoped("a record of another key, or of a kind that it is not", () =>
    Effect.gen(function* () {
      const { charge, completed, forge, repository, runs } = yield* setup()
      yield* charge("mine")
      yield* charge("theirs")
      const theirs = yield* completed("theirs")
      yield* forge("mine", theirs)
      expect(yield* Effect.flip(charge("mine"))).toMatchObject(unavailable)
      expect(yield* Effect.flip(repository.get(ids("mine")))).toMatchObject(unavailable)
      expect(yield* Effect.flip(repository.inspect(ids("mine")))).toMatchObject(unavailable)
      expect(yield* charge("theirs")).toMatchObject({ card: secret, run: 2 })
      yield* forge("theirs", { ...theirs, outcome: { _tag: "Failure", encoded: payload(theirs.outcome) } })
      expect(yield* Effect.flip(charge("theirs"))).toMatchObject(unavailable)
      expect(runs).toEqual(["mine", "theirs"])
    })
  )

  it.scoped("the result of an earlier attempt in the record of a later one", () =>
    Effect.gen(function* () {
      const { charge, completed, forge, repository, runs } = yield* setup()
      yield* charge("1")
      const earlier = yield* completed("1")
      yield* repository.reset(ids("1"))
      yield* charge("1")
      const later = yield* completed("1")
      expect(later.attempt).toBe(2)
      yield* forge("1", { ...later, outcome: earlier.outcome })
      expect(yield* Effect.flip(charge("1"))).toMatchObject(unavailable)
      yield* forge("1", later)
      expect(yield* charge("1")).toMatchObject({ run: 2 })
      expect(runs).toEqual(["1", "1"])
    })
  )

  it.scoped("what was changed, cut, is of another version, or is not encrypted", () =>
    Effect.gen(function* () {
      const { charge, completed, forge, runs } = yield* setup()
      yield* charge("1")
      const record = yield* completed("1")
      const encoded = payload(record.outcome)
      expect(encoded).toMatch(/^enc1\.t\.a\./)
      for (const forged of [
        "",
        '"forged"',
        "enc1.",
        encoded.slice(0, -1),
        `${encoded}A`,
        encoded.replace("enc1", "enc2"),
        encoded.replace(".t.", ".n."),
        encoded.replace(".t.", ".s."),
        encoded.slice("enc1.t.".length)
      ]) {
        yield* forge("1", { ...record, outcome: { _tag: "Success", encoded: forged } })
        expect(yield* Effect.flip(charge("1")), forged).toMatchObject(unavailable)
      }
      expect(runs).toEqual(["1"])
    })
  )

  it.scoped("a step of another key or name: the claim is given back, and the effect does not run", () =>
    Effect.gen(function* () {
      const { charge, repository, runs, store, stored } = yield* setup()
      const { claims } = repository
      yield* claims.claim(ids("theirs"), claimBy("t"))
      yield* claims.saveStep(ids("theirs"), { token: "t", name: "first", encoded: '"theirs"' })
      const theirs = yield* stored("theirs")
      const step = theirs?._tag === "Processing" ? theirs.steps[0] : undefined
      if (step === undefined) return yield* Effect.dieMessage("no step")
      const plant = (key: string, name: string) =>
        Effect.gen(function* () {
          yield* store.contents.claim(ids(key), claimBy("u"))
          yield* store.contents.saveStep(ids(key), { token: "u", name, encoded: step.encoded })
          yield* store.contents.release(ids(key), { token: "u" })
        })
      yield* plant("mine", "first")
      yield* claims.release(ids("theirs"), { token: "t" })
      for (const expected of [1, 2]) {
        expect(yield* Effect.flip(charge("mine"))).toMatchObject(unavailable)
        expect(yield* stored("mine")).toMatchObject({ _tag: "Released", attempt: 1 + expected })
      }
      expect(runs).toEqual([])
      expect(yield* claims.claim(ids("theirs"), claimBy("v"))).toMatchObject({ steps: [{ encoded: '"theirs"' }] })
    })
  )

  it.scoped("an owner that already runs keeps its claim when its steps cannot be read", () =>
    Effect.gen(function* () {
      const { repository, store, stored } = yield* setup()
      yield* store.contents.claim(ids("1"), claimBy("t"))
      yield* store.contents.saveStep(ids("1"), { token: "t", name: "first", encoded: '"forged"' })
      expect(yield* repository.claims.claim(ids("1"), claimBy("t"))).toMatchObject({ _tag: "Corrupted" })
      expect(yield* stored("1")).toMatchObject({ _tag: "Processing" })
    })
  )

  it.scoped("an owner that was overtaken learns it, though it cannot read by what", () =>
    Effect.gen(function* () {
      const { repository, store } = yield* setup()
      yield* store.contents.complete(ids("1"), completeBy("other"))
      const lease = { identifiers: ids("1"), request: { token: "t", lease: 1_000 } }
      expect(yield* repository.claims.renew([lease])).toMatchObject([
        { _tag: "Lost", record: { outcome: { _tag: "Unavailable" } } }
      ])
      expect(yield* repository.claims.complete(ids("1"), completeBy("t"))).toMatchObject({ _tag: "Corrupted" })
      yield* repository.claims.complete(ids("2"), completeBy("other"))
      const second = { ...lease, identifiers: ids("2") }
      expect(yield* repository.claims.renew([second])).toMatchObject([
        { _tag: "Lost", record: { outcome: completeBy("other").outcome } }
      ])
      expect(yield* repository.claims.complete(ids("2"), completeBy("t"))).toMatchObject({
        _tag: "Superseded",
        record: { outcome: completeBy("other").outcome }
      })
    })
  )
})

describe("a migration", () => {
  it.scoped("accepts what was plain, if asked to, and still nothing that was changed", () =>
    Effect.gen(function* () {
      const { charge, completed, forge, runs, store } = yield* setup({ plaintext: "accept" })
      yield* store.contents.complete(ids("old"), completeBy("t", undefined, { encoded: '"old"' }))
      expect(yield* charge("old")).toBe("old")
      yield* charge("new")
      const record = yield* completed("new")
      expect(payload(record.outcome)).not.toContain(secret)
      yield* forge("new", { ...record, outcome: { _tag: "Success", encoded: payload(record.outcome).slice(0, -2) } })
      expect(yield* Effect.flip(charge("new"))).toMatchObject(unavailable)
      expect(runs).toEqual(["new"])
    })
  )
})

describe("a cipher that fails", () => {
  const failing = (encrypt: Effect.Effect<string, Error>) =>
    Layer.succeed(ResultCipher, { encrypt: () => encrypt, decrypt: () => Effect.fail(new Error("away")) })

  for (const [name, encrypt] of [
    ["with an error", Effect.fail(new Error("away"))],
    ["with a defect", Effect.die("broken")]
  ] as const) {
    // Live, as what is refused is tried again after a while.
    it.scopedLive(`${name}: the caller has its value, later ones are told that it is not there`, () =>
      Effect.gen(function* () {
        const { charge, context, repository, runs, stored } = yield* setup({ cipher: failing(encrypt) })
        expect(yield* charge("1")).toMatchObject({ card: secret })
        expect(yield* stored("1")).toMatchObject({ outcome: { _tag: "Unavailable" } })
        expect(yield* Effect.flip(charge("1"))).toMatchObject(unavailable)
        expect(runs).toEqual(["1"])
        const step = Effect.succeed(secret).pipe(
          withIdempotentStep("first"),
          withIdempotency("o", "2"),
          Effect.provide(context)
        )
        expect(yield* step).toBe(secret)
        const record = yield* IdempotencyRecord.create({ ...ids("3"), result: secret, timeToLive: "1 hour" })
        expect(yield* Effect.flip(repository.save(record))).toMatchObject({ reason: "Rejected", applied: "no" })
        expect(yield* stored("3")).toBeUndefined()
      })
    )
  }
})

describe("transactions", () => {
  it.scoped("beneath the layer are replaced by those that encrypt", () =>
    Effect.gen(function* () {
      const { driver } = makeMemoryDriver(100)
      const sealed: Array<Outcome> = []
      const plain: Context.Tag.Service<IdempotencyTransactions> = {
        isOpen: Effect.succeed(false),
        run: (request, body) =>
          Effect.gen(function* () {
            const claimed = yield* driver.claim(request.identifiers, claimBy("theirs"))
            if (claimed._tag === "Settled") return { _tag: "Recorded", record: claimed.record } as const
            const { outcome, value } = yield* body(1)
            sealed.push(outcome)
            yield* driver.complete(request.identifiers, { ...completeBy("theirs"), outcome })
            return { _tag: "Executed", value, attempt: 1 } as const
          })
      }
      const beneath = Layer.merge(
        Layer.effect(IdempotencyRepository, IdempotencyRepository.make(driver)),
        Layer.succeed(IdempotencyTransactions, plain)
      )
      const context = yield* Layer.build(
        IdempotencyRepository.layerEncrypted().pipe(
          Layer.provideMerge(beneath),
          Layer.provide(cipherOf(keyOf("a"))),
          Layer.provide(IdempotencyMetrics.layerNoop)
        )
      )
      const request = {
        identifiers: ids("1"),
        fingerprint: undefined,
        retention: 60_000,
        inFlight: "wait",
        waitTimeout: 0,
        storageTimeout: 1_000,
        isolation: undefined,
        countsAttempt: false
      } as const
      const encoded = `"${secret}"`
      const body = Effect.succeed({ value: 1, outcome: { _tag: "Success" as const, encoded } })
      const transactions = Context.get(context, IdempotencyTransactions)
      expect(yield* transactions.run(request, () => body)).toMatchObject({ _tag: "Executed", value: 1 })
      expect(sealed.map(payload)).toEqual([expect.stringMatching(/^enc1\.n\.a\./)])
      const replayed = { outcome: { _tag: "Success", encoded } }
      expect(yield* transactions.run(request, () => body)).toMatchObject({ _tag: "Recorded", record: replayed })
      const { claims } = Context.get(context, IdempotencyRepository)
      expect(yield* claims.read([ids("1")])).toMatchObject([replayed])

      yield* driver.complete(ids("2"), { ...completeBy("theirs"), outcome: sealed[0] ?? { _tag: "Unavailable" } })
      const refused = transactions.run({ ...request, identifiers: ids("2") }, () => Effect.dieMessage("it ran"))
      expect(yield* Effect.flip(refused)).toMatchObject(unavailable)
    })
  )
})
