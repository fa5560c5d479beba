/** A cluster that loses a primary while keys are in flight. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import { withIdempotencyOutcome } from "../../src/index.js"
import { type Charge, charge, keyOn, operation, others, processes, until } from "../support/clusterClients.js"
import { cluster, clusterWith, type RedisServer } from "../support/redisServers.js"
import { ledger } from "../support/workers.js"

const seconds = (count: number) => count * 1000

const promoted = ({ command }: RedisServer) =>
  until(
    "the replica is promoted",
    Effect.map(command("role"), (role) => String(role).startsWith("master"))
  )

/** Until the replica has all that its primary has now. */
const replicated = (primary: RedisServer, replica: RedisServer) =>
  Effect.gen(function* () {
    const offsetOf = ({ command }: RedisServer, field: string) =>
      Effect.map(command("info", "replication"), (info) =>
        Number(new RegExp(`${field}:(\\d+)`).exec(String(info))?.[1])
      )
    const written = yield* offsetOf(primary, "master_repl_offset")
    yield* until(
      "the replica has what was written",
      Effect.map(offsetOf(replica, "slave_repl_offset"), (offset) => offset >= written)
    )
  })

describe("a primary is killed while keys are in flight", () => {
  const storageTimeout = seconds(20)
  const waitTimeout = seconds(60)
  const deadline = 2 * storageTimeout + waitTimeout
  const options = { onStorageFailure: "fail", lease: 3 * storageTimeout, waitTimeout } as const

  const call = ({ effect, key }: Charge) =>
    effect.pipe(
      withIdempotencyOutcome(operation, key, options),
      Effect.timeoutFail({ duration: deadline, onTimeout: () => new Error(`not settled by its deadline: ${key}`) })
    )

  const setupOn = (started: typeof cluster) =>
    Effect.gen(function* () {
      const servers = yield* started
      const [doomed, , , replica] = servers.servers
      if (doomed === undefined || replica === undefined) return yield* Effect.dieMessage("a cluster without nodes")
      const book = yield* ledger
      const clients = yield* processes(servers.nodes, { storageTimeout, breakerThreshold: 1_000_000 })
      return { book, clients, doomed, replica, servers }
    })
  // By default a cluster that misses slots refuses all others, too.
  const setup = setupOn(clusterWith("--cluster-require-full-coverage", "no"))

  it.scopedLive(
    "keys of other nodes go on, and its own have one run and one result after the fail-over",
    () =>
      Effect.gen(function* () {
        const { book, clients, doomed, replica, servers } = yield* setup
        const chargeOn = (primary: number, millis = 0) => charge(book, keyOn(servers, primary), millis)
        const atOnce = (primary: number) => Effect.tap(chargeOn(primary), ({ end }) => end)

        const recorded = yield* Effect.forEach(clients, ({ run }) =>
          Effect.gen(function* () {
            const one = yield* atOnce(0)
            return { one, first: yield* run(call(one)) }
          })
        )
        // Owned by one process, and waited for by the others.
        const inFlight = yield* Effect.forEach(
          clients.flatMap((client) => [0, 0, 0, 1, 2].map((primary, index) => ({ client, primary, index }))),
          ({ client, index, primary }) =>
            Effect.gen(function* () {
              const one = yield* chargeOn(primary, 100 + index * 175)
              const owner = yield* Effect.fork(client.run(call(one)))
              yield* one.begun
              const waiters = yield* Effect.forEach(others(clients, client), ({ run }) => Effect.fork(run(call(one))))
              return { kind: client.kind, one, primary, owner, waiters }
            }),
          { concurrency: "unbounded" }
        )

        // The replica has all of it, and is not to take over before it is told to.
        yield* replica.command("config", "set", "cluster-replica-no-failover", "yes")
        yield* replicated(doomed, replica)
        yield* doomed.signal("SIGKILL")
        for (const { one } of inFlight) yield* one.end

        // As long as its slots are not served.
        const duringOutage = yield* Effect.forEach(clients, ({ run }) =>
          Effect.gen(function* () {
            const own = yield* atOnce(0)
            const ofOwn = yield* Effect.fork(run(call(own)))
            const ofOthers = yield* Effect.forEach([1, 2, 1, 2], (primary) =>
              Effect.flatMap(atOnce(primary), (one) => run(Effect.zip(call(one), call(one))))
            )
            return { own, ofOwn, ofOthers }
          })
        )
        for (const { ofOthers } of duringOutage) {
          expect(ofOthers.map((both) => both.map(({ _tag }) => _tag))).toEqual(
            [1, 2, 1, 2].map(() => ["Executed", "Replayed"])
          )
        }
        const settle = ({ one, owner, waiters }: (typeof inFlight)[number]) =>
          Effect.gen(function* () {
            const first = yield* Fiber.join(owner)
            expect(first._tag).toBe("Executed")
            for (const waiter of waiters) {
              expect(yield* Fiber.join(waiter)).toMatchObject({ _tag: "Replayed", value: first.value })
            }
            expect(book.runs(one.key)).toBe(1)
            return first
          })
        for (const each of inFlight.filter(({ primary }) => primary > 0)) yield* settle(each)
        expect(String(yield* replica.command("role"))).toContain("slave")

        yield* replica.command("config", "set", "cluster-replica-no-failover", "no")
        yield* promoted(replica)
        for (const each of inFlight.filter(({ primary }) => primary === 0)) yield* settle(each)
        for (const { ofOwn, own } of duringOutage) {
          expect((yield* Fiber.join(ofOwn))._tag).toBe("Executed")
          expect(book.runs(own.key)).toBe(1)
        }
        for (const { first, one } of recorded) {
          for (const { run } of clients) {
            expect(yield* run(call(one))).toMatchObject({ _tag: "Replayed", value: first.value })
          }
          expect(book.runs(one.key)).toBe(1)
        }
      }),
    180_000
  )

  it.scopedLive(
    "a claim that its replica never had is lost: a second run, and both callers have its result",
    () =>
      Effect.gen(function* () {
        const { book, clients, doomed, replica, servers } = yield* setup
        yield* doomed.command("acl", "setuser", "default", "-psync", "-sync")
        yield* doomed.command("client", "kill", "type", "replica")
        const lost = yield* Effect.forEach(
          clients,
          (client, index) =>
            Effect.gen(function* () {
              const key = keyOn(servers, 0)
              const [first, second] = [yield* charge(book, key), yield* charge(book, key)]
              const owner = yield* Effect.fork(client.run(call(first)))
              yield* first.begun
              const next = clients[(index + 1) % clients.length] ?? client
              return { first, key, next, owner, second }
            }),
          { concurrency: "unbounded" }
        )
        yield* doomed.signal("SIGKILL")
        yield* promoted(replica)
        for (const { first, key, next, owner, second } of lost) {
          const other = yield* Effect.fork(next.run(call(second)))
          yield* second.begun
          yield* first.end
          yield* second.end
          const { _tag, value } = yield* Fiber.join(other)
          expect({ _tag, runs: book.runs(key) }).toEqual({ _tag: "Executed", runs: 2 })
          expect((yield* Fiber.join(owner)).value).toEqual(value)
          expect(yield* next.run(call(second))).toMatchObject({ _tag: "Replayed", value })
        }
      }),
    180_000
  )

  it.scopedLive(
    "callers come all the while: every one ends, and only what the fail-over may have lost runs twice",
    () =>
      Effect.gen(function* () {
        // Refuses everything from the loss of a primary to the fail-over.
        const { book, clients, doomed, replica, servers } = yield* setupOn(cluster)
        let [replicatedAt, killedAt] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]
        let count = 0
        /** Two callers of a key, of two processes. */
        const pair = Effect.gen(function* () {
          const number = count++
          const one = yield* charge(book, keyOn(servers, number % 3), 100 + ((number * 175) % 700))
          yield* one.end
          const [first, second, third] = [0, 1, 2].map((index) => clients[(number + index) % clients.length])
          if (first === undefined || second === undefined || third === undefined) return yield* Effect.dieMessage("few")
          const beganAt = performance.now()
          const both = yield* Effect.all([first.run(call(one)), second.run(call(one))], { concurrency: "unbounded" })
          const wasSafe = performance.now() < replicatedAt || beganAt > killedAt || number % 3 > 0
          return { number, one, third, both, wasSafe }
        })
        const pairs: Array<Fiber.Fiber<Effect.Effect.Success<typeof pair>, Effect.Effect.Error<typeof pair>>> = []
        const come = yield* Effect.fork(
          Effect.repeat(
            Effect.tap(Effect.forkScoped(pair), (fiber) => pairs.push(fiber)),
            Schedule.spaced("50 millis")
          )
        )
        yield* until(
          "some have ended",
          Effect.sync(() => count > 60)
        )
        const before = performance.now()
        yield* replicated(doomed, replica)
        replicatedAt = before
        yield* doomed.signal("SIGKILL")
        killedAt = performance.now()
        yield* promoted(replica)
        const atPromotion = count
        yield* until(
          "some come after it",
          Effect.sync(() => count > atPromotion + 20)
        )
        yield* Fiber.interrupt(come)
        for (const fiber of pairs) {
          const { both, number, one, third, wasSafe } = yield* Fiber.join(fiber)
          const last = yield* third.run(call(one))
          const runs = book.runs(one.key)
          expect({ number, runs }).toEqual({ number, runs: wasSafe ? 1 : Math.min(runs, 2) })
          if (runs > 1) continue
          expect(both.map(({ _tag }) => _tag).sort()).toEqual(["Executed", "Replayed"])
          expect(last._tag).toBe("Replayed")
          expect(new Set([...both, last].map(({ value }) => JSON.stringify(value))).size).toBe(1)
        }
      }),
    300_000
  )
})
