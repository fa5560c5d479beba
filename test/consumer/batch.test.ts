/** Many messages at once: claims together, handlers by and by, and each message's end its own. */
import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as TestClock from "effect/TestClock"
import { IdempotentConsumer } from "../../src/consumer/IdempotentConsumer.js"
import { MessageOutcome } from "../../src/consumer/MessageOutcome.js"
import { ended, settleDown, singleProcess, twoProcesses } from "../support/engineProcess.js"
import { answeringAfter, unavailable } from "../support/faultyRepository.js"
import { consumer, idOf, type Message, messageOf, noting, recordOf } from "./support.js"

const { processBatch } = IdempotentConsumer

const processed = (value: string) => Exit.succeed(MessageOutcome.Processed({ value }))
const duplicate = (value: string) => Exit.succeed(MessageOutcome.Duplicate({ value }))

const tagsOf = (exits: ReadonlyArray<Exit.Exit<MessageOutcome<unknown>, { readonly _tag: string }>>) =>
  exits.map(Exit.match({ onFailure: (cause) => tagOf(cause), onSuccess: ({ _tag }) => _tag }))

const tagOf = (cause: Cause.Cause<{ readonly _tag: string }>): string =>
  Option.match(Cause.failureOption(cause), { onNone: () => "defect", onSome: ({ _tag }) => _tag })

const numbered = (count: number): ReadonlyArray<Message> =>
  Array.from({ length: count }, (_, index) => messageOf(`m-${index}`))

/** Handlers that take a second, and note how many run at a time. */
const watched = () => {
  const seen = { running: 0, most: 0, runs: 0 }
  const handle = () =>
    Effect.acquireUseRelease(
      Effect.sync(() => {
        seen.runs++
        seen.most = Math.max(seen.most, ++seen.running)
      }),
      () => Effect.sleep("1 second"),
      () => Effect.sync(() => seen.running--)
    )
  return { seen, handle }
}

