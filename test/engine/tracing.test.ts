/** Spans where there is a tracer, and none where there is not; never a key, a scope, a fingerprint or a result. */
import { createHash } from "node:crypto"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import { withIdempotency } from "../../src/withIdempotency.js"
import { withIdempotentStep } from "../../src/withIdempotentStep.js"
import {
  during,
  identifiersOf,
  type Process,
  type ProcessOptions,
  type Store,
  singleProcess,
  twoProcesses,
  untyped
} from "../support/engineProcess.js"
import { refused, unavailable } from "../support/faultyRepository.js"
import { type Recording, recorded } from "../support/recordingTracer.js"

const operation = "payment.charge"
const key = "secret-key"
const scope = "secret-scope"
const fingerprint = { amount: "secret-amount" }
const digest = (text: string, encoding: "hex" | "base64url") => createHash("sha256").update(text).digest(encoding)
const keyHash = digest(`${operation}:${scope}:${key}`, "hex").slice(0, 16)

const body = Effect.withSpan(Effect.succeed("secret-result"), "body")

/** The protected call that all tests make. */
const call = (process: Process, self: Effect.Effect<unknown, unknown> = body, options: object = {}) =>
  process.run(untyped(self, operation, key, { scope, fingerprint, ...options }))

const never = (text: string): void => {
  expect(text).not.toMatch(/secret/)
  expect(text).not.toContain(digest(JSON.stringify(fingerprint), "base64url"))
}

/** Every span has ended once, says what it is about and nothing that is confidential; no log does either. */
const check = ({ logs, spans }: Recording): void => {
  for (const span of spans) {
    expect([span.name, span.ends]).toEqual([span.name, 1])
    if (!span.name.startsWith("idempotency.")) continue
    never(JSON.stringify(span.told))
    expect(span.attributes.get("idempotency.operation")).toBe(operation)
    expect(span.attributes.get("idempotency.store")).toBe("memory")
  }
  // Of a fiber that fails the runtime itself says so, with the error.
  for (const log of logs) if (!log.includes("Fiber terminated")) never(log)
}

interface World extends Recording {
  readonly process: Process
  readonly store: Store
}

const traced = (
  name: string,
  test: (world: World) => Effect.Effect<void, unknown, Scope.Scope>,
  options?: ProcessOptions
) =>
  it.scoped(name, () =>
    recorded((recording) =>
      Effect.gen(function* () {
        const { process, store } = yield* singleProcess(options)
        yield* test({ ...recording, process, store })
        yield* process.stop
        check(recording)
      })
    )
  )

const linksOf = ({ named }: Recording): ReadonlyArray<ReadonlyArray<unknown>> =>
  named("idempotency.execute").map(({ links }) => links.map(({ span }) => span.spanId))

