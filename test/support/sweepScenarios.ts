/** What the sweep plays: policies, and the ways a protected call can go. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { IdempotencyStorageError } from "../../src/IdempotencyError.js"
import { IdempotentExecution } from "../../src/IdempotentExecution.js"
import type { State } from "../../src/internal/protocol.js"
import type { RepositoryFaultPolicy } from "../../src/testing/FaultInjectingRepository.js"
import { withIdempotentStep } from "../../src/withIdempotentStep.js"
import { ids } from "./engineProcess.js"
import type { SweepWorld } from "./sweepWorld.js"

export interface Policy {
  readonly guarantee: "at-least-once" | "at-most-once"
  readonly strategy: "claim" | "optimistic"
  readonly inFlight: "wait" | "fail"
  readonly onStorageFailure: "proceed" | "fail"
}

/** Every combination that the types allow. */
const policies: ReadonlyArray<Policy> = (["at-least-once", "at-most-once"] as const).flatMap((guarantee) =>
  (["claim", "optimistic"] as const).flatMap((strategy) =>
    (["wait", "fail"] as const).flatMap((inFlight) =>
      (["proceed", "fail"] as const).flatMap((onStorageFailure) =>
        guarantee === "at-most-once" && (strategy === "optimistic" || onStorageFailure === "proceed")
          ? []
          : [{ guarantee, strategy, inFlight, onStorageFailure }]
      )
    )
  )
)

export const anyPolicy: Policy = {
  guarantee: "at-least-once",
  strategy: "claim",
  inFlight: "wait",
  onStorageFailure: "proceed"
}

export const nameOf = ({ guarantee, inFlight, onStorageFailure, strategy }: Policy): string =>
  `${guarantee}, ${strategy}, ${inFlight}, ${onStorageFailure}`

export const lease = 10_000
const retention = 3_600_000

/** How a body ends if nothing stops it, and after how many milliseconds; before that, a step takes as many. */
export interface Ending {
  readonly effect: Effect.Effect<string, string>
  readonly after: number
  readonly hasStep?: boolean
}

/** How the body of a call went: by what it was seen to end with, and by the exit of its fiber. */
export type Went = "not started" | "success" | "failure" | "defect" | "interrupted"

export interface Body {
  readonly effect: Effect.Effect<string, string>
  readonly runs: () => number
  readonly went: () => Went
  readonly step: Step
}

/** The step of a body: how often its effect ran, when that had ended, and whether the body got its result. */
interface Step {
  readonly effect: Effect.Effect<void>
  readonly runs: () => number
  readonly endedAt: () => number | undefined
  readonly hasReturned: () => boolean
}

const wentBy = (exit: Exit.Exit<unknown, unknown>): Went => {
  if (exit._tag === "Success") return "success"
  if (Option.isSome(Cause.failureOption(exit.cause))) return "failure"
  return Cause.isInterrupted(exit.cause) ? "interrupted" : "defect"
}

const makeStep = (millis: number): Step => {
  let runs = 0
  let endedAt: number | undefined
  let hasReturned = false
  const charge = Effect.gen(function* () {
    runs++
    yield* Effect.sleep(millis)
    endedAt = yield* Clock.currentTimeMillis
    return "charged"
  })
  return {
    effect: Effect.gen(function* () {
      const execution = yield* Effect.serviceOptional(IdempotentExecution)
      yield* charge.pipe(withIdempotentStep("charge"), Effect.provideService(IdempotentExecution, execution))
      hasReturned = true
    }).pipe(Effect.orDie),
    runs: () => runs,
    endedAt: () => endedAt,
    hasReturned: () => hasReturned
  }
}

