/**
 * Calls whose writes replicas confirm, on a connection of their own: `WAIT` holds up whatever follows it there.
 *
 * Calls go in rounds: what comes while one is under way goes with the next, and one `WAIT` confirms all of a round. So
 * nothing piles up at a server whose replicas are away, and what nobody waits for any more is never sent.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Driver } from "../protocol.js"
import {
  type Confirmation,
  type ConfirmingConnection,
  makeSend,
  type RedisNodeClient,
  type Send,
  type Told,
  type Turn
} from "./client.js"
import { Unconfirmed } from "./errors.js"

/** So many replicas, within so many milliseconds of the call. */
export interface Durability {
  readonly replicas: number
  readonly timeout: number
}

export interface Confirming {
  readonly send: Send
  readonly turn: Turn
  readonly connect: Effect.Effect<void, unknown>
  /** Whether as many replicas confirm as have to. */
  readonly probe: Effect.Effect<void, unknown>
  readonly objection: NonNullable<Driver["objection"]>
}

/** How long the server may be late with the end of a `WAIT`. */
const grace = 2000

/** Nothing is sent twice: on another connection a `WAIT` would confirm what was written on that one, which is nothing. */
const open = (client: RedisNodeClient, { timeout }: Durability): ConfirmingConnection =>
  client.duplicate({
    lazyConnect: true,
    enableOfflineQueue: false,
    enableAutoPipelining: false,
    readOnly: false,
    maxRetriesPerRequest: 0,
    retryStrategy: (times) => Math.min(50 * 2 ** Math.min(times - 1, 10), 1000),
    reconnectOnError: ({ message }) => message.startsWith("READONLY"),
    connectTimeout: 2000,
    commandTimeout: timeout + grace,
    socketTimeout: timeout + grace,
    keepAlive: 10_000
  })

const makeRounds = (connection: ConfirmingConnection, { replicas, timeout }: Durability) => {
  let waiting: Array<() => void> = []
  /** When the first of those who wait came. */
  let since = 0
  let isUnderWay = false
  let round: { readonly confirmation: Confirmation; hasSent: boolean } | undefined

  const confirm = async (milliseconds: number): Confirmation => {
    try {
      const confirmed = await connection.wait(replicas, milliseconds)
      if (confirmed >= replicas) return undefined
      return new Unconfirmed(`${confirmed} of ${replicas} replicas confirmed in time what was written`)
    } catch (cause) {
      return new Unconfirmed("it is not known whether replicas have what was written", { cause })
    }
  }

  const run = () => {
    const flushes = waiting
    const deadline = since + timeout
    waiting = []
    let settle = (_: Error | undefined | Confirmation): void => {}
    const confirmation: Confirmation = new Promise((resolve) => {
      settle = resolve
    })
    round = { confirmation, hasSent: false }
    for (const flush of flushes) flush()
    const { hasSent } = round
    round = undefined
    // 0 would be for ever.
    settle(hasSent ? confirm(Math.max(1, Math.ceil(deadline - performance.now()))) : undefined)
    void confirmation.then(() => {
      isUnderWay = false
      if (waiting.length > 0) begin()
    })
  }

  const begin = () => {
    isUnderWay = true
    process.nextTick(run)
  }

  const turn: Turn = (flush) => {
    if (waiting.length === 0) since = performance.now()
    waiting.push(flush)
    if (!isUnderWay) begin()
  }

  /** With the round that is being sent, else with the next: a script that the server has forgotten is sent again. */
  const issue = async (command: () => Promise<unknown>): Promise<Told> => {
    if (round === undefined) {
      return new Promise((resolve, reject) => turn(() => void issue(command).then(resolve, reject)))
    }
    round.hasSent = true
    const { confirmation } = round
    return { replies: await command(), confirmation }
  }

  return { confirm, issue, turn }
}

export const makeConfirming = (
  client: RedisNodeClient,
  durability: Durability
): Effect.Effect<Confirming, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => {
        const connection = open(client, durability)
        // Whoever calls is told; without a listener the client would write to the console.
        connection.on("error", () => {})
        return connection
      }),
      (connection) => Effect.sync(() => connection.disconnect())
    ),
    (connection): Confirming => {
      const { confirm, issue, turn } = makeRounds(connection, durability)
      const attempt = <A>(promise: () => Promise<A>) => Effect.tryPromise({ try: promise, catch: (error) => error })
      return {
        send: makeSend(connection, issue),
        turn,
        connect: attempt(() => connection.connect()),
        probe: Effect.flatMap(
          attempt(() => confirm(durability.timeout)),
          (cause) => (cause === undefined ? Effect.void : Effect.fail(cause))
        ),
        objection: ({ onStorageFailure, storageTimeout }) =>
          Effect.succeed(
            onStorageFailure === "proceed"
              ? `a store with durability needs onStorageFailure "fail": what proceeds without its claim is confirmed by nobody`
              : durability.timeout >= storageTimeout / 3
                ? `the timeout of durability, ${durability.timeout} ms, is not below a third of storageTimeout, ${storageTimeout} ms`
                : undefined
          )
      }
    }
  )
