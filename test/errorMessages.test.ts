/** Errors as programs meet them: each is provoked, and none of what it is about is in its message. */
import { inspect } from "node:util"
import * as HttpApp from "@effect/platform/HttpApp"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FastCheck from "effect/FastCheck"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { IdempotentConsumer } from "../src/consumer.js"
import { HttpIdempotency, HttpIdempotencyProblem } from "../src/http.js"
import {
  Idempotency,
  IdempotencyDomainService,
  IdempotencyIdentifiers,
  IdempotencyMetrics,
  IdempotencyRecord,
  IdempotencyRepository,
  layerMemory,
  MemoryIdempotencyRepository,
  withIdempotency,
  withIdempotentStep
} from "../src/index.js"
import { FaultInjectingRepository } from "../src/testing/FaultInjectingRepository.js"

/** A text that nothing holds by chance. */
const secret = FastCheck.hexaString({ minLength: 20, maxLength: 40 }).map((text) => `sec${text}`)

const few = { fastCheck: { numRuns: 5 } }

const operation = "payment.charge"

/** What a log shows of it. Not its cause: that is somebody else's, a schema's that shows what it does not decode. */
const shown = (error: Error): string =>
  [error.message, error.stack, String(error), Cause.pretty(Cause.fail(error))].join("\n")

/** The store cannot be reached, and nobody waits for it. */
const unreachable = Idempotency.layerWith({ retry: Schedule.stop }).pipe(
  Layer.provide([
    FaultInjectingRepository.layer(() => "refused").pipe(Layer.provide(MemoryIdempotencyRepository.layer)),
    IdempotencyDomainService.layer,
    IdempotencyMetrics.layerNoop
  ])
)

type Call = Effect.Effect<unknown, unknown, Idempotency | IdempotencyRepository>

/** One call for each way to fail; all of them know the text as key, as scope, as fingerprint and as result. */
const failures = (text: string): Readonly<Record<string, Call>> => {
  const options = { scope: text, fingerprint: { text } } as const
  const charge = Effect.succeed({ text })
  const numbered = Effect.succeed({ text, amount: Number.NaN })
  const another = Schema.Struct({ text: Schema.Int })
  const key = (name: string) => `${text}-${name}`
  const record = (name: string) =>
    IdempotencyRecord.create({
      operation,
      idempotencyKey: key(name),
      scope: text,
      result: { text },
      timeToLive: 60_000
    })

  return {
    identifiers: withIdempotency(charge, operation, `${text}:${text}`, { ...options, scope: `${text}\n${text}` }),
    fingerprint: withIdempotency(charge, operation, key("fp"), { fingerprint: { [text]: Number.NaN } }),
    timeToLive: withIdempotency(charge, operation, key("ttl"), { ...options, timeToLive: 1 }),
    mismatch: Effect.zipRight(
      withIdempotency(charge, operation, key("other"), options),
      withIdempotency(charge, operation, key("other"), { ...options, fingerprint: { text, more: 1 } })
    ),
    inFlight: Effect.gen(function* () {
      const first = yield* Effect.fork(withIdempotency(Effect.never, operation, key("busy"), { scope: text }))
      yield* Effect.yieldNow()
      const second = withIdempotency(Effect.never, operation, key("busy"), { scope: text, inFlight: "fail" })
      return yield* Effect.zipLeft(Effect.flip(second), Fiber.interrupt(first)).pipe(Effect.flip)
    }),
    unknown: Effect.gen(function* () {
      const once = withIdempotency(Effect.die("no"), operation, key("once"), { ...options, guarantee: "at-most-once" })
      yield* Effect.exit(once)
      return yield* once
    }),
    undecodable: Effect.zipRight(
      withIdempotency(charge, operation, key("decoded"), options),
      withIdempotency(Effect.succeed({ text: 1 }), operation, key("decoded"), { ...options, success: another })
    ),
    // Its first caller is given the result.
    unrecordable: Effect.zipRight(
      withIdempotency(numbered, operation, key("nan"), options),
      withIdempotency(numbered, operation, key("nan"), options)
    ),
    storage: withIdempotency(charge, operation, key("store"), { ...options, onStorageFailure: "fail" }).pipe(
      Effect.provide(unreachable)
    ),
    step: Effect.zipRight(charge.pipe(withIdempotentStep(text)), numbered.pipe(withIdempotentStep(text))).pipe(
      withIdempotency(operation, key("steps"), { ...options })
    ),
    collision: Effect.gen(function* () {
      const { save, saveMany } = yield* IdempotencyRepository
      yield* save(yield* record("saved"))
      return yield* saveMany([yield* record("saved"), yield* record("new"), yield* record("new")])
    }),
    expired: Effect.gen(function* () {
      const { save } = yield* IdempotencyRepository
      const { expiresAt, ...fields } = yield* record("old")
      return yield* save(new IdempotencyRecord({ ...fields, expiresAt: fields.createdAt }))
    }),
    resolution: Effect.gen(function* () {
      const { resolve } = yield* IdempotencyRepository
      const ids = yield* IdempotencyIdentifiers.from({ operation, idempotencyKey: key("r"), scope: text })
      return yield* resolve(ids, { _tag: "Success", result: { text, wrong: Number.NaN } })
    }),
    poisoned: Effect.gen(function* () {
      const attempt = IdempotentConsumer.process(Effect.fail("no" as const), "mailer", `${text}:1`, { maxAttempts: 1 })
      yield* Effect.exit(attempt)
      return yield* attempt
    }),
    message: IdempotentConsumer.process(Effect.succeed({ text }), "mailer", undefined, { scope: text })
  }
}

