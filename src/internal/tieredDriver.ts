import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { pipe } from "effect/Function"
import type * as Scope from "effect/Scope"
import type { IdempotencyStorageError } from "../IdempotencyError.js"
import type { IdempotencyIdentifiers } from "../IdempotencyIdentifiers.js"
import { hintOf } from "./polling.js"
import type { Driver } from "./protocol.js"
import { type Copies, type Copy, withCopies } from "./settledCopies.js"
import { logsAboutStore } from "./tracing.js"

/** How long a fast store that does not answer is left alone, in milliseconds. */
const pause = 1_000

/** A call that its caller gives up after so many milliseconds has not been answered; sooner, it may still have been. */
const longestAnswer = 50

const isAway = (cause: Cause.Cause<IdempotencyStorageError>): boolean => {
  if (Cause.isInterruptedOnly(cause)) return false
  const failure = Cause.failureOption(cause)
  return failure._tag === "None" || failure.value.reason === "Unavailable" || failure.value.reason === "Timeout"
}

const makeFastCopies = (fast: Driver, timeout: number, scope: Scope.Scope): Copies => {
  const aboutFast = logsAboutStore(fast.name)
  let failing = false
  let pausedUntil = Number.NEGATIVE_INFINITY

  const away = (cause: Cause.Cause<IdempotencyStorageError>): Effect.Effect<void> =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => {
      pausedUntil = now + pause
      if (failing) return Effect.void
      failing = true
      return aboutFast(
        Effect.logWarning(`idempotency: ${fast.name}, the fast store, does not answer; calls go without it`, cause)
      )
    })

  const answered = Effect.suspend(() => {
    if (!failing) return Effect.void
    failing = false
    pausedUntil = Number.NEGATIVE_INFINITY
    return aboutFast(Effect.logInfo(`idempotency: ${fast.name}, the fast store, answers again`))
  })

  /** A caller that gave up on a call from `start` has waited for the fast store: the next one does not. */
  const givenUp = (start: number): Effect.Effect<void> =>
    Effect.map(Clock.currentTimeMillis, (now) => {
      if (now - start >= Math.min(timeout, longestAnswer)) pausedUntil = now + pause
    })

  /** The answer to what is asked at `start`, or `otherwise` where there is none in time. */
  const attempt = <A>(start: number, call: Effect.Effect<A, IdempotencyStorageError>, otherwise: A): Effect.Effect<A> =>
    pipe(
      // Neither a caller that cannot be interrupted, nor a client that does not let itself be, is waited for.
      Effect.interruptible(Effect.disconnect(call)),
      Effect.onInterrupt(() => givenUp(start)),
      Effect.timeoutFailCause({
        duration: timeout,
        onTimeout: () => Cause.die(new Error(`no answer within ${timeout} ms`))
      }),
      Effect.zipLeft(answered),
      Effect.catchAllCause((cause) =>
        Effect.as(
          isAway(cause) ? away(cause) : aboutFast(Effect.logDebug("idempotency: the fast store refused", cause)),
          otherwise
        )
      )
    )

  const unlessPaused = <A>(call: Effect.Effect<A, IdempotencyStorageError>, otherwise: A): Effect.Effect<A> =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => {
      if (now < pausedUntil) return Effect.succeed(otherwise)
      // One caller finds out for all.
      if (failing) pausedUntil = now + pause
      return attempt(now, call, otherwise)
    })

  /** Copies on their way to the fast store. */
  const puts = new Set<Fiber.RuntimeFiber<void>>()

  const inBackground = (work: Effect.Effect<void>): Effect.Effect<Fiber.RuntimeFiber<void>> =>
    Effect.forkIn(Effect.interruptible(work), scope)

  /** The copies as fast is to hold them: for as long as is left of their use. */
  const insertion = (copies: ReadonlyArray<Copy>): Effect.Effect<unknown, IdempotencyStorageError> =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => {
      const lasting = copies.filter(({ until }) => until > now)
      return lasting.length === 0
        ? Effect.void
        : fast.insert(
            lasting.map(({ identifiers, record: { _tag: _, ...record }, until }) => ({
              identifiers,
              request: { ...record, retention: until - now }
            })),
            { allOrNothing: false }
          )
    })

  return {
    get: (identifiers) =>
      Effect.map(
        unlessPaused(
          Effect.suspend(() => fast.read(identifiers)),
          []
        ),
        (states) =>
          identifiers.map((_, index) => {
            const state = states[index]
            return state?._tag === "Completed" ? state : undefined
          })
      ),
    put: (copies) =>
      Effect.map(inBackground(unlessPaused(Effect.asVoid(insertion(copies)), undefined)), (fiber) => {
        puts.add(fiber)
        fiber.addObserver(() => puts.delete(fiber))
      }),
    // Tried even while the store is left alone, as a copy that stays is an old result; but then nobody waits for it.
    // It follows the copies that are on their way: a client may send again what it sent before.
    remove: (identifiers) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) => {
        const removed = attempt(now, Effect.asVoid(Effect.suspend(() => fast.remove(identifiers))), undefined)
        const removal = inBackground(Effect.zipRight(Fiber.awaitAll(puts), removed))
        return now < pausedUntil ? Effect.asVoid(removal) : Effect.asVoid(Effect.flatMap(removal, Fiber.await))
      })
  }
}

/** Both are subscribed to: the one that publishes wakes waiters sooner than one that is polled. */
const changesOf =
  (fast: Driver, durable: Driver): Driver["changes"] =>
  (identifiers: IdempotencyIdentifiers) =>
    Effect.zipWith(durable.changes(identifiers), hintOf(fast.changes(identifiers)), (change, hint) =>
      Effect.raceFirst(change, hint)
    )

/** `durable` decides; `fast` holds copies of its settled records. Times are in milliseconds. */
export const makeTieredDriver = (
  fast: Driver,
  durable: Driver,
  { fastTimeout, fastTimeToLive }: { readonly fastTimeToLive: number; readonly fastTimeout: number }
): Effect.Effect<Driver, never, Scope.Scope> =>
  Effect.map(Effect.scope, (scope) => ({
    ...withCopies(durable, makeFastCopies(fast, fastTimeout, scope), fastTimeToLive),
    name: `${fast.name}+${durable.name}`,
    changes: changesOf(fast, durable)
  }))
