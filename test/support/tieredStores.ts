/** A fast store before a durable one, both watched, and one key of theirs. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { identity } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as TestClock from "effect/TestClock"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import {
  TieredIdempotencyRepository,
  type TieredIdempotencyRepositoryOptions
} from "../../src/TieredIdempotencyRepository.js"
import { claimBy, completeBy, ids, makeWatchedStore } from "./watchedStore.js"

type Times = Omit<TieredIdempotencyRepositoryOptions, "fast" | "durable">

export const settled = (encoded = '"done"') => ({ _tag: "Settled", record: { outcome: { _tag: "Success", encoded } } })

/** What goes on in the background has gone on. */
export const meanwhile = Effect.yieldNow().pipe(Effect.repeatN(20))

type Driver = IdempotencyRepository.Driver

export const makeTiered = (options: Times = {}, alterFast: (driver: Driver) => Partial<Driver> = identity) =>
  Effect.gen(function* () {
    const [fast, durable] = [makeWatchedStore("fast"), makeWatchedStore("durable")]
    const altered = yield* IdempotencyRepository.make({ ...fast.driver, ...alterFast(fast.driver) })
    const context = yield* Layer.build(
      TieredIdempotencyRepository.layerWith({ fast: altered, durable: durable.layer, ...options })
    )
    const repository = Context.get(context, IdempotencyRepository)
    const { claims } = repository
    const tiered = {
      fast,
      durable,
      repository,
      claim: (token: string, fingerprint?: string) => claims.claim(ids(), claimBy(token, fingerprint)),
      complete: (token: string, fingerprint?: string, more?: Parameters<typeof completeBy>[2]) =>
        Effect.zipLeft(claims.complete(ids(), completeBy(token, fingerprint, more)), meanwhile),
      /** The key is settled by `a` for the request `f`, and has a copy. */
      settle: (more?: Parameters<typeof completeBy>[2]) =>
        Effect.zipRight(tiered.claim("a", "f"), tiered.complete("a", "f", more)),
      copy: Effect.map(fast.contents.read([ids()]), ([state]) => state),
      /** The calls that were made since this was asked the last time. */
      calls: () => ({ fast: fast.calls.splice(0), durable: durable.calls.splice(0) })
    }
    return tiered
  })

/** How long an effect takes by the `TestClock`, and what it gives. */
export const timed = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.fork(effect)
    yield* Effect.repeatN(meanwhile, 10)
    let elapsed = 0
    for (; Option.isNone(yield* Fiber.poll(fiber)) && elapsed < 5_000; elapsed += 10) {
      yield* TestClock.adjust("10 millis")
    }
    if (elapsed >= 5_000) return yield* Effect.dieMessage("it takes too long")
    return { elapsed, value: yield* Fiber.join(fiber) }
  })