describe("errors, as calls fail with them", () => {
  it.effect.prop(
    "name their operation, and hold no key, scope, fingerprint or result",
    { text: secret },
    ({ text }) =>
      Effect.gen(function* () {
        const tags = new Map<string, string>()
        for (const [name, call] of Object.entries(failures(text))) {
          const exit = yield* Effect.exit(Effect.provide(call, layerMemory))
          expect(Exit.isFailure(exit), name).toBe(true)
          const error = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
          if (!(error instanceof Error && "_tag" in error)) throw new Error(`${name}: ${inspect(error)}`)
          expect(shown(error), name).not.toContain(text)
          // Its cause is ours: what a schema says of a value repeats it.
          if (name === "undecodable") expect(inspect(error.cause, { depth: null })).not.toContain(text)
          expect(error.message, name).toMatch(/(operation|consumer) "(payment\.charge|mailer)"/)
          tags.set(name, String(error._tag))
        }
        expect(Object.fromEntries(tags)).toEqual({
          identifiers: "IdempotencyValidationError",
          fingerprint: "IdempotencyValidationError",
          timeToLive: "IdempotencyInvalidTtlError",
          mismatch: "IdempotencyFingerprintMismatchError",
          inFlight: "IdempotencyInFlightError",
          unknown: "IdempotencyOutcomeUnknownError",
          undecodable: "IdempotencyResultUnavailableError",
          unrecordable: "IdempotencyResultUnavailableError",
          storage: "IdempotencyStorageError",
          step: "IdempotencyValidationError",
          collision: "IdempotencyKeyCollisionError",
          expired: "IdempotencyRecordExpiredError",
          resolution: "IdempotencyValidationError",
          poisoned: "MessagePoisonedError",
          message: "IdempotencyValidationError"
        })
      }),
    few
  )

  it.effect.prop(
    "hold none of it over HTTP, where each problem says what to do",
    { text: secret },
    ({ text }) =>
      Effect.promise(async () => {
        const app = Effect.succeed(HttpServerResponse.unsafeJson({ text }))
        const { dispose, handler } = HttpApp.toWebHandlerLayer(
          app.pipe(
            HttpIdempotency.middleware({
              scope: () => Effect.succeed(text),
              operation,
              required: true,
              maxRequestBytes: 1000,
              maxResponseBytes: 1
            })
          ),
          Layer.merge(layerMemory, Logger.remove(Logger.defaultLogger))
        )
        const answer = async (body: string, key?: string) => {
          const headers = key === undefined ? {} : { "idempotency-key": key }
          const response = await handler(new Request("http://localhost/", { method: "POST", headers, body }))
          return { status: response.status, body: await response.text() }
        }
        const answers = [
          await answer(text),
          await answer(text, `${text}${"x".repeat(300)}`),
          await answer(text.repeat(100), text),
          await answer(text, text),
          await answer(text, text),
          await answer(`${text}!`, text)
        ]
        await dispose()
        expect(answers.map(({ status }) => status)).toEqual([400, 400, 413, 200, 409, 422])
        for (const { body, status } of answers) {
          if (status === 200) continue
          expect(body).not.toContain(text)
          const problem = new HttpIdempotencyProblem(JSON.parse(body))
          expect(problem.message).toMatch(/: .*(send|needs|ask|find out)/i)
          expect(shown(problem)).not.toContain(text)
        }
      }),
    few
  )
})
