/** What the parts of the engine share. */
import type * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type { IdempotencyMetrics } from "../../IdempotencyMetrics.js"
import type { Chain, Link } from "../chain.js"
import type { Background } from "./background.js"
import type { Flights } from "./flights.js"
import type { Leases } from "./leases.js"
import type { Settings } from "./settings.js"
import type { Storage } from "./storage.js"

/** An owner whose effect is running. */
export interface Owning extends Link<Owning> {
  readonly interrupt: () => Effect.Effect<void>
}

export interface Dependencies {
  readonly storage: Storage
  readonly flights: Flights
  readonly leases: Leases
  readonly background: Background
  readonly metrics: Context.Tag.Service<IdempotencyMetrics>
  readonly settings: Settings
  /** Shutdown waits for them, then interrupts them. */
  readonly owners: Chain<Owning>
  /** Once true, nobody claims any more: the engine's scope is closing. */
  readonly isClosed: () => boolean
}
