/** Worker processes on Redis that are killed on their way, or stand still past their lease. */
import { appendFileSync } from "node:fs"
import { describe, expect, layer } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import {
  Idempotency,
  IdempotencyDomainService,
  IdempotencyIdentifiers,
  IdempotencyKey,
  IdempotencyMetrics,
  IdempotencyRepository,
  IdempotentExecution,
  withIdempotencyOutcome
} from "effect-idempotency"
import { RedisIdempotencyRepository } from "effect-idempotency/redis"
import { StandaloneRedis } from "../support/redisServers.js"
import { type CrashPoint, ledger, Workers, type WorkerTask } from "../support/workers.js"

type Guarantee = WorkerTask["guarantee"]

const operation = "payment.charge"

/** Of the owner, whom others wait out. One that is to renew after it stood still is not to be too late on a busy machine. */
const short = { lease: 2100, storageTimeout: 700 }
const longer = { lease: 4500, storageTimeout: 1500 }
/** Of the others. */
const patient = { lease: 30_000, storageTimeout: 10_000 }

const engineOn = (url: string) =>
  Idempotency.layerWith({ storageTimeout: patient.storageTimeout }).pipe(
    Layer.provideMerge(RedisIdempotencyRepository.layerClient({ url, operationTimeout: patient.storageTimeout })),
    Layer.provide([IdempotencyDomainService.layer, IdempotencyMetrics.layerNoop])
  )

/** What a run in this process gives. */
const ours = (attempt: number) => ({ pid: process.pid, attempt })

/** An owner in a process of its own, and callers in this one. */
const owned = (guarantee: Guarantee, how: Partial<WorkerTask>) =>
  Effect.gen(function* () {
    const { url } = yield* StandaloneRedis
    const start = yield* Workers
    const book = yield* ledger
    const key = yield* IdempotencyKey.random
    const ids = yield* IdempotencyIdentifiers.from({ operation, idempotencyKey: key })
    const engine = yield* Layer.build(engineOn(url))
    const charge = Effect.map(IdempotentExecution, ({ attempt }) => {
      appendFileSync(book.path, `${key}\n`)
      return ours(attempt)
    })
    const options = { guarantee, lease: patient.lease, onStorageFailure: "fail" } as const
    const task = { url, operation, key, ledger: book.path, guarantee, fibers: 1, bodyMillis: 0, ...short }
    /** When the owner's lease ends, once so much is left of it. */
    const leaseEnd = (left: (millis: number) => boolean) =>
      Effect.flatMap(IdempotencyRepository, ({ list }) => list({ operation, keyPrefix: key })).pipe(
        Effect.map(({ entries, now }) => {
          const [owned] = entries.flatMap(({ state }) => (state._tag === "Processing" ? [state.leaseUntil] : []))
          return owned !== undefined && left(owned - now) ? owned : undefined
        }),
        Effect.delay("20 millis"),
        Effect.repeat({ until: (end): end is number => end !== undefined }),
        Effect.provide(engine)
      )
    return {
      ids,
      engine,
      owner: yield* start({ ...task, ...how }),
      /** How a caller fares. */
      answer: Effect.merge(charge.pipe(withIdempotencyOutcome(operation, key, options), Effect.provide(engine))),
      runs: () => book.runs(key),
      leaseEnd: leaseEnd(() => true),
      live: leaseEnd((millis) => millis > 0),
      lapsed: leaseEnd((millis) => millis <= 0)
    }
  })

const killed = (guarantee: Guarantee, point: CrashPoint) =>
  Effect.tap(owned(guarantee, { hangsAt: point }), ({ owner }) =>
    Effect.gen(function* () {
      expect(yield* owner.nextLine).toBe(point)
      yield* owner.signal("SIGKILL")
    })
  )

const goesOn: Partial<WorkerTask> = { isTold: true, ...longer }
const hasEnded: Partial<WorkerTask> = { hangsAt: "before completion" }

const stopped = (guarantee: Guarantee, body: Partial<WorkerTask>) =>
  Effect.tap(owned(guarantee, body), ({ owner }) =>
    Effect.gen(function* () {
      expect(yield* owner.nextLine).toBe(body.hangsAt ?? "in body")
      yield* owner.signal("SIGSTOP")
    })
  )

const executed = (attempt: number) => ({ _tag: "Executed", value: ours(attempt), attempt })
const replayed = (value: unknown) => ({ _tag: "Replayed", value })
const unknown = { _tag: "IdempotencyOutcomeUnknownError", attempt: 1 }

/** It is the only run, and its late result everybody's. */
const expectLateResult = ({ answer, owner, runs }: Effect.Effect.Success<ReturnType<typeof stopped>>) =>
  Effect.gen(function* () {
    const [own] = [yield* owner.nextLine].flat()
    expect(own).toMatchObject({ attempt: 1 })
    expect(yield* answer).toMatchObject(replayed(own))
    expect(runs()).toBe(1)
  })

const servers = Layer.merge(StandaloneRedis.layer, Workers.layer)

