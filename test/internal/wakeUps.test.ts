import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { makeWakeUps } from "../../src/internal/wakeUps.js"

describe("wake-ups", () => {
  it.effect("a key is watched from its first subscription to the end of its last", () =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      const wakeUps = makeWakeUps({
        onFirst: (key) => void seen.push(`first ${key}`),
        onLast: (key) => void seen.push(`last ${key}`)
      })
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* wakeUps.subscribe("a")
          yield* Effect.scoped(Effect.zipRight(wakeUps.subscribe("a"), wakeUps.subscribe("b")))
          expect(seen).toEqual(["first a", "first b", "last b"])
        })
      )
      expect(seen).toEqual(["first a", "first b", "last b", "last a"])
      yield* Effect.scoped(wakeUps.subscribe("a"))
      expect(seen.slice(4)).toEqual(["first a", "last a"])
    })
  )

  it.scoped("one key's waiters wake, or all", () =>
    Effect.gen(function* () {
      const wakeUps = makeWakeUps()
      const a = yield* Effect.fork(yield* wakeUps.subscribe("a"))
      const b = yield* Effect.fork(yield* wakeUps.subscribe("b"))
      yield* Effect.yieldNow()
      wakeUps.unsafeNotify("a")
      wakeUps.unsafeNotify("nobody's")
      yield* Fiber.join(a)
      expect(Option.isNone(yield* Fiber.poll(b))).toBe(true)
      wakeUps.unsafeNotifyAll()
      yield* Fiber.join(b)
    })
  )
})
