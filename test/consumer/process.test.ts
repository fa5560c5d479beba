/** One message: once per consumer and id, whatever the id holds. */
import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/TestClock"
import { IdempotentConsumer } from "../../src/consumer/IdempotentConsumer.js"
import { MessageOutcome } from "../../src/consumer/MessageOutcome.js"
import { IdempotencyKey } from "../../src/IdempotencyKey.js"
import { IdempotentExecution } from "../../src/IdempotentExecution.js"
import { counting, gated, lasting, singleProcess, twoProcesses, within } from "../support/engineProcess.js"
import { unavailable } from "../support/faultyRepository.js"
import { consumer, recordOf, untypedProcess } from "./support.js"

const { keyOf, process: consume } = IdempotentConsumer

describe("a message", () => {
  it.scoped("is processed, then a duplicate, with the recorded value", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      let runs = 0
      const deliver = process.run(
        consume(
          Effect.sync(() => `parcel-${++runs}`),
          consumer,
          "m-1"
        )
      )
      expect(yield* deliver).toEqual(MessageOutcome.Processed({ value: "parcel-1" }))
      expect(yield* deliver).toEqual(MessageOutcome.Duplicate({ value: "parcel-1" }))
      expect(runs).toBe(1)
    })
  )

  it.scoped("is processed by each of two consumers", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const handler = counting(Effect.succeed("done"))
      for (const name of ["shipping", "billing"]) {
        expect((yield* process.run(handler.effect.pipe(consume(name, "m-1"))))._tag).toBe("Processed")
      }
      expect((yield* process.run(consume(handler.effect, "billing", "m-1")))._tag).toBe("Duplicate")
      expect(handler.runs()).toBe(2)
    })
  )

  it.scoped("is another one in another scope", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const deliver = (scope: string) => process.run(consume(Effect.succeed(scope), consumer, "m-1", { scope }))
      expect((yield* deliver("tenant-1"))._tag).toBe("Processed")
      expect((yield* deliver("tenant-2"))._tag).toBe("Processed")
      expect(yield* deliver("tenant-1")).toEqual(MessageOutcome.Duplicate({ value: "tenant-1" }))
    })
  )

  it.scoped("that is being processed elsewhere is refused, with the time after which to deliver it again", () =>
    Effect.gen(function* () {
      const { one, two } = yield* twoProcesses()
      const handler = lasting("done", "10 seconds")
      const options = { lease: "30 seconds" } as const
      const owner = yield* Effect.fork(one.run(consume(handler.effect, consumer, "m-1", options)))
      yield* TestClock.adjust("4 seconds")
      const refused = yield* Effect.flip(two.run(consume(handler.effect, consumer, "m-1", options)))
      expect(refused).toMatchObject({ _tag: "IdempotencyInFlightError", operation: consumer, reason: "Running" })
      expect(refused._tag === "IdempotencyInFlightError" && Duration.toSeconds(refused.retryAfter)).toBe(26)
      yield* TestClock.adjust("6 seconds")
      expect((yield* Fiber.join(owner))._tag).toBe("Processed")
      expect(handler.runs()).toBe(1)
    })
  )

  it.scoped("that is being processed elsewhere is waited for, if asked for", () =>
    Effect.gen(function* () {
      const { one, two } = yield* twoProcesses()
      const handler = lasting("done", "10 seconds")
      const owner = yield* Effect.fork(one.run(consume(handler.effect, consumer, "m-1")))
      yield* TestClock.adjust("4 seconds")
      const waited = two.run(consume(handler.effect, consumer, "m-1", { inFlight: "wait" }))
      expect(yield* within("7 seconds")(waited)).toEqual(MessageOutcome.Duplicate({ value: "done" }))
      yield* Fiber.join(owner)
      expect(handler.runs()).toBe(1)
    })
  )

  it.scoped("whose handler failed is tried again; one whose failure is recorded is not", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      class OutOfStock extends Schema.TaggedError<OutOfStock>()("OutOfStock", {}) {}
      const handler = counting(Effect.fail(new OutOfStock()))
      for (const runs of [1, 2]) {
        expect((yield* Effect.flip(process.run(consume(handler.effect, consumer, "m-1"))))._tag).toBe("OutOfStock")
        expect(handler.runs()).toBe(runs)
      }
      for (const _ of [1, 2]) {
        const recorded = process.run(consume(handler.effect, consumer, "m-1", { error: OutOfStock }))
        expect((yield* Effect.flip(recorded))._tag).toBe("OutOfStock")
        expect(handler.runs()).toBe(3)
      }
    })
  )

  it.scoped("with another payload under its id is refused", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const deliver = (body: string) =>
        process.run(consume(Effect.succeed(body), consumer, "m-1", { fingerprint: { body } }))
      yield* deliver("one")
      expect((yield* Effect.flip(deliver("another")))._tag).toBe("IdempotencyFingerprintMismatchError")
    })
  )

  it.scoped("is processed, and says so, while the store is down", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.plan("claim", unavailable)
      yield* process.faults.plan("complete", unavailable)
      const deliver = process.run(consume(Effect.succeed("done"), consumer, "m-1"))
      expect(yield* within("1 minute")(deliver)).toEqual(MessageOutcome.Processed({ value: "done" }))
      const strict = process.run(consume(Effect.succeed("done"), consumer, "m-1", { onStorageFailure: "fail" }))
      expect((yield* Effect.flip(within("1 minute")(strict)))._tag).toBe("IdempotencyStorageError")
    })
  )

  it.scoped("tells its handler which attempt it is", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const handler = Effect.flatMap(IdempotentExecution, ({ attempt }) =>
        attempt === 1 ? Effect.fail("not yet" as const) : Effect.succeed(attempt)
      )
      expect(yield* Effect.flip(process.run(consume(handler, consumer, "m-1")))).toBe("not yet")
      expect(yield* process.run(consume(handler, consumer, "m-1"))).toEqual(MessageOutcome.Processed({ value: 2 }))
    })
  )
})

