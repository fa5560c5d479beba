/** Rule 12: a nested call on a key that its own execution holds fails in flight at once instead of dead-locking. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { withIdempotency } from "../../src/withIdempotency.js"
import {
  counting,
  during,
  key,
  operation,
  type Process,
  singleProcess,
  twoProcesses
} from "../support/engineProcess.js"
import { unavailable } from "../support/faultyRepository.js"

const other = "order-2"

/** What the inner call on the outer key fails with, and after how long. */
const innerOf = (
  process: Process,
  around: <A, E>(inner: Effect.Effect<A, E>) => Effect.Effect<A, E>,
  outer: { readonly strategy?: "optimistic" } = {}
) => {
  const body = counting(Effect.succeed("inner"))
  const inner = process.run(withIdempotency(body.effect, operation, key))
  const result = Effect.exit(around(inner)).pipe(
    Effect.map((exit) => (Exit.isFailure(exit) ? String(exit.cause) : exit.value)),
    (nested) => process.run(withIdempotency(nested, operation, key, outer))
  )
  return Effect.map(during("40 seconds")(result), ({ exit, took }) => ({ exit, took, runs: body.runs() }))
}

const inFlightAtOnce = {
  exit: Exit.succeed(expect.stringContaining("IdempotencyInFlightError")),
  took: 0,
  runs: 0
}

describe("a nested call on the key of its own execution", () => {
  it.scoped("fails in flight at once", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      expect(yield* innerOf(process, (inner) => inner)).toEqual(inFlightAtOnce)
    })
  )

  it.scoped("the outer call is not harmed: its result is recorded", () =>
    Effect.gen(function* () {
      const { process, store } = yield* singleProcess()
      yield* innerOf(process, (inner) => inner)
      expect(yield* store.stateOf()).toBe("Completed")
      expect(process.underWay()).toEqual({ owners: 0, flights: 0, leases: 0, background: 0 })
    })
  )

  it.scoped("from a forked fiber", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      expect(yield* innerOf(process, (inner) => Effect.flatMap(Effect.fork(inner), Fiber.join))).toEqual(inFlightAtOnce)
    })
  )

  it.scoped("from a daemon, and from parallel branches", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const daemon = yield* innerOf(process, (inner) => Effect.flatMap(Effect.forkDaemon(inner), Fiber.join))
      expect(daemon).toEqual(inFlightAtOnce)
      const { process: another } = yield* singleProcess()
      const branches = yield* innerOf(another, (inner) =>
        Effect.map(Effect.all([inner, inner], { concurrency: "unbounded" }), ([first]) => first)
      )
      expect(branches).toEqual(inFlightAtOnce)
    })
  )

  it.scoped("through an execution on another key in between", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const middle = <A, E>(inner: Effect.Effect<A, E>) =>
        process.run(withIdempotency(Effect.map(inner, String), operation, other)) as Effect.Effect<A, E>
      expect(yield* innerOf(process, middle)).toEqual(inFlightAtOnce)
    })
  )

  it.scoped("through a run without a key in between", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const middle = <A, E>(inner: Effect.Effect<A, E>) =>
        process.run(withIdempotency(Effect.map(inner, String), operation, null)) as Effect.Effect<A, E>
      expect(yield* innerOf(process, middle)).toEqual(inFlightAtOnce)
    })
  )

  it.scoped("through an optimistic run in between", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const middle = <A, E>(inner: Effect.Effect<A, E>) =>
        process.run(
          withIdempotency(Effect.map(inner, String), operation, other, { strategy: "optimistic" })
        ) as Effect.Effect<A, E>
      expect(yield* innerOf(process, middle)).toEqual(inFlightAtOnce)
    })
  )

  it.scoped("while the outer call is degraded", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      yield* process.faults.plan("all", unavailable)
      const { exit, runs } = yield* innerOf(process, (inner) => inner)
      expect({ exit, runs }).toEqual({ exit: inFlightAtOnce.exit, runs: 0 })
    })
  )

  it.scoped("an optimistic outer call holds nothing: the inner one runs", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const { exit, runs } = yield* innerOf(process, (inner) => inner, { strategy: "optimistic" })
      expect({ exit, runs }).toEqual({ exit: Exit.succeed("inner"), runs: 1 })
    })
  )

  it.scoped("another key, scope or operation is another matter", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const nested = Effect.all([
        process.run(withIdempotency(Effect.succeed("a"), operation, other)),
        process.run(withIdempotency(Effect.succeed("b"), "other", key)),
        process.run(withIdempotency(Effect.succeed("c"), operation, key, { scope: "tenant" }))
      ])
      expect(yield* process.run(withIdempotency(nested, operation, key))).toEqual(["a", "b", "c"])
    })
  )

  it.scoped("once the outer execution has ended, what it left running may call", () =>
    Effect.gen(function* () {
      const { process } = yield* singleProcess()
      const inner = process.run(withIdempotency(Effect.succeed("inner"), operation, key))
      const left: Array<Fiber.RuntimeFiber<unknown, unknown>> = []
      const outer = Effect.map(Effect.forkDaemon(Effect.delay(inner, "1 second")), (fiber) => {
        left.push(fiber)
        return "outer"
      })
      yield* process.run(withIdempotency(outer, operation, key))
      const { exit } = yield* during("2 seconds")(Effect.forEach(left, Fiber.join))
      expect(exit).toEqual(Exit.succeed(["outer"]))
    })
  )

  it.scoped("in another process it waits, like any other caller", () =>
    Effect.gen(function* () {
      const { one, two } = yield* twoProcesses()
      const inner = Effect.flip(
        two.run(withIdempotency(Effect.succeed("inner"), operation, key, { waitTimeout: "5 seconds" }))
      )
      const { exit, took } = yield* during("10 seconds")(
        one.run(
          withIdempotency(
            Effect.map(inner, ({ _tag }) => _tag),
            operation,
            key
          )
        )
      )
      expect(exit).toEqual(Exit.succeed("IdempotencyInFlightError"))
      expect(took).toBe(5000)
    })
  )
})
