import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FastCheck from "effect/FastCheck"
import * as Schema from "effect/Schema"
import {
  IdempotencyError,
  IdempotencyFingerprintMismatchError,
  IdempotencyInFlightError,
  IdempotencyInvalidTtlError,
  IdempotencyKeyCollisionError,
  IdempotencyOutcomeUnknownError,
  IdempotencyRecordExpiredError,
  IdempotencyResultUnavailableError,
  IdempotencyStorageError,
  IdempotencyValidationError,
  isIdempotencyError
} from "../src/IdempotencyError.js"
import { IdempotencyIdentifiers } from "../src/IdempotencyIdentifiers.js"
import { IdempotencyRecord } from "../src/IdempotencyRecord.js"
import { IdempotencyRepository } from "../src/IdempotencyRepository.js"
import { recordOf } from "../src/internal/storedRecord.js"
import { MemoryIdempotencyRepository } from "../src/MemoryIdempotencyRepository.js"

/** One error of each class, about this key. */
const errorsAbout = (idempotencyKey: string, cause?: unknown): ReadonlyArray<IdempotencyError> => {
  const about = { operation: "payment.charge", idempotencyKey }
  const { operation } = about
  const [min, max] = [Duration.seconds(1), Duration.hours(1)]
  return [
    new IdempotencyValidationError({ operation, issues: ["the key is empty", "the scope is empty"] }),
    new IdempotencyInvalidTtlError({ operation, timeToLive: Duration.zero, min, max }),
    new IdempotencyKeyCollisionError({ operation, keys: [idempotencyKey] }),
    new IdempotencyRecordExpiredError(about),
    new IdempotencyStorageError({ operation, method: "claim", reason: "Timeout", applied: "unknown", cause }),
    new IdempotencyStorageError({ operation, method: "claim", reason: "Rejected", applied: "no" }),
    new IdempotencyStorageError({ operation, method: "claim", reason: "Misconfigured", applied: "no", cause }),
    new IdempotencyInFlightError({ ...about, reason: "Running", retryAfter: min }),
    new IdempotencyInFlightError({ ...about, reason: "TakenOver", retryAfter: min }),
    new IdempotencyFingerprintMismatchError(about),
    new IdempotencyOutcomeUnknownError({ ...about, attempt: 3 }),
    new IdempotencyResultUnavailableError({ ...about, cause })
  ]
}

/** What each class of error tells its reader to do. */
const advice: Readonly<Record<string, RegExp>> = {
  IdempotencyValidationError: /correct it/,
  IdempotencyInvalidTtlError: /choose one within, or widen the bounds/,
  IdempotencyKeyCollisionError: /get the records of `keys`, or leave them out/,
  IdempotencyRecordExpiredError: /create a new one/,
  IdempotencyStorageError: /try again, with the same key|correct how the store is set up/,
  IdempotencyInFlightError: /try again with it in 1s/,
  IdempotencyFingerprintMismatchError: /use a new key/,
  IdempotencyOutcomeUnknownError: /find out whether it did, then resolve or reset the key/,
  IdempotencyResultUnavailableError: /look the result up elsewhere, or reset the key/,
  MessagePoisonedError: /move it to a dead-letter queue, then acknowledge it/
}

/** A text that no message holds by chance. */
const secret = FastCheck.hexaString({ minLength: 20, maxLength: 60 }).map((text) => `sec${text}`)

/** What a log shows of an error. */
const shown = (error: Error): string => `${error.message}\n${error.stack}\n${String(error)}`

describe("every error", () => {
  it("names its operation and says what to do, in its message", () => {
    for (const error of errorsAbout("order-1")) {
      expect(error.message).toContain('"payment.charge"')
      expect(error.message).toMatch(advice[error._tag] ?? "what to do")
      expect(error.operation).toBe("payment.charge")
      expect(error.name).toBe(error._tag)
      expect(error).toBeInstanceOf(Error)
    }
  })

  it("passes through the schema of the union", () => {
    for (const error of errorsAbout("order-1", new Error("why"))) {
      const encoded = JSON.stringify(Schema.encodeSync(IdempotencyError)(error))
      const back = Schema.decodeUnknownSync(IdempotencyError)(JSON.parse(encoded))
      expect(back).toMatchObject({ _tag: error._tag, operation: error.operation, message: error.message })
      expect(back.constructor).toBe(error.constructor)
    }
  })

  it("is told from the domain's", () => {
    for (const error of errorsAbout("order-1")) expect(isIdempotencyError(error)).toBe(true)
    for (const other of [
      new Error("no"),
      undefined,
      "IdempotencyStorageError",
      { _tag: "IdempotencyStorageError" },
      { ...new IdempotencyRecordExpiredError({ operation: "o", idempotencyKey: "k" }) }
    ]) {
      expect(isIdempotencyError(other)).toBe(false)
    }
  })

  it.effect("leaves the domain's errors when it is caught", () =>
    Effect.gen(function* () {
      const failing = (error: IdempotencyError | Error) =>
        Effect.fail(error).pipe(
          Effect.catchIf(isIdempotencyError, ({ _tag }) => Effect.succeed(_tag)),
          Effect.either
        )
      const domains = new Error("declined")
      expect(yield* failing(domains)).toEqual(Either.left(domains))
      for (const error of errorsAbout("order-1")) expect(yield* failing(error)).toEqual(Either.right(error._tag))
    })
  )
})

