/** An absent key: the effect runs unprotected, as the caller asked for. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { IdempotentExecution } from "../../src/IdempotentExecution.js"
import { withIdempotency, withIdempotencyOutcome } from "../../src/withIdempotency.js"
import { withIdempotentStep } from "../../src/withIdempotentStep.js"
import { counting, key, operation, settleDown, singleProcess } from "../support/engineProcess.js"
import { hanging } from "../support/faultyRepository.js"

const absent = [null, undefined, Option.none<string>()] as const

describe("an absent key", () => {
  for (const none of absent) {
    it.scoped(`${none}: every call runs, Unprotected NoKey, and the store is not asked`, () =>
      Effect.gen(function* () {
        const { process } = yield* singleProcess()
        yield* process.faults.plan("all", hanging)
        const body = counting(Effect.succeed("paid"))
        const call = process.run(withIdempotencyOutcome(body.effect, operation, none))
        expect(yield* call).toEqual({ _tag: "Unprotected", value: "paid", reason: "NoKey" })
        yield* call
        expect(body.runs()).toBe(2)
        expect(process.faults.calls()).toEqual([])
        expect(yield* process.metrics.calls).toEqual([])
      })
    )
  }

  it.scoped("the value, the failure and the interruption are the effect's own", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      expect(yield* process.run(withIdempotency(Effect.succeed({ id: 1 }), operation, null))).toEqual({ id: 1 })
      expect(yield* Effect.flip(process.run(withIdempotency(Effect.fail("refused"), operation, null)))).toBe("refused")
      const fiber = yield* Effect.fork(process.run(withIdempotency(Effect.never, operation, null)))
      yield* settleDown
      expect(Exit.isInterrupted(yield* Fiber.interrupt(fiber))).toBe(true)
    })
  )

  it.scoped("the effect still has its IdempotentExecution, under a key of its own", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const body = Effect.map(IdempotentExecution, (execution) => ({
        operation: execution.operation,
        key: execution.idempotencyKey,
        attempt: execution.attempt,
        child: String(execution.childKey("gateway")),
        hasScope: execution.scope !== undefined
      }))
      const call = process.run(withIdempotency(body, ` ${operation} `, null))
      const [one, two] = [yield* call, yield* call]
      expect(one).toMatchObject({ operation, attempt: 1, hasScope: false })
      expect(one.key).toMatch(/^[0-9a-f-]{36}$/)
      expect(one.child).toHaveLength(43)
      expect(two.key).not.toBe(one.key)
      expect(two.child).not.toBe(one.child)
    })
  )

  it.scoped("its steps just run", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const step = counting(Effect.succeed("stepped"))
      const call = process.run(withIdempotency(withIdempotentStep("one")(step.effect), operation, null))
      yield* call
      yield* call
      expect(step.runs()).toBe(2)
      expect(process.faults.calls()).toEqual([])
    })
  )

  it.scoped("inside a protected effect its steps are not recorded under the key of that one", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const step = counting(Effect.succeed("stepped"))
      const inner = process.run(withIdempotency(withIdempotentStep("one")(step.effect), operation, null))
      yield* process.run(withIdempotency(inner, operation, key))
      expect(process.faults.calls("saveStep")).toEqual([])
      expect(step.runs()).toBe(1)
    })
  )
})
