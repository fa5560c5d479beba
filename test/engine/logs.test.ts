/** What operators read of an engine: messages that the guide of observability lists. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/TestClock"
import { ids, key, operation, singleProcess, untyped, within } from "../support/engineProcess.js"
import { hanging, refused, replySwallowed, unavailable } from "../support/faultyRepository.js"
import { recordingLogs } from "../support/recordingLogs.js"

const about = { "idempotency.operation": operation }

/** What is told of this library while the effect runs; nothing of it names the key. */
const logged = <E, R>(effect: Effect.Effect<unknown, E, R>) =>
  Effect.gen(function* () {
    const { layer, logs } = recordingLogs()
    yield* Effect.provide(effect, layer)
    expect(JSON.stringify(logs)).not.toContain(key)
    return logs.filter(({ message }) => message.startsWith("idempotency: "))
  })

const strict = { onStorageFailure: "fail" } as const

describe("the log", () => {
  it.scoped("an owner whose key another holds", () =>
    Effect.gen(function* () {
      const logs = yield* logged(
        Effect.gen(function* () {
          const { process, store } = yield* singleProcess()
          yield* Effect.fork(process.run(untyped(Effect.never, operation, key)))
          yield* TestClock.adjust("1 second")
          yield* store.repository.reset(ids, { force: true })
          yield* store.claim("theirs", { lease: 300_000 })
          yield* TestClock.adjust("10 seconds")
        })
      )
      const message = "idempotency: an owner is stopped, as it lost its key: another holds it, or it was reset"
      expect(logs).toMatchObject([{ level: "WARN", message, annotations: about }])
    })
  )

  it.scoped("an owner whose store is away for a lease", () =>
    Effect.gen(function* () {
      const logs = yield* logged(
        Effect.gen(function* () {
          const { process } = yield* singleProcess({ breakerThreshold: 1000 })
          yield* process.faults.plan("renew", unavailable)
          yield* within("1 minute")(Effect.flip(process.run(untyped(Effect.never, operation, key, strict))))
        })
      )
      const why = "the store has not answered for a whole lease"
      const message = `idempotency: an owner is stopped, as it lost its key: ${why}`
      expect(logs).toMatchObject([{ level: "WARN", message, annotations: about }])
    })
  )

  it.scoped("a claim that is left to lapse, and a release that has no place in the background", () =>
    Effect.gen(function* () {
      const logs = yield* logged(
        Effect.gen(function* () {
          const { process } = yield* singleProcess({ breakerThreshold: 1000, maxBackgroundCompletions: 1 })
          yield* process.faults.plan("claim", replySwallowed)
          yield* process.faults.plan("release", hanging)
          const call = (of: string) => Effect.flip(process.run(untyped(Effect.void, operation, of, strict)))
          yield* within("2 seconds")(call(key))
          yield* within("2 seconds")(call(`${key}-2`))
          yield* TestClock.adjust("1 minute")
        })
      )
      expect(logs).toMatchObject([
        { level: "WARN", message: "idempotency: nothing more can go on in the background; a lease will lapse" },
        {
          level: "DEBUG",
          message: "idempotency: a claim was left to lapse",
          annotations: { ...about, fiber: "idempotency.background" }
        }
      ])
    })
  )

  it.scoped("a background task that dies", () =>
    Effect.gen(function* () {
      const logs = yield* logged(
        Effect.gen(function* () {
          const { process } = yield* singleProcess()
          yield* process.faults.plan("claim", refused("Timeout", "unknown"))
          yield* process.faults.plan("release", () => Effect.die("broken driver"))
          yield* within("2 seconds")(Effect.flip(process.run(untyped(Effect.void, operation, key, strict))))
          yield* TestClock.adjust("1 second")
          expect(process.underWay().background).toBe(0)
        })
      )
      expect(logs).toContainEqual({
        level: "ERROR",
        message: "idempotency: a background task died",
        annotations: { fiber: "idempotency.background" }
      })
    })
  )
})
