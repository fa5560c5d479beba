/** What the wire can do to a call, and what it then leads to. */
import { expect } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { claim, complete } from "../../src/internal/redis/scripts.js"
import { type Charge, until } from "./clusterClients.js"
import type { TcpProxy } from "./tcpProxy.js"
import {
  type KindOfClient,
  type Pace,
  type Party,
  type Policy,
  party,
  replacesConnections,
  type Scene,
  type Store,
  setScene,
  type Told
} from "./wireClients.js"
import { ledger } from "./workers.js"

type Asserted = Effect.Effect<void, never, Scope.Scope>

export interface Row {
  readonly name: string
  readonly pace: Pace
  /** Before the caller has a client. */
  readonly before?: ((proxy: TcpProxy) => Effect.Effect<void>) | undefined
  readonly play: (scene: Scene) => Asserted
}

const scripts = { claim, complete }

const calls = (method: keyof typeof scripts) => (request: Buffer) => request.includes(scripts[method].flagged.sha)

const told = (as: string, value?: unknown): Told => (value === undefined ? { as } : { as, value })
const unprotected = told("Unprotected", expect.anything())
const ran = (as: "Executed" | "Replayed", attempt: number) =>
  told(as, expect.objectContaining({ receipt: expect.stringMatching(new RegExp(`attempt ${attempt}$`)) }))
const executed = (attempt: number) => ran("Executed", attempt)
const storageError = told("IdempotencyStorageError")
const outcomeUnknown = told("IdempotencyOutcomeUnknownError")

const asked = (by: Party, policy: Policy, { effect }: Scene) => Effect.flatMap(effect, (one) => by.call(one, policy))

/** Whoever comes next gets the value, and nothing more runs. Asked again where the machine is too busy for an answer. */
const replayed = (scene: Scene, policy: Policy, { value }: Told, runs: number, by = [scene.other, scene.caller]) =>
  Effect.gen(function* () {
    expect(value).toBeDefined()
    for (const next of by) {
      const answer = asked(next, policy === "proceed" ? "fail" : policy, scene)
      const answered = Effect.repeat(answer, { until: ({ as }) => as !== storageError.as })
      expect(yield* answered).toEqual(told("Replayed", value))
    }
    expect(scene.runs()).toBe(runs)
  })

type Method = "claim" | "complete"

const lost = (what: "request" | "reply", method: Method, policy: Policy, pace: Pace): Row => ({
  name: `${policy}: the connection is cut at the ${what} of ${method}`,
  pace,
  play: (scene) =>
    Effect.gen(function* () {
      const { caller, proxy } = scene
      yield* (what === "reply" ? proxy.loseReplyTo : proxy.loseRequest)(calls(method))
      const first = yield* asked(caller, policy, scene)
      expect(first).toEqual(executed(1))
      expect(proxy.lost()).toBe(1)
      yield* replayed(scene, policy, first, 1)
    })
})

const late = (method: Method, policy: Policy, pace: Pace): Row => ({
  name: `${policy}: the reply of ${method} comes when it has been asked for again`,
  pace,
  play: (scene) =>
    Effect.gen(function* () {
      const { caller, proxy } = scene
      yield* proxy.swallowReplyTo(calls(method))
      const calling = yield* Effect.fork(asked(caller, policy, scene))
      yield* Effect.repeatN(proxy.request(calls(method)), 1)
      yield* proxy.mend
      const first = yield* Fiber.join(calling)
      expect(first).toEqual(executed(1))
      expect(proxy.lost()).toBe(1)
      yield* replayed(scene, policy, first, 1)
    })
})

/** What the server is told arrives: the next caller, elsewhere, finds the result, or a key that was given back. */
const swallowed = (method: Method, policy: Policy, pace: Pace): Row => ({
  name: `${policy}: nothing comes back from ${method} on, on a connection that stays open`,
  pace,
  play: (scene) =>
    Effect.gen(function* () {
      const { caller, other, proxy, runs } = scene
      yield* proxy.swallowReplyTo(calls(method))
      const first = yield* asked(caller, policy, scene)
      expect(proxy.lost()).toBe(1)
      if (policy === "proceed") {
        expect(first).toEqual(unprotected)
        return yield* replayed(scene, policy, first, 1, [other])
      }
      expect(first).toEqual(storageError)
      expect(runs()).toBe(method === "claim" ? 0 : 1)
      expect(yield* asked(other, policy, scene)).toEqual(method === "claim" ? executed(2) : ran("Replayed", 1))
      expect(runs()).toBe(1)
    })
})