/** A body runs in a fiber that is not its caller's: that fiber's exit is what the engine has to go by. */
export const makeBody = ({ after, effect, hasStep = false }: Ending): Body => {
  const step = makeStep(after)
  const ending = after === 0 ? effect : Effect.zipRight(Effect.sleep(after), effect)
  let runs = 0
  let fiber: Fiber.RuntimeFiber<unknown, unknown> | undefined
  return {
    effect: Effect.withFiberRuntime((own) => {
      runs++
      fiber = own
      return hasStep ? Effect.zipRight(step.effect, ending) : ending
    }),
    runs: () => runs,
    step,
    went: () => {
      const exit = fiber?.unsafePoll() ?? undefined
      if (runs === 0) return "not started"
      if (exit === undefined) throw new Error("the body is still running")
      return wentBy(exit)
    }
  }
}

export const paid: Ending = { effect: Effect.succeed("paid"), after: 10 }
const atOnce: Ending = { effect: Effect.succeed("paid"), after: 0 }
const declining: Ending = { effect: Effect.fail("declined"), after: 10 }
const dying: Ending = { effect: Effect.die("broken"), after: 10 }
const decliningAfterStep: Ending = { ...declining, after: 5, hasStep: true }

/** What callers get. */
const executed = `Executed "paid"`
const replayed = `Replayed "theirs"`
const unprotected = `Unprotected "paid"`
const declined = "failure declined"
const inFlight = "IdempotencyInFlightError"
const storageError = "IdempotencyStorageError"

export interface Scenario {
  readonly name: string
  readonly ending: Ending
  /** What the caller gets if nothing happens to it, by its policy if that makes a difference. */
  readonly gives: string | ((policy: Policy) => string)
  readonly options?: { readonly [name: string]: unknown }
  readonly faults?: RepositoryFaultPolicy
  /** What is there before the call. */
  readonly prepare?: (world: SweepWorld, policy: Policy) => void
  /** Another caller of the same process: it begins 5 ms before or after the one of the sweep. */
  readonly other?: "leads" | "follows"
  /** What another process holds or has recorded; then the call's own states are not all there may be. */
  readonly theirs?: "completed" | "failed" | "completes" | "lapses"
  /** The store does not answer for a while: what the engine leaves when it is closed then, lapses. */
  readonly isOutage?: boolean
  /** Claims fail; what completes all the same, or only perhaps. */
  readonly degrades?: "recorded" | "unrecorded"
}

/** The policies that make a difference to it. */
export const policiesOf = ({ faults, other, theirs }: Scenario): ReadonlyArray<Policy> =>
  policies.filter(
    ({ guarantee, inFlight, onStorageFailure, strategy }) =>
      (inFlight === "wait" ||
        (strategy === "claim" && (other !== undefined || theirs === "completes" || theirs === "lapses"))) &&
      (faults !== undefined || (onStorageFailure === "proceed") === (guarantee === "at-least-once"))
  )

const faultOf =
  (fault: "replyLost" | "requestLost", ...methods: ReadonlyArray<string>): RepositoryFaultPolicy =>
  ({ method, n }) =>
    methods.includes(method) && n === 1 ? fault : "none"

/** By the world's time: from its beginning. */
const forThreeSeconds = (isFaulty: (method: string) => boolean): RepositoryFaultPolicy => {
  const start = Date.UTC(2024, 0, 1)
  return ({ at, method }) => (at < start + 3_000 && isFaulty(method) ? "requestLost" : "none")
}

const now = (world: SweepWorld, effect: Effect.Effect<unknown, IdempotencyStorageError>): void => {
  world.fork(effect)
  world.time.run(world.time.now())
}

const claimed = (world: SweepWorld, { guarantee }: Policy, millis: number): void =>
  now(
    world,
    world.driver.claim(ids, {
      token: "theirs",
      fingerprint: undefined,
      guarantee,
      lease: millis,
      retention,
      unknownRetention: retention
    })
  )

const completed = (world: SweepWorld, tag: "Success" | "Failure", value: string): void =>
  now(
    world,
    world.driver.complete(ids, {
      token: "theirs",
      outcome: { _tag: tag, encoded: JSON.stringify(value) },
      fingerprint: undefined,
      retention
    })
  )