layer(servers, { excludeTestServices: true, timeout: 60_000 })("on one Redis", (it) => {
  describe("the owner is killed", () => {
    it.scoped("at-least-once: the next caller has a result within lease + 1 s, with attempt 2", () =>
      Effect.gen(function* () {
        const { answer, leaseEnd } = yield* killed("at-least-once", "in body")
        const end = yield* leaseEnd
        const [took, next] = yield* Effect.timed(answer)
        expect(next).toMatchObject(executed(2))
        expect(yield* Clock.currentTimeMillis).toBeGreaterThanOrEqual(end)
        expect(Duration.toMillis(took)).toBeLessThan(short.lease + 1000)
      })
    )

    describe.concurrent("at any point of its way", () => {
      const at = (
        guarantee: Guarantee,
        point: CrashPoint,
        what: string,
        expected: { readonly ran: number; readonly next: object; readonly runs: number }
      ) =>
        it.scoped(`${guarantee}, ${point}: ${what}`, () =>
          Effect.gen(function* () {
            const { answer, runs } = yield* killed(guarantee, point)
            expect(runs()).toBe(expected.ran)
            const next = yield* answer
            expect(next).toMatchObject(expected.next)
            expect(yield* answer).toMatchObject("value" in next ? replayed(next.value) : expected.next)
            expect(runs()).toBe(expected.runs)
          })
        )
      const theirs = replayed({ attempt: 1 })
      at("at-least-once", "before claim", "it runs once", { ran: 0, next: executed(1), runs: 1 })
      at("at-least-once", "after claim", "it runs, with attempt 2", { ran: 0, next: executed(2), runs: 1 })
      at("at-least-once", "in body", "it runs again", { ran: 1, next: executed(2), runs: 2 })
      at("at-least-once", "before completion", "it runs again", { ran: 1, next: executed(2), runs: 2 })
      at("at-least-once", "after completion", "it is replayed", { ran: 1, next: theirs, runs: 1 })
      at("at-most-once", "before claim", "it runs once", { ran: 0, next: executed(1), runs: 1 })
      at("at-most-once", "after claim", "it does not run", { ran: 0, next: unknown, runs: 0 })
      at("at-most-once", "in body", "it does not run again", { ran: 1, next: unknown, runs: 1 })
      at("at-most-once", "before completion", "it does not run again", { ran: 1, next: unknown, runs: 1 })
      at("at-most-once", "after completion", "it is replayed", { ran: 1, next: theirs, runs: 1 })

      it.scoped("at-most-once: the next caller is told, and resolve or reset clears it", () =>
        Effect.gen(function* () {
          const { answer, engine, ids, runs } = yield* killed("at-most-once", "in body")
          expect(yield* answer).toMatchObject(unknown)
          yield* Effect.gen(function* () {
            const repository = yield* IdempotencyRepository
            expect(yield* repository.resolve(ids, { _tag: "Success", result: "known" })).toBe(true)
            expect(yield* answer).toMatchObject(replayed("known"))
            expect(runs()).toBe(1)
            expect(yield* repository.reset(ids)).toBe(true)
          }).pipe(Effect.provide(engine))
          expect(yield* answer).toMatchObject(executed(2))
          expect(runs()).toBe(2)
        })
      )
    })
  })

  describe.concurrent("the owner stands still past its lease", () => {
    const takenOver = (when: string, body: Partial<WorkerTask>) =>
      it.scoped(`at-least-once, taken over, ${when}: its caller, too, gets the winner's result`, () =>
        Effect.gen(function* () {
          const { answer, owner, runs } = yield* stopped("at-least-once", body)
          expect(yield* answer).toMatchObject(executed(2))
          if (body === hasEnded) yield* owner.go
          yield* owner.signal("SIGCONT")
          expect(yield* owner.nextLine).toEqual([ours(2)])
          expect(yield* answer).toMatchObject(replayed(ours(2)))
          expect(runs()).toBe(2)
        })
      )

    const refused = (when: string, body: Partial<WorkerTask>) =>
      it.scoped(`at-most-once, others are told, ${when}: its late result is recorded`, () =>
        Effect.gen(function* () {
          const world = yield* stopped("at-most-once", body)
          const { answer, live, owner, runs } = world
          expect(yield* answer).toMatchObject(unknown)
          expect(yield* answer).toMatchObject(unknown)
          expect(runs()).toBe(1)
          yield* owner.signal("SIGCONT")
          if (body === goesOn) yield* live
          yield* owner.go
          yield* expectLateResult(world)
        })
      )

    takenOver("its body would go on", goesOn)
    refused("its body goes on", goesOn)
    takenOver("its body has ended", hasEnded)
    refused("its body has ended", hasEnded)

    const alone = (guarantee: Guarantee) =>
      it.scoped(`${guarantee}, and nobody comes: its late result is recorded`, () =>
        Effect.gen(function* () {
          const world = yield* stopped(guarantee, hasEnded)
          yield* world.lapsed
          yield* world.owner.go
          yield* world.owner.signal("SIGCONT")
          yield* expectLateResult(world)
        })
      )
    alone("at-least-once")
    alone("at-most-once")
  })
})
