/** Owners on a cluster, while another node, or a part of their slot, does not answer for longer than a lease. */
import { randomUUID } from "node:crypto"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { withIdempotencyOutcome } from "../../src/index.js"
import { slotOf } from "../../src/internal/redis/slots.js"
import { type Charge, charge, keyOn, operation, processes } from "../support/clusterClients.js"
import { clusterWith } from "../support/redisServers.js"
import { ledger } from "../support/workers.js"

const storageTimeout = 900
const lease = 3 * storageTimeout
const call = ({ effect, key }: Charge) =>
  effect.pipe(withIdempotencyOutcome(operation, key, { onStorageFailure: "fail", lease }))

describe("owners are renewed each for itself", () => {
  it.scopedLive(
    "while another node is away for more than a lease",
    () =>
      Effect.gen(function* () {
        const servers = yield* clusterWith("--cluster-require-full-coverage", "no")
        const [doomed, , , replica] = servers.servers
        if (doomed === undefined || replica === undefined) return yield* Effect.dieMessage("a cluster without nodes")
        const book = yield* ledger
        const clients = yield* processes(servers.nodes, { storageTimeout, breakerThreshold: 1_000_000 })
        const owners = yield* Effect.forEach(clients, ({ kind, run }) =>
          Effect.gen(function* () {
            yield* Effect.forkScoped(Effect.flatMap(charge(book, keyOn(servers, 0)), (one) => run(call(one))))
            const two = yield* charge(book, keyOn(servers, 1))
            const owner = yield* Effect.forkScoped(Effect.either(run(call(two))))
            yield* two.begun
            yield* Effect.forkScoped(Effect.zipRight(Effect.sleep(2 * lease), two.end))
            return { kind, owner }
          })
        )
        yield* replica.command("config", "set", "cluster-replica-no-failover", "yes")
        yield* doomed.signal("SIGKILL")
        const tags: Array<string> = []
        for (const { kind, owner } of owners) {
          const ended = yield* Fiber.join(owner)
          tags.push(`${kind}: ${ended._tag === "Right" ? ended.right._tag : String(ended.left)}`)
        }
        expect(tags).toEqual(owners.map(({ kind }) => `${kind}: Executed`))
      }),
    60_000
  )

  it.scopedLive(
    "while their slot is on two nodes",
    () =>
      Effect.gen(function* () {
        const servers = yield* clusterWith()
        const slot = slotOf("shop")
        const primary = servers.primaryOf("shop")
        const [from, to] = [servers.servers[primary], servers.servers[(primary + 1) % 3]]
        if (from === undefined || to === undefined) return yield* Effect.dieMessage("a cluster without nodes")
        const book = yield* ledger
        const tags: Array<string> = []
        const clients = yield* processes(servers.nodes, { storageTimeout }, { keyPrefix: "{shop}:" })
        const running = yield* Effect.forEach(
          clients.flatMap((client) => [client, client]),
          ({ kind, run }) =>
            Effect.gen(function* () {
              const one = yield* charge(book, randomUUID())
              const owner = yield* Effect.forkScoped(Effect.either(run(call(one))))
              yield* one.begun
              return { kind, owner, one }
            })
        )
        yield* to.command("cluster", "setslot", slot, "importing", String(yield* from.command("cluster", "myid")))
        yield* from.command("cluster", "setslot", slot, "migrating", String(yield* to.command("cluster", "myid")))
        for (const { one } of running.filter((_, index) => index % 2 === 0)) {
          yield* from.command("migrate", to.host, to.port, `{shop}:${operation}:${one.key}`, 0, 5000)
        }
        yield* Effect.sleep(2 * lease)
        for (const { kind, one, owner } of running) {
          yield* one.end
          const ended = yield* Fiber.join(owner)
          tags.push(`${kind}: ${ended._tag === "Right" ? ended.right._tag : String(ended.left)}`)
        }
        expect(tags).toEqual(running.map(({ kind }) => `${kind}: Executed`))
      }),
    60_000
  )
})
