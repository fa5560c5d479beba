/**
 * One engine over a memory store, in which every step of every fiber is counted, so that something can happen at any of
 * them: a caller is interrupted, or the engine is closed. Time is virtual, and nothing runs that the test did not start.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import { pipe } from "effect/Function"
import * as HashSet from "effect/HashSet"
import type * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Random from "effect/Random"
import * as Runtime from "effect/Runtime"
import type { Scheduler } from "effect/Scheduler"
import * as Scope from "effect/Scope"
import { Idempotency } from "../../src/Idempotency.js"
import { IdempotencyDomainService } from "../../src/IdempotencyDomainService.js"
import { IdempotencyMetrics } from "../../src/IdempotencyMetrics.js"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import { makeEngine } from "../../src/internal/engine/engine.js"
import { decodeSettings } from "../../src/internal/engine/settings.js"
import { makeMemoryDriver } from "../../src/internal/memoryDriver.js"
import type { Driver, State } from "../../src/internal/protocol.js"
import { MemoryIdempotencyRepository } from "../../src/MemoryIdempotencyRepository.js"
import { FaultInjectingRepository, type RepositoryFaultPolicy } from "../../src/testing/FaultInjectingRepository.js"
import { LiveFibers } from "../simulation/node.js"
import { makeVirtualTime, type Pausable, type VirtualTime } from "../simulation/virtualTime.js"
import { ids } from "./engineProcess.js"

/** To yield takes a fiber so many steps of its own; one more does what was to be done. */
const stepsOfYield = 10

type AnyFiber = Fiber.RuntimeFiber<unknown, unknown>

export const storageTimeout = 1_000
const shutdownGrace = 1

export interface SweepOptions {
  /** Every step is a turn of its own, in which other fibers may come first; else a fiber runs until it waits. */
  readonly yieldsAtEveryStep: boolean
  readonly faults: RepositoryFaultPolicy
  /** A store with a fault in it, made from the sound one. */
  readonly mutate: ((driver: Driver) => Driver) | undefined
}

export interface SweepEngine {
  readonly context: Context.Context<Idempotency>
  readonly underWay: () => { readonly [what: string]: number }
  /** Begins to close the engine's layer; how long that takes is the fiber's. */
  readonly close: () => Fiber.RuntimeFiber<void>
}

export interface SweepWorld {
  readonly time: VirtualTime
  /** What is stored, behind the network. */
  readonly driver: Driver
  readonly stateOf: () => State | undefined
  readonly fork: <A, E>(effect: Effect.Effect<A, E>) => Fiber.RuntimeFiber<A, E>
  readonly openEngine: () => SweepEngine
  /** From now on, who takes which step: the first is 0. Nothing: from now on no step is counted, or a turn of its own. */
  readonly onStep: (listener: ((fiber: AnyFiber, step: number) => void) | undefined) => void
  readonly steps: () => number
  /** What runs now and did not when `mark` was called last, and the timers that are set. */
  readonly leftOver: () => ReadonlyArray<string>
  readonly mark: () => void
  /** What was logged as an error. */
  readonly errors: ReadonlyArray<string>
}

const serviceOf = <I, S>(tag: Context.Tag<I, S>, layer: Layer.Layer<I, unknown>): S =>
  Effect.runSync(Effect.orDie(Effect.provide(tag, layer)))

const noMetrics = serviceOf(IdempotencyMetrics, IdempotencyMetrics.layerNoop)
const domain = serviceOf(IdempotencyDomainService, IdempotencyDomainService.layerWith({ minTimeToLive: "1 second" }))
/** The engine asks for nothing but the claims of its repository. */
const recordsOfNobody = serviceOf(IdempotencyRepository, MemoryIdempotencyRepository.layer)
const settings = Effect.runSync(decodeSettings({ storageTimeout, shutdownGrace, breakerThreshold: 1_000 }))

/** To be called, like everything in the world, within `withPlatformTimers` of its time. */
export const makeSweepWorld = (options: SweepOptions, time: VirtualTime): SweepWorld => {
  const outside: Pausable = { pausedUntil: 0 }
  const live = new Set<AnyFiber>()
  const errors: Array<string> = []
  let known: ReadonlySet<AnyFiber> = new Set()
  let count = 0
  let listener: ((fiber: AnyFiber, step: number) => void) | undefined

  const base = time.schedulerOf(outside)
  const scheduler: Scheduler = {
    scheduleTask: base.scheduleTask,
    shouldYield: (fiber) => {
      if (listener === undefined) return base.shouldYield(fiber)
      if (!options.yieldsAtEveryStep) {
        listener(fiber, count++)
        return base.shouldYield(fiber)
      }
      if (fiber.currentOpCount <= stepsOfYield) return false
      listener(fiber, count++)
      return 0
    }
  }
  const logger = Logger.make(({ logLevel, message }) => {
    if (LogLevel.greaterThanEqual(logLevel, LogLevel.Error)) errors.push(String(message))
  })
  const runtime = Effect.runSync(
    pipe(
      Effect.runtime<never>(),
      Effect.withClock(time.clockOf(outside)),
      Effect.withRandom(Random.make(1)),
      Effect.locally(FiberRef.currentLoggers, HashSet.make(logger)),
      Effect.supervised(new LiveFibers(live))
    )
  )
  const fork: SweepWorld["fork"] = (effect) => Runtime.runFork(runtime)(effect, { scheduler })
  const now = <A, E>(effect: Effect.Effect<A, E>): A => Effect.runSync(Effect.withClock(effect, time.clockOf(outside)))

  const { driver } = makeMemoryDriver(Number.POSITIVE_INFINITY)
  const network = Effect.runSync(Scope.make())

  const openEngine = (): SweepEngine => {
    const scope = Effect.runSync(Scope.make())
    const engine = Effect.flatMap(
      Scope.extend(
        Effect.withClock(
          FaultInjectingRepository.claims(options.mutate?.(driver) ?? driver, options.faults),
          time.clockOf(outside)
        ),
        network
      ),
      (claims) =>
        Effect.provide(
          makeEngine(settings),
          pipe(
            Context.make(IdempotencyRepository, { ...recordsOfNobody, claims }),
            Context.add(IdempotencyDomainService, domain),
            Context.add(IdempotencyMetrics, noMetrics),
            Context.add(Scope.Scope, scope)
          )
        )
    )
    const built = fork(engine)
    time.run(time.now())
    const exit = built.unsafePoll()
    if (exit === null || Exit.isFailure(exit)) throw new Error(`the engine was not built: ${String(exit)}`)
    return {
      context: Context.make(Idempotency, exit.value),
      underWay: exit.value.underWay,
      close: () => fork(Scope.close(scope, Exit.void))
    }
  }

  return {
    time,
    driver,
    stateOf: () => {
      const [state] = now(driver.read([ids]))
      return state?._tag === "Corrupted" ? undefined : state
    },
    fork,
    openEngine,
    onStep: (next) => {
      count = 0
      listener = next
    },
    steps: () => count,
    leftOver: () => [
      ...Array.from(live)
        .filter((fiber) => !known.has(fiber))
        .map((fiber) => `fiber ${String(fiber.id().id)}`),
      ...time.timers().map((at) => `timer at ${at - time.now()}`)
    ],
    mark: () => {
      known = new Set(live)
    },
    errors
  }
}

/** Plays something in a world of its own. */
export const inSweepWorld = <A>(options: SweepOptions, play: (world: SweepWorld) => A): A => {
  const time = makeVirtualTime(Date.UTC(2024, 0, 1), () => 0)
  return time.withPlatformTimers(() => play(makeSweepWorld(options, time)))
}
