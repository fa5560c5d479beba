/** An operator confirms what the page showed: if something else is stored by then, nothing is done. */
import { describe, expect } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { IdempotencyResultUnavailableError } from "../../src/IdempotencyError.js"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import { claimBy } from "../support/requests.js"
import {
  type Answer,
  claim,
  complete,
  empty,
  get,
  type Handler,
  hiddenOf,
  hold,
  ids,
  pass,
  post,
  query,
  type Repository,
  serve,
  test,
  tokenOf,
  wordsOf
} from "./fixture.js"

const key = { operation: "payout.transfer", key: "p-7", scope: "tenant-7" }
const of = ids(key.operation, key.key, key.scope)
const changed = expect.stringContaining("What is stored has changed since you looked")
const success = { _tag: "Success", encoded: '"paid"' } as const

/** A store, and an operator who may act on it. */
const setUp = Effect.gen(function* () {
  const repository = yield* empty
  return { repository, handler: yield* serve(repository, { readOnly: false }) }
})

const open = (handler: Handler, path: string) => get(handler, `${path}${query(key)}`)

/** Sends the form of a page that was opened before. */
const send = (handler: Handler, path: string, page: Answer, fields: Record<string, string> = {}) =>
  post(handler, path, { ...hiddenOf(page), ...fields }, { cookie: tokenOf(page).cookie })

const stateOf = (repository: Repository) => Effect.map(repository.inspect(of), Option.getOrThrow)

/** Another operator frees the key, and the next call claims it. */
const nextAttempt = ({ claims, reset }: Repository) =>
  Effect.zipRight(reset(of, { force: true }), claims.claim(of, claimBy("second", { guarantee: "at-most-once" })))

const completedBy = ({ claims }: Repository, token: string) =>
  claims.complete(of, { token, outcome: success, fingerprint: undefined, retention: 60_000 })

const owner = `owner of ${of.idempotencyKey}`

describe("reset", () => {
  test(
    "forgets no success of a later attempt, however often it is sent",
    Effect.gen(function* () {
      const { handler, repository } = yield* setUp
      yield* hold(repository, of)
      const page = yield* open(handler, "/reset")
      yield* nextAttempt(repository)
      yield* completedBy(repository, "second")
      for (const fields of [{}, { force: "yes" }, {}]) {
        const refused = yield* send(handler, "/reset", page, fields)
        expect([refused.status, wordsOf(refused.text)]).toEqual([409, changed])
        expect(yield* stateOf(repository)).toMatchObject({ _tag: "Completed", attempt: 2 })
      }
    })
  )

  test(
    "forgets no success of a later attempt where this process holds a copy of the earlier one",
    Effect.gen(function* () {
      const beside = yield* empty
      const cache = IdempotencyRepository.layerLocalCache().pipe(
        Layer.provide(Layer.succeed(IdempotencyRepository, beside))
      )
      const cached = Context.get(yield* Layer.build(cache), IdempotencyRepository)
      const handler = yield* serve(cached, { readOnly: false })
      yield* complete(beside, of, success)
      yield* cached.get(of)
      const page = yield* open(handler, "/reset")
      yield* nextAttempt(beside)
      yield* completedBy(beside, "second")
      const refused = yield* send(handler, "/reset", page)
      expect([refused.status, wordsOf(refused.text)]).toEqual([409, changed])
      expect(wordsOf(refused.text)).toContain("Attempt 2")
      expect(yield* stateOf(beside)).toMatchObject({ _tag: "Completed", attempt: 2 })
    })
  )

  test(
    "shows what is there by now, and takes that once it is confirmed",
    Effect.gen(function* () {
      const { handler, repository } = yield* setUp
      yield* hold(repository, of)
      const page = yield* open(handler, "/reset")
      expect(wordsOf(page.text)).toContain("Attempt 1")
      yield* nextAttempt(repository)
      yield* completedBy(repository, "second")
      const refused = yield* send(handler, "/reset", page)
      const words = wordsOf(refused.text)
      for (const text of ["Reset this key?", "Attempt 2", "Completed", "What is recorded is forgotten"]) {
        expect(words).toContain(text)
      }
      expect(refused.text).not.toContain('name="force"')
      expect((yield* send(handler, "/reset", refused)).status).toBe(303)
      expect((yield* stateOf(repository))._tag).toBe("Released")
    })
  )

  test(
    "forgets no success that its late owner records meanwhile, even if it is forced",
    Effect.gen(function* () {
      for (const lease of [1_000, 60_000]) {
        const { handler, repository } = yield* setUp
        yield* claim(repository, of, { lease })
        yield* pass(2_000)
        const page = yield* open(handler, "/reset")
        yield* completedBy(repository, owner)
        const refused = yield* send(handler, "/reset", page, { force: "yes" })
        expect([refused.status, wordsOf(refused.text)]).toEqual([409, changed])
        expect((yield* stateOf(repository))._tag).toBe("Completed")
      }
    })
  )

  test(
    "takes no owner for the one that lapsed, and none for the one that runs",
    Effect.gen(function* () {
      const { handler, repository } = yield* setUp
      yield* claim(repository, of, { lease: 1_000 })
      const running = yield* open(handler, "/reset")
      yield* pass(1_000)
      const lapsed = yield* open(handler, "/reset")
      expect((yield* send(handler, "/reset", running, { force: "yes" })).status).toBe(409)
      yield* repository.claims.claim(of, claimBy("second", { lease: 1_000 }))
      yield* pass(1_000)
      expect((yield* send(handler, "/reset", lapsed)).status).toBe(409)
      expect(yield* stateOf(repository)).toMatchObject({ _tag: "Processing", attempt: 2 })
    })
  )

  test(
    "of an owner that renews its lease meanwhile can be forced",
    Effect.gen(function* () {
      const { handler, repository } = yield* setUp
      yield* claim(repository, of, { lease: 10_000 })
      const page = yield* open(handler, "/reset")
      yield* pass(6_000)
      yield* repository.claims.renew([{ identifiers: of, request: { token: owner, lease: 10_000 } }])
      yield* pass(6_000)
      expect((yield* send(handler, "/reset", page, { force: "yes" })).status).toBe(303)
      expect((yield* stateOf(repository))._tag).toBe("Released")
    })
  )

  test(
    "needs a form that says what was seen",
    Effect.gen(function* () {
      const { handler, repository } = yield* setUp
      yield* complete(repository, of, success)
      const page = yield* open(handler, "/reset")
      const { seen = "", ...others } = hiddenOf(page)
      expect(seen).toMatch(/^[\w-]{43}$/)
      expect(page.text).not.toContain(owner)
      for (const fields of [others, { ...others, seen: "" }, { ...others, seen: seen.slice(1) }]) {
        const refused = yield* post(handler, "/reset", fields, { cookie: tokenOf(page).cookie })
        expect([refused.status, wordsOf(refused.text)]).toEqual([409, changed])
      }
      expect((yield* stateOf(repository))._tag).toBe("Completed")
    })
  )

  test(
    "of what cannot be read does not depend on why",
    Effect.gen(function* () {
      const { repository } = yield* setUp
      yield* complete(repository, of, success)
      let count = 0
      const inspect: Repository["inspect"] = () =>
        new IdempotencyResultUnavailableError({ ...key, idempotencyKey: key.key, cause: `request ${count++} failed` })
      const handler = yield* serve({ ...repository, inspect }, { readOnly: false })
      const page = yield* open(handler, "/reset")
      expect(wordsOf(page.text)).toContain("removed, unread, but for steps that may be decrypted later")
      expect((yield* send(handler, "/reset", page)).status).toBe(303)
      expect((yield* stateOf(repository))._tag).toBe("Released")
    })
  )
})

