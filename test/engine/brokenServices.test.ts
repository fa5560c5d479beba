/** Services of a user's own that break their promise not to fail: what has run is recorded all the same, and once. */
import { describe, expect, it } from "@effect/vitest"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import { Idempotency } from "../../src/Idempotency.js"
import { IdempotencyDomainService } from "../../src/IdempotencyDomainService.js"
import { IdempotencyMetrics } from "../../src/IdempotencyMetrics.js"
import { MemoryIdempotencyRepository } from "../../src/MemoryIdempotencyRepository.js"
import { withIdempotency } from "../../src/withIdempotency.js"
import { counting, key, operation } from "../support/engineProcess.js"

type Metrics = Context.Tag.Service<IdempotencyMetrics>

const throwing = (): never => {
  throw new Error("no metric for you")
}
const dying = () => Effect.dieMessage("no metric for you")

const brokenMetrics = (broken: () => Effect.Effect<never>): Metrics => ({
  recordHit: broken,
  recordMiss: broken,
  recordCollision: broken,
  recordError: broken,
  recordLatency: broken,
  recordBulkHit: broken,
  recordBulkMiss: broken,
  recordExecution: broken,
  recordReplay: broken,
  recordWait: broken,
  recordTakeover: broken,
  recordDegraded: broken,
  recordLeaseLost: broken,
  recordMismatch: broken,
  recordInFlight: broken
})

const layerWith = (metrics: Metrics) =>
  Idempotency.layer.pipe(
    Layer.provideMerge(MemoryIdempotencyRepository.layer),
    Layer.provide([IdempotencyDomainService.layer, Layer.succeed(IdempotencyMetrics, metrics)])
  )

const quiet = Logger.remove(Logger.defaultLogger)
const brokenLogger = Logger.replace(Logger.defaultLogger, Logger.make<unknown, void>(throwing))

/** Runs once, is replayed, runs again after a failure, and leaves nothing behind. */
const check = Effect.gen(function* () {
  const engine = yield* Idempotency
  const paid = counting(Effect.succeed("paid"))
  const charge = withIdempotency(paid.effect, operation, key)
  expect(yield* charge).toBe("paid")
  expect(yield* charge).toBe("paid")
  expect(paid.runs()).toBe(1)

  const refused = counting(Effect.fail("refused" as const))
  const other = withIdempotency(refused.effect, operation, "order-2")
  expect(yield* Effect.flip(other)).toBe("refused")
  expect(yield* Effect.flip(other)).toBe("refused")
  expect(refused.runs()).toBe(2)
  expect(yield* withIdempotency(paid.effect, operation, "order-2")).toBe("paid")
  expect(engine.underWay()).toEqual({ owners: 0, flights: 0, leases: 0, background: 0 })
})

describe("metrics", () => {
  it.effect("that throw change nothing", () =>
    check.pipe(Effect.provide(layerWith(brokenMetrics(throwing))), Effect.provide(quiet))
  )

  it.effect("that die change nothing", () =>
    check.pipe(Effect.provide(layerWith(brokenMetrics(dying))), Effect.provide(quiet))
  )

  it.effect("that die, and a logger that does, change nothing", () =>
    check.pipe(Effect.provide(layerWith(brokenMetrics(dying))), Effect.provide(brokenLogger))
  )

  it.effect("may find what they need in themselves", () => {
    class Counting {
      executions = 0
      recordExecution(): Effect.Effect<void> {
        return Effect.sync(() => {
          this.executions++
        })
      }
    }
    const own = new Counting()
    const metrics = Object.assign(own, {
      ...brokenMetrics(throwing),
      recordExecution: Counting.prototype.recordExecution
    })
    return Effect.gen(function* () {
      yield* check
      expect(own.executions).toBe(4)
    }).pipe(Effect.provide(layerWith(metrics)), Effect.provide(quiet))
  })
})

describe("a logger that dies", () => {
  it.effect("does not make an effect run again whose result is not recorded", () =>
    Effect.gen(function* () {
      const engine = yield* Idempotency
      // What a type does not see.
      class Receipt {
        constructor(readonly id: string) {}
      }
      const instance = counting(Effect.succeed(new Receipt("r-1")))
      const charge = withIdempotency(instance.effect, operation, key)
      expect(yield* charge).toEqual(new Receipt("r-1"))
      expect(yield* charge).toEqual({ id: "r-1" })
      expect(instance.runs()).toBe(1)
      const unencodable: { readonly id: string } = Object.defineProperty({ id: "r-2" }, "toJSON", { value: throwing })
      const body = counting(Effect.succeed(unencodable))
      const call = withIdempotency(body.effect, operation, "order-2")
      expect(yield* call).toBe(unencodable)
      expect(yield* Effect.flip(call)).toMatchObject({ _tag: "IdempotencyResultUnavailableError" })
      expect(body.runs()).toBe(1)
      expect(engine.underWay()).toEqual({ owners: 0, flights: 0, leases: 0, background: 0 })
    }).pipe(
      Effect.provide(
        Idempotency.layer.pipe(
          Layer.provideMerge(MemoryIdempotencyRepository.layer),
          Layer.provide([IdempotencyDomainService.layer, IdempotencyMetrics.layerNoop])
        )
      ),
      Effect.provide(brokenLogger)
    )
  )
})
