/** A process: an engine, with its clock, its fibers, and a bad network between it and the store. */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberRef from "effect/FiberRef"
import { pipe } from "effect/Function"
import * as HashSet from "effect/HashSet"
import type * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Runtime from "effect/Runtime"
import * as Scope from "effect/Scope"
import * as Supervisor from "effect/Supervisor"
import { Idempotency, type IdempotencyEngineOptions } from "../../src/Idempotency.js"
import { IdempotencyDomainService } from "../../src/IdempotencyDomainService.js"
import { IdempotencyMetrics } from "../../src/IdempotencyMetrics.js"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import { makeEngine } from "../../src/internal/engine/engine.js"
import { decodeSettings } from "../../src/internal/engine/settings.js"
import { MemoryIdempotencyRepository } from "../../src/MemoryIdempotencyRepository.js"
import {
  FaultInjectingRepository,
  type RepositoryCall,
  type RepositoryFault
} from "../../src/testing/FaultInjectingRepository.js"
import { elapsed, type Fork, type NodeHistory, outside, start, type World } from "./played.js"
import { maxResultBytes, type Process, storageTimeout } from "./scenario.js"
import type { Pausable } from "./virtualTime.js"

export interface Node {
  readonly pausable: Pausable
  readonly history: NodeHistory
  readonly context: Context.Context<Idempotency>
  readonly fork: Fork
  /** By the engine's own measure. */
  readonly inFlight: () => number
  readonly close: () => void
}

/** Keeps the fibers that have started and not ended. */
export class LiveFibers extends Supervisor.AbstractSupervisor<void> {
  readonly value = Effect.void
  constructor(readonly fibers: Set<Fiber.RuntimeFiber<unknown, unknown>>) {
    super()
  }
  override onStart<A, E, R>(
    _context: Context.Context<R>,
    _effect: Effect.Effect<A, E, R>,
    _parent: Option.Option<Fiber.RuntimeFiber<unknown, unknown>>,
    fiber: Fiber.RuntimeFiber<A, E>
  ): void {
    this.fibers.add(fiber)
  }
  override onEnd<A, E>(_exit: Exit.Exit<A, E>, fiber: Fiber.RuntimeFiber<A, E>): void {
    this.fibers.delete(fiber)
  }
}

/** How fibers are run: by the world's time, under the clock of a process. */
const makeFork = ({ liveFibers, problems, scenario, tell, time }: World, pausable: Pausable, index: number): Fork => {
  const logger = Logger.make(({ logLevel, message }) => {
    tell(() => `   p${index} logs ${logLevel.label}: ${String(message)}`)
    if (LogLevel.greaterThanEqual(logLevel, LogLevel.Error)) problems.push(`logged as an error: ${String(message)}`)
  })
  const runtime = Effect.runSync(
    pipe(
      Effect.runtime<never>(),
      Effect.withClock(time.clockOf(pausable)),
      Effect.withRandom(Random.make(scenario.seed * 31 + index)),
      Effect.locally(FiberRef.currentLoggers, HashSet.make(logger)),
      Effect.supervised(new LiveFibers(liveFibers))
    )
  )
  const scheduler = time.schedulerOf(pausable)
  return (effect) => Runtime.runFork(runtime)(effect, { scheduler })
}

/* The network. */

const outageOf = ({ outages }: Process, { at, method }: RepositoryCall): RepositoryFault | undefined =>
  outages.find(
    ({ from, renewalsOnly, to }) => elapsed(at) >= from && elapsed(at) < to && (!renewalsOnly || method === "renew")
  )?.how

const millisOf = (fault: RepositoryFault): number =>
  typeof fault === "string"
    ? 0
    : [fault.requestDelay, fault.replyDelay, fault.repeatAfter].reduce(
        (sum: number, delay) => sum + Duration.toMillis(delay ?? 0),
        0
      )