const replaced = (method: Method, policy: Policy): Row => ({
  name: `${policy}: nothing comes back from ${method} on, until the client replaces the connection`,
  pace: { storageTimeout: 20_000, lease: 60_000 },
  play: (scene) =>
    Effect.gen(function* () {
      yield* scene.proxy.swallowReplyTo(calls(method))
      const first = yield* asked(scene.caller, policy, scene)
      expect(first).toEqual(executed(1))
      expect(scene.proxy.lost()).toBe(1)
      yield* replayed(scene, policy, first, 1)
    })
})

type Outage = "cut" | "blackHole"

interface Away {
  readonly scene: Scene
  readonly one: Charge
  readonly calling: Fiber.Fiber<Told>
}

/** An effect is under way, its key claimed, and then the store away. A machine that is too busy to claim begins again. */
const away = (scene: Scene, outage: Outage, policy: Policy): Effect.Effect<Away> =>
  Effect.gen(function* () {
    const one = yield* scene.begin
    const calling = yield* Effect.fork(scene.caller.call(one, policy))
    yield* Effect.raceFirst(one.begun, Effect.asVoid(Fiber.join(calling)))
    if (one.attempt() !== 1) {
      yield* Fiber.interrupt(calling)
      return yield* away(yield* scene.another, outage, policy)
    }
    yield* scene.all((proxy) => proxy[outage])
    return { scene, one, calling }
  })

const mend = ({ all }: Scene) => all((proxy) => proxy.mend)

const mendAndReconnect = (scene: Scene) =>
  Effect.zipRight(mend(scene), until("the client connects again", Effect.as(scene.caller.state(scene.key), true)))

/** The server's clock is this machine's. */
const hasLapsed = ({ key, other }: Scene) =>
  Effect.map(other.state(key), (state) =>
    Option.exists(state, (held) => held._tag === "Processing" && held.leaseUntil <= Date.now())
  )

const lapsed = (scene: Scene) => until("the lease lapses", hasLapsed(scene))

/** The engine stops an effect that may not go on, and its caller is told. */
const stopped = (policy: Policy) => (policy === "at-most-once" ? outcomeUnknown : storageError)

const outlasted = (outage: Outage, policy: Policy, pace: Pace): Row => ({
  name: `${policy}: ${outage} for longer than the lease, and nobody takes over`,
  pace,
  play: (free) =>
    Effect.gen(function* () {
      const { calling, one, scene } = yield* away(free, outage, policy)
      const { other, runs } = scene
      yield* lapsed(scene)
      if (policy === "proceed") {
        yield* mendAndReconnect(scene)
        yield* until("the lease is renewed", Effect.negate(hasLapsed(scene)))
        yield* one.end
        const first = yield* Fiber.join(calling)
        expect(first).toEqual(executed(1))
        return yield* replayed(scene, policy, first, 1)
      }
      expect(yield* Fiber.join(calling)).toEqual(stopped(policy))
      yield* mend(scene)
      const next = yield* asked(other, policy, scene)
      expect(next).toEqual(policy === "fail" ? executed(2) : outcomeUnknown)
      expect(runs()).toBe(policy === "fail" ? 2 : 1)
    })
})

const takenOver = (outage: Outage, policy: Policy, pace: Pace, toldBy: "renewal" | "completion" = "renewal"): Row => ({
  name: `${policy}: ${outage} for longer than the lease, and somebody takes over, as the ${toldBy} tells`,
  pace,
  play: (free) =>
    Effect.gen(function* () {
      const { calling, one, scene } = yield* away(free, outage, policy)
      const { caller, other, runs } = scene
      const winner = yield* asked(other, policy, scene)
      if (policy !== "proceed") {
        expect(winner).toEqual(policy === "fail" ? executed(2) : outcomeUnknown)
        expect(yield* Fiber.join(calling)).toEqual(stopped(policy))
        yield* mendAndReconnect(scene)
        if (policy === "fail") return yield* replayed(scene, policy, winner, 2)
        for (const next of [other, caller]) expect(yield* asked(next, policy, scene)).toEqual(outcomeUnknown)
        expect(runs()).toBe(1)
        return
      }
      expect(winner).toEqual(executed(2))
      if (toldBy === "completion") yield* one.end
      yield* mend(scene)
      expect(yield* Fiber.join(calling)).toEqual(told("Replayed", winner.value))
      yield* replayed(scene, policy, winner, 2)
    })
})