describe("a protected call in a trace", () => {
  traced("runs beneath its span, as the store's calls do; a replay is linked to it", (world) =>
    Effect.gen(function* () {
      yield* Effect.withSpan(call(world.process), "request")
      yield* call(world.process)
      expect(world.tree()).toEqual([
        "request",
        "  execute Executed #1",
        "    storage.claim",
        "    body",
        "    storage.complete",
        "execute Replayed",
        "  storage.claim"
      ])
      const [first, replay] = world.named("idempotency.execute")
      expect(Object.fromEntries(first?.attributes ?? [])).toEqual({
        "idempotency.operation": operation,
        "idempotency.store": "memory",
        "idempotency.key.hash": keyHash,
        "idempotency.attempt": 1,
        "idempotency.outcome": "Executed"
      })
      expect(first?.links).toEqual([])
      expect(replay?.traceId).not.toBe(first?.traceId)
      expect(replay?.links).toMatchObject([
        {
          _tag: "SpanLink",
          span: { traceId: first?.traceId, spanId: first?.spanId, sampled: true },
          attributes: { "idempotency.link": "execution" }
        }
      ])
      expect(world.named("idempotency.storage.claim")[0]?.kind).toBe("client")
    })
  )

  traced("a caller that waited for another of its process is linked to it", (world) =>
    Effect.gen(function* () {
      const slow = Effect.delay(body, "2 seconds")
      const { exit } = yield* during("5 seconds")(
        Effect.all([call(world.process, slow), call(world.process, slow)], { concurrency: 2 })
      )
      expect(exit).toMatchObject(Exit.succeed([{ _tag: "Executed" }, { _tag: "Replayed" }]))
      const [first] = world.named("idempotency.execute")
      expect(linksOf(world)).toEqual([[], [first?.spanId]])
      expect(world.tree().at(-1)).toBe("execute Replayed")
    })
  )

  it.scoped("a caller that waited for another process is linked to it", () =>
    recorded((recording) =>
      Effect.gen(function* () {
        const { one, two } = yield* twoProcesses()
        const slow = Effect.delay(body, "2 seconds")
        yield* during("5 seconds")(Effect.all([call(one, slow), call(two, slow)], { concurrency: 2 }))
        const [first] = recording.named("idempotency.execute")
        expect(linksOf(recording)).toEqual([[], [first?.spanId]])
        check(recording)
      })
    )
  )

  traced("errors of the library are outcomes: in flight, mismatch, outcome unknown", (world) =>
    Effect.gen(function* () {
      const owner = yield* Effect.fork(call(world.process, Effect.never, { guarantee: "at-most-once" }))
      yield* TestClock.adjust(0)
      yield* Effect.flip(call(world.process, body, { inFlight: "fail", guarantee: "at-most-once" }))
      yield* Fiber.interrupt(owner)
      yield* Effect.flip(call(world.process, body, { guarantee: "at-most-once" }))
      yield* world.process.run(untyped(body, operation, "secret-2", { fingerprint }))
      yield* Effect.flip(world.process.run(untyped(body, operation, "secret-2", { fingerprint: "secret" })))
      expect(world.tree().filter((line) => line.startsWith("execute"))).toEqual([
        "execute Interrupted #1 (interrupted)",
        "execute IdempotencyInFlightError (IdempotencyInFlightError)",
        "execute IdempotencyOutcomeUnknownError (IdempotencyOutcomeUnknownError)",
        "execute Executed #1",
        "execute IdempotencyFingerprintMismatchError (IdempotencyFingerprintMismatchError)"
      ])
    })
  )

  traced("a failure of the effect is told from one of the library, and its text is not told", (world) =>
    Effect.gen(function* () {
      const failing = Effect.fail({ _tag: "IdempotencyStorageError", text: "secret-error" })
      yield* Effect.flip(call(world.process, failing))
      yield* Effect.exit(call(world.process, Effect.die(new Error("secret-defect"))))
      expect(world.tree()).toEqual([
        "execute Failed #1 (Failed)",
        "  storage.claim",
        "  storage.release",
        "execute Died #2 (Died)",
        "  storage.claim",
        "  storage.release"
      ])
    })
  )

  traced("a recorded failure is replayed, and linked", (world) =>
    Effect.gen(function* () {
      const failing = call(world.process, Effect.fail("secret-error"), { error: Schema.String })
      yield* Effect.flip(failing)
      expect(yield* Effect.flip(failing)).toBe("secret-error")
      expect(world.tree()).toEqual([
        "execute Failed #1 (Failed)",
        "  storage.claim",
        "  storage.complete",
        "execute Replayed (Replayed)",
        "  storage.claim"
      ])
      expect(linksOf(world)).toEqual([[], [world.named("idempotency.execute")[0]?.spanId]])
    })
  )

  traced("without the store: each attempt has its span, with what the store failed with", (world) =>
    Effect.gen(function* () {
      yield* world.process.faults.plan("all", refused("Rejected"))
      yield* during("10 seconds")(call(world.process))
      const [first, ...others] = world.tree()
      expect(first).toBe("execute Unprotected")
      expect(others.slice(0, 2)).toEqual(["  storage.claim (Rejected)", "  storage.claim (Rejected)"])
      expect(others).toContain("  body")
      expect(world.named("idempotency.storage.claim")[0]?.attributes.get("error.type")).toBe("Rejected")
    })
  )

  traced(
    "what goes on in the background belongs to the call that left it; what asks on nobody's behalf has no span",
    (world) =>
      Effect.gen(function* () {
        yield* world.process.faults.plan("complete", unavailable, 5)
        yield* during("2 seconds")(call(world.process))
        yield* TestClock.adjust("5 seconds")
        yield* world.process.faults.plan("renew", (renewal) => Effect.withSpan(renewal, "driver"))
        const owner = yield* Effect.fork(
          world.process.run(untyped(Effect.delay(body, "2 minutes"), operation, "secret-2"))
        )
        yield* TestClock.adjust("3 minutes")
        yield* Fiber.join(owner)
        expect(world.process.faults.calls("renew").length).toBeGreaterThan(5)
        expect(world.named("idempotency.storage.renew")).toEqual([])
        expect(world.named("driver")).toEqual([])
        expect(world.tree().filter((line) => !line.startsWith("  "))).toEqual([
          "execute Unprotected #1",
          "execute Executed #1"
        ])
        expect(world.named("idempotency.storage.complete").length).toBe(6 + 1)
      })
  )

  traced("optimistic: the result of whoever was first is linked", (world) =>
    Effect.gen(function* () {
      const optimistic = { strategy: "optimistic" }
      const slow = (seconds: number) => call(world.process, Effect.delay(body, `${seconds} seconds`), optimistic)
      yield* during("5 seconds")(Effect.all([slow(2), slow(1)], { concurrency: 2 }))
      yield* call(world.process, body, optimistic)
      const [, winner] = world.named("idempotency.execute")
      expect(linksOf(world)).toEqual([[winner?.spanId], [], [winner?.spanId]])
      expect(world.tree()).toEqual([
        "execute Replayed #1",
        "  storage.read",
        "  body",
        "  storage.complete",
        "execute Executed #1",
        "  storage.read",
        "  body",
        "  storage.complete",
        "execute Replayed",
        "  storage.read"
      ])
    })
  )

  traced("without a key: one span that says so", (world) =>
    Effect.gen(function* () {
      yield* world.process.run(untyped(body, operation, undefined))
      expect(world.tree()).toEqual(["execute Unprotected", "  body"])
    })
  )

  traced("steps are beneath their execution, and so are executions within one another", (world) =>
    Effect.gen(function* () {
      const step = Effect.succeed("secret-result").pipe(Effect.withSpan("body"), withIdempotentStep("secret-step"))
      const inner = withIdempotency(step, operation, "secret-inner")
      yield* call(world.process, world.process.run(inner))
      expect(world.tree()).toEqual([
        "execute Executed #1",
        "  storage.claim",
        "  execute Executed #1",
        "    storage.claim",
        "    body",
        "    storage.saveStep",
        "    storage.complete",
        "  storage.complete"
      ])
    })
  )

  traced("records asked for by hand have spans of the store", ({ store, tree }) =>
    Effect.gen(function* () {
      yield* store.repository.get(identifiersOf({ key, scope }))
      yield* store.repository.getMany([identifiersOf({ key, scope }), identifiersOf({ key: "secret-2" })])
      yield* store.repository.reset(identifiersOf({ key, scope }))
      expect(tree()).toEqual(["storage.get", "storage.getMany", "storage.reset"])
    })
  )

  traced("logs say of which operation and key they are, and hold neither key nor result", (world) =>
    Effect.gen(function* () {
      yield* call(world.process, Effect.succeed("secret"), { success: Schema.Number })
      yield* world.process.run(
        untyped(
          Effect.succeed(() => "secret"),
          operation,
          "secret-2"
        )
      )
      const step = withIdempotentStep("secret-step", { success: Schema.String.pipe(Schema.maxLength(3)) })
      yield* world.process.run(withIdempotency(Effect.asVoid(step(Effect.succeed("secret"))), operation, "secret-3"))
      const owner = yield* Effect.fork(
        world.process.run(untyped(Effect.delay(body, "1 minute"), operation, "secret-4", { inFlight: "fail" }))
      )
      yield* TestClock.adjust("1 second")
      yield* world.store.repository.reset(identifiersOf({ key: "secret-4" }), { force: true })
      yield* TestClock.adjust("1 minute")
      yield* Fiber.await(owner)
      const logs = world.logs.filter((log) => log.includes("idempotency: "))
      expect(logs.length).toBe(4)
      for (const log of logs) {
        expect(log).toContain(`["idempotency.operation","${operation}"],["idempotency.key.hash","`)
        expect(log).toMatch(/^WARN /)
      }
      expect(logs[0]).toContain(keyHash)
    })
  )
})