const networkOf = (world: World, process: Process, index: number, node: Pick<Node, "pausable" | "history">) => {
  const { mutation, store, tell, time } = world
  const clock = time.clockOf(node.pausable)
  const random = FaultInjectingRepository.random(process.faults)
  const driver = store.driverOf(index)
  const policy = (call: RepositoryCall): RepositoryFault => {
    const fault = outageOf(process, call) ?? random(call)
    if (fault !== "none") {
      const what = `${call.method} suffers ${typeof fault === "string" ? fault : JSON.stringify(fault)}`
      for (const { idempotencyKey: key } of call.identifiers) {
        node.history.troubles.push({ key, from: time.now(), to: time.now() + millisOf(fault), what })
      }
      tell(() => `p${index} ${what}`)
    }
    return fault
  }
  /** A process that stands still hears nothing before it goes on. */
  const awake = Effect.suspend(() =>
    node.pausable.pausedUntil > time.now() ? clock.sleep(Duration.zero) : Effect.void
  )
  const heard = <A, E>(call: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.flatMap(Effect.exit(call), (exit) => Effect.zipRight(awake, exit))
  return Effect.map(
    FaultInjectingRepository.claims(mutation.claims?.(driver) ?? driver, policy),
    (claims): IdempotencyRepository.Claims => ({
      claim: (ids, request) => heard(claims.claim(ids, request)),
      complete: (ids, request) => heard(claims.complete(ids, request)),
      release: (ids, request) => heard(claims.release(ids, request)),
      hold: (ids, request) => heard(claims.hold(ids, request)),
      saveStep: (ids, request) => heard(claims.saveStep(ids, request)),
      renew: (leases) => heard(claims.renew(leases)),
      read: (identifiers) => heard(claims.read(identifiers)),
      changes: (identifiers) => Effect.map(claims.changes(identifiers), heard)
    })
  )
}

/* The engine. */

const serviceOf = <I, S>(tag: Context.Tag<I, S>, layer: Layer.Layer<I, unknown>): S =>
  Effect.runSync(Effect.orDie(Effect.provide(tag, layer)))

const noMetrics = serviceOf(IdempotencyMetrics, IdempotencyMetrics.layerNoop)
const domain = serviceOf(IdempotencyDomainService, IdempotencyDomainService.layerWith({ minTimeToLive: "1 second" }))
/** The engine asks for nothing but the claims of its repository. */
const recordsOfNobody = serviceOf(IdempotencyRepository, MemoryIdempotencyRepository.layer)

const engineOptions = ({ breakerThreshold, shutdownGrace }: Process): IdempotencyEngineOptions => ({
  storageTimeout,
  maxResultBytes,
  shutdownGrace,
  breakerThreshold,
  unknownRetention: "1 hour",
  breakerProbeInterval: 500
})

export const makeNode = (world: World, process: Process, index: number): Node => {
  const { network, tell, time } = world
  const pausable: Pausable = { pausedUntil: 0 }
  const history: NodeHistory = { troubles: [], closingAt: undefined, closedAt: undefined, hasCrashed: false }
  let inFlight = 0
  const metrics: Context.Tag.Service<IdempotencyMetrics> = {
    ...noMetrics,
    recordInFlight: (_, change) =>
      Effect.sync(() => {
        inFlight += change
      })
  }
  const scope = Effect.runSync(Scope.make())
  const fork = makeFork(world, pausable, index)

  // What the layer does, without the cost of a layer for each of some thousand engines.
  const engine = Effect.gen(function* () {
    const settings = yield* decodeSettings(engineOptions(process))
    const claims = yield* pipe(
      networkOf(world, process, index, { pausable, history }),
      Effect.withClock(time.clockOf(outside)),
      Scope.extend(network)
    )
    const services = pipe(
      Context.make(IdempotencyRepository, { ...recordsOfNobody, claims }),
      Context.add(IdempotencyDomainService, domain),
      Context.add(IdempotencyMetrics, metrics),
      Context.add(Scope.Scope, scope)
    )
    return yield* Effect.provide(makeEngine(settings), services)
  })
  const built = fork(engine)
  time.run(time.now())
  const exit = Option.getOrThrow(Effect.runSync(Fiber.poll(built)))
  if (Exit.isFailure(exit)) throw new Error(`the engine was not built: ${String(exit.cause)}`)
  const context = Context.make(Idempotency, exit.value)

  const close = (): void => {
    if (history.closingAt !== undefined) return
    history.closingAt = time.now()
    tell(() => `p${index} closes its engine`)
    fork(Scope.close(scope, Exit.void)).addObserver(() => {
      history.closedAt = time.now()
      tell(() => `p${index} has closed its engine`)
    })
  }
  for (const { from, to } of process.pauses) {
    time.after(outside, from, () => {
      tell(() => `p${index} stands still until ${to}`)
      history.troubles.push({ key: undefined, from: time.now(), to: start + to, what: "pause" })
      history.hasCrashed ||= to === Number.POSITIVE_INFINITY
      pausable.pausedUntil = Math.max(pausable.pausedUntil, start + to)
    })
  }
  if (process.closeAt !== undefined) time.after(pausable, process.closeAt, close)
  return { pausable, history, context, fork, inFlight: () => inFlight, close }
}
