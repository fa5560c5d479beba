/**
 * A repository whose engine meets a bad network, for tests.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { pipe } from "effect/Function"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { PCGRandom } from "effect/Utils"
import { IdempotencyStorageError } from "../IdempotencyError.js"
import type { IdempotencyIdentifiers } from "../IdempotencyIdentifiers.js"
import { IdempotencyRepository } from "../IdempotencyRepository.js"
import { readStored } from "../internal/protocol.js"

/**
 * One call of the store by the engine, or one page of a list: the `n`-th (from 1) of its method, at `at` (epoch
 * milliseconds by the `Clock`). A list has no identifiers.
 *
 * @since 0.1.0
 * @category models
 */
export interface RepositoryCall {
  readonly method: "claim" | "renew" | "complete" | "release" | "hold" | "saveStep" | "read" | "list"
  readonly n: number
  readonly identifiers: ReadonlyArray<IdempotencyIdentifiers>
  readonly at: number
}

/**
 * What becomes of a call.
 *
 * - `requestLost`: it never arrives, and is never answered. `replyLost`: it takes effect, and is never answered.
 * - `cutBefore`, `cutAfter`: the connection is lost before or after it takes effect; it fails at once with
 *   `Unavailable`, `applied: "unknown"`.
 * - `refused`: no connection; `Unavailable`, `applied: "no"`. `rejected`, `misconfigured`: the store refuses it.
 * - `duplicated`: it takes effect twice, and the second answer is given.
 * - delays: it arrives `requestDelay` late, also when its caller has given up by then; its answer takes `replyDelay`
 *   more; a copy of it arrives `repeatAfter` after it.
 *
 * @since 0.1.0
 * @category models
 */
export type RepositoryFault =
  | "none"
  | "requestLost"
  | "replyLost"
  | "cutBefore"
  | "cutAfter"
  | "refused"
  | "rejected"
  | "misconfigured"
  | "duplicated"
  | {
      readonly requestDelay?: Duration.DurationInput | undefined
      readonly replyDelay?: Duration.DurationInput | undefined
      readonly repeatAfter?: Duration.DurationInput | undefined
    }

/**
 * Decides for each call. Asked once per call, in their order.
 *
 * @since 0.1.0
 * @category models
 */
export type RepositoryFaultPolicy = (call: RepositoryCall) => RepositoryFault

/**
 * How often things go wrong. `probability` is that of any fault, 0.2 by default; `faults` are chosen from evenly, all of
 * them by default except `misconfigured`; `maxDelay`, 2 seconds by default, bounds the delays.
 *
 * @since 0.1.0
 * @category models
 */
export interface RandomFaultOptions {
  readonly seed: number
  readonly probability?: number | undefined
  readonly faults?: ReadonlyArray<Extract<RepositoryFault, string> | "delayed"> | undefined
  readonly maxDelay?: Duration.DurationInput | undefined
}

type Claims = IdempotencyRepository.Claims

const randomFaults: NonNullable<RandomFaultOptions["faults"]> = [
  "requestLost",
  "replyLost",
  "cutBefore",
  "cutAfter",
  "refused",
  "rejected",
  "duplicated",
  "delayed"
]

const random = (options: RandomFaultOptions): RepositoryFaultPolicy => {
  const { faults = randomFaults, maxDelay = "2 seconds", probability = 0.2, seed } = options
  const longest = Math.max(1, Duration.toMillis(maxDelay))
  const generator = new PCGRandom(seed)
  const sometimes = () => (generator.number() < 0.5 ? generator.integer(longest) : undefined)
  return () => {
    const isFault = generator.number() < probability
    const fault = faults[generator.integer(Math.max(1, faults.length))]
    if (!isFault || fault === undefined) return "none"
    return fault === "delayed"
      ? { requestDelay: sometimes(), replyDelay: sometimes(), repeatAfter: sometimes() }
      : fault
  }
}

