/** `withIdempotentStep`: finished steps are replayed, not run, when the effect runs again. */
import { describe, expect, it } from "@effect/vitest"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/TestClock"
import { IdempotentExecution } from "../../src/IdempotentExecution.js"
import { maxSteps, maxStepsLength } from "../../src/internal/protocol.js"
import { withIdempotency, withIdempotencyOutcome } from "../../src/withIdempotency.js"
import { withIdempotentStep } from "../../src/withIdempotentStep.js"
import {
  counting,
  ended,
  ids,
  key,
  lasting,
  operation,
  singleProcess,
  twoProcesses,
  within
} from "../support/engineProcess.js"
import { hanging, replyLost, unavailable } from "../support/faultyRepository.js"

/** Charges, then ships; shipping fails so many times. */
const checkout = (failures = 0) => {
  let left = failures
  const charge = counting(Effect.succeed({ id: "ch-1" }))
  const ship = counting(Effect.suspend(() => (left-- > 0 ? Effect.fail("no carrier") : Effect.succeed("p-1"))))
  const effect = Effect.zipWith(
    withIdempotentStep("charge")(charge.effect),
    withIdempotentStep("ship")(ship.effect),
    (paid, parcel) => ({ charge: paid.id, parcel })
  )
  return { charge, ship, effect }
}

const stepsOf = (state: Option.Option<unknown>) => Option.getOrUndefined(state) as { readonly steps?: unknown }

