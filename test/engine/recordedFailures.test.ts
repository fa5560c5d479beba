/** Typed failures: recorded with an `error` schema, held if they say nothing about what happened, released otherwise. */
import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import { withIdempotency } from "../../src/withIdempotency.js"
import { counting, ids, key, operation, singleProcess, untyped, within } from "../support/engineProcess.js"
import { hanging, unavailable } from "../support/faultyRepository.js"

class Declined extends Schema.TaggedError<Declined>()("Declined", { reason: Schema.String, at: Schema.Date }) {}
class Timeout extends Data.TaggedError("Timeout")<{ readonly after: number }> {}

const declined = () => new Declined({ reason: "no funds", at: new Date(0) })
const unknown = { isOutcomeUnknown: (error: Declined | Timeout) => error._tag === "Timeout" }

describe("typed failures", () => {
  for (const guarantee of ["at-least-once", "at-most-once"]) {
    it.scoped(`${guarantee}, without an error schema: released, and the next caller runs`, () =>
      Effect.gen(function* () {
        const { process, store } = yield* singleProcess()
        const body = counting(Effect.fail("refused"))
        const call = process.run(untyped(body.effect, operation, key, { guarantee }))
        expect(yield* Effect.flip(call)).toBe("refused")
        expect(yield* store.stateOf()).toBe("Released")
        yield* Effect.flip(call)
        expect(body.runs()).toBe(2)
      })
    )

    it.scoped(`${guarantee}, that error encodes: recorded, and replayed as failures`, () =>
      Effect.gen(function* () {
        const { process } = yield* singleProcess()
        const body = counting(Effect.suspend(() => Effect.fail(declined())))
        const call = process.run(untyped(body.effect, operation, key, { guarantee, error: Declined }))
        const own = yield* Effect.flip(call)
        const replayed = yield* Effect.flip(call)
        expect(replayed).toBeInstanceOf(Declined)
        expect(replayed).toMatchObject({ reason: "no funds", at: new Date(0) })
        expect(replayed).not.toBe(own)
        expect(body.runs()).toBe(1)
        expect(yield* process.count("recordReplay")).toBe(1)
      })
    )
  }

  it.scoped("that error does not encode: released", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      const body = counting(Effect.fail(new Timeout({ after: 1 })))
      const call = process.run(untyped(body.effect, operation, key, { error: Declined }))
      expect(yield* Effect.flip(call)).toMatchObject({ _tag: "Timeout" })
      expect(yield* store.stateOf()).toBe("Released")
    })
  )

  it.scoped("an error schema that throws releases, and the caller has its failure", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      const error = Schema.transform(Schema.String, Schema.String, {
        strict: true,
        decode: (text) => text,
        encode: () => {
          throw new Error("broken codec")
        }
      })
      expect(yield* Effect.flip(process.run(untyped(Effect.fail("refused"), operation, key, { error })))).toBe(
        "refused"
      )
      expect(yield* store.stateOf()).toBe("Released")
      expect(process.underWay()).toEqual({ owners: 0, flights: 0, leases: 0, background: 0 })
    })
  )

  it.scoped("a recorded failure met without an error schema: IdempotencyResultUnavailableError", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* Effect.flip(process.run(withIdempotency(Effect.fail(declined()), operation, key, { error: Declined })))
      const body = counting(Effect.succeed("paid"))
      for (const options of [{}, { error: Schema.Number }]) {
        expect(yield* Effect.flip(process.run(untyped(body.effect, operation, key, options)))).toMatchObject({
          _tag: "IdempotencyResultUnavailableError"
        })
      }
      expect(body.runs()).toBe(0)
    })
  )

  it.scoped("the cause of the failing caller is its own, finalizers' defects included", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      const body = Effect.ensuring(Effect.fail("refused"), Effect.die("broken finalizer"))
      const exit = yield* Effect.exit(process.run(withIdempotency(body, operation, key, { error: Schema.String })))
      expect(Exit.isFailure(exit) && [...Cause.defects(exit.cause)]).toEqual(["broken finalizer"])
      expect(Exit.isFailure(exit) && [...Cause.failures(exit.cause)]).toEqual(["refused"])
      expect(yield* store.stateOf()).toBe("Completed")
    })
  )
})