const failure = (
  operation: string,
  method: string,
  reason: IdempotencyStorageError["reason"],
  applied: IdempotencyStorageError["applied"]
) =>
  Effect.fail(
    new IdempotencyStorageError({ operation, method, reason, applied, cause: new Error("an injected fault") })
  )

/** Makes calls suffer what the policy says. */
const makeFaults = (policy: RepositoryFaultPolicy) =>
  Effect.map(Effect.zip(Effect.scope, Effect.clock), ([scope, clock]) => {
    const calls = new Map<RepositoryCall["method"], number>()

    /** On its way: nobody can call it back, and time passes there by the clock of the layer. */
    const underWay = <A, E>(journey: Effect.Effect<A, E>): Effect.Effect<Fiber.RuntimeFiber<A, E>> =>
      pipe(journey, Effect.withClock(clock), Effect.interruptible, Effect.forkIn(scope))

    const late = <A, E>(
      send: Effect.Effect<A, E>,
      { repeatAfter, replyDelay, requestDelay }: Exclude<RepositoryFault, string>
    ): Effect.Effect<A, E> => {
      const wait = (duration: Duration.DurationInput | undefined) =>
        duration === undefined ? Effect.void : Effect.sleep(duration)
      const copy = repeatAfter === undefined ? Effect.void : underWay(Effect.ignore(Effect.delay(send, repeatAfter)))
      const journey = pipe(
        wait(requestDelay),
        Effect.zipRight(Effect.zipLeft(Effect.exit(send), copy)),
        Effect.zipLeft(wait(replyDelay)),
        Effect.flatten
      )
      return Effect.flatMap(underWay(journey), Fiber.join)
    }

    return (method: RepositoryCall["method"], identifiers: ReadonlyArray<IdempotencyIdentifiers>, about?: string) =>
      <A>(send: Effect.Effect<A, IdempotencyStorageError>): Effect.Effect<A, IdempotencyStorageError> =>
        Effect.flatMap(Clock.currentTimeMillis, (at) => {
          const n = (calls.get(method) ?? 0) + 1
          calls.set(method, n)
          const operation = about ?? identifiers[0]?.operation ?? ""
          const fault = policy({ method, n, identifiers, at })
          if (typeof fault !== "string") return late(send, fault)
          switch (fault) {
            case "none":
              return send
            case "requestLost":
              return Effect.never
            case "replyLost":
              return Effect.zipRight(Effect.exit(send), Effect.never)
            case "cutBefore":
              return failure(operation, method, "Unavailable", "unknown")
            case "cutAfter":
              return Effect.zipRight(Effect.exit(send), failure(operation, method, "Unavailable", "unknown"))
            case "refused":
              return failure(operation, method, "Unavailable", "no")
            case "rejected":
              return failure(operation, method, "Rejected", "no")
            case "misconfigured":
              return failure(operation, method, "Misconfigured", "no")
            case "duplicated":
              return Effect.zipRight(Effect.exit(send), send)
          }
        })
  })

type Faults = Effect.Effect.Success<ReturnType<typeof makeFaults>>

const claimsWith = (claims: Claims, suffer: Faults): Claims => ({
  claim: (ids, request) => suffer("claim", [ids])(claims.claim(ids, request)),
  complete: (ids, request) => suffer("complete", [ids])(claims.complete(ids, request)),
  release: (ids, request) => suffer("release", [ids])(claims.release(ids, request)),
  hold: (ids, request) => suffer("hold", [ids])(claims.hold(ids, request)),
  saveStep: (ids, request) => suffer("saveStep", [ids])(claims.saveStep(ids, request)),
  renew: (leases) =>
    suffer(
      "renew",
      leases.map(({ identifiers }) => identifiers)
    )(claims.renew(leases)),
  read: (identifiers) => suffer("read", identifiers)(claims.read(identifiers)),
  readStored: (identifiers) => suffer("read", identifiers)(readStored(claims, identifiers)),
  readCopy: claims.readCopy,
  changes: claims.changes,
  objection: claims.objection,
  partOf: claims.partOf
})