describe("steps", () => {
  it.scoped("a later failure: the finished step is replayed on the next attempt", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      const { charge, effect, ship } = checkout(2)
      const call = process.run(withIdempotencyOutcome(effect, operation, key))
      expect(yield* Effect.flip(call)).toBe("no carrier")
      expect(stepsOf(yield* store.repository.inspect(ids)).steps).toEqual([
        { name: "charge", encoded: '{"id":"ch-1"}' }
      ])
      yield* Effect.flip(call)
      expect(yield* call).toEqual({ _tag: "Executed", value: { charge: "ch-1", parcel: "p-1" }, attempt: 3 })
      expect([charge.runs(), ship.runs()]).toEqual([1, 3])
    })
  )

  it.scoped("a take-over after a crash: the steps of the crashed owner are replayed", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* store.claim("crashed", { lease: 5000 })
      yield* store.repository.claims.saveStep(ids, { token: "crashed", name: "charge", encoded: '{"id":"theirs"}' })
      const { charge, effect } = checkout()
      const call = process.run(withIdempotency(effect, operation, key))
      expect(yield* within("10 seconds")(call)).toEqual({ charge: "theirs", parcel: "p-1" })
      expect(charge.runs()).toBe(0)
    })
  )

  it.scoped("an interruption: the same", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const charge = counting(Effect.succeed("charged"))
      let first = true
      const rest = Effect.suspend(() => {
        const interrupted = first
        first = false
        return interrupted ? Effect.interrupt : Effect.succeed("shipped")
      })
      const effect = Effect.zip(withIdempotentStep("charge")(charge.effect), rest)
      const call = process.run(
        withIdempotency(
          Effect.map(effect, (both) => both.join()),
          operation,
          key
        )
      )
      yield* Effect.exit(call)
      expect(yield* call).toBe("charged,shipped")
      expect(charge.runs()).toBe(1)
    })
  )

  it.scoped("complete deletes them; after reset everything runs again", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      const { charge, effect } = checkout()
      const call = process.run(withIdempotency(effect, operation, key))
      yield* call
      expect(stepsOf(yield* store.repository.inspect(ids)).steps).toBeUndefined()
      yield* store.repository.reset(ids)
      yield* call
      expect(charge.runs()).toBe(2)
    })
  )

  it.scoped("the reply of a step's record is lost: it is recorded once", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* process.faults.plan("saveStep", replyLost, 1)
      const { effect } = checkout(1)
      yield* within("1 second")(Effect.flip(process.run(withIdempotency(effect, operation, key))))
      expect(stepsOf(yield* store.repository.inspect(ids)).steps).toHaveLength(1)
    })
  )

  it.scoped("results have codecs: a Date, void, null", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      let fail = true
      const at = new Date(0)
      const results: Array<unknown> = []
      const effect = Effect.gen(function* () {
        results.length = 0
        results.push(yield* withIdempotentStep("date", { success: Schema.Date })(Effect.succeed(at)))
        results.push(yield* withIdempotentStep("void")(Effect.void))
        results.push(yield* withIdempotentStep("null")(Effect.succeed(null)))
        if (fail) return yield* Effect.fail("later")
        return "done"
      })
      const call = process.run(withIdempotency(effect, operation, key))
      yield* Effect.flip(call)
      fail = false
      yield* call
      expect(results).toStrictEqual([at, undefined, null])
      expect(results[0]).not.toBe(at)
    })
  )

  it.scoped("a recorded step that cannot be decoded: IdempotencyResultUnavailableError, and it does not run", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* store.claim("crashed", { lease: 5000 })
      yield* store.repository.claims.saveStep(ids, { token: "crashed", name: "charge", encoded: '"text"' })
      yield* TestClock.adjust("6 seconds")
      const step = counting(Effect.succeed(1))
      const effect = withIdempotentStep("charge", { success: Schema.Number })(step.effect)
      expect(yield* Effect.flip(process.run(withIdempotency(effect, operation, key)))).toMatchObject({
        _tag: "IdempotencyResultUnavailableError"
      })
      expect(step.runs()).toBe(0)
    })
  )

  it.scoped("a name used twice in one run is an IdempotencyValidationError, and runs nothing", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const step = counting(Effect.succeed("stepped"))
      const one = withIdempotentStep("one")(step.effect)
      for (const twice of [
        Effect.zipRight(one, one),
        Effect.zipRight(Effect.all([one, one], { concurrency: "unbounded" }), Effect.void)
      ]) {
        const error = yield* Effect.flip(process.run(withIdempotency(Effect.asVoid(twice), operation, key)))
        expect(error).toMatchObject({
          _tag: "IdempotencyValidationError",
          operation,
          issues: ["the name of a step is used twice in one run"]
        })
      }
      expect(step.runs()).toBe(1)
    })
  )

  it.scoped("also when the first use was a replay", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* store.claim("crashed", { lease: 5000 })
      yield* store.repository.claims.saveStep(ids, { token: "crashed", name: "one", encoded: '"theirs"' })
      yield* TestClock.adjust("6 seconds")
      const one = withIdempotentStep("one")(Effect.succeed("mine"))
      const error = yield* Effect.flip(process.run(withIdempotency(Effect.zipRight(one, one), operation, key)))
      expect(error).toMatchObject({ _tag: "IdempotencyValidationError" })
    })
  )

  it.scoped("a failed step may be tried again in the same run", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      let failures = 2
      const step = counting(Effect.suspend(() => (failures-- > 0 ? Effect.fail("busy") : Effect.succeed("stepped"))))
      const effect = Effect.retry(withIdempotentStep("one")(step.effect), {
        times: 3,
        while: (error) => error === "busy"
      })
      expect(yield* process.run(withIdempotency(effect, operation, key))).toBe("stepped")
      expect(step.runs()).toBe(3)
    })
  )

  const length = "the name of a step has 1 to 255 characters"
  for (const [what, name, issue] of [
    ["of 0 characters", "", length],
    ["of 256 characters", "n".repeat(256), length],
    ["that no store gives back", "n\ud800", "the name of a step holds a lone surrogate"]
  ] as const) {
    it.scoped(`a name ${what} is an IdempotencyValidationError`, () =>
      Effect.gen(function* () {
        const { process } = yield* singleProcess()
        const step = counting(Effect.succeed("stepped"))
        const call = process.run(withIdempotency(withIdempotentStep(name)(step.effect), operation, key))
        expect(yield* Effect.flip(call)).toMatchObject({
          _tag: "IdempotencyValidationError",
          issues: [issue]
        })
        expect(step.runs()).toBe(0)
      })
    )
  }

  it.scoped("a name of 255 characters is one", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const step = withIdempotentStep("n".repeat(255))(Effect.succeed("stepped"))
      expect(yield* process.run(withIdempotency(step, operation, key))).toBe("stepped")
    })
  )

  it.scoped("at most a hundred steps", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const steps = (count: number) =>
        Effect.forEach(
          Array.from({ length: count }, (_, index) => index),
          (index) => withIdempotentStep(`step ${index}`)(Effect.succeed(index))
        )
      const all = yield* process.run(withIdempotency(steps(maxSteps), operation, key))
      expect(all).toHaveLength(maxSteps)
      const beyond = process.run(withIdempotency(Effect.asVoid(steps(maxSteps + 1)), operation, "order-2"))
      expect(yield* Effect.flip(beyond)).toMatchObject({
        _tag: "IdempotencyValidationError",
        issues: ["an execution has at most 100 steps"]
      })
    })
  )

  it.scoped("a result too large for the record, or without JSON, is given, and the step runs again next time", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const large = counting(Effect.succeed("x".repeat(maxStepsLength)))
      const odd = counting(Effect.succeed(Number.NaN))
      const effect = Effect.gen(function* () {
        const text = yield* withIdempotentStep("large")(large.effect)
        const number = yield* withIdempotentStep("odd")(odd.effect)
        expect([text.length, number]).toEqual([maxStepsLength, Number.NaN])
        return yield* Effect.fail("later")
      })
      const call = Effect.flip(process.run(withIdempotency(effect, operation, key)))
      expect([yield* call, yield* call]).toEqual(["later", "later"])
      expect([large.runs(), odd.runs()]).toEqual([2, 2])
    })
  )

  for (const fault of [unavailable, hanging]) {
    it.scoped(
      `the store fails (${fault === hanging ? "hanging" : "refusing"}): the step's result is given all the same`,
      () =>
        Effect.gen(function* () {
          const { process } = yield* singleProcess()
          yield* process.faults.plan("saveStep", fault)
          const { effect } = checkout()
          const call = process.run(withIdempotency(effect, operation, key, { onStorageFailure: "fail" }))
          expect(yield* within("3 seconds")(call)).toEqual({ charge: "ch-1", parcel: "p-1" })
        })
    )
  }

  it.scoped("an owner that lost its key records no steps", () =>
    Effect.gen(function* () {
      const { one, two } = yield* twoProcesses()
      yield* one.faults.plan("renew", unavailable)
      const late = Effect.zipRight(
        lasting("", "40 seconds").effect,
        withIdempotentStep("late")(Effect.succeed("stepped"))
      )
      const owner = yield* Effect.fork(one.run(withIdempotency(late, operation, key, { waitTimeout: "5 minutes" })))
      yield* TestClock.adjust("31 seconds")
      const other = yield* Effect.fork(two.run(withIdempotency(lasting("winner", "1 minute").effect, operation, key)))
      yield* TestClock.adjust("65 seconds")
      expect([yield* ended(owner), yield* ended(other)]).toEqual(["winner", "winner"])
    })
  )

  const warningsOf = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.gen(function* () {
      const warnings: Array<string> = []
      const logger = Logger.make(({ message }) => warnings.push(Arr.ensure(message).join(": ")))
      yield* Effect.provide(effect, Logger.replace(Logger.defaultLogger, logger))
      return warnings
    })

  it.scoped("it is said if the store does not take a step's result, and why", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      const warningsFor = (name: string, before: Effect.Effect<void>, value: string) =>
        warningsOf(
          process.run(
            withIdempotency(Effect.zipRight(before, withIdempotentStep("step")(Effect.succeed(value))), operation, name)
          )
        )
      const notRecorded = `idempotency: a step of "${operation}" is not recorded and may run again`
      expect(yield* warningsFor("saved", Effect.void, "small")).toEqual([])
      expect(yield* warningsFor("too large", Effect.void, "x".repeat(maxStepsLength))).toEqual([
        `${notRecorded}: TooLarge`
      ])
      expect(yield* warningsFor("lost", store.loseEverything, "small")).toContain(`${notRecorded}: Lost`)
    })
  )
})

