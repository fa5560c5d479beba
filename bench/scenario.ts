/** A scenario: something to measure, and how it is chosen. */
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Effort } from "./rounds.js"
import type { Row } from "./rows.js"

export interface Setting {
  readonly effort: Effort
  /** How many callers at once. */
  readonly concurrencies: ReadonlyArray<number>
  /** Whether a scenario of this name is wanted. */
  readonly wants: (scenario: string) => boolean
  /** What peers there are to compare with, if they are installed. */
  readonly withPeers: boolean
}

export interface Scenario {
  /** What `--only` chooses by: the store, or the topic. */
  readonly topic: string
  /** What `--scenario` chooses by: a part of one of them. */
  readonly names: ReadonlyArray<string>
  readonly run: (setting: Setting) => Effect.Effect<ReadonlyArray<Row>, unknown, Scope.Scope>
}
