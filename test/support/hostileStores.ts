/** Stores that hold what this library never wrote, and what every caller may get from them. */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FastCheck from "effect/FastCheck"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Runtime from "effect/Runtime"
import { Idempotency } from "../../src/Idempotency.js"
import { IdempotencyDomainService } from "../../src/IdempotencyDomainService.js"
import type { IdempotencyIdentifiers } from "../../src/IdempotencyIdentifiers.js"
import { IdempotencyMetrics } from "../../src/IdempotencyMetrics.js"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import type { Outcome, State } from "../../src/internal/protocol.js"
import { counting, untyped } from "./engineProcess.js"
import { isProof } from "./proof.js"

export interface HostileStore {
  readonly repository: Context.Tag.Service<IdempotencyRepository>
  readonly engine: Context.Context<Idempotency>
}

/** An engine over a repository, patient enough for a loaded machine. */
export const hostileStore = (repository: Context.Tag.Service<IdempotencyRepository>) =>
  Effect.map(
    Layer.build(
      Idempotency.layerWith({ storageTimeout: "10 seconds", shutdownGrace: "1 millis" }).pipe(
        Layer.provide([
          Layer.succeed(IdempotencyRepository, repository),
          IdempotencyDomainService.layer,
          IdempotencyMetrics.layerNoop
        ])
      )
    ),
    (engine): HostileStore => ({ repository, engine })
  )

/** What an exit says: `ok`, the tag of a typed error, or that it was neither. */
const saidBy = (exit: Exit.Exit<unknown, unknown>): string => {
  if (Exit.isSuccess(exit)) return "ok"
  const failure = Option.getOrUndefined(Cause.failureOption(exit.cause))
  if (Predicate.hasProperty(failure, "_tag")) return String(failure._tag)
  return `no typed error: ${Cause.pretty(exit.cause).slice(0, 300)}`
}

const unavailable = "IdempotencyResultUnavailableError"
const policies = {
  "at-least-once": { inFlight: "fail" },
  "at-most-once": { inFlight: "fail", guarantee: "at-most-once" },
  optimistic: { strategy: "optimistic" }
} as const

/** What a caller may get over a claim, beside its own value. */
const refusals = [unavailable, "IdempotencyInFlightError", "IdempotencyOutcomeUnknownError"]

const states = ["Absent", "Corrupted", "Processing", "Unknown", "Completed", "Released"] as const

/** What a store must make of what was written: known to whoever has written it, and never asked of the store. */
export interface Due {
  readonly state: (typeof states)[number]
  /** Of a completed record. */
  readonly outcome?: Outcome | undefined
}

/** What was recorded, if it is JSON. */
const recordedIn = (outcome: Outcome | undefined): { readonly value: unknown } | undefined => {
  if (outcome === undefined || outcome._tag === "Unavailable") return undefined
  try {
    return { value: outcome.encoded === "" ? undefined : JSON.parse(outcome.encoded) }
  } catch {
    return undefined
  }
}

/** The completed record of a success. */
export const dueOfSuccess = (encoded: string): Due => ({ state: "Completed", outcome: { _tag: "Success", encoded } })

const stateIn = (inspected: Exit.Exit<Option.Option<State>, unknown>): string => {
  if (Exit.isSuccess(inspected)) return Option.getOrUndefined(inspected.value)?._tag ?? "Absent"
  const said = saidBy(inspected)
  return said === unavailable ? "Corrupted" : said
}

/** By what is due, what may be got: by who gets the record, and by a caller. */
const allowedBy = ({ outcome, state }: Due) => {
  const recorded = recordedIn(outcome)
  switch (state) {
    case "Corrupted":
      return { get: [unavailable], call: [unavailable] }
    case "Absent":
      return { get: ["ok"], call: ["ok"] }
    case "Completed":
      return {
        get: recorded === undefined && outcome?._tag !== "Unavailable" ? [unavailable] : ["ok", unavailable],
        call: [outcome?._tag === "Success" && recorded !== undefined ? "ok" : unavailable]
      }
    default:
      return { get: ["ok"], call: ["ok", ...refusals] }
  }
}

/** Walked in depth, what is deep ends the stack. */
const isSame = (value: unknown, { outcome }: Due): boolean =>
  outcome?._tag !== "Success" ||
  outcome.encoded.length > 10_000 ||
  JSON.stringify(value) === JSON.stringify(recordedIn(outcome)?.value)