describe("resolve", () => {
  const filled = { outcome: "Success", json: '"paid"' }

  test(
    "records what happened to one attempt as the outcome of no other",
    Effect.gen(function* () {
      const { handler, repository } = yield* setUp
      yield* hold(repository, of)
      const page = yield* open(handler, "/resolve")
      const review = yield* send(handler, "/resolve", page, filled)
      expect(wordsOf(review.text)).toContain("Resolve it like this?")
      yield* nextAttempt(repository)
      yield* repository.claims.hold(of, { token: "second" })
      for (const [before, fields] of [
        [page, filled],
        [page, { ...filled, json: "{" }],
        [page, { ...filled, confirmed: "yes" }],
        [review, {}]
      ] as const) {
        const refused = yield* send(handler, "/resolve", before, fields)
        expect([refused.status, wordsOf(refused.text)]).toEqual([409, changed])
        expect(wordsOf(refused.text)).toContain("Attempt 2")
        expect(yield* stateOf(repository)).toMatchObject({ _tag: "Unknown", attempt: 2 })
      }
      // What was written is kept; what happened is to be said again.
      const refused = yield* send(handler, "/resolve", review)
      expect(refused.text).toContain("&quot;paid&quot;</textarea>")
      expect(refused.text).not.toContain(" checked")
      const again = yield* send(handler, "/resolve", refused, filled)
      expect(wordsOf(again.text)).toContain("Resolve it like this?")
      expect((yield* send(handler, "/resolve", again)).status).toBe(303)
      expect(yield* stateOf(repository)).toMatchObject({ _tag: "Completed", attempt: 2 })
    })
  )

  test(
    "says so where the key is settled, running or gone by now",
    Effect.gen(function* () {
      const { handler, repository } = yield* setUp
      yield* hold(repository, of)
      const review = yield* send(handler, "/resolve", yield* open(handler, "/resolve"), filled)
      yield* nextAttempt(repository)
      const running = yield* send(handler, "/resolve", review)
      expect([running.status, wordsOf(running.text)]).toEqual([
        409,
        expect.stringContaining("An owner is running this key, and its lease has 1 min to go")
      ])
      yield* completedBy(repository, "second")
      const settled = yield* send(handler, "/resolve", review)
      expect([settled.status, wordsOf(settled.text)]).toEqual([409, expect.stringContaining("is not unknown")])
      yield* repository.delete(of)
      expect((yield* send(handler, "/resolve", review)).status).toBe(404)
    })
  )
})
