import { describe, expect, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberRefs from "effect/FiberRefs"
import * as Runtime from "effect/Runtime"
import * as TestClock from "effect/TestClock"
import { Idempotency, layerMemory, withIdempotency } from "effect-idempotency"
import { type Grafting, makeGrafting } from "../../src/internal/grafting.js"

/** Forks what takes a second, and ends at once. */
const forking = (done: Deferred.Deferred<string>) =>
  Effect.asVoid(Effect.fork(Effect.delay(Deferred.succeed(done, "sent"), "1 second")))

/** Whether what is forked there is alive after the end of the fiber that forks it, and of that which calls this. */
const survives = <E>(run: (body: Effect.Effect<void>) => Effect.Effect<unknown, E>) =>
  Effect.gen(function* () {
    const done = yield* Deferred.make<string>()
    yield* run(forking(done))
    yield* TestClock.adjust("2 seconds")
    return yield* Deferred.isDone(done)
  })

const learnt: Effect.Effect<Grafting> = Effect.filterOrDieMessage(
  Effect.sync(makeGrafting),
  (grafting) => grafting !== undefined,
  "the reference is not where it was: what Effect is this?"
)

/** In a fiber of its own, that starts as the effect of a protected call does. */
const started = (grafting: Grafting | undefined, body: Effect.Effect<void>) =>
  Effect.withFiberRuntime<void>((caller, { runtimeFlags }) => {
    const runtime = Runtime.make({ context: caller.currentContext, fiberRefs: caller.getFiberRefs(), runtimeFlags })
    return Fiber.join(
      Runtime.runFork(runtime, body, {
        updateRefs: (refs, id) => (grafting === undefined ? refs : grafting(caller, refs, id))
      })
    )
  })

describe("what a fiber forks that was started by another", () => {
  it.effect("ends with it", () =>
    Effect.gen(function* () {
      expect(yield* survives((body) => started(undefined, body))).toBe(false)
    })
  )

  it.effect("is its caller's, where it is grafted", () =>
    Effect.gen(function* () {
      const grafting = yield* learnt
      expect(yield* survives((body) => started(grafting, body))).toBe(true)
      const inner = (body: Effect.Effect<void>) => Effect.flatMap(Effect.fork(started(grafting, body)), Fiber.join)
      expect(yield* survives(inner)).toBe(false)
    })
  )

  it.effect("belongs to whom its caller's belongs", () =>
    Effect.gen(function* () {
      const grafting = yield* learnt
      const grafted = (body: Effect.Effect<void>) =>
        Effect.transplant((graft) => Effect.flatMap(Effect.fork(graft(started(grafting, body))), Fiber.join))
      expect(yield* survives(grafted)).toBe(true)
      const within = (body: Effect.Effect<void>) => started(grafting, started(grafting, body))
      expect(yield* survives(within)).toBe(true)
    })
  )

  it.effect("is learnt where something is grafted already", () =>
    Effect.gen(function* () {
      const grafting = yield* Effect.transplant((graft) => graft(learnt))
      expect(yield* survives((body) => started(grafting, body))).toBe(true)
    })
  )

  it.effect("changes nothing else of it", () =>
    Effect.gen(function* () {
      const grafting = yield* learnt
      yield* Effect.withFiberRuntime<void>((caller) => {
        const refs = caller.getFiberRefs()
        const grafted = grafting(caller, refs, caller.id())
        const changed = [...grafted.locals.keys()].filter(
          (ref) => FiberRefs.getOrDefault(grafted, ref) !== FiberRefs.getOrDefault(refs, ref)
        )
        expect(changed).toHaveLength(1)
        return Effect.void
      })
    })
  )
})

describe("a protected effect", () => {
  it.effect("is transplanted where nothing could be learnt", () =>
    Effect.gen(function* () {
      const engine = yield* Idempotency
      const plain = Effect.provideService(Idempotency, { ...engine, grafting: undefined })
      const charge = (key: string) => (body: Effect.Effect<void>) => withIdempotency(body, "payment.charge", key)
      expect(engine.grafting).toBeDefined()
      expect(yield* survives((body) => Effect.provideService(charge("1")(body), Idempotency, engine))).toBe(true)
      expect(yield* survives((body) => plain(charge("2")(body)))).toBe(true)
    }).pipe(Effect.provide(layerMemory))
  )
})