/**
 * Faults between the engine and a store: requests and replies lost, late, repeated or refused, by a policy. The
 * engine's own calls (`claims`) suffer, and so does `list`; `get`, `inspect`, `reset` and the other operations of the
 * repository look behind the faults. Late requests arrive by the `Clock` of the layer, so that `TestClock` drives them;
 * requests that are still under way when the layer closes are dropped.
 *
 * @example
 * ```ts
 * import * as Layer from "effect/Layer"
 * import { Idempotency, IdempotencyDomainService, IdempotencyMetrics, MemoryIdempotencyRepository } from "effect-idempotency"
 * import { FaultInjectingRepository } from "effect-idempotency/testing"
 *
 * // The first completion takes effect, but its reply is lost.
 * const repository = FaultInjectingRepository.layer(({ method, n }) =>
 *   method === "complete" && n === 1 ? "replyLost" : "none"
 * ).pipe(Layer.provide(MemoryIdempotencyRepository.layer))
 *
 * const engine = Idempotency.layer.pipe(
 *   Layer.provide([repository, IdempotencyDomainService.layer, IdempotencyMetrics.layer])
 * )
 * ```
 *
 * @since 0.1.0
 * @category layers
 */
export const FaultInjectingRepository: {
  /**
   * The repository from beneath, with faults by the policy.
   *
   * @since 0.1.0
   * @category layers
   */
  readonly layer: (policy: RepositoryFaultPolicy) => Layer.Layer<IdempotencyRepository, never, IdempotencyRepository>
  /**
   * The same for the engine's verbs alone, as of a `Driver`.
   *
   * @example
   * ```ts
   * import * as Effect from "effect/Effect"
   * import { IdempotencyRepository } from "effect-idempotency"
   * import { FaultInjectingRepository } from "effect-idempotency/testing"
   *
   * // A driver whose renewals never arrive.
   * const unrenewed = (driver: IdempotencyRepository.Driver) =>
   *   FaultInjectingRepository.claims(driver, ({ method }) => (method === "renew" ? "requestLost" : "none")).pipe(
   *     Effect.map((claims): IdempotencyRepository.Driver => ({ ...driver, ...claims }))
   *   )
   * ```
   *
   * @since 0.1.0
   * @category constructors
   */
  readonly claims: (
    claims: IdempotencyRepository.Claims,
    policy: RepositoryFaultPolicy
  ) => Effect.Effect<IdempotencyRepository.Claims, never, Scope.Scope>
  /**
   * A policy at random: the same seed and the same calls make the same faults.
   *
   * @example
   * ```ts
   * import * as Layer from "effect/Layer"
   * import { MemoryIdempotencyRepository } from "effect-idempotency"
   * import { FaultInjectingRepository } from "effect-idempotency/testing"
   *
   * const repository = FaultInjectingRepository.layer(FaultInjectingRepository.random({ seed: 1, probability: 0.1 })).pipe(
   *   Layer.provide(MemoryIdempotencyRepository.layer)
   * )
   * ```
   *
   * @since 0.1.0
   * @category constructors
   */
  readonly random: (options: RandomFaultOptions) => RepositoryFaultPolicy
} = {
  layer: (policy) =>
    Layer.scoped(
      IdempotencyRepository,
      Effect.flatMap(IdempotencyRepository, (repository) =>
        Effect.flatMap(makeFaults(policy), (suffer) => {
          const { list } = repository.driver
          const driver: IdempotencyRepository.Driver = {
            ...repository.driver,
            ...claimsWith(repository.driver, suffer),
            list: list && ((request) => suffer("list", [], request.operation)(list(request)))
          }
          // Over the driver, so that faults are measured, and a list that is not answered is waited for no longer than
          // another operation.
          return Effect.map(IdempotencyRepository.make(driver), ({ claims, list }) => ({
            ...repository,
            list,
            claims,
            driver
          }))
        })
      )
    ),
  claims: (claims, policy) => Effect.map(makeFaults(policy), (suffer) => claimsWith(claims, suffer)),
  random
}
