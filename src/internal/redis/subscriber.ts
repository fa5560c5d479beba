import * as Array from "effect/Array"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import { makeWakeUps } from "../wakeUps.js"
import { isCluster, type RedisClient, type SubscriberConnection, type SubscriberOptions } from "./client.js"
import type { Changes } from "./driver.js"

/** The loop below reconnects and subscribes again itself, so that nothing happens that it does not know of. */
const connectionOptions: SubscriberOptions = {
  lazyConnect: true,
  autoResubscribe: false,
  enableOfflineQueue: false,
  enableReadyCheck: false,
  readOnly: false,
  maxRetriesPerRequest: 0,
  retryStrategy: null,
  keyPrefix: "",
  keepAlive: 10_000
}

const firstPause = 100
const longestPause = 10_000

const pauseAfter = (failures: number): Effect.Effect<void> =>
  Effect.flatMap(Random.nextRange(0.75, 1.25), (jitter) =>
    Effect.sleep(Duration.millis(jitter * Math.min(firstPause * 2 ** failures, longestPause)))
  )

const ignore = (): void => {}

/**
 * Who waits in this process for changes made in any: one connection, opened for the first waiter and kept for the
 * scope. Messages are hints: a subscription that fails is tried again, and waiters poll in the meantime.
 */
export const makeRedisChanges = (client: RedisClient): Effect.Effect<Changes, never, Scope.Scope> =>
  Effect.gen(function* () {
    const channels = new Set<string>()
    const wanted = yield* Effect.makeLatch(false)
    let subscriber: SubscriberConnection | undefined

    const wakeUps = makeWakeUps({
      onFirst: (channel) => {
        channels.add(channel)
        if (subscriber === undefined) wanted.unsafeOpen()
        else subscribeLater(subscriber, channel)
      },
      onLast: (channel) => {
        channels.delete(channel)
        subscriber?.unsubscribe(channel).catch(ignore)
      }
    })

    /** What changed before the server confirmed has not been heard. A connection that cannot subscribe is given up. */
    const subscribeLater = (connection: SubscriberConnection, channel: string): void => {
      connection.subscribe(channel).then(
        () => wakeUps.unsafeNotify(channel),
        () => connection.disconnect()
      )
    }

    const open: Effect.Effect<SubscriberConnection, unknown, Scope.Scope> = Effect.acquireRelease(
      Effect.flatMap(nodeOf(client), (node) =>
        Effect.try({
          try: () => {
            const connection = node.duplicate(connectionOptions)
            connection.on("error", ignore)
            connection.on("message", (channel) => wakeUps.unsafeNotify(channel))
            return connection
          },
          catch: (error) => error
        })
      ),
      (connection) => Effect.sync(() => connection.disconnect())
    )

    /** Ends with the connection; tells whether it had come to work. */
    const session = Effect.scoped(
      Effect.flatMap(open, (connection) =>
        Effect.async<boolean, unknown>((resume) => {
          let subscribed = false
          connection.on("end", () => {
            if (subscriber === connection) subscriber = undefined
            resume(Effect.succeed(subscribed))
          })
          connection
            .connect()
            .then(() => {
              const all = [...channels]
              subscriber = connection
              return all.length === 0 ? undefined : connection.subscribe(...all)
            })
            .then(
              () => {
                subscribed = true
                wakeUps.unsafeNotifyAll()
              },
              (error) => resume(Effect.fail(error))
            )
          return Effect.sync(() => {
            if (subscriber === connection) subscriber = undefined
          })
        })
      )
    )

    const loop = (failures: number): Effect.Effect<never> =>
      Effect.flatMap(
        Effect.zipRight(
          Effect.suspend(() => {
            if (channels.size > 0) return Effect.void
            wanted.unsafeClose()
            return wanted.await
          }),
          Effect.catchAllCause(session, (cause) =>
            Effect.as(
              Effect.logDebug("idempotency: notifications of changes cannot be heard; waiters poll", cause),
              false
            )
          )
        ),
        (worked) => {
          const next = worked ? 0 : failures + 1
          return Effect.zipRight(
            pauseAfter(next),
            Effect.suspend(() => loop(next))
          )
        }
      )

    yield* loop(0).pipe(
      Effect.interruptible,
      Effect.annotateLogs({ fiber: "idempotency.redis.changes", "idempotency.store": "redis" }),
      Effect.forkScoped
    )
    return { of: wakeUps.subscribe }
  })

/** A node of a cluster hears what is published on any of them. */
const nodeOf = (client: RedisClient) =>
  isCluster(client)
    ? Effect.flatMap(
        Effect.suspend(() => Random.shuffle(client.nodes("all"))),
        (nodes) =>
          Array.head(Array.fromIterable(nodes)).pipe(
            Effect.mapError(() => new Error("no node of the cluster is known"))
          )
      )
    : Effect.succeed(client)