/** Everything that is wrong with how a store answers about a key once `write` has written to it. */
export const examine = (
  { engine, repository }: HostileStore,
  ids: IdempotencyIdentifiers,
  write: Effect.Effect<unknown, unknown>,
  due: Due | undefined
): Effect.Effect<ReadonlyArray<string>> =>
  Effect.gen(function* () {
    const problems: Array<string> = []
    const expect = (what: string, got: string, ...allowed: ReadonlyArray<string>) => {
      if (!allowed.includes(got)) problems.push(`${what}: ${got}, not ${allowed.join(" or ")}`)
    }
    const call = (body: Effect.Effect<unknown>, options: { readonly [name: string]: unknown }) =>
      Effect.exit(
        Effect.provide(untyped(body, ids.operation, ids.idempotencyKey, { scope: ids.scope, ...options }), engine)
      )

    yield* write
    const inspected = stateIn(yield* Effect.exit(repository.inspect(ids)))
    expect("inspect", inspected, ...(due === undefined ? states : [due.state]))
    const is = due ?? { state: states.find((state) => state === inspected) ?? "Corrupted" }
    const allowed = allowedBy(is)
    const get = saidBy(yield* Effect.exit(repository.get(ids)))
    const getMany = saidBy(yield* Effect.exit(repository.getMany([ids])))
    expect("get", get, ...allowed.get)
    expect("getMany", getMany, get)

    for (const [name, options] of Object.entries(policies)) {
      yield* write
      const body = counting(Effect.succeed("ours"))
      const exit = yield* call(body.effect, options)
      const said = saidBy(exit)
      expect(`a caller, ${name}`, said, ...allowed.call)
      const isSettled =
        is.state === "Corrupted" || is.state === "Completed" || (is.state === "Unknown" && name !== "optimistic")
      if (isSettled && body.runs() > 0) problems.push(`the body ran, ${name}`)
      if (said === "ok" && !isSettled && body.runs() !== 1) problems.push(`the body ran ${body.runs()} times, ${name}`)
      if (Exit.isSuccess(exit) && !isSame(exit.value.value, is)) problems.push(`another result was replayed, ${name}`)
    }

    yield* write
    const reset = yield* Effect.exit(repository.reset(ids, { force: is.state !== "Corrupted" }))
    if (is.state !== "Absent") {
      expect("reset", Exit.isSuccess(reset) ? `freed: ${reset.value}` : saidBy(reset), "freed: true")
    }
    const body = counting(Effect.succeed("ours"))
    const after = yield* call(body.effect, { inFlight: "fail" })
    expect("a caller after the reset", saidBy(after), "ok")
    if (body.runs() !== 1) problems.push(`after the reset the body ran ${body.runs()} times`)
    return problems
  }).pipe(Effect.orDie)

/** A property of random input; a failure prints its seed and the shortest input. */
export const holdsFor = <A>(
  arbitrary: FastCheck.Arbitrary<A>,
  numRuns: number,
  check: (input: A) => Effect.Effect<ReadonlyArray<string>, unknown>
): Effect.Effect<void, unknown> =>
  Effect.flatMap(Effect.runtime<never>(), (runtime) =>
    Effect.tryPromise({
      try: () =>
        FastCheck.assert(
          FastCheck.asyncProperty(arbitrary, async (input) => {
            const problems = await Runtime.runPromise(runtime)(check(input))
            if (problems.length > 0) throw new Error(problems.join("\n"))
          }),
          { numRuns }
        ),
      catch: (failure) => failure
    })
  )

const nested: ReadonlyArray<readonly [what: string, encoded: string]> = [
  ["100,000 levels", "[".repeat(100_000) + "]".repeat(100_000)],
  ["100,000 levels of objects", '{"a":'.repeat(100_000) + 1 + "}".repeat(100_000)]
]

/** Payloads that are hard on whoever parses them, within a record that can be read. */
export const payloads: ReadonlyArray<readonly [what: string, encoded: string]> = [
  ["half an object", "{"],
  ["no JSON", "paid"],
  ["undefined", "undefined"],
  ["NaN", "NaN"],
  ["two values", "1 2"],
  ["a byte order mark", "\ufeff1"],
  ["a NUL", '"\u0000"'],
  ["a prototype", '{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}}'],
  ["an error class", '{"_tag":"IdempotencyStorageError","_id":"Exit"}'],
  ["a number beyond all bounds", "1e999999"],
  ["100,000 levels, not closed", "[".repeat(100_000)],
  // Seconds each: they are walked to the end of the stack again and again.
  ...(isProof ? nested : [])
]
