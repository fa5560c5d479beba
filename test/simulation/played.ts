/** What is known of a run, while it is played and afterwards. */
import type * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import type { IdempotencyOutcome } from "../../src/IdempotencyOutcome.js"
import type { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import type { Change, ObservedStore, StoreMutation } from "./observedStore.js"
import type { Caller, Ending, Scenario } from "./scenario.js"
import type { Pausable, VirtualTime } from "./virtualTime.js"

/** When every run begins. */
export const start = Date.UTC(2024, 0, 1)
export const elapsed = (at: number): number => at - start

/** The clock of the store, of the network and of operators: never paused. */
export const outside: Pausable = { pausedUntil: 0 }

/** What a body fails or dies with. */
export class BodyFailure {
  constructor(
    readonly _tag: "Declined" | "Unrecordable" | "Timeout",
    readonly run: number
  ) {}
}
export class BodyDefect {
  constructor(readonly run: number) {}
}

/** One run of a body. */
export interface Run {
  readonly id: number
  readonly caller: Caller
  readonly attempt: number
  readonly startedAt: number
  /** The steps that ran, and were not replayed. */
  readonly steps: Array<string>
  endedAt: number | undefined
  ended: Ending | "stopped" | undefined
}

/** One protected call, from its start to what it came to. */
export interface Call {
  readonly caller: Caller
  readonly startedAt: number
  interruptedAt: number | undefined
  endedAt: number | undefined
  exit: Exit.Exit<IdempotencyOutcome<unknown>, unknown> | undefined
}

/** A fault that a process met, and how long it had to do with it; with one key, or with all of them. */
export interface Trouble {
  readonly key: string | undefined
  readonly from: number
  readonly to: number
  readonly what: string
}

export interface NodeHistory {
  readonly troubles: Array<Trouble>
  /** When its engine began to close, and when that was done. */
  closingAt: number | undefined
  closedAt: number | undefined
  hasCrashed: boolean
}

/** Everything that can be said about a run once it has been played. */
export interface Played {
  readonly scenario: Scenario
  readonly runs: ReadonlyArray<Run>
  readonly calls: ReadonlyArray<Call>
  readonly changes: ReadonlyArray<Change>
  readonly nodes: ReadonlyArray<Readonly<NodeHistory>>
  /** What went wrong while it was played: what was left over, what stood still, what was logged as an error. */
  readonly problems: ReadonlyArray<string>
  readonly trace: ReadonlyArray<string>
}

/** A run that is being played. */
export interface World {
  readonly scenario: Scenario
  readonly time: VirtualTime
  readonly store: ObservedStore
  readonly runs: Array<Run>
  readonly calls: Array<Call>
  readonly problems: Array<string>
  readonly tell: (event: () => string) => void
  readonly liveFibers: Set<Fiber.RuntimeFiber<unknown, unknown>>
  /** What is on its way outlives the process that sent it. */
  readonly network: Scope.CloseableScope
  readonly mutation: Mutation
}

/** A fault in the store, or between an engine and the store, that the simulation has to find. */
export interface Mutation {
  readonly store?: StoreMutation
  readonly claims?: (claims: IdempotencyRepository.Claims) => IdempotencyRepository.Claims
}

export type Fork = <A, E>(effect: Effect.Effect<A, E>) => Fiber.RuntimeFiber<A, E>