describe("a message without an id", () => {
  for (const [what, id] of [
    ["undefined", undefined],
    ["null", null],
    ["None", Option.none()],
    ["empty", ""],
    ["blank", " \t\n"],
    ["a blank Some", Option.some("  ")]
  ] as const) {
    it.scoped(`${what}: is refused`, () =>
      Effect.gen(function* () {
        const { process } = yield* singleProcess()
        const handler = counting(Effect.succeed("done"))
        const refused = yield* Effect.flip(process.run(consume(handler.effect, consumer, id)))
        expect(refused).toMatchObject({
          _tag: "IdempotencyValidationError",
          operation: consumer,
          issues: ["the message has no id"]
        })
        expect(handler.runs()).toBe(0)
      })
    )

    it.scoped(`${what}: runs unprotected, each time, if asked for`, () =>
      Effect.gen(function* () {
        const { process } = yield* singleProcess()
        const handler = counting(Effect.succeed("done"))
        const deliver = process.run(consume(handler.effect, consumer, id, { onMissingId: "run", maxAttempts: 1 }))
        for (const _ of [1, 2]) expect(yield* deliver).toEqual(MessageOutcome.Processed({ value: "done" }))
        expect(handler.runs()).toBe(2)
      })
    )
  }

  it.scoped("is refused under at-most-once whatever it asks for", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const handler = counting(Effect.succeed("done"))
      const options = { onMissingId: "run", guarantee: "at-most-once" }
      const refused = yield* Effect.flip(process.run(untypedProcess(handler.effect, consumer, null, options)))
      expect(refused).toMatchObject({ issues: ["at-most-once needs a key"] })
      expect(handler.runs()).toBe(0)
    })
  )
})

describe("the key of an id", () => {
  const keyOfId = (id: string): string => Option.getOrThrow(keyOf(id))
  const hash = (id: string): string => IdempotencyKey.fromUntrusted("message", id)

  it("is the id, where that is a key as it stands", () => {
    for (const id of ["m-1", "0", "1526919030474-55", "größer als 3 €", "x".repeat(255)]) expect(keyOfId(id)).toBe(id)
    expect(keyOf(Option.some("m-1"))).toEqual(Option.some("m-1"))
  })

  it("is a hash, where it is not, or looks like one", () => {
    const ids = ["orders:1", "a\nb", "x".repeat(256), " a", "a ", "\u00a0a", "\ud800", hash("orders:1"), "_".repeat(43)]
    for (const id of ids) expect(keyOfId(id)).toBe(hash(id))
  })

  it("is none, where there is no id", () => {
    for (const id of [null, undefined, "", "  ", Option.none()]) expect(keyOf(id)).toEqual(Option.none())
  })

  it.scoped("keeps ids apart that a key would not, in the store", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      const ids = ["a", " a", "a ", "a:", "a\u0000", "\ud800", "\ufffd", hash("a:"), hash(" a"), "y".repeat(300)]
      for (const id of ids) {
        expect(yield* process.run(consume(Effect.succeed(id.length), consumer, id))).toEqual(
          MessageOutcome.Processed({ value: id.length })
        )
      }
      for (const id of ids) {
        expect((yield* process.run(consume(Effect.succeed(0), consumer, id)))._tag).toBe("Duplicate")
        expect(yield* store.stateOf(recordOf(keyOfId(id)))).toBe("Completed")
      }
    })
  )
})

describe("what cannot be", () => {
  for (const [what, of, id, options, issue] of [
    ["a consumer with a colon", "a:b", "m-1", {}, "the operation holds a colon"],
    ["an id that is a number", consumer, 7, {}, "the id of the message is not a string"],
    ["maxAttempts 0", consumer, "m-1", { maxAttempts: 0 }, "maxAttempts is not an integer of at least 1"],
    ["maxAttempts 1.5", consumer, "m-1", { maxAttempts: 1.5 }, "maxAttempts is not an integer of at least 1"],
    ["a misspelt onMissingId", consumer, "m-1", { onMissingId: "skip" }, `onMissingId is neither "refuse" nor "run"`],
    ["a misspelt inFlight", consumer, "m-1", { inFlight: "queue" }, `inFlight is neither "wait" nor "fail"`]
  ] as const) {
    it.scoped(`${what}: is refused, and nothing runs`, () =>
      Effect.gen(function* () {
        const { process } = yield* singleProcess()
        const handler = counting(Effect.succeed("done"))
        const refused = yield* Effect.flip(process.run(untypedProcess(handler.effect, of, id, options)))
        expect(refused).toMatchObject({ _tag: "IdempotencyValidationError", issues: [issue] })
        expect(handler.runs()).toBe(0)
      })
    )
  }
})

describe("interruption", () => {
  it.scoped("of a handler frees the message for the next delivery", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      const handler = yield* gated("done")
      const fiber = yield* Effect.fork(process.run(consume(handler.effect, consumer, "m-1")))
      yield* handler.started
      expect(yield* store.stateOf(recordOf("m-1"))).toBe("Processing")
      const exit = yield* Fiber.interrupt(fiber)
      expect(Exit.isFailure(exit) && Cause.isInterruptedOnly(exit.cause)).toBe(true)
      expect(yield* store.stateOf(recordOf("m-1"))).toBe("Released")
    })
  )
})
