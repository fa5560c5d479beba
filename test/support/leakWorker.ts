/**
 * A process with two engines that make many calls of every kind on the same keys of one Redis, and wait for each other;
 * it prints what is left of the calls: as one line of JSON, after which it has nothing to do and has to end by itself.
 * To be run with `--expose-gc`.
 */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import {
  Idempotency,
  IdempotencyDomainService,
  IdempotencyMetrics,
  IdempotencyRepository,
  withIdempotency
} from "effect-idempotency"
import { RedisIdempotencyRepository } from "effect-idempotency/redis"
import { Redis } from "ioredis"
import { LiveFibers } from "../simulation/node.js"
import type { LeakTask, Leftovers, Present } from "./leaks.js"

const [json = "{}"] = process.argv.slice(2)
const { asleep, calls, url }: LeakTask = JSON.parse(json)

type Engine = Context.Context<Idempotency>

const engineLayer = Idempotency.layerWith({ storageTimeout: "10 seconds" }).pipe(
  Layer.provide(
    IdempotencyRepository.layerLocalCache({ capacity: 100 }).pipe(
      Layer.provide(RedisIdempotencyRepository.layerClient({ url, startup: "fail" }))
    )
  ),
  Layer.provide([IdempotencyDomainService.layer, IdempotencyMetrics.layer])
)

/** Calls of one turn: a first one with its followers, a replay, one that fails, one that dies, one that is interrupted. */
const turn = (key: string) => {
  const paid = Effect.succeed({ paid: key }).pipe(withIdempotency("pay", key, { fingerprint: { key } }))
  return Effect.all(
    [
      paid,
      Effect.delay(paid, 1),
      Effect.zipRight(Effect.exit(paid), paid),
      Effect.fail("declined").pipe(withIdempotency("pay", `${key}-f`), Effect.exit),
      Effect.die("bug").pipe(withIdempotency("pay", `${key}-d`), Effect.exit),
      Effect.never.pipe(withIdempotency("pay", `${key}-i`), Effect.timeout(2), Effect.exit),
      Effect.delay(Effect.succeed(1), 2).pipe(withIdempotency("pay", `${key}-s`)),
      Effect.succeed(1).pipe(withIdempotency("pay", `${key}-s`, { inFlight: "fail" }), Effect.exit)
    ],
    { concurrency: "unbounded", discard: true }
  )
}
const callsPerTurn = 9

/** Of the engines together. */
const many = (name: string, engines: ReadonlyArray<Engine>, count: number) =>
  Effect.forEach(
    Array.from({ length: Math.ceil(count / callsPerTurn / engines.length) }, (_, index) => `${name}-${index}`),
    (key) =>
      Effect.forEach(engines, (engine) => Effect.provide(turn(key), engine), {
        concurrency: "unbounded",
        discard: true
      }),
    { concurrency: 20, discard: true }
  )

const live = new Set<Fiber.RuntimeFiber<unknown, unknown>>()
const redis = new Redis(url)

const channels: Effect.Effect<number> = Effect.map(
  Effect.promise(() => redis.pubsub("CHANNELS")),
  (names) => names.length
)

const underWayIn = (engines: ReadonlyArray<Engine>): number =>
  engines
    .flatMap((engine) => Object.values(Context.get(engine, Idempotency).underWay()))
    .reduce((sum, count) => sum + count, 0)

const presentIn = (engines: ReadonlyArray<Engine>): Effect.Effect<Present> =>
  Effect.map(channels, (subscriptions) => {
    const resources = process.getActiveResourcesInfo().filter((name) => name !== "Immediate")
    return {
      subscriptions,
      fibers: live.size,
      underWay: underWayIn(engines),
      timers: resources.filter((name) => name === "Timeout").length,
      others: resources.filter((name) => name !== "Timeout").sort()
    }
  })

/** Asks until it holds, or for so long that it never will; the last answer. */
const polled = <A>(ask: Effect.Effect<A>, holds: (answer: A) => boolean): Effect.Effect<A> =>
  Effect.suspend(() => {
    const giveUpAt = performance.now() + 15_000
    return Effect.repeat(Effect.delay(ask, 20), { until: (answer) => holds(answer) || performance.now() > giveUpAt })
  })

/** A call of one engine lasts until another engine is seen to have subscribed, to hear of its end. */
const subscribed = (owner: Engine, waiter: Engine, key: string): Effect.Effect<number, unknown> =>
  Effect.gen(function* () {
    yield* polled(channels, (count) => count === 0)
    const begun = yield* Deferred.make<void>()
    const body = Effect.zipRight(
      Deferred.succeed(begun, undefined),
      polled(channels, (count) => count > 0)
    )
    const owned = body.pipe(withIdempotency("pay", key), Effect.provide(owner))
    const waited = Effect.succeed(0).pipe(withIdempotency("pay", key), Effect.provide(waiter))
    const [seen] = yield* Effect.zip(owned, Effect.zipRight(Deferred.await(begun), waited), { concurrent: true })
    return seen
  })

const heap = (): number => {
  for (let n = 0; n < 4; n++) globalThis.gc?.()
  return process.memoryUsage().heapUsed
}

const look = Effect.gen(function* () {
  const one = yield* Layer.build(engineLayer)
  const two = yield* Layer.build(engineLayer)
  const engines = [one, two]
  const present = presentIn(engines)
  const unused = yield* present
  const seen = [yield* subscribed(one, two, "first"), yield* subscribed(two, one, "second")]
  const isQuiet = ({ subscriptions, underWay }: Present) => subscriptions === 0 && underWay === 0
  // Their connections for subscriptions are there from now on.
  const { others } = yield* polled(present, isQuiet)
  yield* many("warm", engines, calls / 5)
  yield* polled(present, isQuiet)
  const heapBefore = heap()
  const { isDone } = yield* Effect.match(many("more", engines, calls), {
    onFailure: () => ({ isDone: false }),
    onSuccess: () => ({ isDone: true })
  })
  const before = { ...unused, others }
  const isLikeBefore = (now: Present) =>
    isQuiet(now) &&
    now.fibers <= before.fibers + 2 * asleep &&
    now.timers <= asleep &&
    now.others.length === others.length
  const after = yield* polled(present, isLikeBefore)
  return { isDone, before, after, seen, heapGrowth: heap() - heapBefore }
})

const ended = Effect.sync(() => live.size)
const program = Effect.gen(function* () {
  const found = yield* Effect.scoped(look)
  const leftovers: Leftovers = { ...found, fibersAtTheEnd: yield* polled(ended, (count) => count === 0) }
  redis.disconnect()
  process.stdout.write(`${JSON.stringify(leftovers)}\n`)
})

// The lines of the standard output are what the process was asked for.
const logger = Logger.replace(Logger.defaultLogger, Logger.none)

await Effect.runPromise(program.pipe(Effect.supervised(new LiveFibers(live)), Effect.provide(logger)))
