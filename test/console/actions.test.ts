/** Reset and resolve: who may, what is asked first, what is done, and what is logged. */
import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HashMap from "effect/HashMap"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import { IdempotencyStorageError } from "../../src/IdempotencyError.js"
import type { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import { act, get, hold, ids, origin, pass, post, query, seeded, serve, test, tokenOf, wordsOf } from "./fixture.js"

const running = { operation: "payment.charge", key: "order-1057", scope: "tenant-7" }
const lapsed = { operation: "shipment.book", key: "order-1044", scope: "tenant-7" }
const unknown = { operation: "payout.transfer", key: "payout-311", scope: "tenant-7" }
const done = { operation: "payment.charge", key: "order-1041", scope: "tenant-7" }
const of = ({ key, operation, scope }: typeof running) => ids(operation, key, scope)

const stateOf = (repository: { readonly inspect: IdempotencyRepository["Type"]["inspect"] }, key: typeof running) =>
  Effect.map(repository.inspect(of(key)), (state) => Option.getOrThrow(state))

const allowed = Effect.gen(function* () {
  const repository = yield* seeded
  return { repository, handler: yield* serve(repository, { readOnly: false }) }
})

interface Line {
  readonly level: string
  readonly message: unknown
  readonly annotations: Record<string, unknown>
}

/** What is logged meanwhile. */
const logOf = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<ReadonlyArray<Line>, E, R> =>
  Effect.suspend(() => {
    const lines: Array<Line> = []
    const logger = Logger.make(({ annotations, logLevel, message }) => {
      lines.push({ level: logLevel.label, message, annotations: Object.fromEntries(HashMap.toEntries(annotations)) })
    })
    return Effect.as(Effect.provide(effect, Logger.replace(Logger.defaultLogger, logger)), lines)
  })

describe("a console that is read-only", () => {
  test(
    "has no actions: neither buttons, nor pages, nor what would do them",
    Effect.gen(function* () {
      const repository = yield* seeded
      const handler = yield* serve(repository)
      for (const key of [running, lapsed, unknown, done]) {
        const page = yield* get(handler, `/key${query(key)}`)
        expect(page.text).not.toMatch(/\/reset|\/resolve|Actions<|method="post"/)
        expect(page.headers.get("set-cookie")).toBeNull()
        for (const path of ["/reset", "/resolve"]) {
          expect((yield* get(handler, `${path}${query(key)}`)).status).toBe(404)
          const fields = { ...key, force: "yes", outcome: "Unavailable", confirmed: "yes", token: "t".repeat(32) }
          const cookie = `idempotency-console=${"t".repeat(32)}`
          expect((yield* post(handler, path, fields, { cookie })).status).toBe(404)
        }
      }
      for (const path of ["/", "/keys", "/key"]) {
        const refused = yield* post(handler, path, {})
        expect([refused.status, refused.headers.get("allow")]).toEqual([405, "GET, HEAD"])
      }
      expect((yield* stateOf(repository, running))._tag).toBe("Processing")
      expect((yield* stateOf(repository, done))._tag).toBe("Completed")
    })
  )
})

describe("reset", () => {
  test(
    "is offered, confirmed, done, told and logged",
    Effect.gen(function* () {
      const { handler, repository } = yield* allowed
      const page = yield* get(handler, `/key${query(lapsed)}`)
      expect(page.text).toContain(`href="/reset${query(lapsed).replaceAll("&", "&amp;")}"`)
      const form = yield* get(handler, `/reset${query(lapsed)}`)
      expect(wordsOf(form.text)).toContain("Reset this key?")
      expect(form.text).not.toContain('name="force"')
      expect((yield* stateOf(repository, lapsed))._tag).toBe("Processing")
      const lines = yield* logOf(
        Effect.gen(function* () {
          const inside = yield* serve(repository, { readOnly: false })
          const sent = yield* act(inside, "/reset", lapsed)
          expect([sent.status, sent.headers.get("location")]).toEqual([
            303,
            `/key${query({ ...lapsed, done: "reset" })}`
          ])
        })
      )
      const hash = expect.stringMatching(/^[0-9a-f]{16}$/)
      expect(lines).toEqual([
        {
          level: "INFO",
          message: ["An operator reset an idempotency key"],
          annotations: { "idempotency.operation": "shipment.book", "idempotency.key.hash": hash, forced: false }
        }
      ])
      const told = yield* get(handler, `/key${query({ ...lapsed, done: "reset" })}`, {
        "sec-fetch-site": "same-origin"
      })
      expect(wordsOf(told.text)).toContain("The key was reset")
      expect((yield* stateOf(repository, lapsed))._tag).toBe("Released")
    })
  )

  test(
    "leaves a running owner alone, unless it is forced by a box of its own",
    Effect.gen(function* () {
      const { handler, repository } = yield* allowed
      expect((yield* get(handler, `/reset${query(running)}`)).text).toContain('type="checkbox" id="force"')
      const refused = yield* act(handler, "/reset", running)
      expect([refused.status, wordsOf(refused.text)]).toEqual([
        409,
        expect.stringContaining("an owner is running this key, and its lease has 21 s to go")
      ])
      expect(refused.text).toContain('type="checkbox" id="force"')
      expect((yield* stateOf(repository, running))._tag).toBe("Processing")
      expect((yield* act(handler, "/reset", running, { force: "no" })).status).toBe(409)
      expect((yield* act(handler, "/reset", running, { force: "yes" })).status).toBe(303)
      expect((yield* stateOf(repository, running))._tag).toBe("Released")
    })
  )

  test(
    "of what is gone says so",
    Effect.gen(function* () {
      const { handler, repository } = yield* allowed
      const { cookie, token } = tokenOf(yield* get(handler, `/reset${query(done)}`))
      yield* repository.delete(of(done))
      const gone = yield* post(handler, "/reset", { ...done, token }, { cookie })
      expect([gone.status, wordsOf(gone.text)]).toEqual([404, expect.stringContaining("Nothing was there to reset")])
      expect((yield* get(handler, `/reset${query(done)}`)).status).toBe(404)
    })
  )

  test(
    "is logged also where the browser has gone meanwhile",
    Effect.gen(function* () {
      const { repository } = yield* allowed
      const [asked, answers] = yield* Effect.all([Effect.makeLatch(false), Effect.makeLatch(false)])
      const reset = () => Effect.as(Effect.zipRight(asked.open, answers.await), true)
      const lines = yield* logOf(
        Effect.gen(function* () {
          const handler = yield* serve({ ...repository, reset }, { readOnly: false })
          const acting = yield* Effect.fork(act(handler, "/reset", lapsed))
          yield* asked.await
          yield* Fiber.interrupt(acting)
          yield* answers.open
          yield* Effect.yieldNow().pipe(Effect.repeatN(20))
        })
      )
      expect(lines.map(({ message }) => message)).toEqual([["An operator reset an idempotency key"]])
    })
  )

  test(
    "that fails tells whether it may have taken effect",
    Effect.gen(function* () {
      const { repository } = yield* allowed
      const error = new IdempotencyStorageError({
        operation: "a",
        method: "reset",
        reason: "Timeout",
        applied: "unknown"
      })
      const lines = yield* logOf(
        Effect.gen(function* () {
          const handler = yield* serve({ ...repository, reset: () => Effect.fail(error) }, { readOnly: false })
          const failed = yield* act(handler, "/reset", lapsed)
          expect([failed.status, wordsOf(failed.text)]).toEqual([
            503,
            expect.stringContaining("It may have taken effect")
          ])
        })
      )
      const annotations = expect.objectContaining({ forced: false, applied: "unknown" })
      expect(lines).toContainEqual({ level: "INFO", message: ["An operator reset an idempotency key"], annotations })
    })
  )
})

describe("resolve", () => {
  test(
    "asks what happened, shows it again, records it, tells and logs it",
    Effect.gen(function* () {
      const { handler, repository } = yield* allowed
      const json = '{"payout": "<b>" , "amount":12}'
      const review = yield* act(handler, "/resolve", unknown, { outcome: "Success", json })
      expect([review.status, wordsOf(review.text)]).toEqual([200, expect.stringContaining("Resolve it like this?")])
      expect(review.text).toContain("&quot;payout&quot;: &quot;&lt;b&gt;&quot;,\n")
      expect((yield* stateOf(repository, unknown))._tag).toBe("Unknown")
      const lines = yield* logOf(
        Effect.gen(function* () {
          const inside = yield* serve(repository, { readOnly: false })
          const sent = yield* act(inside, "/resolve", unknown, { outcome: "Success", json, confirmed: "yes" })
          expect([sent.status, sent.headers.get("location")]).toEqual([
            303,
            `/key${query({ ...unknown, done: "resolved" })}`
          ])
          yield* get(inside, `/key${query({ ...unknown, result: "show" })}`)
        })
      )
      expect(lines.map(({ annotations, message }) => [message, annotations["outcome"]])).toEqual([
        [["An operator resolved an idempotency key"], "Success"],
        [["An operator was shown a recorded result"], undefined]
      ])
      for (const secret of ["payout-311", "tenant-7", "amount"]) expect(JSON.stringify(lines)).not.toContain(secret)
      const record = Option.getOrThrow(yield* repository.get(of(unknown)))
      expect([record.outcome, record.result]).toEqual(["success", { payout: "<b>", amount: 12 }])
    })
  )

  for (const [outcome, json, expected] of [
    ["Success", " ", ["success", undefined]],
    ["Success", "null", ["success", null]],
    ["Failure", '{"_tag":"Declined"}', ["failure", { _tag: "Declined" }]],
    ["Unavailable", "ignored", ["unavailable", undefined]]
  ] as const) {
    test(
      `records ${outcome} ${json}`,
      Effect.gen(function* () {
        const { handler, repository } = yield* allowed
        const sent = yield* act(handler, "/resolve", unknown, { outcome, json, confirmed: "yes" })
        expect(sent.status).toBe(303)
        const record = Option.getOrThrow(yield* repository.get(of(unknown)))
        expect([record.outcome, record.result]).toEqual(expected)
      })
    )
  }

  test(
    "records nothing that is not said, is not JSON, or is not unknown",
    Effect.gen(function* () {
      const { handler, repository } = yield* allowed
      for (const [fields, words] of [
        [{}, "Choose what happened."],
        [{ outcome: "toString" }, "Choose what happened."],
        [{ outcome: "Success", json: "{" }, "What is written below is not JSON."],
        [{ outcome: "Failure", json: "" }, "A failure needs its error, as JSON."]
      ] as const) {
        const page = yield* act(handler, "/resolve", unknown, { ...fields, confirmed: "yes" })
        expect([page.status, wordsOf(page.text)]).toEqual([400, expect.stringContaining(words)])
      }
      // What was written is still there.
      const page = yield* act(handler, "/resolve", unknown, { outcome: "Success", json: "\n</textarea>" })
      expect(page.text).toMatch(/<textarea [^>]*>\n\n&lt;\/textarea&gt;<\/textarea>/)
      expect(page.text).toMatch(/value="Success" required checked>/)
      expect((yield* stateOf(repository, unknown))._tag).toBe("Unknown")
      for (const key of [running, done]) expect((yield* get(handler, `/resolve${query(key)}`)).status).toBe(409)
      const { cookie, token } = tokenOf(yield* get(handler, `/resolve${query(unknown)}`))
      for (const [key, words] of [
        [running, "An owner is running this key"],
        [done, "is not unknown"]
      ] as const) {
        const fields = { ...key, token, outcome: "Unavailable", confirmed: "yes" }
        const refused = yield* post(handler, "/resolve", fields, { cookie })
        expect([refused.status, wordsOf(refused.text)]).toEqual([409, expect.stringContaining(words)])
      }
    })
  )

  test(
    "takes a key whose owner lapsed",
    Effect.gen(function* () {
      const { handler, repository } = yield* allowed
      const sent = yield* act(handler, "/resolve", lapsed, { outcome: "Success", json: "1", confirmed: "yes" })
      expect(sent.status).toBe(303)
      expect((yield* stateOf(repository, lapsed))._tag).toBe("Completed")
    })
  )
})

describe("a form from elsewhere", () => {
  const token = "t".repeat(32)
  const cookie = `idempotency-console=${token}`
  const forged: ReadonlyArray<
    readonly [name: string, fields: Record<string, string>, headers: Record<string, string>]
  > = [
    ["from another site", { token }, { cookie, "sec-fetch-site": "cross-site" }],
    ["from a sibling domain", { token }, { cookie, "sec-fetch-site": "same-site" }],
    ["from the address bar", { token }, { cookie, "sec-fetch-site": "none" }],
    ["from another origin", { token }, { cookie, "sec-fetch-site": "", origin: "http://elsewhere.example" }],
    ["from an opaque origin", { token }, { cookie, "sec-fetch-site": "", origin: "null" }],
    ["without an origin", { token }, { cookie, "sec-fetch-site": "", origin: "" }],
    ["without a cookie", { token }, {}],
    ["without a token", {}, { cookie }],
    ["with another token", { token: "u".repeat(32) }, { cookie }],
    ["with an empty token on both sides", { token: "" }, { cookie: "idempotency-console=" }],
    ["that is none", { token }, { cookie, "content-type": "text/plain" }]
  ]

  test(
    "does nothing",
    Effect.gen(function* () {
      const { handler, repository } = yield* allowed
      for (const [name, fields, given] of forged) {
        const all = { ...lapsed, ...fields, outcome: "Unavailable", confirmed: "yes", force: "yes" }
        for (const path of ["/reset", "/resolve"]) {
          const refused = yield* post(handler, path, all, given)
          expect([name, refused.status, wordsOf(refused.text)]).toEqual([
            name,
            name === "that is none" ? 400 : 403,
            expect.stringContaining("Nothing was done")
          ])
        }
      }
      expect((yield* stateOf(repository, lapsed))._tag).toBe("Processing")
    })
  )

  test(
    "is told from one of the console by its origin, where the browser says no more",
    Effect.gen(function* () {
      const { handler, repository } = yield* allowed
      const sent = yield* act(handler, "/reset", lapsed, {}, { "sec-fetch-site": "", origin })
      expect(sent.status).toBe(303)
      expect((yield* stateOf(repository, lapsed))._tag).toBe("Released")
    })
  )

  test(
    "too long is refused",
    Effect.gen(function* () {
      const { handler } = yield* allowed
      const sent = yield* act(handler, "/resolve", unknown, {}, { "content-length": "9999999" })
      expect(sent.status).toBe(413)
    })
  )

  test(
    "gets no cookie that others could read or be sent with",
    Effect.gen(function* () {
      const repository = yield* seeded
      const handler = yield* serve(repository, { readOnly: false }, "/admin/keys")
      const form = yield* get(handler, `/admin/keys/reset${query(lapsed)}`, { "x-forwarded-proto": "https" })
      expect(form.headers.get("set-cookie")).toMatch(
        /^idempotency-console=[\w-]{32}; Path=\/admin\/keys; HttpOnly; Secure; SameSite=Strict$/
      )
      const again = yield* get(handler, `/admin/keys/reset${query(lapsed)}`, { cookie: tokenOf(form).cookie })
      expect(tokenOf(again).token).toBe(tokenOf(form).token)
      expect(again.headers.get("set-cookie")).not.toContain("Secure")
    })
  )

  test(
    "cannot tell an operator that something was done",
    Effect.gen(function* () {
      const { handler, repository } = yield* allowed
      yield* hold(repository, ids("a", "b"))
      yield* pass(1)
      const told = (site: string) =>
        Effect.map(get(handler, "/key?operation=a&key=b&done=reset", { "sec-fetch-site": site }), ({ text }) =>
          wordsOf(text).includes("The key was reset")
        )
      expect([yield* told("same-origin"), yield* told("cross-site"), yield* told("none")]).toEqual([true, false, false])
      for (const name of ["constructor", "toString", "__proto__", "other"]) {
        const page = yield* get(handler, `/key?operation=a&key=b&done=${name}`, { "sec-fetch-site": "same-origin" })
        expect([name, page.text.includes('class="notice done"')]).toEqual([name, false])
      }
    })
  )
})
