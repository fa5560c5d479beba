/** A store that can be told to fail, around the claims of any repository; its contents stay those of a sound store. */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { IdempotencyStorageError } from "../../src/IdempotencyError.js"
import type { IdempotencyRepository } from "../../src/IdempotencyRepository.js"

type Repository = Context.Tag.Service<IdempotencyRepository>
type Claims = IdempotencyRepository.Claims

/** The verbs of a store that the engine calls. */
export type Verb = Exclude<keyof Claims, "readStored" | "readCopy" | "changes" | "objection" | "partOf">
type Reply<V extends Verb> = Effect.Effect.Success<ReturnType<Claims[V]>>

/** What becomes of a call: it gets the call as it would have been, and makes of it what it likes. */
type FaultOf<V extends Verb> = (
  call: Effect.Effect<Reply<V>, IdempotencyStorageError>,
  verb: V
) => Effect.Effect<Reply<V>, IdempotencyStorageError>

/** A fault that any verb can have. */
export type Fault = <A>(
  call: Effect.Effect<A, IdempotencyStorageError>,
  verb: Verb
) => Effect.Effect<A, IdempotencyStorageError>

interface Planned<V extends Verb> {
  readonly fault: FaultOf<V>
  timesLeft: number
}

/** A call as the store saw it. */
export interface Call {
  readonly verb: Verb
  readonly at: number
  readonly tokens: ReadonlyArray<string>
}

type Changes = "sound" | "silent" | "hanging" | "stuck" | "dying" | "broken"

export interface Faults {
  /** The verbs' next calls have the fault, so many times, or for ever. What was planned before comes first. */
  readonly plan: (verbs: "all" | Verb | ReadonlyArray<Verb>, fault: Fault, times?: number) => Effect.Effect<void>
  /** The verb's next calls have a fault that is its own. */
  readonly planFor: <V extends Verb>(verb: V, fault: FaultOf<V>, times?: number) => Effect.Effect<void>
  /** Nothing fails any more. */
  readonly heal: Effect.Effect<void>
  /**
   * Subscriptions to changes never tell (`silent`), or never come about: also where they do not let themselves be
   * interrupted (`stuck`); or they die, at once or when they should tell (`dying`, `broken`).
   */
  readonly changes: (how: Changes) => Effect.Effect<void>
  /** The calls so far, oldest first. */
  readonly calls: (verb?: Verb) => ReadonlyArray<Call>
}

/** How a store refuses. */
export const refused =
  (reason: IdempotencyStorageError["reason"], applied: IdempotencyStorageError["applied"] = "no"): Fault =>
  (_, verb) =>
    Effect.fail(new IdempotencyStorageError({ operation: "store", method: verb, reason, applied }))

/** The connection was refused: nothing took effect. */
export const unavailable: Fault = refused("Unavailable")

/** The request is never answered, and takes no effect. */
export const hanging: Fault = () => Effect.never

/** The request took effect; the connection was cut before the reply. */
export const replyLost: Fault = (call, verb) => Effect.zipRight(call, refused("Unavailable", "unknown")(call, verb))

/** The request took effect; the reply never comes. */
export const replySwallowed: Fault = (call) => Effect.zipRight(call, Effect.never)

/** The request takes effect only after a while, when nobody listens any more. */
export const arrivingAfter =
  (delay: Duration.DurationInput): Fault =>
  (call) =>
    Effect.zipRight(Effect.forkDaemon(Effect.delay(call, delay)), Effect.never)

/** The request takes effect at once, and the reply takes a while. */
export const answeringAfter =
  (delay: Duration.DurationInput): Fault =>
  (call) =>
    Effect.zipLeft(call, Effect.sleep(delay))

const verbs: ReadonlyArray<Verb> = ["claim", "renew", "complete", "release", "hold", "saveStep", "read"]

export const makeFaulty = (repository: Repository): { readonly repository: Repository; readonly faults: Faults } => {
  const calls: Array<Call> = []
  const plans: { readonly [V in Verb]: Array<Planned<V>> } = {
    claim: [],
    renew: [],
    complete: [],
    release: [],
    hold: [],
    saveStep: [],
    read: []
  }
  let changes: Changes = "sound"

  const called = <V extends Verb>(
    verb: V,
    tokens: ReadonlyArray<string>,
    call: Effect.Effect<Reply<V>, IdempotencyStorageError>
  ): Effect.Effect<Reply<V>, IdempotencyStorageError> =>
    Effect.flatMap(Clock.currentTimeMillis, (at) => {
      calls.push({ verb, at, tokens })
      const waiting: Array<Planned<V>> = plans[verb]
      const next = waiting[0]
      if (next === undefined) return call
      next.timesLeft--
      if (next.timesLeft <= 0) waiting.shift()
      return next.fault(call, verb)
    })

  const planFor: Faults["planFor"] = (verb, fault, times = Number.POSITIVE_INFINITY) =>
    Effect.sync(() => {
      plans[verb].push({ fault, timesLeft: times })
    })

  const { claims } = repository
  const faulty: Claims = {
    claim: (ids, request) => called("claim", [request.token], claims.claim(ids, request)),
    complete: (ids, request) => called("complete", [request.token], claims.complete(ids, request)),
    release: (ids, request) => called("release", [request.token], claims.release(ids, request)),
    hold: (ids, request) => called("hold", [request.token], claims.hold(ids, request)),
    saveStep: (ids, request) => called("saveStep", [request.token], claims.saveStep(ids, request)),
    renew: (leases) =>
      called(
        "renew",
        leases.map(({ request }) => request.token),
        claims.renew(leases)
      ),
    read: (identifiers) => called("read", [], claims.read(identifiers)),
    changes: (identifiers) =>
      Effect.suspend(() => {
        switch (changes) {
          case "sound":
            return claims.changes(identifiers)
          case "silent":
            return Effect.succeed(Effect.never)
          case "hanging":
            return Effect.never
          case "stuck":
            return Effect.uninterruptible(Effect.never)
          case "dying":
            return Effect.dieMessage("no subscription for you")
          case "broken":
            return Effect.succeed(Effect.dieMessage("no hint for you"))
        }
      })
  }

  return {
    repository: { ...repository, claims: faulty },
    faults: {
      plan: (which, fault, times) =>
        Effect.forEach(which === "all" ? verbs : typeof which === "string" ? [which] : which, (verb) =>
          planFor(verb, fault, times)
        ),
      planFor,
      heal: Effect.sync(() => {
        for (const verb of verbs) plans[verb].length = 0
      }),
      changes: (how) =>
        Effect.sync(() => {
          changes = how
        }),
      calls: (verb) => calls.filter((call) => verb === undefined || call.verb === verb)
    }
  }
}