describe("the token of a traced owner", () => {
  const tokenOf = (recording: Recording, process: Process): string => {
    expect(recording.spans.length).toBeGreaterThan(0)
    return process.faults.calls("claim")[0]?.tokens[0] ?? ""
  }

  traced("names the trace and the span", (world) =>
    Effect.gen(function* () {
      yield* call(world.process)
      const [span] = world.named("idempotency.execute")
      const token = tokenOf(world, world.process)
      expect(token.endsWith(`.${span?.traceId}.${span?.spanId}`)).toBe(true)
      expect(token.length).toBeLessThan(120)
    })
  )

  it.scoped("names nothing that is not sampled, and no hash is made for it", () =>
    recorded(
      (recording) =>
        Effect.gen(function* () {
          const { process } = yield* singleProcess()
          yield* call(process)
          yield* call(process)
          expect(tokenOf(recording, process)).toMatch(/^[\w-]{22}\.0$/)
          expect(linksOf(recording)).toEqual([[], []])
          expect(recording.spans.some(({ attributes }) => attributes.has("idempotency.key.hash"))).toBe(false)
        }),
      { sampled: false }
    )
  )

  const trace = "0af7651916cd43dd8448eb211c80319c"
  const span = "b7ad6b7169203331"
  for (const [name, token, linked] of [
    ["as it is written", `theirs.${trace}.${span}`, true],
    ["none", "theirs", false],
    ["a trace of zeros", `theirs.${"0".repeat(32)}.${span}`, false],
    ["a span of zeros", `theirs.${trace}.${"0".repeat(16)}`, false],
    ["capitals", `theirs.${trace.toUpperCase()}.${span}`, false],
    ["too long", `theirs.a${trace}.${span}`, false],
    ["too short", `theirs.${trace.slice(1)}.${span}`, false],
    ["more behind it", `theirs.${trace}.${span}.secret`, false],
    ["a line behind it", `theirs.${trace}.${span}\n`, false]
  ] as const) {
    traced(`of a record that is there: ${name}`, (world) =>
      Effect.gen(function* () {
        const of = identifiersOf({ key, scope })
        const claims = world.store.repository.claims
        yield* claims.claim(of, {
          token,
          fingerprint: undefined,
          guarantee: "at-least-once",
          lease: 30_000,
          retention: 60_000,
          unknownRetention: 60_000
        })
        const outcome = { _tag: "Success", encoded: '"secret"' } as const
        yield* claims.complete(of, { token, outcome, fingerprint: undefined, retention: 60_000 })
        expect(yield* call(world.process)).toMatchObject({ _tag: "Replayed", value: "secret" })
        expect(linksOf(world)).toEqual([linked ? [span] : []])
      })
    )
  }
})