describe("a batch", () => {
  it.scoped("gives an exit for each message, in their order, and a failure stays with its message", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const handle = ({ body }: Message) => {
        switch (body) {
          case "fails":
            return Effect.fail("no stock" as const)
          case "dies":
            return Effect.die("a bug")
          case "throws":
            throw new Error("thrown")
          case "stops":
            return Effect.interrupt
          default:
            return Effect.as(Effect.sleep(body === "slow" ? "5 seconds" : "1 second"), `shipped ${body}`)
        }
      }
      const messages = ["slow", "fails", "quick", "dies", "throws", "stops", "last"].map((body) => messageOf(body))
      const batch = yield* Effect.fork(process.run(processBatch(consumer, messages, { id: idOf })(handle)))
      yield* TestClock.adjust("6 seconds")
      const exits = yield* ended(batch)
      expect(exits[0]).toEqual(processed("shipped slow"))
      expect(exits[1]).toEqual(Exit.fail("no stock"))
      expect(exits[2]).toEqual(processed("shipped quick"))
      expect(exits[3]).toEqual(Exit.die("a bug"))
      expect(exits[4]).toEqual(Exit.die(new Error("thrown")))
      expect(exits[5] !== undefined && Exit.isInterrupted(exits[5])).toBe(true)
      expect(exits[6]).toEqual(processed("shipped last"))
    })
  )

  it.scoped("of no messages does nothing", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      expect(yield* process.run(processBatch(consumer, [], { id: idOf })(noting().handle))).toEqual([])
      expect(process.faults.calls()).toEqual([])
    })
  )

  it.scoped("delivered again is duplicates, beside what is new", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const { handle, handled } = noting()
      let calls = 0
      const called = (message: Message) => {
        calls++
        return handle(message)
      }
      const deliver = (...ids: ReadonlyArray<string>) =>
        process.run(
          processBatch(
            consumer,
            ids.map((id) => messageOf(id)),
            { id: idOf }
          )(called)
        )
      yield* deliver("a", "b")
      expect(yield* deliver("a", "c", "b")).toEqual([
        duplicate("shipped a"),
        processed("shipped c"),
        duplicate("shipped b")
      ])
      expect(handled).toEqual(["a", "b", "c"])
      // What a handler does before it gives its effect is not done for a duplicate, either.
      expect(calls).toBe(3)
    })
  )

  it.scoped("sends all of its claims before the first handler runs", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const claims = () => process.faults.calls("claim").length
      let claimed = 0
      const handle = () => Effect.sync(() => (claimed ||= claims()))
      yield* process.run(processBatch(consumer, numbered(100), { id: idOf, concurrency: 1 })(handle))
      expect(claimed).toBe(100)
    })
  )

  for (const [concurrency, most, seconds] of [
    [1, 1, 30],
    [4, 4, 8],
    [undefined, 10, 3],
    ["unbounded", 30, 1]
  ] as const) {
    it.scoped(`runs ${most} handlers at a time with concurrency ${concurrency}`, () =>
      Effect.gen(function* () {
        const { process } = yield* singleProcess()
        const { handle, seen } = watched()
        const batch = processBatch(consumer, numbered(30), { id: idOf, concurrency })(handle)
        const fiber = yield* Effect.fork(process.run(batch))
        for (let second = 1; second <= seconds; second++) {
          expect(Option.isNone(yield* Fiber.poll(fiber))).toBe(true)
          yield* TestClock.adjust("1 second")
        }
        expect(tagsOf(yield* ended(fiber))).toEqual(numbered(30).map(() => "Processed"))
        expect(seen).toEqual({ running: 0, most, runs: 30 })
      })
    )
  }

  it.scoped("with concurrency 1 they go in their order, though the first claim is answered last", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.plan("claim", answeringAfter("100 millis"), 1)
      const { handle, handled } = noting()
      const messages = ["a", "b", "c"].map((id) => messageOf(id))
      const fiber = yield* Effect.fork(
        process.run(processBatch(consumer, messages, { id: idOf, concurrency: 1 })(handle))
      )
      yield* TestClock.adjust("1 second")
      expect(tagsOf(yield* ended(fiber))).toEqual(["Processed", "Processed", "Processed"])
      expect(handled).toEqual(["a", "b", "c"])
    })
  )

  it.scoped("with concurrency 1 a duplicate between two messages does not let the second pass the first", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const { handle, seen } = watched()
      const deliver = (...ids: ReadonlyArray<string>) => {
        const messages = ids.map((id) => messageOf(id))
        return Effect.fork(process.run(processBatch(consumer, messages, { id: idOf, concurrency: 1 })(handle)))
      }
      const before = yield* deliver("b")
      yield* TestClock.adjust("1 second")
      yield* ended(before)
      const fiber = yield* deliver("a", "b", "c")
      yield* TestClock.adjust("2 seconds")
      expect(tagsOf(yield* ended(fiber))).toEqual(["Processed", "Duplicate", "Processed"])
      expect(seen).toEqual({ running: 0, most: 1, runs: 3 })
    })
  )

  it.scoped("bounds the handlers of messages without an id, too", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const { handle, seen } = watched()
      const options = { id: () => null, onMissingId: "run", concurrency: 2 } as const
      const fiber = yield* Effect.fork(process.run(processBatch(consumer, numbered(6), options)(handle)))
      yield* TestClock.adjust("3 seconds")
      expect(tagsOf(yield* ended(fiber))).toEqual(numbered(6).map(() => "Processed"))
      expect(seen).toEqual({ running: 0, most: 2, runs: 6 })
    })
  )

  it.scoped("holds messages that wait for their handlers: no other process takes them", () =>
    Effect.gen(function* () {
      const { one, two } = yield* twoProcesses()
      const { handle, seen } = watched()
      const slow = () => Effect.zipRight(Effect.sleep("1 minute"), handle())
      const options = { id: idOf, concurrency: 1, lease: "10 seconds" } as const
      const fiber = yield* Effect.fork(one.run(processBatch(consumer, numbered(4), options)(slow)))
      yield* TestClock.adjust("3 minutes")
      const others = yield* two.run(processBatch(consumer, numbered(4), options)(slow))
      expect(tagsOf(others).slice(2)).toEqual(["IdempotencyInFlightError", "IdempotencyInFlightError"])
      yield* TestClock.adjust("2 minutes")
      expect(tagsOf(yield* ended(fiber))).toEqual(["Processed", "Processed", "Processed", "Processed"])
      expect(seen.runs).toBe(4)
    })
  )
})

