/** Transactions on Postgres while their server stands still: it takes what is sent, and does not answer. */
import { expect, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import { IdempotencyKey } from "../../src/index.js"
import { Postgres } from "../support/databases.js"
import {
  engine,
  expectOneRowEach,
  keysOf,
  makeNotes,
  place,
  sessions,
  tables,
  until,
  waitTimeout
} from "../support/sqlOrders.js"
import { tcpProxy } from "../support/tcpProxy.js"

layer(Postgres.layer, { excludeTestServices: true, timeout: 60_000 })("on one Postgres", (it) => {
  /** Not so short that a busy machine is taken for a server that stands still. */
  const storageTimeout = 500
  /** Of a transaction's COMMIT, and of its ROLLBACK. */
  const endTimeout = 5000
  /** Four looks at the record and one transaction, with the pauses between. */
  const bound = 4 * storageTimeout + waitTimeout + 2 * storageTimeout + 2 * endTimeout + 1000

  const paused = (name: string, pause: (all: Effect.Effect<unknown>) => Effect.Effect<unknown>) =>
    it.scoped(name, () =>
      Effect.gen(function* () {
        yield* tables
        const server = yield* Postgres
        const [first, second] = [yield* engine(server.url, storageTimeout), yield* engine(server.url, storageTimeout)]
        const keys = yield* keysOf(3)
        const [running, waited, fresh] = keys
        if (running === undefined || waited === undefined || fresh === undefined) throw new Error("no keys")
        const { add, notes } = makeNotes()
        const gate = yield* Deferred.make<void>()
        const started = yield* Effect.makeSemaphore(2)
        yield* started.take(2)
        const held = Effect.zipRight(started.release(1), Deferred.await(gate))
        const settled = (key: string, during: Effect.Effect<void>) =>
          place(key, during).pipe(
            Effect.tap((note) => Effect.sync(() => add(key, note))),
            Effect.either,
            Effect.timed
          )
        // Two are in their effects, one waits for a row, and one begins when the server has stopped.
        const owners = yield* Effect.forkAll([settled(running, held), settled(waited, held)]).pipe(
          Effect.provide(first)
        )
        yield* started.take(2)
        const duplicate = yield* Effect.fork(settled(waited, Effect.void).pipe(Effect.provide(second)))
        yield* until(
          server.query("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"),
          (blocked) => blocked.length === 1
        )
        yield* server.signal("SIGSTOP")
        yield* Deferred.succeed(gate, undefined)
        const beginner = yield* Effect.fork(settled(fresh, Effect.void).pipe(Effect.provide(second)))
        const all = Effect.all([Fiber.join(owners), Fiber.join(duplicate), Fiber.join(beginner)]).pipe(
          Effect.timeout(2 * bound)
        )
        yield* pause(Effect.exit(all))
        yield* server.signal("SIGCONT")
        const [[a, b], c, d] = yield* all
        for (const [duration, result] of [a, b, c, d].filter((outcome) => outcome !== undefined)) {
          expect(Duration.toMillis(duration)).toBeLessThan(bound)
          if (Either.isRight(result) || result.left._tag === "IdempotencyInFlightError") continue
          // Nobody's COMMIT was sent.
          expect(result.left).toMatchObject({ _tag: "IdempotencyStorageError", applied: "no" })
        }
        const retried = (key: string) => Effect.map(place(key, Effect.void), (note) => add(key, note))
        yield* Effect.forEach(keys, retried, { concurrency: "unbounded" }).pipe(
          Effect.retry(Schedule.spaced("100 millis")),
          Effect.timeout("10 seconds"),
          Effect.provide(second)
        )
        yield* expectOneRowEach(keys, notes)
        yield* until(sessions, (left) => left.every(({ state }) => state !== "idle in transaction"))
      })
    )

  paused("a server that stands still for 3 s: callers are answered or told, a retry gets one row", () =>
    Effect.sleep("3 seconds")
  )
  paused("a server that stands still: callers are told within a bound, a retry gets one row", (all) => all)

  /** What the server is sent when the line goes dead, and what a caller is told who has no answer to it. */
  const lastWords = [
    { statement: "BEGIN", applied: "no" },
    { statement: 'INSERT INTO "idempotency_records"', applied: "no" },
    { statement: "state = 'Completed'", applied: "no" },
    { statement: "COMMIT", applied: "unknown" }
  ] as const

  it.scoped("a line that goes dead under any statement: callers are told within a bound, a retry gets one row", () =>
    Effect.gen(function* () {
      yield* tables
      const { port, url } = yield* Postgres
      const { add, notes } = makeNotes()
      const dead = ({ applied, statement }: (typeof lastWords)[number]) =>
        Effect.gen(function* () {
          const proxy = yield* tcpProxy(port)
          const context = yield* engine(url.replace(`:${port}/`, `:${proxy.port}/`), storageTimeout)
          const key = yield* IdempotencyKey.random
          yield* proxy.loseRequest((request) => {
            if (request.includes(statement)) Effect.runSync(proxy.blackHole)
            return false
          })
          const [duration, error] = yield* place(key, Effect.void).pipe(
            Effect.flip,
            Effect.timed,
            Effect.provide(context)
          )
          expect([statement, error]).toMatchObject([statement, { _tag: "IdempotencyStorageError", applied }])
          expect(Duration.toMillis(duration)).toBeLessThan(bound)
          yield* proxy.loseRequest(() => false)
          yield* proxy.mend
          const note = yield* place(key, Effect.void).pipe(
            Effect.retry(Schedule.spaced("100 millis")),
            Effect.timeout("10 seconds"),
            Effect.provide(context)
          )
          add(key, note)
          return key
        })
      const keys = yield* Effect.forEach(lastWords, dead, { concurrency: "unbounded" }).pipe(
        Effect.timeout(bound + 10_000)
      )
      yield* expectOneRowEach(keys, notes)
    })
  )

  it.scoped("connections that are lost in silence: a call gets another one, and the next do not get them again", () =>
    Effect.gen(function* () {
      yield* tables
      const { port, url } = yield* Postgres
      const proxy = yield* tcpProxy(port)
      const context = yield* engine(url.replace(`:${port}/`, `:${proxy.port}/`), storageTimeout)
      const { add, notes } = makeNotes()
      const keys = yield* keysOf(12)
      const call = (key: string) => Effect.map(place(key, Effect.void), (note) => add(key, note))
      const [before, after] = [keys.slice(0, 3), keys.slice(3)]
      yield* Effect.gen(function* () {
        yield* Effect.forEach(before, call, { concurrency: "unbounded" })
        yield* proxy.freeze
        const [duration] = yield* Effect.timed(Effect.forEach(after, call))
        // Each of the lost ones is found out once.
        expect(Duration.toMillis(duration)).toBeLessThan(before.length * (storageTimeout + 500) + 1000)
      }).pipe(Effect.provide(context))
      yield* expectOneRowEach(keys, notes)
    })
  )
})