describe("where nothing is claimed", () => {
  it.scoped("steps just run under an IdempotentExecution that a test provides", () =>
    Effect.gen(function* () {
      const step = counting(Effect.succeed("stepped"))
      const one = withIdempotentStep("one")(step.effect)
      const twice = Effect.zip(one, one).pipe(
        Effect.provideService(IdempotentExecution, {
          operation,
          idempotencyKey: key,
          scope: undefined,
          attempt: 1,
          childKey: () => {
            throw new Error("not asked for")
          }
        })
      )
      expect(yield* twice).toEqual(["stepped", "stepped"])
      expect(step.runs()).toBe(2)
    })
  )

  it.scoped("in an optimistic run they just run, and a name is still used once", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const one = withIdempotentStep("one")(Effect.succeed("stepped"))
      const options = { strategy: "optimistic" } as const
      expect(yield* process.run(withIdempotency(one, operation, key, options))).toBe("stepped")
      expect(process.faults.calls("saveStep")).toEqual([])
      const twice = process.run(withIdempotency(Effect.zipRight(one, one), operation, "order-2", options))
      expect(yield* Effect.flip(twice)).toMatchObject({ _tag: "IdempotencyValidationError" })
    })
  )

  it.scoped("in a nested execution they belong to that one", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      const inner = withIdempotentStep("one")(Effect.succeed("inner"))
      const nested = process.run(withIdempotency(Effect.zipRight(inner, Effect.fail("later")), operation, "inner"))
      const outer = Effect.zipRight(Effect.flip(nested), withIdempotentStep("one")(Effect.succeed("outer")))
      const call = process.run(withIdempotency(Effect.zipRight(outer, Effect.fail("later")), operation, key))
      yield* Effect.flip(call)
      expect(stepsOf(yield* store.repository.inspect(ids)).steps).toEqual([{ name: "one", encoded: '"outer"' }])
    })
  )
})