describe("a batch with an id twice", () => {
  for (const concurrency of [1, 10] as const) {
    it.scoped(`processes it once, and waits, with concurrency ${concurrency}`, () =>
      Effect.gen(function* () {
        const { process } = yield* singleProcess()
        const { handle, seen } = watched()
        const messages = ["a", "b", "a", "a", "b"].map((id) => messageOf(id))
        const batch = processBatch(consumer, messages, { id: idOf, concurrency })(handle)
        const fiber = yield* Effect.fork(process.run(batch))
        yield* TestClock.adjust("2 seconds")
        expect(tagsOf(yield* ended(fiber))).toEqual(["Processed", "Processed", "Duplicate", "Duplicate", "Duplicate"])
        expect(seen.runs).toBe(2)
      })
    )
  }

  it.scoped("tries the second message where the first failed", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const handle = ({ body }: Message) => (body === "bad" ? Effect.fail("no stock") : Effect.succeed(body))
      const messages = [messageOf("a", "bad"), messageOf("a", "good"), messageOf("a", "late")]
      const batch = processBatch(consumer, messages, { id: idOf })(handle)
      expect(yield* process.run(batch)).toEqual([Exit.fail("no stock"), processed("good"), duplicate("good")])
    })
  )

  it.scoped("knows one id in two scopes for two messages, and an outer blank in a scope for none", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const messages = ["tenant-1", "tenant-2", " tenant-1"].map((tenant) => messageOf("a", tenant))
      const scope = ({ body }: Message) => body
      const handle = ({ body }: Message) => Effect.as(Effect.sleep("1 second"), body)
      const batch = yield* Effect.fork(process.run(processBatch(consumer, messages, { id: idOf, scope })(handle)))
      yield* TestClock.adjust("1 second")
      expect(yield* ended(batch)).toEqual([processed("tenant-1"), processed("tenant-2"), duplicate("tenant-1")])
    })
  )

  it.scoped("tells another payload under that id by its fingerprint", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const messages = [messageOf("a", "one"), messageOf("a", "two"), messageOf("a", "one")]
      const fingerprint = ({ body }: Message) => ({ body })
      const batch = processBatch(consumer, messages, { id: idOf, fingerprint })(({ body }) => Effect.succeed(body))
      expect(tagsOf(yield* process.run(batch))).toEqual([
        "Processed",
        "IdempotencyFingerprintMismatchError",
        "Duplicate"
      ])
    })
  )
})

describe("a message of a batch", () => {
  it.scoped("without an id, or whose id cannot be read, is refused alone", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const { handle, handled } = noting()
      const id = (message: Message) => {
        if (message.body === "unreadable") throw new Error("no header")
        return message.id
      }
      const messages = [messageOf("a"), messageOf(" "), messageOf("b", "unreadable"), messageOf("c")]
      const exits = yield* process.run(processBatch(consumer, messages, { id })(handle))
      expect(tagsOf(exits)).toEqual(["Processed", "IdempotencyValidationError", "defect", "Processed"])
      expect(handled).toEqual(["a", "c"])
    })
  )

  it.scoped("is poisoned alone", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const handle = ({ body }: Message) => (body === "bad" ? Effect.fail({ _tag: "NoStock" }) : Effect.succeed(body))
      const messages = [messageOf("a"), messageOf("b", "bad"), messageOf("c")]
      const deliver = Effect.map(
        process.run(processBatch(consumer, messages, { id: idOf, maxAttempts: 1 })(handle)),
        tagsOf
      )
      expect(yield* deliver).toEqual(["Processed", "NoStock", "Processed"])
      expect(yield* deliver).toEqual(["Duplicate", "MessagePoisonedError", "Duplicate"])
    })
  )

  for (const concurrency of [0, -1, 2.5, Number.NaN]) {
    it.scoped(`is refused, as all are, with concurrency ${concurrency}`, () =>
      Effect.gen(function* () {
        const { process } = yield* singleProcess()
        const { handle, handled } = noting()
        const exits = yield* process.run(processBatch(consumer, numbered(2), { id: idOf, concurrency })(handle))
        expect(tagsOf(exits)).toEqual(["IdempotencyValidationError", "IdempotencyValidationError"])
        expect(handled).toEqual([])
      })
    )
  }
})

