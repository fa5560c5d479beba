/** A cluster whose slots move while their keys are in flight. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import { IdempotencyIdentifiers, IdempotencyRepository, withIdempotencyOutcome } from "../../src/index.js"
import * as scripts from "../../src/internal/redis/scripts.js"
import {
  type Charge,
  charge,
  keyIn,
  operation,
  others,
  type Process,
  processes,
  until
} from "../support/clusterClients.js"
import { cluster, type RedisServer } from "../support/redisServers.js"
import { ledger } from "../support/workers.js"

const seconds = (count: number) => count * 1000

describe("slots move while their keys are in flight", () => {
  const storageTimeout = seconds(4)
  const options = { onStorageFailure: "fail", lease: 3 * storageTimeout, waitTimeout: seconds(60) } as const
  const call = ({ effect, key }: Charge) => effect.pipe(withIdempotencyOutcome(operation, key, options))

  /** The steps by which a slot moves, as an operator's tool takes them. */
  const moving = (servers: ReadonlyArray<RedisServer>, slot: number, from: RedisServer, to: RedisServer) =>
    Effect.gen(function* () {
      const [source, target] = [
        String(yield* from.command("cluster", "myid")),
        String(yield* to.command("cluster", "myid"))
      ]
      return {
        begin: Effect.zipRight(
          to.command("cluster", "setslot", slot, "importing", source),
          from.command("cluster", "setslot", slot, "migrating", target)
        ),
        moveKeys: Effect.gen(function* () {
          const keys = yield* from.command("cluster", "getkeysinslot", slot, 1000)
          if (!Array.isArray(keys)) return 0
          yield* from.command("migrate", to.host, to.port, "", 0, seconds(20), "keys", ...keys.map(String))
          return keys.length
        }),
        end: Effect.forEach([to, from, ...servers.slice(0, 3)], ({ command }) =>
          command("cluster", "setslot", slot, "node", target)
        )
      }
    })

  /** Until the lease of a key that is running was renewed, as a process sees it. */
  const renewed = ({ run }: Process, key: string) =>
    run(
      Effect.gen(function* () {
        const { claims } = yield* IdempotencyRepository
        const ids = yield* IdempotencyIdentifiers.from({ operation, idempotencyKey: key })
        const leaseUntil = Effect.map(claims.read([ids]), ([state]) =>
          state?._tag === "Processing" ? state.leaseUntil : 0
        )
        const before = yield* Effect.retry(leaseUntil, Schedule.spaced("25 millis"))
        yield* until(
          "the lease is renewed",
          Effect.map(leaseUntil, (now) => before > 0 && now > before)
        )
      })
    )

  it.scopedLive(
    "one run per key, renewed meanwhile, waited for and replayed, by ASK and by MOVED",
    () =>
      Effect.gen(function* () {
        const { nodes, servers } = yield* cluster
        const [from, to] = servers
        if (from === undefined || to === undefined) return yield* Effect.dieMessage("a cluster without nodes")
        const book = yield* ledger
        const clients = yield* processes(nodes, { storageTimeout, breakerThreshold: 1_000_000 })
        const slot = 100
        const { begin, end, moveKeys } = yield* moving(servers, slot, from, to)
        const atOnce = Effect.tap(
          Effect.suspend(() => charge(book, keyIn(slot))),
          ({ end }) => end
        )

        const called: Array<Charge> = []
        /** A key of each process that the others then ask for, too. */
        const firstCalls = Effect.forEach(clients, (client) =>
          Effect.gen(function* () {
            const one = yield* atOnce
            called.push(one)
            const { value, ...first } = yield* client.run(call(one))
            expect({ kind: client.kind, tag: first._tag }).toEqual({ kind: client.kind, tag: "Executed" })
            for (const { run } of clients) expect(yield* run(call(one))).toMatchObject({ _tag: "Replayed", value })
          })
        )
        /** Keys that each process owns, and the others wait for. */
        const inFlight = Effect.forEach(clients, (client) =>
          Effect.gen(function* () {
            const one = yield* Effect.suspend(() => charge(book, keyIn(slot)))
            called.push(one)
            const owner = yield* Effect.fork(client.run(call(one)))
            yield* one.begun
            const waiters = yield* Effect.forEach(others(clients, client), ({ run }) => Effect.fork(run(call(one))))
            return { client, one, owner, waiters }
          })
        )
        type InFlight = Effect.Effect.Success<typeof inFlight>
        const allRenewed = (keys: InFlight) =>
          Effect.forEach(keys, ({ client, one }) => renewed(client, one.key), {
            concurrency: "unbounded",
            discard: true
          })
        const settle = (keys: InFlight) =>
          Effect.forEach(keys, ({ client, one, owner, waiters }) =>
            Effect.gen(function* () {
              yield* one.end
              const { value, ...first } = yield* Fiber.join(owner)
              expect({ kind: client.kind, ...first }).toMatchObject({ kind: client.kind, _tag: "Executed", attempt: 1 })
              for (const waiter of waiters) {
                expect(yield* Fiber.join(waiter)).toMatchObject({ _tag: "Replayed", value })
              }
            })
          )

        yield* firstCalls
        const [before, asked, moved] = [yield* inFlight, yield* inFlight, yield* inFlight]

        // What is there is still served; what is not is asked for at the target, which does not know the scripts.
        yield* to.command("script", "flush")
        yield* begin
        yield* firstCalls
        expect(yield* to.command("script", "exists", scripts.claim.flagged.sha)).toEqual([1])
        const began = yield* inFlight
        yield* settle(before)

        // Nothing is there any more.
        expect(yield* moveKeys).toBeGreaterThanOrEqual(asked.length + moved.length)
        yield* to.command("script", "flush")
        yield* firstCalls
        yield* allRenewed([...asked, ...moved, ...began])
        yield* settle(asked)

        yield* end
        yield* firstCalls
        yield* allRenewed([...moved, ...began])
        yield* settle([...moved, ...began])

        for (const one of called) {
          for (const { run } of clients) expect(yield* run(call(one))).toMatchObject({ _tag: "Replayed" })
          expect(book.runs(one.key)).toBe(1)
        }
        expect(yield* to.command("cluster", "countkeysinslot", slot)).toBe(called.length)
      }),
    180_000
  )
})
