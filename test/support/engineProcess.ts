/** What tests of the engine share: a memory store, processes with an engine each over it, bodies that count. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import { Idempotency, type IdempotencyEngineOptions } from "../../src/Idempotency.js"
import { IdempotencyDomainService, type IdempotencyDomainServiceOptions } from "../../src/IdempotencyDomainService.js"
import { IdempotencyIdentifiers } from "../../src/IdempotencyIdentifiers.js"
import type { IdempotencyMetrics } from "../../src/IdempotencyMetrics.js"
import type { IdempotencyOutcome } from "../../src/IdempotencyOutcome.js"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import type { ClaimReply, ClaimRequest, CompleteReply, CompleteRequest, Outcome } from "../../src/internal/protocol.js"
import {
  MemoryIdempotencyRepository,
  type MemoryIdempotencyRepositoryOptions
} from "../../src/MemoryIdempotencyRepository.js"
import { type MetricsMethod, RecordingMetrics } from "../../src/testing/RecordingMetrics.js"
import { withIdempotencyOutcome } from "../../src/withIdempotency.js"
import { type Faults, makeFaulty } from "./faultyRepository.js"

type Repository = Context.Tag.Service<IdempotencyRepository>

/** The operation and the key that tests use unless they need several. */
export const operation = "payment.charge"
export const key = "order-1"

export const identifiersOf = (
  identity: { readonly operation?: string; readonly key?: string; readonly scope?: string } = {}
): IdempotencyIdentifiers =>
  Either.getOrThrow(
    IdempotencyIdentifiers.from({
      operation: identity.operation ?? operation,
      idempotencyKey: identity.key ?? key,
      scope: identity.scope
    })
  )

/** The identity of {@link operation} and {@link key}. */
export const ids = identifiersOf()

export const success = (value: unknown): Outcome => ({ _tag: "Success", encoded: JSON.stringify(value) })

/** The store that processes share, as an operator sees it, and as some other process does. */
export interface Store {
  readonly repository: Repository
  /** All records and claims are gone, as after a restart without persistence. */
  readonly loseEverything: Effect.Effect<void>
  /** The tag of what the key holds, `Absent` if nothing. */
  readonly stateOf: (of?: IdempotencyIdentifiers) => Effect.Effect<string>
  /** Another process claims, with a token that nobody renews. */
  readonly claim: (token: string, request?: Partial<ClaimRequest>) => Effect.Effect<ClaimReply>
  readonly complete: (token: string, request?: Partial<CompleteRequest>) => Effect.Effect<CompleteReply>
}

const delegating = (current: () => Repository): Repository => {
  const claims: IdempotencyRepository.Claims = {
    claim: (of, request) => current().claims.claim(of, request),
    renew: (leases) => current().claims.renew(leases),
    complete: (of, request) => current().claims.complete(of, request),
    release: (of, request) => current().claims.release(of, request),
    hold: (of, request) => current().claims.hold(of, request),
    saveStep: (of, request) => current().claims.saveStep(of, request),
    read: (of) => current().claims.read(of),
    changes: (of) => current().claims.changes(of)
  }
  return {
    claims,
    get driver() {
      return { ...current().driver, ...claims }
    },
    get: (of) => current().get(of),
    save: (record) => current().save(record),
    delete: (of) => current().delete(of),
    getMany: (of) => current().getMany(of),
    saveMany: (records, options) => current().saveMany(records, options),
    deleteMany: (of) => current().deleteMany(of),
    inspect: (of) => current().inspect(of),
    reset: (of, options) => current().reset(of, options),
    resolve: (of, outcome) => current().resolve(of, outcome),
    list: (request) => current().list(request)
  }
}

export const makeStore = (options: MemoryIdempotencyRepositoryOptions = {}): Effect.Effect<Store, never, Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Effect.scope
    const fresh = MemoryIdempotencyRepository.layerWith(options).pipe(
      Layer.orDie,
      Layer.buildWithScope(scope),
      Effect.map((context) => Context.get(context, IdempotencyRepository))
    )
    let current = yield* fresh
    const repository = delegating(() => current)
    return {
      repository,
      loseEverything: Effect.map(fresh, (next) => {
        current = next
      }),
      stateOf: (of = ids) =>
        Effect.map(Effect.orDie(repository.inspect(of)), (state) => Option.getOrUndefined(state)?._tag ?? "Absent"),
      claim: (token, request) =>
        Effect.orDie(
          repository.claims.claim(ids, {
            token,
            fingerprint: undefined,
            guarantee: "at-least-once",
            lease: 30_000,
            retention: 1_800_000,
            unknownRetention: 2_592_000_000,
            ...request
          })
        ),
      complete: (token, request) =>
        Effect.orDie(
          repository.claims.complete(ids, {
            token,
            outcome: success("theirs"),
            fingerprint: undefined,
            retention: 1_800_000,
            ...request
          })
        )
    }
  })

/** One engine over a store, as one process of a fleet has it. */
export interface Process {
  readonly run: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, Exclude<R, Idempotency>>
  readonly faults: Faults
  /** How often a measure was taken. */
  readonly count: (method: MetricsMethod) => Effect.Effect<number>
  readonly metrics: Context.Tag.Service<RecordingMetrics>
  /** How much the engine has under way. */
  readonly underWay: () => ReturnType<Context.Tag.Service<Idempotency>["underWay"]>
  /** Closes the engine's layer. */
  readonly stop: Effect.Effect<void>
}

