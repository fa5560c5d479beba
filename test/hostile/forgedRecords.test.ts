/**
 * Somebody who may write to the store, and has no key of the cipher: which forgeries are refused, without a run, and
 * which are not, as what they change is not encrypted.
 */
import { describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { Idempotency } from "../../src/Idempotency.js"
import { IdempotencyDomainService } from "../../src/IdempotencyDomainService.js"
import type { IdempotencyIdentifiers } from "../../src/IdempotencyIdentifiers.js"
import { IdempotencyMetrics } from "../../src/IdempotencyMetrics.js"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import type { IdempotentExecution } from "../../src/IdempotentExecution.js"
import { encryptedTransactions } from "../../src/internal/encryptedDriver.js"
import type { Completed, Outcome } from "../../src/internal/protocol.js"
import { ResultCipher } from "../../src/ResultCipher.js"
import { withIdempotency } from "../../src/withIdempotency.js"
import { withIdempotentStep } from "../../src/withIdempotentStep.js"
import { ids } from "../support/requests.js"
import { claimBy, makeWatchedStore } from "../support/watchedStore.js"

const unavailable = { _tag: "IdempotencyResultUnavailableError" }
/** One key under two names: what names the other is not refused for its key alone. */
const key = Redacted.make(new Uint8Array(32).fill(7))
const cipher = Layer.orDie(ResultCipher.layer({ keys: ["a", "b"].map((id) => ({ id, key })) }))

const mine = ids("k", "pay", "tenant")

const textOf = (outcome: Outcome): string => (outcome._tag === "Unavailable" ? "" : outcome.encoded)
const success = (encoded: string): Outcome => ({ _tag: "Success", encoded })

const setup = Effect.gen(function* () {
  const store = makeWatchedStore()
  const { contents } = store
  const context = yield* Layer.build(
    Idempotency.layer.pipe(
      Layer.provideMerge(IdempotencyRepository.layerEncrypted()),
      Layer.provide([store.layer, cipher, IdempotencyDomainService.layer, IdempotencyMetrics.layerNoop])
    )
  )
  const repository = Context.get(context, IdempotencyRepository)
  const call = <E extends string>(of: IdempotencyIdentifiers, body: Effect.Effect<string, E, IdempotentExecution>) =>
    body.pipe(
      withIdempotency(of.operation, of.idempotencyKey, {
        scope: of.scope,
        success: Schema.String,
        error: Schema.String
      }),
      Effect.provide(context)
    )
  const completed = (of: IdempotencyIdentifiers) =>
    Effect.map(contents.read([of]), ([state]): Completed => {
      if (state?._tag !== "Completed") throw new Error(`it is ${state?._tag}`)
      return state
    })
  const recorded = (of: IdempotencyIdentifiers, body: Effect.Effect<string, string>) =>
    Effect.zipRight(Effect.exit(call(of, body)), completed(of))
  const forge = ({ _tag: _, ...record }: Completed) =>
    Effect.zipRight(
      contents.remove([mine]),
      contents.insert([{ identifiers: mine, request: { ...record, retention: 3_600_000 } }], { allOrNothing: false })
    )
  /** The text of the step that this key, which is then free again, has saved under this name. */
  const savedStep = (of: IdempotencyIdentifiers, name: string, result: string) =>
    Effect.gen(function* () {
      const token = globalThis.crypto.randomUUID()
      yield* repository.claims.claim(of, claimBy(token))
      yield* repository.claims.saveStep(of, { token, name, encoded: JSON.stringify(result) })
      const [state] = yield* contents.read([of])
      yield* repository.claims.complete(of, { token, outcome: success("1"), fingerprint: undefined, retention: 9e5 })
      yield* contents.remove([of])
      return state?._tag === "Processing" ? (state.steps[0]?.encoded ?? "") : ""
    })
  /** A claim that was released holds this text as the step of this name. */
  const plant = (name: string, encoded: string) =>
    Effect.gen(function* () {
      const token = globalThis.crypto.randomUUID()
      yield* contents.claim(mine, claimBy(token))
      yield* contents.saveStep(mine, { token, name, encoded })
      yield* contents.release(mine, { token })
    })
  return { call, completed, contents, forge, plant, recorded, repository, savedStep }
})

const itRan = Effect.dieMessage("it ran")

type Setup = Effect.Effect.Success<typeof setup>
type Forgery = (setup: Setup, record: Completed) => Effect.Effect<Partial<Completed>, unknown>

const outcomeOf =
  (of: IdempotencyIdentifiers): Forgery =>
  ({ recorded }) =>
    Effect.map(recorded(of, Effect.succeed("theirs")), ({ outcome }) => ({ outcome }))

const recordOf =
  (of: IdempotencyIdentifiers): Forgery =>
  ({ recorded }) =>
    recorded(of, Effect.succeed("theirs"))

/** What the next owner of the key records, after a reset. */
const later = ({ recorded, repository }: Setup) =>
  Effect.zipRight(repository.reset(mine), recorded(mine, Effect.succeed("later")))

const replacing =
  (...replacements: ReadonlyArray<readonly [from: string, to: string]>): Forgery =>
  (_, { outcome }) =>
    Effect.succeed({
      outcome: success(replacements.reduce((text, [from, to]) => text.replace(from, to), textOf(outcome)))
    })

const refused: { readonly [what: string]: Forgery } = {
  "the result of another key": outcomeOf(ids("other", "pay", "tenant")),
  "the result of another operation": outcomeOf(ids("k", "refund", "tenant")),
  "the result of another scope": outcomeOf(ids("k", "pay", "other")),
  "the result of no scope": outcomeOf(ids("k", "pay")),
  "the whole record of another key, its token too": recordOf(ids("other", "pay", "tenant")),
  "the whole record of another operation": recordOf(ids("k", "refund", "tenant")),
  "the whole record of another scope": recordOf(ids("k", "pay", "other")),
  "parts of the identity moved": recordOf(ids("tenant", "pay", "k")),
  "a success as a failure": (_, { outcome }) =>
    Effect.succeed({ outcome: { _tag: "Failure", encoded: textOf(outcome) } }),
  "a failure as a success": ({ recorded, repository }) =>
    repository.reset(mine).pipe(
      Effect.zipRight(recorded(mine, Effect.fail("declined"))),
      Effect.map((failed) => ({ ...failed, outcome: success(textOf(failed.outcome)) }))
    ),
  "the result of a later attempt": (world) => Effect.map(later(world), ({ outcome }) => ({ outcome })),
  "the result of a later attempt, and its number": (world) =>
    Effect.map(later(world), ({ attempt, outcome }) => ({ attempt, outcome })),
  "the token of a later attempt": (world) => Effect.map(later(world), ({ token }) => ({ token })),
  "a step as a result": ({ repository, savedStep }) =>
    Effect.zipRight(
      repository.delete(mine),
      Effect.map(savedStep(mine, "first", "step"), (encoded) => ({ outcome: success(encoded) }))
    ),
  "a step that says that it is a result": ({ repository, savedStep }) =>
    Effect.zipRight(
      repository.delete(mine),
      Effect.map(savedStep(mine, "first", "step"), (encoded) => ({
        outcome: success(encoded.replace("enc1.s.", "enc1.t."))
      }))
    ),
  "a result that says that its attempt is a number": replacing(["enc1.t.", "enc1.n."]),
  "a result that names another key of the cipher": replacing([".t.a.", ".t.b."]),
  "a result of another version": replacing(["enc1.", "enc2."]),
  "plain text": () => Effect.succeed({ outcome: success('"forged"') })
}

describe("a record that was forged is refused, and nothing runs: it holds", () => {
  for (const [what, forgery] of Object.entries(refused)) {
    it.scoped(what, () =>
      Effect.gen(function* () {
        const world = yield* setup
        const { call, forge, recorded, repository } = world
        const record = yield* recorded(mine, Effect.succeed("mine"))
        yield* forge({ ...record, ...(yield* forgery(world, record)) })
        expect(yield* Effect.flip(call(mine, itRan))).toMatchObject(unavailable)
        expect(yield* Effect.flip(repository.get(mine))).toMatchObject(unavailable)
        expect(yield* Effect.flip(repository.inspect(mine))).toMatchObject(unavailable)
        yield* forge(record)
        expect(yield* call(mine, itRan)).toBe("mine")
      })
    )
  }

  it.scoped("that there is no result, where there is one", () =>
    Effect.gen(function* () {
      const { call, forge, recorded } = yield* setup
      const record = yield* recorded(mine, Effect.succeed("mine"))
      yield* forge({ ...record, outcome: { _tag: "Unavailable" } })
      expect(yield* Effect.flip(call(mine, itRan))).toMatchObject(unavailable)
    })
  )
})

describe("what is not encrypted is not authenticated", () => {
  it.scoped("a record tells a forged number of its attempt, fingerprint and end; its result is its own", () =>
    Effect.gen(function* () {
      const { call, forge, recorded, repository } = yield* setup
      const record = yield* recorded(mine, Effect.succeed("mine"))
      const forged = { attempt: 7, fingerprint: "forged" }
      yield* forge({ ...record, ...forged, expiresAt: record.expiresAt + 1 })
      expect(yield* call(mine, itRan)).toBe("mine")
      expect(yield* repository.get(mine)).toMatchObject({ value: forged })
    })
  )

  it.scoped("an earlier result comes back together with its token, under any number", () =>
    Effect.gen(function* () {
      const { call, forge, recorded, ...world } = yield* setup
      const earlier = yield* recorded(mine, Effect.succeed("earlier"))
      const record = yield* later({ ...world, call, forge, recorded })
      expect([earlier.attempt, record.attempt]).toEqual([1, 2])
      yield* forge({ ...record, token: earlier.token, outcome: earlier.outcome })
      expect(yield* call(mine, itRan)).toBe("earlier")
    })
  )

  it.scoped("an owner is told the forged number of its attempt", () =>
    Effect.gen(function* () {
      const { forge, recorded, repository } = yield* setup
      yield* forge({ ...(yield* recorded(mine, Effect.succeed("mine"))), attempt: 7 })
      yield* repository.reset(mine)
      expect(yield* repository.claims.claim(mine, claimBy("t"))).toMatchObject({ _tag: "Claimed", attempt: 8 })
    })
  )
})

describe("steps", () => {
  const first = Effect.succeed("anew").pipe(withIdempotentStep("first"), Effect.orDie)

  const refusedSteps: { readonly [what: string]: (setup: Setup) => Effect.Effect<string, unknown> } = {
    "of another name": ({ savedStep }) => savedStep(mine, "second", "theirs"),
    "of another key": ({ savedStep }) => savedStep(ids("other", "pay", "tenant"), "first", "theirs"),
    "of another operation": ({ savedStep }) => savedStep(ids("k", "refund", "tenant"), "first", "theirs"),
    "of another scope": ({ savedStep }) => savedStep(ids("k", "pay"), "first", "theirs"),
    "made of a result": ({ recorded, repository }) =>
      Effect.zipLeft(
        Effect.map(recorded(mine, Effect.succeed("result")), ({ outcome }) =>
          textOf(outcome).replace("enc1.t.", "enc1.s.")
        ),
        repository.delete(mine)
      ),
    "in plain text": () => Effect.succeed('"forged"')
  }

  for (const [what, textFrom] of Object.entries(refusedSteps)) {
    it.scoped(`${what} are refused, and nothing runs`, () =>
      Effect.gen(function* () {
        const world = yield* setup
        yield* world.plant("first", yield* textFrom(world))
        expect(yield* Effect.flip(world.call(mine, itRan))).toMatchObject(unavailable)
        expect(yield* Effect.flip(world.repository.inspect(mine))).toMatchObject(unavailable)
        expect(yield* world.contents.read([mine])).toMatchObject([{ _tag: "Released" }])
      })
    )
  }

  it.scoped("of an earlier life of the key are taken for its own: they are bound to no attempt", () =>
    Effect.gen(function* () {
      const { call, plant, savedStep } = yield* setup
      yield* plant("first", yield* savedStep(mine, "first", "earlier"))
      expect(yield* call(mine, first)).toBe("earlier")
    })
  )
})

describe("a transaction's record, whose attempt is known by its number", () => {
  const request = {
    identifiers: mine,
    fingerprint: undefined,
    retention: 60_000,
    inFlight: "wait",
    waitTimeout: 0,
    storageTimeout: 1_000,
    isolation: undefined,
    countsAttempt: false
  } as const

  /** What is stored of an execution with this number, and what is read of a record. */
  const transactions = Effect.gen(function* () {
    const service = Context.get(yield* Layer.build(cipher), ResultCipher)
    const over = (attempt: number, record: Completed | undefined, stored: (outcome: Outcome) => void) =>
      encryptedTransactions(
        {
          isOpen: Effect.succeed(false),
          run: (_, body) =>
            record === undefined
              ? Effect.map(body(attempt), ({ outcome, value }) => {
                  stored(outcome)
                  return { _tag: "Executed", value, attempt }
                })
              : Effect.succeed({ _tag: "Recorded", record })
        },
        service,
        "refuse"
      )
    const executed = (attempt: number, result: string) =>
      Effect.gen(function* () {
        let outcome: Outcome = { _tag: "Unavailable" }
        const body = Effect.succeed({ value: undefined, outcome: success(JSON.stringify(result)) })
        yield* over(attempt, undefined, (stored) => {
          outcome = stored
        }).run(request, () => body)
        return outcome
      })
    const replayed = (attempt: number, outcome: Outcome) => {
      const owned = { token: "t", attempt, fingerprint: undefined, createdAt: 0, expiresAt: 9e5 }
      return over(attempt, { _tag: "Completed", ...owned, outcome }, () => undefined).run(request, () => itRan)
    }
    return { executed, replayed }
  })

  it.scoped("is refused under another number, and comes back under its own in another life of the key", () =>
    Effect.gen(function* () {
      const { executed, replayed } = yield* transactions
      const outcome = yield* executed(1, "earlier")
      expect(yield* Effect.flip(replayed(2, outcome))).toMatchObject(unavailable)
      expect(yield* replayed(1, outcome)).toMatchObject({ record: { outcome: success('"earlier"') } })
      const asClaim = success(textOf(outcome).replace("enc1.n.", "enc1.t."))
      expect(yield* Effect.flip(replayed(1, asClaim))).toMatchObject(unavailable)
    })
  )
})
