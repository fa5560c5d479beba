/** A store whose parts are away each by itself, as the nodes of a cluster are. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import {
  Idempotency,
  IdempotencyDomainService,
  IdempotencyMetrics,
  IdempotencyRepository,
  IdempotencyStorageError,
  withIdempotencyOutcome
} from "../../src/index.js"
import { makeMemoryDriver } from "../../src/internal/memoryDriver.js"

const lease = "30 seconds"

/** Keys are on the part that they begin with; nothing but the renewals of a part that is away hangs. */
const makeStore = () => {
  const { driver } = makeMemoryDriver(1_000)
  const away = new Set<string>()
  const partOf = ({ idempotencyKey }: { readonly idempotencyKey: string }) => idempotencyKey.slice(0, 1)
  const unlessAway =
    (method: string) =>
    <A>(keys: ReadonlyArray<{ readonly idempotencyKey: string }>, call: Effect.Effect<A, IdempotencyStorageError>) =>
      Effect.suspend(() => {
        if (!keys.some((key) => away.has(partOf(key)))) return call
        return method === "renew"
          ? Effect.never
          : Effect.fail(new IdempotencyStorageError({ operation: "", method, reason: "Unavailable", applied: "no" }))
      })
  const asked: Array<string> = []
  const withParts: IdempotencyRepository.Driver = {
    ...driver,
    partOf,
    claim: (ids, request) =>
      Effect.suspend(() => {
        asked.push(ids.idempotencyKey)
        return unlessAway("claim")([ids], driver.claim(ids, request))
      }),
    read: (identifiers) => unlessAway("read")(identifiers, driver.read(identifiers)),
    renew: (leases) =>
      unlessAway("renew")(
        leases.map(({ identifiers }) => identifiers),
        driver.renew(leases)
      )
  }
  const engine = Idempotency.layerWith({ breakerThreshold: 4 }).pipe(
    Layer.provide([
      Layer.effect(IdempotencyRepository, IdempotencyRepository.make(withParts)),
      IdempotencyDomainService.layer,
      IdempotencyMetrics.layerNoop
    ])
  )
  return { asked, away, engine }
}

const call = (key: string, effect: Effect.Effect<string> = Effect.succeed("paid")) =>
  Effect.either(withIdempotencyOutcome(effect, "pay", key, { onStorageFailure: "fail", lease }))

const soon = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.fork(effect)
    yield* TestClock.adjust("1 second")
    return yield* Fiber.join(fiber)
  })

describe("a part that is away", () => {
  it.effect("opens the breaker for its keys alone, until a probe of one of them is answered", () => {
    const { asked, away, engine } = makeStore()
    return Effect.gen(function* () {
      away.add("a")
      expect(yield* soon(call("a-1"))).toMatchObject({ left: { reason: "Unavailable" } })
      const before = asked.length
      expect(yield* call("a-2")).toMatchObject({ left: { reason: "Unavailable", applied: "no" } })
      expect(asked).toHaveLength(before)
      expect(yield* call("b-1")).toMatchObject({ right: { _tag: "Executed" } })
      // What another part answers does not close it.
      expect(yield* call("a-3")).toMatchObject({ left: { reason: "Unavailable" } })
      expect(asked.slice(before)).toEqual(["b-1"])
      away.delete("a")
      yield* TestClock.adjust("1100 millis")
      expect(yield* call("a-1")).toMatchObject({ right: { _tag: "Executed" } })
    }).pipe(Effect.provide(engine))
  })

  it.effect("does not keep the leases of others from being renewed", () => {
    const { away, engine } = makeStore()
    return Effect.gen(function* () {
      const slow = Effect.as(Effect.sleep("5 minutes"), "paid")
      const stuck = yield* Effect.fork(call("a-1", slow))
      const sound = yield* Effect.fork(call("b-1", slow))
      yield* TestClock.adjust("1 second")
      away.add("a")
      yield* TestClock.adjust("6 minutes")
      expect(yield* Fiber.join(stuck)).toMatchObject({ left: { method: "renew" } })
      expect(yield* Fiber.join(sound)).toMatchObject({ right: { _tag: "Executed", attempt: 1 } })
    }).pipe(Effect.provide(engine))
  })
})