/** What is sent into the black hole arrives after the lease. */
const completedLate = (policy: Policy, isAsked: boolean, pace: Pace): Row => ({
  name: `${policy}: the completion arrives after the lease${isAsked ? ", and somebody has asked meanwhile" : ""}`,
  pace,
  play: (free) =>
    Effect.gen(function* () {
      const { calling, one, scene } = yield* away(free, "blackHole", policy)
      const { key, other, runs } = scene
      yield* one.end
      const first = yield* Fiber.join(calling)
      expect(first).toEqual(policy === "proceed" ? unprotected : storageError)
      yield* lapsed(scene)
      if (isAsked) {
        const winner = yield* asked(other, policy, scene)
        expect(winner).toEqual(policy === "at-most-once" ? outcomeUnknown : executed(2))
        if (policy !== "at-most-once") {
          yield* mendAndReconnect(scene)
          return yield* replayed(scene, policy, winner, 2, [other])
        }
      }
      yield* mend(scene)
      const state = Effect.map(other.state(key), Option.getOrThrow)
      yield* until(
        "the completion arrives",
        Effect.map(state, ({ _tag }) => _tag === "Completed")
      )
      const next = yield* asked(other, policy, scene)
      expect(next).toEqual(ran("Replayed", 1))
      if (policy === "proceed") expect(next.value).toEqual(first.value)
      expect(runs()).toBe(1)
    })
})

const down = (outage: Outage, policy: Policy, isConnected: boolean): Row => ({
  name: `${policy}: ${outage} before the call${isConnected ? "" : ", and ever since the client was made"}`,
  pace: { storageTimeout: 1000, lease: 30_000 },
  before: isConnected ? undefined : (proxy) => proxy[outage],
  play: (scene) =>
    Effect.gen(function* () {
      const { caller, kind, key, other, runs } = scene
      if (isConnected) yield* scene.all((proxy) => proxy[outage])
      const first = yield* asked(caller, policy, scene)
      expect(first).toEqual(policy === "proceed" ? unprotected : storageError)
      expect(runs()).toBe(policy === "proceed" ? 1 : 0)
      yield* mend(scene)
      // What was sent before the outage showed arrives now: a claim that nobody waits for.
      if (outage === "blackHole" && (isConnected || !replacesConnections(kind)))
        yield* until("the claim arrives", Effect.map(other.state(key), Option.isSome))
      const [took, next] = yield* Effect.timed(asked(other, policy === "proceed" ? "fail" : policy, scene))
      expect(Duration.toMillis(took)).toBeLessThan(10_000)
      // A result without protection may have been recorded as well.
      if (next.as === "Replayed") expect(next).toEqual(told("Replayed", first.value))
      else expect(next.as).toBe("Executed")
      expect(runs()).toBe(policy === "proceed" && next.as === "Executed" ? 2 : 1)
    })
})

const slow = (policy: Policy, pace: Pace): Row => ({
  name: `${policy}: slow, and quick enough`,
  pace,
  play: (scene) =>
    Effect.gen(function* () {
      yield* scene.all((proxy) => proxy.latency(50))
      const first = yield* asked(scene.caller, policy, scene)
      expect(first).toEqual(executed(1))
      yield* replayed(scene, policy, first, 1)
    })
})

const tooSlow = (policy: Policy, pace: Pace): Row => ({
  name: `${policy}: slower than the store's deadline`,
  pace,
  play: (scene) =>
    Effect.gen(function* () {
      const { caller, other, runs } = scene
      yield* scene.all((proxy) => proxy.latency(pace.storageTimeout / 2))
      const first = yield* asked(caller, policy, scene)
      if (policy === "proceed") {
        expect(first).toEqual(unprotected)
        return yield* replayed(scene, policy, first, 1, [other])
      }
      expect(first).toEqual(storageError)
      expect(runs()).toBe(0)
      expect(yield* asked(other, policy, scene)).toEqual(executed(2))
      expect(runs()).toBe(1)
    })
})

