/** Transactions on Postgres while their processes are killed, and while their server crashes. */
import { expect, layer } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import { Postgres } from "../support/databases.js"
import { isProof } from "../support/proof.js"
import {
  engine,
  expectOneRowEach,
  keysOf,
  makeNotes,
  operation,
  place,
  sessions,
  tables,
  until
} from "../support/sqlOrders.js"
import { sqlWorker } from "../support/sqlWorkers.js"
import { tcpProxy } from "../support/tcpProxy.js"
import { ledger } from "../support/workers.js"

/** How many keys there are, and how often each of two processes is killed among them. */
const { kills, placed } = isProof ? { kills: 3, placed: 200 } : { kills: 1, placed: 100 }

layer(Postgres.layer, { excludeTestServices: true, timeout: 60_000 })("on one Postgres", (it) => {
  it.scoped(
    `2 processes, killed ${2 * kills} times among ${placed} keys: one row each, and no session is left`,
    () =>
      Effect.gen(function* () {
        yield* tables
        const { url } = yield* Postgres
        const book = yield* ledger
        const keys = yield* keysOf(placed)
        const { add, notes } = makeNotes()
        /** A process at a time, until each key has answered one of them. */
        const survivor = Effect.gen(function* () {
          const open = new Set<string>(keys)
          for (let lives = 0; open.size > 0; lives++) {
            yield* Effect.scoped(
              Effect.gen(function* () {
                const worker = yield* sqlWorker({
                  database: { dialect: "postgres", url },
                  mode: "transaction",
                  operation,
                  keys: [...open],
                  fibers: 1,
                  concurrency: 8,
                  ledger: book.path,
                  guarantee: "at-least-once",
                  bodyMillis: 3,
                  lease: 30_000,
                  storageTimeout: 5000,
                  hangs: false
                })
                yield* worker.go
                let left = lives < kills ? yield* Random.nextIntBetween(5, 60) : Number.POSITIVE_INFINITY
                for (;;) {
                  const line = yield* worker.nextLine
                  if (line._tag === "End") return
                  if (line._tag !== "Answer") throw new Error(JSON.stringify(line))
                  open.delete(line.key)
                  add(line.key, line.value.run)
                  if (--left > 0) continue
                  // At any moment of what it does next.
                  yield* Effect.sleep(Duration.millis(yield* Random.nextRange(0, 20)))
                  yield* worker.signal("SIGKILL")
                  return
                }
              })
            )
          }
        })
        yield* Effect.all([survivor, survivor], { concurrency: "unbounded" })
        yield* until(sessions, (left) => left.length === 0)
        yield* expectOneRowEach(keys, notes)
      }),
    // Eight processes are started, at most two at a time.
    90_000
  )

  /** Of 200 answers, how many were given before each crash. A server's recovery takes seconds on a busy machine. */
  const crashes = isProof ? [10, 50, 90, 130, 160] : [10, 100]

  it.scoped(
    "100 keys called by 2 clients while the server crashes, time and again: one row each",
    () =>
      Effect.gen(function* () {
        yield* tables
        const server = yield* Postgres
        // Many are at their COMMIT at any time.
        yield* server.query("ALTER DATABASE postgres SET commit_delay = 20000")
        yield* server.query("ALTER DATABASE postgres SET commit_siblings = 1")
        const clients = [yield* engine(server.url), yield* engine(server.url)]
        const keys = yield* keysOf(100)
        const { add, notes } = makeNotes()
        const failures = new Set<string>()
        let answers = 0
        const call = (key: string) =>
          place(key, Effect.sleep("20 millis")).pipe(
            Effect.tapError(({ _tag }) => Effect.sync(() => failures.add(_tag))),
            Effect.retry(Schedule.spaced("50 millis")),
            Effect.tap((note) =>
              Effect.sync(() => {
                answers++
                add(key, note)
              })
            )
          )
        const calling = yield* Effect.forEach(
          clients,
          (context) => Effect.forEach(keys, call, { concurrency: "unbounded" }).pipe(Effect.provide(context)),
          { concurrency: "unbounded", discard: true }
        ).pipe(Effect.fork)
        for (const reached of crashes) {
          yield* until(
            Effect.sync(() => answers),
            (count) => count >= reached
          )
          yield* server.restart
        }
        yield* Effect.timeout(Fiber.join(calling), "30 seconds")
        yield* expectOneRowEach(keys, notes)
        // What the effect's own statements fail with is the caller's.
        const known = /^(Idempotency(Storage|InFlight)|Sql)Error$/
        expect([...failures].filter((tag) => !known.test(tag))).toEqual([])
        expect(failures.size).toBeGreaterThan(0)
      }),
    crashes.length * 30_000
  )

  const cutUnder = (name: string, statement: string) =>
    it.scoped(
      `a connection that is cut under ${name}, time and again: nothing was changed, and a retry gets one row`,
      () =>
        Effect.gen(function* () {
          yield* tables
          const server = yield* Postgres
          const proxy = yield* tcpProxy(server.port)
          const context = yield* engine(server.url.replace(`:${server.port}/`, `:${proxy.port}/`))
          const [key = ""] = yield* keysOf(1)
          const { add, notes } = makeNotes()
          let isCutting = true
          const cut = (request: Buffer): boolean => {
            if (!isCutting || !request.includes(statement)) return false
            setImmediate(() => Effect.runSync(proxy.loseRequest(cut)))
            return true
          }
          yield* proxy.loseRequest(cut)
          yield* Effect.gen(function* () {
            const error = yield* Effect.flip(place(key, Effect.void))
            expect(error).toMatchObject({ _tag: "IdempotencyStorageError", applied: "no" })
            expect(yield* server.query("SELECT note FROM business WHERE id = $1", key)).toEqual([])
            isCutting = false
            add(key, yield* place(key, Effect.void))
          }).pipe(Effect.provide(context))
          yield* expectOneRowEach([key], notes)
        })
    )
  cutUnder("the claim", 'INSERT INTO "idempotency_records"')
  cutUnder("the completion", "state = 'Completed'")
})