/** Reading a stack is slow. */
const few = { fastCheck: { numRuns: 20 } }

describe("no message holds a key, a scope or a result", () => {
  it.prop(
    "whatever the key",
    { key: secret },
    ({ key }) => {
      for (const error of errorsAbout(key)) {
        expect(shown(error)).not.toContain(key)
        expect(Cause.pretty(Cause.fail(error))).not.toContain(key)
      }
    },
    few
  )

  it.prop("when identifiers are refused", { text: secret }, ({ text }) => {
    const result = IdempotencyIdentifiers.from({
      operation: "o",
      idempotencyKey: `${text}:${text}`,
      scope: `${text}\u0000`
    })
    expect(Either.isLeft(result) && shown(result.left)).toMatch(
      /key holds a colon; the scope holds a control character/
    )
    expect(Either.isLeft(result) && shown(result.left)).not.toContain(text)
  })

  it.effect.prop("when a record is refused", { text: secret }, ({ text }) =>
    Effect.gen(function* () {
      const good = {
        operation: "o",
        idempotencyKey: text,
        scope: text,
        result: { text },
        timeToLive: "1 hour"
      } as const
      for (const input of [
        { ...good, result: { text, wrong: Number.NaN } },
        { ...good, result: [text, Number.NaN] },
        { ...good, result: { [text]: Number.NaN } },
        { ...good, fingerprint: `${text} ${text}` },
        { ...good, timeToLive: 0 },
        { ...good, scope: `${text}:` }
      ]) {
        expect(shown(yield* Effect.flip(IdempotencyRecord.create(input)))).not.toContain(text)
      }
    })
  )

  it.effect.prop("when a repository refuses", { text: secret }, ({ text }) =>
    Effect.gen(function* () {
      const repository = yield* IdempotencyRepository
      const input = {
        operation: "o",
        idempotencyKey: text,
        scope: text,
        result: { text },
        timeToLive: "1 hour"
      } as const
      const record = yield* IdempotencyRecord.create(input)
      const ids = record.identifiers
      yield* repository.save(record)
      expect(shown(yield* Effect.flip(repository.save(record)))).not.toContain(text)
      expect(shown(yield* Effect.flip(repository.saveMany([record, record])))).not.toContain(text)
      const resolution = { _tag: "Success", result: { text, wrong: Number.NaN } } as const
      expect(shown(yield* Effect.flip(repository.resolve(ids, resolution)))).not.toContain(text)
      yield* repository.delete(ids)
      yield* repository.claims.claim(ids, {
        token: "t",
        fingerprint: undefined,
        guarantee: "at-least-once",
        lease: 1_000,
        retention: 1_000,
        unknownRetention: 1_000
      })
      expect(shown(yield* Effect.flip(repository.reset(ids)))).not.toContain(text)
    }).pipe(Effect.provide(MemoryIdempotencyRepository.layer))
  )

  it.prop("nor the cause, when what is stored cannot be read", { text: secret }, ({ text }) => {
    const ids = Either.getOrThrow(IdempotencyIdentifiers.from({ operation: "o", idempotencyKey: text }))
    const completed = {
      _tag: "Completed",
      token: "t",
      attempt: 1,
      createdAt: 0,
      expiresAt: 1,
      fingerprint: undefined
    } as const
    for (const state of [
      { ...completed, outcome: { _tag: "Success", encoded: text } } as const,
      { ...completed, fingerprint: `${text} `, outcome: { _tag: "Success", encoded: JSON.stringify(text) } } as const
    ]) {
      const result = recordOf(ids, state)
      expect(Either.isLeft(result) && `${shown(result.left)} ${result.left.cause}`).toContain("cannot be given")
      expect(Either.isLeft(result) && `${shown(result.left)} ${result.left.cause}`).not.toContain(text)
    }
  })
})