const givenWithoutStore = (policy: Policy): string => (policy.onStorageFailure === "fail" ? storageError : unprotected)

export const scenarios: ReadonlyArray<Scenario> = [
  { name: "a first run", ending: paid, gives: executed },
  { name: "a first run that ends at once", ending: atOnce, gives: executed },
  { name: "a failing body", ending: declining, gives: declined },
  { name: "a body that fails after a step", ending: decliningAfterStep, gives: declined },
  { name: "a body with a recorded failure", ending: declining, gives: declined, options: { error: Schema.String } },
  {
    name: "a failure of unknown outcome",
    ending: declining,
    gives: declined,
    options: { isOutcomeUnknown: () => true }
  },
  { name: "a defect", ending: dying, gives: "defect broken" },
  {
    name: "a replay",
    ending: paid,
    gives: replayed,
    theirs: "completed",
    prepare: (world) => completed(world, "Success", "theirs")
  },
  {
    name: "a replay of a failure",
    ending: paid,
    gives: declined,
    theirs: "failed",
    options: { error: Schema.String },
    prepare: (world) => completed(world, "Failure", "declined")
  },
  {
    name: "another process holds the key, and completes",
    ending: paid,
    gives: (policy) => (policy.strategy === "optimistic" ? executed : policy.inFlight === "fail" ? inFlight : replayed),
    theirs: "completes",
    prepare: (world, policy) => {
      claimed(world, policy, 5_000)
      world.time.after({ pausedUntil: 0 }, 100, () => completed(world, "Success", "theirs"))
    }
  },
  {
    name: "another process holds the key, and lapses",
    ending: paid,
    gives: ({ guarantee, inFlight: waits }) =>
      waits === "fail" ? inFlight : guarantee === "at-most-once" ? "IdempotencyOutcomeUnknownError" : executed,
    theirs: "lapses",
    prepare: (world, policy) => claimed(world, policy, 100)
  },
  { name: "a leader with a follower", ending: paid, gives: executed, other: "follows" },
  {
    name: "a follower",
    ending: paid,
    gives: (policy) => (policy.inFlight === "fail" ? inFlight : `Replayed "other"`),
    other: "leads"
  },
  {
    name: "the reply of the claim is lost",
    ending: paid,
    gives: executed,
    faults: faultOf("replyLost", "claim", "read")
  },
  {
    name: "the reply of the completion is lost",
    ending: paid,
    gives: executed,
    faults: faultOf("replyLost", "complete", "release", "hold")
  },
  {
    name: "the reply of the release is lost",
    ending: declining,
    gives: declined,
    faults: faultOf("replyLost", "complete", "release", "hold")
  },
  {
    name: "claims are refused",
    ending: paid,
    gives: givenWithoutStore,
    degrades: "recorded",
    faults: ({ method }) => (method === "claim" || method === "read" ? "refused" : "none")
  },
  {
    name: "completions are not answered for three seconds",
    ending: paid,
    gives: givenWithoutStore,
    isOutage: true,
    faults: forThreeSeconds((method) => method === "complete" || method === "release" || method === "hold")
  },
  {
    name: "nothing is answered for three seconds",
    ending: paid,
    gives: givenWithoutStore,
    isOutage: true,
    degrades: "unrecorded",
    faults: forThreeSeconds(() => true)
  }
]

/** A state in a few words. */
export const describeState = (state: State | undefined): string => {
  if (state === undefined) return "Absent"
  switch (state._tag) {
    case "Processing":
      return state.token === "theirs" ? "Processing of theirs" : "Processing"
    case "Unknown":
      return `Unknown, ${state.reason}`
    case "Released":
      return "Released"
    case "Completed":
      return state.outcome._tag === "Unavailable" ? "Unavailable" : `${state.outcome._tag} ${state.outcome.encoded}`
  }
}
