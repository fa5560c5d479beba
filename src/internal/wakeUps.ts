import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import type * as Scope from "effect/Scope"

/** Who waits for a change of which key, within this process. */
export interface WakeUps {
  /** Subscribes for the scope. The inner effect ends at the next notification since it last ended. */
  readonly subscribe: (key: string) => Effect.Effect<Effect.Effect<void>, never, Scope.Scope>
  readonly unsafeNotify: (key: string) => void
  readonly unsafeNotifyAll: () => void
}

interface Subscription {
  changed: Deferred.Deferred<void>
}

const unsafeSignal = (subscription: Subscription): void => Deferred.unsafeDone(subscription.changed, Effect.void)

/** `onFirst` and `onLast` are called as the number of a key's subscriptions leaves zero and comes back to it. */
export const makeWakeUps = (
  hooks: { readonly onFirst?: (key: string) => void; readonly onLast?: (key: string) => void } = {}
): WakeUps => {
  const subscriptions = new Map<string, Set<Subscription>>()

  const add = (key: string): Subscription => {
    const subscription = { changed: Deferred.unsafeMake<void>(FiberId.none) }
    const others = subscriptions.get(key)
    if (others !== undefined) {
      others.add(subscription)
    } else {
      subscriptions.set(key, new Set([subscription]))
      hooks.onFirst?.(key)
    }
    return subscription
  }

  const remove = (key: string, subscription: Subscription): void => {
    const all = subscriptions.get(key)
    all?.delete(subscription)
    if (all?.size === 0) {
      subscriptions.delete(key)
      hooks.onLast?.(key)
    }
  }

  const nextChange = (subscription: Subscription): Effect.Effect<void> =>
    Effect.suspend(() =>
      Effect.map(Deferred.await(subscription.changed), () => {
        subscription.changed = Deferred.unsafeMake<void>(FiberId.none)
      })
    )

  return {
    subscribe: (key) =>
      Effect.map(
        Effect.acquireRelease(
          Effect.sync(() => add(key)),
          (subscription) => Effect.sync(() => remove(key, subscription))
        ),
        nextChange
      ),
    unsafeNotify: (key) => subscriptions.get(key)?.forEach(unsafeSignal),
    unsafeNotifyAll: () => {
      for (const all of subscriptions.values()) all.forEach(unsafeSignal)
    }
  }
}
