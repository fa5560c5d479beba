/** Consumers over a real Redis. */
import { describe, expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import { IdempotentConsumer } from "../../src/consumer/IdempotentConsumer.js"
import { layerRedis } from "../../src/redis.js"
import { StandaloneRedis } from "../support/redisServers.js"
import { idOf, type Message, messageOf } from "./support.js"

const { process: consume, processBatch } = IdempotentConsumer

/** A process of its own: an engine and connections. */
const aProcess = Effect.map(StandaloneRedis, ({ url }) => layerRedis({ url, startupTimeout: "20 seconds" }))

/** How often a command of the server was called, by its statistics. */
const callsOf = (name: string) =>
  Effect.gen(function* () {
    const { command } = yield* StandaloneRedis
    const stats = String(yield* command("info", "commandstats"))
    return Number(new RegExp(`cmdstat_${name}:calls=(\\d+)`).exec(stats)?.[1] ?? 0)
  })

const until = <R>(condition: Effect.Effect<boolean, never, R>) =>
  Effect.repeat(condition, Schedule.spaced("10 millis").pipe(Schedule.untilInput((holds: boolean) => holds)))

const tagsOf = (exits: ReadonlyArray<Exit.Exit<{ readonly _tag: string }, { readonly _tag: string }>>) =>
  exits.map((exit) =>
    Exit.match(exit, {
      onFailure: () => Option.match(failureOf(exit), { onNone: () => "defect", onSome: ({ _tag }) => _tag }),
      onSuccess: ({ _tag }) => _tag
    })
  )

const failureOf = <A, E>(exit: Exit.Exit<A, E>): Option.Option<E> =>
  Exit.isFailure(exit) && exit.cause._tag === "Fail" ? Option.some(exit.cause.error) : Option.none()

const handle = ({ body }: Message) => Effect.succeed(`shipped ${body}`)

describe("consumers on Redis", () => {
  layer(StandaloneRedis.layer, { excludeTestServices: true, timeout: "60 seconds" })((it) => {
    it.scoped("a batch of 100 fresh messages is claimed in one round trip, by calls of 32", () =>
      Effect.gen(function* () {
        const { command } = yield* StandaloneRedis
        const live = yield* aProcess
        yield* Effect.gen(function* () {
          const gate = yield* Effect.makeLatch()
          let running = 0
          const gated = (message: Message) =>
            Effect.zipRight(
              Effect.suspend(() => {
                running++
                return gate.await
              }),
              handle(message)
            )
          // The server then knows the scripts.
          yield* handle(messageOf("warm")).pipe(consume("one-call", "warm"))
          yield* command("config", "resetstat")
          const messages = Array.from({ length: 100 }, (_, index) => messageOf(`m-${index}`))
          const batch = processBatch("one-call", messages, { id: idOf, concurrency: "unbounded" })(gated)
          const fiber = yield* Effect.fork(batch)
          yield* until(Effect.sync(() => running === 100))
          expect(yield* callsOf("evalsha")).toBe(4)
          expect(yield* callsOf("eval")).toBe(0)
          yield* gate.open
          expect(tagsOf(yield* Fiber.join(fiber))).toEqual(messages.map(() => "Processed"))
        }).pipe(Effect.provide(live))
      })
    )

    it.scoped("of two processes that get the same batch, one processes each message", () =>
      Effect.gen(function* () {
        const [one, two] = [yield* aProcess, yield* aProcess]
        const handled: Array<string> = []
        const noted = (message: Message) =>
          Effect.zipRight(
            Effect.sync(() => handled.push(message.id)),
            handle(message)
          )
        const messages = Array.from({ length: 40 }, (_, index) => messageOf(`m:${index}`))
        const batch = processBatch("both", messages, { id: idOf, inFlight: "wait" })(noted)
        const [first, second] = yield* Effect.all([Effect.provide(batch, one), Effect.provide(batch, two)], {
          concurrency: 2
        })
        const [firstTags, secondTags] = [tagsOf(first), tagsOf(second)]
        for (const index of messages.keys()) {
          expect([firstTags[index], secondTags[index]].sort()).toEqual(["Duplicate", "Processed"])
        }
        expect(handled.sort()).toEqual(messages.map(({ id }) => id).sort())
      })
    )

    it.scoped("two consumers each process a message, and a later process gets duplicates", () =>
      Effect.gen(function* () {
        const deliver = (consumer: string) =>
          Effect.flatMap(aProcess, (live) =>
            handle(messageOf("a")).pipe(
              consume(consumer, " a:\n1"),
              Effect.map(({ _tag }) => _tag),
              Effect.provide(live)
            )
          )
        expect(yield* deliver("shipping")).toBe("Processed")
        expect(yield* deliver("billing")).toBe("Processed")
        expect(yield* deliver("shipping")).toBe("Duplicate")
      })
    )

    it.scoped("attempts are counted over processes, and a poisoned message stays so", () =>
      Effect.gen(function* () {
        let runs = 0
        const deliver = Effect.flatMap(aProcess, (live) =>
          Effect.suspend(() => {
            runs++
            return Effect.fail("no stock" as const)
          }).pipe(consume("poison", "a", { maxAttempts: 2 }), Effect.flip, Effect.provide(live))
        )
        expect(yield* deliver).toBe("no stock")
        expect(yield* deliver).toBe("no stock")
        for (const attempt of [3, 4]) expect(yield* deliver).toMatchObject({ _tag: "MessagePoisonedError", attempt })
        expect(runs).toBe(2)
      })
    )

    it.scoped("a batch that is interrupted leaves its messages to another process", () =>
      Effect.gen(function* () {
        const [one, two] = [yield* aProcess, yield* aProcess]
        const messages = ["a", "b", "c", "d"].map((id) => messageOf(id))
        let running = 0
        const hang = () =>
          Effect.suspend(() => {
            running++
            return Effect.never
          })
        const options = { id: idOf, concurrency: 2, guarantee: "at-most-once" } as const
        const fiber = yield* Effect.fork(Effect.provide(processBatch("stopped", messages, options)(hang), one))
        yield* until(Effect.sync(() => running === 2))
        yield* Fiber.interrupt(fiber)
        const exits = yield* Effect.provide(processBatch("stopped", messages, options)(handle), two)
        const unknown = "IdempotencyOutcomeUnknownError"
        expect(tagsOf(exits)).toEqual([unknown, unknown, "Processed", "Processed"])
      })
    )
  })
})