describe("a failure that says nothing about what happened", () => {
  for (const guarantee of ["at-least-once", "at-most-once"]) {
    it.scoped(`${guarantee}: the key is held; later callers fail with IdempotencyOutcomeUnknownError`, () =>
      Effect.gen(function* () {
        const { process, store } = yield* singleProcess()
        const body = counting(Effect.fail(new Timeout({ after: 30 })))
        const call = process.run(untyped(body.effect, operation, key, { guarantee, ...unknown }))
        expect(yield* Effect.flip(call)).toMatchObject({ _tag: "Timeout" })
        expect(yield* store.stateOf()).toBe("Unknown")
        expect(yield* Effect.flip(call)).toMatchObject({ _tag: "IdempotencyOutcomeUnknownError", attempt: 1 })
        expect(yield* store.repository.resolve(ids, { _tag: "Success", result: "paid after all" })).toBe(true)
        expect(yield* call).toMatchObject({ _tag: "Replayed", value: "paid after all" })
        expect(body.runs()).toBe(1)
      })
    )
  }

  it.scoped("it is asked before error", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      const call = withIdempotency(Effect.fail(declined()), operation, key, {
        error: Declined,
        isOutcomeUnknown: () => true
      })
      expect(yield* Effect.flip(process.run(call))).toMatchObject({ _tag: "Declined" })
      expect(yield* store.stateOf()).toBe("Unknown")
    })
  )

  it.scoped("false leaves it to error, or to release", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      const call = process.run(untyped(Effect.fail(declined()), operation, key, unknown))
      yield* Effect.flip(call)
      expect(yield* store.stateOf()).toBe("Released")
      yield* Effect.flip(process.run(untyped(Effect.fail(declined()), operation, key, { ...unknown, error: Declined })))
      expect(yield* store.stateOf()).toBe("Completed")
    })
  )

  it.scoped("a defect or an interruption is not its business", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      let asked = 0
      const options = {
        isOutcomeUnknown: () => {
          asked++
          return true
        }
      }
      yield* Effect.exit(process.run(withIdempotency(Effect.die("broken"), operation, key, options)))
      yield* Effect.exit(process.run(withIdempotency(Effect.interrupt, operation, key, options)))
      expect(asked).toBe(0)
      expect(yield* store.stateOf()).toBe("Released")
    })
  )

  it.scoped("a caller whose type knows no unknown outcome: IdempotencyResultUnavailableError", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* Effect.flip(process.run(untyped(Effect.fail(new Timeout({ after: 1 })), operation, key, unknown)))
      const body = counting(Effect.succeed("paid"))
      const error = yield* Effect.flip(process.run(withIdempotency(body.effect, operation, key)))
      expect(error).toMatchObject({
        _tag: "IdempotencyResultUnavailableError",
        cause: { _tag: "IdempotencyOutcomeUnknownError" }
      })
      expect(body.runs()).toBe(0)
    })
  )

  for (const [guarantee, state] of [
    ["at-least-once", "Released"],
    ["at-most-once", "Unknown"]
  ]) {
    it.scoped(`a predicate that throws is a defect, ${guarantee}: ${state}`, () =>
      Effect.gen(function* () {
        const { process, store } = yield* singleProcess()
        const isOutcomeUnknown = () => {
          throw new Error("broken predicate")
        }
        const call = process.run(untyped(Effect.fail("refused"), operation, key, { guarantee, isOutcomeUnknown }))
        const exit = yield* Effect.exit(call)
        expect(Exit.isFailure(exit) && Cause.squash(exit.cause)).toMatchObject({ message: "broken predicate" })
        expect(yield* store.stateOf()).toBe(state)
        expect(process.underWay()).toEqual({ owners: 0, flights: 0, leases: 0, background: 0 })
      })
    )
  }

  it.scoped("a hold that cannot be written goes on in the background", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* process.faults.plan("hold", unavailable, 6)
      const call = process.run(untyped(Effect.fail(new Timeout({ after: 1 })), operation, key, unknown))
      expect(yield* within("2 seconds")(Effect.flip(call))).toMatchObject({ _tag: "Timeout" })
      expect(yield* within("10 seconds")(Effect.flip(call))).toMatchObject({ _tag: "IdempotencyOutcomeUnknownError" })
      expect(yield* store.stateOf()).toBe("Unknown")
    })
  )

  it.scoped("a hold that is never written lets the lease lapse: at-least-once, the next caller runs", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.plan("hold", hanging)
      let runs = 0
      const body = Effect.suspend(() =>
        ++runs === 1 ? Effect.fail(new Timeout({ after: 1 })) : Effect.succeed("paid")
      )
      const call = process.run(untyped(body, operation, key, { ...unknown, waitTimeout: "2 minutes" }))
      yield* within("2 seconds")(Effect.flip(call))
      expect(yield* within("1 minute")(call)).toMatchObject({ _tag: "Executed", attempt: 2 })
    })
  )
})
