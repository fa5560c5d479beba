/** A store that has a reason why nothing can be claimed from where a call is, or on its terms. */
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import {
  Idempotency,
  IdempotencyDomainService,
  IdempotencyMetrics,
  IdempotencyRepository,
  withIdempotency
} from "../../src/index.js"
import { makeMemoryDriver } from "../../src/internal/memoryDriver.js"
import { counting, ids, key, operation } from "../support/engineProcess.js"

const { driver } = makeMemoryDriver(10)

/** It claims only for callers that do not go without it. */
const engine = Idempotency.layerWith({ storageTimeout: "2 seconds" }).pipe(
  Layer.provide([
    Layer.effect(
      IdempotencyRepository,
      IdempotencyRepository.make({
        ...driver,
        objection: ({ onStorageFailure, storageTimeout }) =>
          Effect.succeed(onStorageFailure === "proceed" ? `not within ${storageTimeout} ms` : undefined)
      })
    ),
    IdempotencyDomainService.layer,
    IdempotencyMetrics.layerNoop
  ])
)

it.effect("objects, on the terms of the call and of the engine: nothing runs, and nothing is claimed", () =>
  Effect.gen(function* () {
    const body = counting(Effect.succeed("paid"))
    expect(yield* Effect.flip(body.effect.pipe(withIdempotency(operation, key)))).toMatchObject({
      _tag: "IdempotencyValidationError",
      operation,
      issues: ["not within 2000 ms"]
    })
    expect(body.runs()).toBe(0)
    expect(yield* driver.read([ids])).toEqual([undefined])
    expect(yield* body.effect.pipe(withIdempotency(operation, key, { onStorageFailure: "fail" }))).toBe("paid")
    expect(body.runs()).toBe(1)
  }).pipe(Effect.provide(engine))
)
