import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { pipe } from "effect/Function"
import * as Scope from "effect/Scope"
import { IdempotencyDomainService } from "../../IdempotencyDomainService.js"
import { IdempotencyMetrics } from "../../IdempotencyMetrics.js"
import { IdempotencyRepository } from "../../IdempotencyRepository.js"
import { Chain } from "../chain.js"
import { type Codecs, makeCodecs } from "../codecs.js"
import { type Grafting, makeGrafting } from "../grafting.js"
import { makeTokens } from "../tokens.js"
import { unfailingMetrics } from "../unfailing.js"
import { makeBackground } from "./background.js"
import { type BeginDependencies, makeBegin } from "./begin.js"
import { makeFlights } from "./flights.js"
import { makeLeases } from "./leases.js"
import type { BeginError, Begun, Caller, ExecutionRequest } from "./request.js"
import type { Settings } from "./settings.js"
import { makeStorage } from "./storage.js"

/** What lives as long as the `Idempotency` layer. */
export interface Engine {
  readonly settings: Settings
  /** The store's short name. */
  readonly store: string
  readonly metrics: Context.Tag.Service<IdempotencyMetrics>
  readonly domain: Context.Tag.Service<IdempotencyDomainService>
  readonly codecs: Codecs
  /** How an effect starts in a fiber of its own. */
  readonly grafting: Grafting | undefined
  /** Where interruption is off. It has begun, and may have ended. */
  readonly begin: (request: ExecutionRequest, caller: Caller) => Effect.Effect<Begun, BeginError>
  /**
   * Runs an effect in a fiber of the layer, which outlives its caller. At the layer's end owners have their time to
   * finish; what runs after that is interrupted.
   */
  readonly fork: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<Fiber.RuntimeFiber<A, E>, never, R>
  /** Why whoever asks cannot claim from where it is, if so; absent where everybody can. */
  readonly objection: IdempotencyRepository.Claims["objection"]
  /** Whether it is asked for the first time. */
  readonly isFirst: (what: string) => boolean
  /** How much is under way, for tests and for shutdown. */
  readonly underWay: () => {
    readonly owners: number
    readonly flights: number
    readonly leases: number
    readonly background: number
  }
}

/** Waits, by the real clock (a `TestClock` would not move any more), for work to end. */
const ended = (isUnderWay: () => boolean, millis: number): Effect.Effect<void> =>
  pipe(
    Effect.sleep(Math.min(5, millis)),
    Effect.repeat({ while: isUnderWay }),
    // Finalizers are not interruptible, and a time-out waits for what it interrupts.
    Effect.interruptible,
    Effect.timeoutOption(millis),
    Effect.when(isUnderWay),
    Effect.withClock(Clock.make()),
    Effect.asVoid
  )

export const makeEngine = (
  settings: Settings
): Effect.Effect<Engine, never, IdempotencyRepository | IdempotencyDomainService | IdempotencyMetrics | Scope.Scope> =>
  Effect.gen(function* () {
    const repository = yield* IdempotencyRepository
    const domain = yield* IdempotencyDomainService
    const metrics = unfailingMetrics(yield* IdempotencyMetrics)
    const storage = yield* makeStorage(repository.claims, settings, metrics, repository.driver.name)
    const leases = yield* makeLeases(storage)
    const background = yield* makeBackground(storage, settings)
    const detached = yield* Scope.make()
    const flights = makeFlights()
    const owners: BeginDependencies["owners"] = new Chain()
    const leaders: BeginDependencies["leaders"] = { count: 0 }
    let isClosed = false
    const seen = new Set<string>()

    // Added last, so that it runs before the renewals and the probe end.
    yield* Effect.addFinalizer(() =>
      Effect.gen(function* () {
        isClosed = true
        const hasOwners = () => owners.size + leaders.count > 0
        yield* ended(hasOwners, settings.shutdownGrace)
        yield* Effect.forEach(owners.toArray(), (owner) => owner.interrupt(), { discard: true })
        yield* ended(hasOwners, 2 * settings.storageTimeout)
        yield* ended(() => background.size() > 0, settings.storageTimeout)
        yield* background.close
        // What cannot be interrupted is left behind.
        yield* Scope.close(detached, Exit.void).pipe(
          Effect.disconnect,
          Effect.interruptible,
          Effect.timeoutOption(settings.storageTimeout),
          Effect.withClock(Clock.make())
        )
      })
    )

    return {
      settings,
      store: repository.driver.name,
      metrics,
      domain,
      codecs: makeCodecs(),
      grafting: makeGrafting(),
      begin: makeBegin({
        storage,
        flights,
        leases,
        background,
        metrics,
        settings,
        owners,
        leaders,
        tokens: makeTokens(),
        isClosed: () => isClosed
      }),
      fork: Effect.forkIn(detached),
      objection: repository.claims.objection,
      isFirst: (what) => {
        if (seen.has(what)) return false
        seen.add(what)
        return true
      },
      underWay: () => ({
        owners: owners.size,
        flights: flights.size(),
        leases: leases.size(),
        background: background.size()
      })
    }
  })
