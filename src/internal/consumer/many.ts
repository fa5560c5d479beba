/** Many messages: each has its own exit, and those of one id go one after the other. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import { identity } from "effect/Function"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { MessageOutcome } from "../../consumer/MessageOutcome.js"
import type { KeyInput } from "../plan.js"
import {
  type Admission,
  type AnyEffect,
  type AnyOneOptions,
  countIssue,
  invalid,
  keyOf,
  processWith
} from "./process.js"

/** The options for many messages, whatever their types made of them. */
export interface AnyManyOptions<Message> extends Omit<AnyOneOptions, "fingerprint" | "scope"> {
  readonly id: (message: Message) => KeyInput
  readonly fingerprint?: ((message: Message) => unknown) | undefined
  readonly scope?: string | ((message: Message) => string | undefined) | undefined
  readonly concurrency?: number | "unbounded" | undefined
}

type Processing = AnyEffect<MessageOutcome<unknown>>

type MessageExit = Exit.Exit<MessageOutcome<unknown>, unknown>

/** Gives an effect its turn, which comes once all those have ended that came for its key before. */
type InTurn = (key: string, use: (turn: Effect.Effect<void>) => Processing) => Processing

const makeInTurn = (): InTurn => {
  const last = new Map<string, Deferred.Deferred<void>>()
  return (key, use) =>
    Effect.acquireUseRelease(
      Effect.sync(() => {
        const before = last.get(key)
        const mine = Deferred.unsafeMake<void>(FiberId.none)
        last.set(key, mine)
        const place = { mine, hasCome: before === undefined, turn: Effect.void }
        if (before !== undefined) {
          place.turn = Effect.map(Deferred.await(before), () => {
            place.hasCome = true
          })
        }
        return place
      }),
      ({ turn }) => use(turn),
      ({ hasCome, mine, turn }) =>
        Effect.suspend(() => {
          if (last.get(key) === mine) last.delete(key)
          // What ends before its turn does not let others pass.
          return hasCome ? Deferred.succeed(mine, undefined) : Deferred.completeWith(mine, turn)
        })
    )
}

/** Gives a message its admission: how its handler waits for others' handlers. */
type Admitting = (use: (admission: Admission) => Processing) => Processing

const inTheirOrder = (): Admitting => {
  const inTurn = makeInTurn()
  return (use) => inTurn("", (turn) => use((handler) => Effect.zipRight(turn, handler)))
}

const atOnce = (concurrency: number | "unbounded"): Admitting => {
  const admission: Admission =
    concurrency === "unbounded" ? identity : Effect.unsafeMakeSemaphore(concurrency).withPermits(1)
  return (use) => use(admission)
}

const concurrencyIssue = (concurrency: number | "unbounded"): string | undefined =>
  concurrency === "unbounded" ? undefined : countIssue("concurrency", concurrency)

/** How each message is processed; what goes wrong with one stays with it. */
const makeOne = <Message>(
  handler: (message: Message) => AnyEffect,
  consumer: string,
  options: AnyManyOptions<Message>,
  issue: string | undefined,
  admitting: Admitting
): ((message: Message) => Effect.Effect<MessageExit, never, unknown>) => {
  const inTurn = makeInTurn()
  const { concurrency: _, fingerprint: fingerprintOf, id: idOf, scope: scopeOf, ...policy } = options
  return (message) =>
    Effect.exit(
      Effect.suspend(() => {
        if (issue !== undefined) return Effect.fail(invalid(consumer, [issue]))
        const id = idOf(message)
        const scope = typeof scopeOf === "function" ? scopeOf(message) : scopeOf
        const oneOptions = { ...policy, scope, fingerprint: fingerprintOf?.(message) }
        return admitting((admission) => {
          const processing = processWith(
            Effect.suspend(() => handler(message)),
            consumer,
            id,
            oneOptions,
            admission
          )
          return Option.match(keyOf(id), {
            onNone: () => processing,
            onSome: (key) => inTurn(`${scope?.trim() ?? ""}:${key}`, (turn) => Effect.zipRight(turn, processing))
          })
        })
      })
    )
}

/** All claims are sent at once, for the store to gather; it is the handlers that wait for one another. */
export const processBatchWith = <Message>(
  handler: (message: Message) => AnyEffect,
  consumer: string,
  messages: Iterable<Message>,
  options: AnyManyOptions<Message>
): Effect.Effect<Array<MessageExit>, never, unknown> =>
  Effect.suspend(() => {
    const { concurrency = 10 } = options
    const admitting = concurrency === 1 ? inTheirOrder() : atOnce(concurrency)
    const one = makeOne(handler, consumer, options, concurrencyIssue(concurrency), admitting)
    return Effect.forEach(messages, one, { concurrency: "unbounded" })
  })

export const deduplicateWith = <Message, E, R>(
  handler: (message: Message) => AnyEffect,
  consumer: string,
  stream: Stream.Stream<Message, E, R>,
  options: AnyManyOptions<Message>
): Stream.Stream<{ readonly message: Message; readonly exit: MessageExit }, E, unknown> =>
  Stream.suspend(() => {
    const { concurrency = 1 } = options
    const issue = concurrencyIssue(concurrency)
    const one = makeOne(handler, consumer, options, issue, atOnce("unbounded"))
    return Stream.mapEffect(stream, (message) => Effect.map(one(message), (exit) => ({ message, exit })), {
      concurrency: issue === undefined ? concurrency : 1
    })
  })
