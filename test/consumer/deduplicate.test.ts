/** The operator of streams. */
import { describe, expect, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import { IdempotentConsumer } from "../../src/consumer/IdempotentConsumer.js"
import type { MessageOutcome } from "../../src/consumer/MessageOutcome.js"
import { ended, settleDown, singleProcess } from "../support/engineProcess.js"
import { consumer, idOf, type Message, messageOf, noting, recordOf } from "./support.js"

const { deduplicate } = IdempotentConsumer

const told = ({ exit, message }: { message: Message; exit: Exit.Exit<MessageOutcome<unknown>, unknown> }) =>
  `${message.body}: ${Exit.match(exit, { onFailure: () => "failed", onSuccess: ({ _tag }) => _tag })}`

const collect = <E, R>(
  stream: Stream.Stream<{ message: Message; exit: Exit.Exit<MessageOutcome<unknown>, unknown> }, E, R>
) => Effect.map(Stream.runCollect(stream), (all) => Chunk.toReadonlyArray(all).map(told))

const streamOf = (...ids: ReadonlyArray<string>) => Stream.fromIterable(ids.map((id) => messageOf(id)))

describe("a stream of messages", () => {
  it.scoped("runs the handler once for each, one after the other, and says how each went", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      let running = 0
      const handled: Array<string> = []
      const handle = ({ body }: Message) =>
        Effect.acquireUseRelease(
          Effect.sync(() => expect(++running).toBe(1)),
          () =>
            Effect.delay(body === "b" ? Effect.fail("no stock") : Effect.sync(() => handled.push(body)), "1 second"),
          () => Effect.sync(() => running--)
        )
      const stream = streamOf("a", "b", "a", "c", "a").pipe(deduplicate(consumer, { id: idOf })(handle))
      const all = yield* Effect.fork(process.run(collect(stream)))
      yield* TestClock.adjust("3 seconds")
      expect(yield* ended(all)).toEqual(["a: Processed", "b: failed", "a: Duplicate", "c: Processed", "a: Duplicate"])
      expect(handled).toEqual(["a", "c"])
      const again = Stream.runCollect(Stream.take(stream, 1))
      expect(Chunk.toReadonlyArray(yield* process.run(again)).map(told)).toEqual(["a: Duplicate"])
    })
  )

  it.scoped("keeps its order, and waits for an id that is being handled, with more at a time", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const { handle, handled } = noting()
      const slowFirst = (message: Message) =>
        Effect.zipRight(Effect.sleep(message.body === "a" ? "3 seconds" : "1 second"), handle(message))
      const stream = streamOf("a", "b", "a", "c", "d").pipe(
        deduplicate(consumer, { id: idOf, concurrency: 4 })(slowFirst)
      )
      const all = yield* Effect.fork(process.run(collect(stream)))
      yield* TestClock.adjust("4 seconds")
      const expected = ["a: Processed", "b: Processed", "a: Duplicate", "c: Processed", "d: Processed"]
      expect(yield* ended(all)).toEqual(expected)
      expect(handled.sort()).toEqual(["a", "b", "c", "d"])
    })
  )

  it.scoped("fails with what it failed with before", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const { handle, handled } = noting()
      const stream = Stream.concat(streamOf("a"), Stream.fail("the broker is gone")).pipe(
        deduplicate(consumer, { id: idOf })(handle)
      )
      expect(yield* Effect.flip(process.run(collect(stream)))).toBe("the broker is gone")
      expect(handled).toEqual(["a"])
    })
  )

  it.scoped("frees what it was at when it is interrupted", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      const stream = streamOf("a", "b").pipe(deduplicate(consumer, { id: idOf, concurrency: 2 })(() => Effect.never))
      const all = yield* Effect.fork(process.run(collect(stream)))
      yield* settleDown
      expect(yield* store.stateOf(recordOf("b"))).toBe("Processing")
      yield* Fiber.interrupt(all)
      expect(yield* store.stateOf(recordOf("a"))).toBe("Released")
      expect(yield* store.stateOf(recordOf("b"))).toBe("Released")
    })
  )

  it.scoped("refuses every message with a concurrency that cannot be", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const { handle, handled } = noting()
      const stream = streamOf("a", "b").pipe(deduplicate(consumer, { id: idOf, concurrency: 0 })(handle))
      expect(yield* process.run(collect(stream))).toEqual(["a: failed", "b: failed"])
      expect(handled).toEqual([])
    })
  )
})