/** Where no deadline is to pass. */
const unhurried: Pace = { storageTimeout: 10_000, lease: 30_000 }

const strict = ["fail", "at-most-once"] as const
const everyPolicy = ["proceed", ...strict] as const
const methods = ["claim", "complete"] as const
const outages = ["cut", "blackHole"] as const

/** Shorter than a client of the library's waits for a connection that does not answer. */
const brief: Pace = { storageTimeout: 1000, lease: 3000 }

const proof: Pace = { storageTimeout: 2000, lease: 6000 }

/** Every row of the table that the wire can cause. */
export const everyRow = (kind: KindOfClient): ReadonlyArray<Row> => [
  ...methods.flatMap((method) => [
    ...strict.flatMap((policy) => [
      lost("request", method, policy, unhurried),
      lost("reply", method, policy, unhurried),
      late(method, policy, { storageTimeout: 6000, lease: 18_000 })
    ]),
    ...everyPolicy.map((policy) => swallowed(method, policy, proof)),
    ...(replacesConnections(kind) ? strict.map((policy) => replaced(method, policy)) : [])
  ]),
  ...outages.flatMap((outage) =>
    everyPolicy.flatMap((policy) => [
      outlasted(outage, policy, proof),
      takenOver(outage, policy, proof),
      down(outage, policy, true),
      down(outage, policy, false)
    ])
  ),
  takenOver("blackHole", "proceed", { storageTimeout: 1400, lease: 4200 }, "completion"),
  ...everyPolicy.flatMap((policy) => [completedLate(policy, false, brief), completedLate(policy, true, brief)]),
  ...everyPolicy.map((policy) => tooSlow(policy, proof)),
  ...strict.map((policy) => slow(policy, unhurried))
]

export const someRows: ReadonlyArray<Row> = [
  ...methods.flatMap((method) => [
    ...strict.map((policy) => lost("request", method, policy, unhurried)),
    late(method, "fail", { storageTimeout: 3000, lease: 9000 }),
    swallowed(method, "proceed", brief)
  ]),
  ...everyPolicy.flatMap((policy) => [outlasted("cut", policy, brief), takenOver("blackHole", policy, brief)]),
  completedLate("at-most-once", true, brief)
]

/** How a row ended, with a kind of client. */
export class Played extends Context.Tag("test/Played")<
  Played,
  (kind: KindOfClient, name: string) => Effect.Effect<void>
>() {}

const inTime = (played: Asserted): Asserted =>
  Effect.timeoutFailCause(played, {
    duration: "30 seconds",
    onTimeout: () => Cause.die(new Error("the row has not ended"))
  })

/** All rows at once with each kind of client, as they wait for most of their time. */
export const play = <R>(
  kinds: ReadonlyArray<KindOfClient>,
  rowsOf: (kind: KindOfClient) => ReadonlyArray<Row>,
  store: Effect.Effect<Store, never, R>
): Layer.Layer<Played, never, Exclude<R, Scope.Scope>> =>
  Layer.scoped(
    Played,
    Effect.gen(function* () {
      const { direct, wire } = yield* store
      const book = yield* ledger
      const other = yield* party(direct, unhurried)
      const prepare = (kind: KindOfClient, row: Row) =>
        Effect.gen(function* () {
          const scene = yield* setScene(yield* wire(kind), other, book, row.pace, row.before)
          return [`${kind}: ${row.name}`, row.play(scene)] as const
        })
      const prepared = yield* Effect.all(
        kinds.flatMap((kind) => rowsOf(kind).map((row) => prepare(kind, row))),
        { concurrency: "unbounded" }
      )
      const fibers = new Map<string, Fiber.Fiber<void>>()
      for (const [name, played] of prepared) {
        fibers.set(name, yield* Effect.forkScoped(Effect.scoped(inTime(played))))
        // Not all claims, and all writes to the ledger, in one moment: that would look like a store that is away.
        yield* Effect.sleep("20 millis")
      }
      return Played.of((kind, name) => fibers.get(`${kind}: ${name}`) ?? Effect.dieMessage(`not played: ${name}`))
    }).pipe(Effect.parallelFinalizers)
  ).pipe(Layer.provide(Logger.minimumLogLevel(LogLevel.Error)))
