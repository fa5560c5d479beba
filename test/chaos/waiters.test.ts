/** Many engines in a few processes that wait for one key on Redis, and are not woken: their subscriptions are cut. */
import { describe, expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Ref from "effect/Ref"
import * as Schedule from "effect/Schedule"
import { IdempotencyKey } from "effect-idempotency"
import { isProof } from "../support/proof.js"
import { standalone } from "../support/redisServers.js"
import { ledger, Workers, type WorkerTask } from "../support/workers.js"

const { engines, processes } = isProof ? { processes: 5, engines: 100 } : { processes: 3, engines: 4 }
const count = processes * engines
const often = Schedule.spaced("5 millis")

/** Of an owner that is killed; all others are many, or have to be waited for. */
const short = { lease: 2100, storageTimeout: 700 }
const long = { lease: 60_000, storageTimeout: 20_000 }

/** An owner in its body, and all who wait for it. */
const waitingFor = (owning: Partial<WorkerTask>) =>
  Effect.gen(function* () {
    const { command, url } = yield* standalone
    const start = yield* Workers
    const book = yield* ledger
    const key = yield* IdempotencyKey.random
    const task: WorkerTask = {
      url,
      operation: "pay",
      key,
      ledger: book.path,
      guarantee: "at-least-once",
      fibers: 1,
      bodyMillis: 100,
      ...long
    }
    const owner = yield* start({ ...task, ...owning, isTold: true })
    expect(yield* owner.nextLine).toBe("in body")
    const workers = yield* Effect.all(Array.from({ length: processes }, () => start({ ...task, engines })))
    const lines = Effect.forEach(workers, ({ nextLine }) => nextLine, { concurrency: "unbounded" })
    expect(yield* lines).toEqual(workers.map(() => "waiting"))
    const subscribed = Effect.map(command("client", "list", "type", "pubsub"), (list) => String(list).match(/^id=/gm))
    yield* Effect.repeat(subscribed, { until: (found) => found?.length === processes, schedule: often })
    const cuts = yield* Ref.make(0)
    return {
      owner,
      /** In much less time than they would wait. */
      results: Effect.map(Effect.timeout(lines, "20 seconds"), (all) => all.flat()),
      runs: () => book.runs(key),
      refuseSubscriptions: command("acl", "setuser", "default", "-subscribe"),
      /** Cuts the subscriptions of all processes, and tells how many were cut so far. */
      cut: Effect.flatMap(command("client", "kill", "type", "pubsub"), (killed) =>
        Ref.updateAndGet(cuts, (sofar) => sofar + Number(killed))
      )
    }
  })

layer(Workers.layer, { excludeTestServices: true, timeout: 60_000 })(
  `${count} waiters in ${processes} processes`,
  (it) => {
    describe("whose subscriptions are cut", { concurrent: !isProof, timeout: 90_000 }, () => {
      it.scoped("5 ms before the completion, for good: all have its result, from one run", () =>
        Effect.gen(function* () {
          const { cut, owner, refuseSubscriptions, results, runs } = yield* waitingFor(long)
          yield* refuseSubscriptions
          expect(yield* cut).toBe(processes)
          yield* Effect.sleep("5 millis")
          yield* owner.go
          const [own] = [yield* owner.nextLine].flat()
          expect(own).toMatchObject({ attempt: 1 })
          expect(yield* results).toEqual(Array.from({ length: count }, () => own))
          expect(runs()).toBe(1)
        })
      )

      it.scoped("again and again, before the completion and after it: all have its result, from one run", () =>
        Effect.gen(function* () {
          const { cut, owner, results, runs } = yield* waitingFor(long)
          yield* Effect.repeat(cut, { until: (sofar) => sofar >= 3 * processes, schedule: often })
          const cutting = yield* Effect.fork(Effect.repeat(cut, often))
          yield* owner.go
          const [own] = [yield* owner.nextLine].flat()
          expect(yield* results).toEqual(Array.from({ length: count }, () => own))
          yield* Fiber.interrupt(cutting)
          expect(runs()).toBe(1)
        })
      )

      it.scoped("and whose owner is killed: one takes over, and all have its result", () =>
        Effect.gen(function* () {
          const { cut, owner, results, runs } = yield* waitingFor(short)
          expect(yield* cut).toBe(processes)
          yield* owner.signal("SIGKILL")
          const values = yield* results
          expect(values[0]).toMatchObject({ attempt: 2 })
          expect(values).toEqual(Array.from({ length: count }, () => values[0]))
          expect(runs()).toBe(2)
        })
      )
    })
  }
)