describe("a batch whose leases cannot be renewed", () => {
  it.scoped("at-most-once: frees the messages whose handlers had not begun, and holds only the others", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      const options = { id: idOf, guarantee: "at-most-once", concurrency: 2 } as const
      const batch = process.run(processBatch(consumer, numbered(5), options)(() => Effect.never))
      const fiber = yield* Effect.fork(batch)
      yield* settleDown
      yield* process.faults.plan("renew", unavailable)
      yield* TestClock.adjust("40 seconds")
      const [unknown, refused] = ["IdempotencyOutcomeUnknownError", "IdempotencyStorageError"]
      expect(tagsOf(yield* ended(fiber))).toEqual([unknown, unknown, refused, refused, refused])
      const states = yield* Effect.forEach(numbered(5), ({ id }) => store.stateOf(recordOf(id)))
      expect(states).toEqual(["Unknown", "Unknown", "Released", "Released", "Released"])
    })
  )
})

describe("a message whose handler has not begun", () => {
  it.scoped("at-most-once: is another's, after a reset: that one's result is waited for", () =>
    Effect.gen(function* () {
      const { one, store, two } = yield* twoProcesses()
      const { handle, handled } = noting()
      const slow = (message: Message) => Effect.delay(handle(message), "20 seconds")
      const options = { id: idOf, guarantee: "at-most-once", concurrency: 1, inFlight: "wait" } as const
      const [first, second] = [messageOf("m-0"), messageOf("m-1")]
      const batch = yield* Effect.fork(one.run(processBatch(consumer, [first, second], options)(slow)))
      yield* TestClock.adjust("1 second")
      yield* store.repository.reset(recordOf("m-1"), { force: true })
      const other = yield* Effect.fork(two.run(processBatch(consumer, [second], options)(slow)))
      yield* TestClock.adjust("40 seconds")
      expect(tagsOf(yield* ended(other))).toEqual(["Processed"])
      expect(tagsOf(yield* ended(batch))).toEqual(["Processed", "Duplicate"])
      expect(handled).toEqual(["m-0", "m-1"])
    })
  )
})

describe("an interrupted batch", () => {
  for (const [guarantee, begun] of [
    ["at-least-once", "Released"],
    ["at-most-once", "Unknown"]
  ] as const) {
    it.scoped(`${guarantee}: stops all handlers, and frees the messages whose handlers had not begun`, () =>
      Effect.gen(function* () {
        const { process, store } = yield* singleProcess()
        const { handle, seen } = watched()
        const messages = [...numbered(5), messageOf("m-0"), messageOf("m-4")]
        const batch = processBatch(consumer, messages, { id: idOf, guarantee, concurrency: 2 })(handle)
        const fiber = yield* Effect.fork(process.run(batch))
        yield* settleDown
        const states = Effect.forEach(numbered(5), ({ id }) => store.stateOf(recordOf(id)))
        expect(yield* states).toEqual(numbered(5).map(() => "Processing"))
        const exit = yield* Fiber.interrupt(fiber)
        expect(Exit.isFailure(exit) && Cause.isInterruptedOnly(exit.cause)).toBe(true)
        expect(yield* states).toEqual([begun, begun, "Released", "Released", "Released"])
        expect(seen).toEqual({ running: 0, most: 2, runs: 2 })
        expect(process.underWay()).toEqual({ owners: 0, flights: 0, leases: 0, background: 0 })
      })
    )
  }
})
