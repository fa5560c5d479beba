/** Claims on Postgres, under what happens to their owner and to the server. */
import { appendFileSync } from "node:fs"
import { expect, layer } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import {
  Idempotency,
  IdempotencyDomainService,
  type IdempotencyEngineOptions,
  IdempotencyIdentifiers,
  IdempotencyKey,
  IdempotencyMetrics,
  IdempotencyRepository,
  IdempotentExecution,
  withIdempotency,
  withIdempotencyOutcome
} from "../../src/index.js"
import { SqlIdempotencyRepository } from "../../src/sql.js"
import { Postgres, pgClientOf } from "../support/databases.js"
import { type SqlWorkerTask, sqlWorker } from "../support/sqlWorkers.js"
import { type Ledger, ledger } from "../support/workers.js"

const operation = "payment.charge"

const engine = (options: IdempotencyEngineOptions) =>
  Layer.unwrapEffect(
    Effect.map(Postgres, ({ url }) =>
      Idempotency.layerWith(options).pipe(
        Layer.provideMerge(SqlIdempotencyRepository.layer),
        Layer.provide(Layer.effectDiscard(SqlIdempotencyRepository.migration)),
        Layer.provide(pgClientOf(url)),
        Layer.provide([IdempotencyDomainService.layer, IdempotencyMetrics.layerNoop])
      )
    )
  )

const charge = ({ path }: Ledger, key: string) =>
  Effect.flatMap(IdempotentExecution, ({ attempt }) =>
    Effect.as(
      Effect.sync(() => appendFileSync(path, `${key}\n`)),
      { run: key, attempt }
    )
  )

const timed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.timed(effect), ([duration, value]) => ({ value, millis: Duration.toMillis(duration) }))

/** For a machine that does more than this. */
const allowance = 1000

layer(Postgres.layer, { excludeTestServices: true, timeout: 60_000 })("a claim on Postgres", (it) => {
  const storageTimeout = 700
  const lease = 3 * storageTimeout

  /** The owner of a key is in its body, and is gone. */
  const killed = (guarantee: SqlWorkerTask["guarantee"]) =>
    Effect.gen(function* () {
      const { url } = yield* Postgres
      const book = yield* ledger
      const key = yield* IdempotencyKey.random
      const owner = yield* sqlWorker({
        database: { dialect: "postgres", url },
        mode: "claim",
        operation,
        keys: [key],
        fibers: 1,
        concurrency: 1,
        ledger: book.path,
        guarantee,
        bodyMillis: 0,
        lease,
        storageTimeout,
        hangs: true
      })
      yield* owner.go
      expect(yield* owner.nextLine).toEqual({ _tag: "Running", key })
      yield* owner.signal("SIGKILL")
      expect(book.runs(key)).toBe(1)
      return { book, key }
    })

  it.scoped("at-least-once, of an owner that is killed: runs again once its lease is over", () =>
    Effect.gen(function* () {
      const context = yield* Layer.build(engine({ storageTimeout }))
      const { book, key } = yield* killed("at-least-once")
      const call = charge(book, key).pipe(withIdempotency(operation, key, { lease, onStorageFailure: "fail" }))
      const early = call.pipe(Effect.timeoutOption(lease / 3))
      expect(yield* Effect.provide(early, context)).toMatchObject({ _tag: "None" })
      const { millis, value } = yield* Effect.provide(timed(call), context)
      expect(value).toEqual({ run: key, attempt: 2 })
      expect(millis).toBeLessThan(lease + allowance)
      expect(book.runs(key)).toBe(2)
    })
  )

  it.scoped("at-most-once, of an owner that is killed: the next is told, and resolve and reset clear it", () =>
    Effect.gen(function* () {
      const context = yield* Layer.build(engine({ storageTimeout }))
      const { book, key } = yield* killed("at-most-once")
      const call = charge(book, key).pipe(withIdempotency(operation, key, { guarantee: "at-most-once", lease }))
      yield* Effect.gen(function* () {
        const repository = yield* IdempotencyRepository
        const ids = yield* IdempotencyIdentifiers.from({ operation, idempotencyKey: key })
        expect(yield* Effect.flip(call)).toMatchObject({ _tag: "IdempotencyOutcomeUnknownError", attempt: 1 })
        expect(book.runs(key)).toBe(1)
        expect(yield* repository.resolve(ids, { _tag: "Success", result: { run: "known", attempt: 1 } })).toBe(true)
        expect(yield* call).toEqual({ run: "known", attempt: 1 })
        expect(book.runs(key)).toBe(1)
        expect(yield* repository.reset(ids)).toBe(true)
        expect(yield* call).toEqual({ run: key, attempt: 2 })
        expect(book.runs(key)).toBe(2)
      }).pipe(Effect.provide(context))
    })
  )

  const away = (how: "SIGKILL" | "SIGSTOP") =>
    it.scoped(`while the server has had ${how}: proceed is bounded, fail refuses, protection resumes`, () =>
      Effect.gen(function* () {
        const server = yield* Postgres
        const book = yield* ledger
        const context = yield* Layer.build(engine({ storageTimeout, breakerProbeInterval: 100 }))
        const [before, during, refused, after] = yield* Effect.all([
          IdempotencyKey.random,
          IdempotencyKey.random,
          IdempotencyKey.random,
          IdempotencyKey.random
        ])
        const proceed = (key: string) => charge(book, key).pipe(withIdempotencyOutcome(operation, key, { lease }))
        const fail = (key: string) =>
          charge(book, key).pipe(withIdempotency(operation, key, { lease, onStorageFailure: "fail" }))
        yield* Effect.gen(function* () {
          expect((yield* proceed(before))._tag).toBe("Executed")
          yield* server.signal(how)
          const unprotected = yield* timed(proceed(during))
          expect(unprotected.value).toMatchObject({ _tag: "Unprotected", value: { run: during } })
          expect(unprotected.millis).toBeLessThan(2.5 * storageTimeout + allowance)
          expect(book.runs(during)).toBe(1)
          const failed = yield* timed(Effect.flip(fail(refused)))
          expect(failed.value).toMatchObject({ _tag: "IdempotencyStorageError" })
          expect(failed.millis).toBeLessThan(storageTimeout + allowance)
          expect(book.runs(refused)).toBe(0)
          yield* how === "SIGKILL" ? server.restart : server.signal("SIGCONT")
          yield* proceed(after).pipe(
            Effect.repeat({ until: ({ _tag }) => _tag !== "Unprotected", schedule: Schedule.spaced(100) }),
            Effect.timeout("10 seconds")
          )
          const runs = book.runs(after)
          expect((yield* proceed(after))._tag).toBe("Replayed")
          expect((yield* proceed(before))._tag).toBe("Replayed")
          expect(book.runs(after)).toBe(runs)
          expect(yield* fail(refused)).toMatchObject({ run: refused })
          expect(book.runs(refused)).toBe(1)
        }).pipe(Effect.provide(context))
      })
    )
  away("SIGKILL")
  away("SIGSTOP")
})