/** What is under way once all calls have ended. */
export const nothing = { owners: 0, flights: 0, leases: 0, background: 0 }

export interface ProcessOptions extends IdempotencyEngineOptions {
  readonly domain?: IdempotencyDomainServiceOptions
}

export const startProcess = (
  store: Store,
  { domain = {}, ...options }: ProcessOptions = {}
): Effect.Effect<Process, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { faults, repository } = makeFaulty(store.repository)
    const scope = yield* Effect.acquireRelease(Scope.make(), (own) => Scope.close(own, Exit.void))
    const layer: Layer.Layer<Idempotency | RecordingMetrics | IdempotencyMetrics> = Idempotency.layerWith({
      shutdownGrace: "1 millis",
      ...options
    }).pipe(
      Layer.provide([IdempotencyDomainService.layerWith(domain), Layer.succeed(IdempotencyRepository, repository)]),
      Layer.provideMerge(RecordingMetrics.layer),
      Layer.orDie
    )
    const context = yield* Layer.buildWithScope(layer, scope)
    const engine = Context.get(context, Idempotency)
    const metrics = Context.get(context, RecordingMetrics)
    return {
      run: (effect) => Effect.provideService(effect, Idempotency, engine),
      faults,
      count: (method) => metrics.count(method),
      metrics,
      underWay: engine.underWay,
      stop: Scope.close(scope, Exit.void)
    }
  })

/** One store, one process. */
export const singleProcess = (options?: ProcessOptions) =>
  Effect.gen(function* () {
    const store = yield* makeStore()
    const process = yield* startProcess(store, options)
    return { store, process }
  })

/** One store, two processes. */
export const twoProcesses = (options?: ProcessOptions) =>
  Effect.gen(function* () {
    const store = yield* makeStore()
    const one = yield* startProcess(store, options)
    const two = yield* startProcess(store, options)
    return { store, one, two }
  })

/** A body that counts how often it was started. */
export interface Body<A, E = never, R = never> {
  readonly effect: Effect.Effect<A, E, R>
  readonly runs: () => number
}

export const counting = <A, E, R>(effect: Effect.Effect<A, E, R>): Body<A, E, R> => {
  let runs = 0
  return {
    effect: Effect.suspend(() => {
      runs++
      return effect
    }),
    runs: () => runs
  }
}

/** A body that takes so long. */
export const lasting = <A>(value: A, duration: Duration.DurationInput): Body<A> =>
  counting(Effect.as(Effect.sleep(duration), value))

/** A body that ends when it is told to, with the n-th run's value. */
export const gated = <A>(value: A) =>
  Effect.gen(function* () {
    const started = yield* Deferred.make<void>()
    const gate = yield* Deferred.make<void>()
    const body = counting(Effect.as(Effect.zipRight(Deferred.succeed(started, undefined), Deferred.await(gate)), value))
    return {
      ...body,
      started: Deferred.await(started),
      open: Effect.asVoid(Deferred.succeed(gate, undefined))
    }
  })

/** What an effect ended with, and after how many milliseconds of the clock. */
export interface Ended<A, E> {
  readonly exit: Exit.Exit<A, E>
  readonly took: number
}

/** Runs the effect while so much time passes; dies if it has not ended by then. */
export const during =
  (duration: Duration.DurationInput) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<Ended<A, E>, never, R> =>
    Effect.gen(function* () {
      const start = yield* Clock.currentTimeMillis
      const fiber = yield* Effect.fork(Effect.zip(Effect.exit(effect), Clock.currentTimeMillis))
      yield* TestClock.adjust(duration)
      const [exit, end] = yield* ended(fiber)
      return { exit, took: end - start }
    })

/** The value of a fiber that must have ended by now. */
export const ended = <A, E>(fiber: Fiber.RuntimeFiber<A, E>): Effect.Effect<A, E> =>
  Effect.flatMap(Fiber.poll(fiber), (exit) =>
    Option.isSome(exit) ? exit.value : Effect.dieMessage("the fiber is still running")
  )

/** What the effect succeeds with while so much time passes. */
export const within =
  (duration: Duration.DurationInput) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.flatMap(during(duration)(effect), ({ exit }) => exit)

/** Lets every fiber go on until it waits; no time passes. */
export const settleDown: Effect.Effect<void> = Effect.repeatN(TestClock.adjust(Duration.zero), 3)

/** Options of which no type is known. */
export interface Options {
  readonly [name: string]: unknown
}

/** `withIdempotencyOutcome` for callers whose types promise nothing: JavaScript, or a cast. */
export const untyped = withIdempotencyOutcome as unknown as (
  effect: Effect.Effect<unknown, unknown>,
  operation: unknown,
  key: unknown,
  options?: Options
) => Effect.Effect<IdempotencyOutcome<unknown>, unknown, Idempotency>

/** A caller whose own effect must not run. */
export const following = (process: Process, options: Options = {}) => {
  const body = counting(Effect.succeed("follower"))
  return { runs: body.runs, call: process.run(untyped(body.effect, operation, key, options)) }
}
