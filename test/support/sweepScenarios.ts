/** What the sweep plays: policies, and the ways a protected call can go. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { IdempotencyStorageError } from "../../src/IdempotencyError.js"
import type { State } from "../../src/internal/protocol.js"
import type { RepositoryFaultPolicy } from "../../src/testing/FaultInjectingRepository.js"
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

/** How a body ends if nothing stops it, and after how many milliseconds. */
export interface Ending {
  readonly effect: Effect.Effect<string, string>
  readonly after: number
}

/** How the body of a call went: by what it was seen to end with, and by the exit of its fiber. */
export type Went = "not started" | "success" | "failure" | "defect" | "interrupted"

export interface Body {
  readonly effect: Effect.Effect<string, string>
  readonly runs: () => number
  readonly went: () => Went
}

const wentBy = (exit: Exit.Exit<unknown, unknown>): Went => {
  if (exit._tag === "Success") return "success"
  if (Option.isSome(Cause.failureOption(exit.cause))) return "failure"
  return Cause.isInterrupted(exit.cause) ? "interrupted" : "defect"
}

/** A body runs in a fiber that is not its caller's: that fiber's exit is what the engine has to go by. */
export const makeBody = ({ after, effect }: Ending): Body => {
  let runs = 0
  let fiber: Fiber.RuntimeFiber<unknown, unknown> | undefined
  return {
    effect: Effect.withFiberRuntime((own) => {
      runs++
      fiber = own
      return after === 0 ? effect : Effect.zipRight(Effect.sleep(after), effect)
    }),
    runs: () => runs,
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

export interface Scenario {
  readonly name: string
  readonly ending: Ending
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

export const scenarios: ReadonlyArray<Scenario> = [
  { name: "a first run", ending: paid },
  { name: "a first run that ends at once", ending: atOnce },
  { name: "a failing body", ending: declining },
  { name: "a body with a recorded failure", ending: declining, options: { error: Schema.String } },
  { name: "a failure of unknown outcome", ending: declining, options: { isOutcomeUnknown: () => true } },
  { name: "a defect", ending: dying },
  { name: "a replay", ending: paid, theirs: "completed", prepare: (world) => completed(world, "Success", "theirs") },
  {
    name: "a replay of a failure",
    ending: paid,
    theirs: "failed",
    options: { error: Schema.String },
    prepare: (world) => completed(world, "Failure", "declined")
  },
  {
    name: "another process holds the key, and completes",
    ending: paid,
    theirs: "completes",
    prepare: (world, policy) => {
      claimed(world, policy, 5_000)
      world.time.after({ pausedUntil: 0 }, 100, () => completed(world, "Success", "theirs"))
    }
  },
  {
    name: "another process holds the key, and lapses",
    ending: paid,
    theirs: "lapses",
    prepare: (world, policy) => claimed(world, policy, 100)
  },
  { name: "a leader with a follower", ending: paid, other: "follows" },
  { name: "a follower", ending: paid, other: "leads" },
  { name: "the reply of the claim is lost", ending: paid, faults: faultOf("replyLost", "claim", "read") },
  {
    name: "the reply of the completion is lost",
    ending: paid,
    faults: faultOf("replyLost", "complete", "release", "hold")
  },
  {
    name: "the reply of the release is lost",
    ending: declining,
    faults: faultOf("replyLost", "complete", "release", "hold")
  },
  {
    name: "claims are refused",
    ending: paid,
    degrades: "recorded",
    faults: ({ method }) => (method === "claim" || method === "read" ? "refused" : "none")
  },
  {
    name: "completions are not answered for three seconds",
    ending: paid,
    isOutage: true,
    faults: forThreeSeconds((method) => method === "complete" || method === "release" || method === "hold")
  },
  {
    name: "nothing is answered for three seconds",
    ending: paid,
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
