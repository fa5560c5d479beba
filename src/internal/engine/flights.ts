/** Single flight: who in this process leads for which key, and how the others learn how it went. */
import * as Effect from "effect/Effect"
import type { IdempotencyStorageError } from "../../IdempotencyError.js"
import type { ClaimReply, Completed, Outcome } from "../protocol.js"

/**
 * Where the leader is. `claiming` and `waiting` (for another process): nothing is known of the key yet. `running`: it
 * runs the effect. `given`: the effect has run without being recorded; `isEnd` once that is final. The others are ends.
 */
export type Phase =
  | { readonly _tag: "claiming" }
  | { readonly _tag: "waiting"; readonly until: () => number }
  | { readonly _tag: "running"; readonly leaseUntil: () => number }
  | {
      readonly _tag: "given"
      readonly outcome: Outcome
      readonly reason: IdempotencyStorageError
      readonly isEnd: boolean
    }
  /** The store failed, and the leader was refused. */
  | { readonly _tag: "failed"; readonly error: IdempotencyStorageError }
  /** `lacksFingerprint`: the store may know one, of an earlier owner, that the record as told here has not. */
  | { readonly _tag: "recorded"; readonly record: Recorded; readonly lacksFingerprint: boolean }
  /** The store refused the leader, at that time. */
  | {
      readonly _tag: "refused"
      readonly reply: Extract<ClaimReply, { readonly _tag: "InFlight" | "Mismatch" | "Unknown" | "Corrupted" }>
      readonly at: number
    }
  | { readonly _tag: "unrecorded" }

/** What a recorded outcome is replayed from. */
export type Recorded = Pick<Completed, "token" | "outcome" | "fingerprint" | "createdAt" | "expiresAt">

export interface Flight {
  readonly key: string
  readonly fingerprint: string | undefined
  /** The flight whose effect this one runs within, if any. */
  readonly parent: Flight | undefined
  phase: Phase
  /** Who waits for its next phase: mostly nobody. */
  listeners: Set<() => void> | undefined
}

export interface Flights {
  readonly get: (key: string) => Flight | undefined
  /** Starts a flight; there must be none for the key. */
  readonly start: (key: string, fingerprint: string | undefined, parent: Flight | undefined) => Flight
  /** Moves on to another phase and tells who waits; an end also frees the key. */
  readonly move: (flight: Flight, phase: Phase) => void
  /** Ends once the flight has left the phase. Interruptible. */
  readonly left: (flight: Flight, phase: Phase) => Effect.Effect<void>
  readonly size: () => number
}

const isEnd = (phase: Phase): boolean => {
  switch (phase._tag) {
    case "failed":
    case "recorded":
    case "refused":
    case "unrecorded":
      return true
    case "given":
      return phase.isEnd
    default:
      return false
  }
}

/** Whether the flight is the given one or runs within it. */
export const isWithin = (inner: Flight | undefined, outer: Flight): boolean => {
  for (let flight = inner; flight !== undefined; flight = flight.parent) if (flight === outer) return true
  return false
}

export const makeFlights = (): Flights => {
  const flights = new Map<string, Flight>()
  return {
    get: (key) => flights.get(key),
    start: (key, fingerprint, parent) => {
      const flight: Flight = { key, fingerprint, parent, phase: { _tag: "claiming" }, listeners: undefined }
      flights.set(key, flight)
      return flight
    },
    move: (flight, phase) => {
      if (isEnd(flight.phase)) return
      flight.phase = phase
      if (isEnd(phase)) flights.delete(flight.key)
      const { listeners } = flight
      if (listeners === undefined) return
      flight.listeners = undefined
      for (const tell of listeners) tell()
    },
    left: (flight, phase) =>
      Effect.async((resume) => {
        if (flight.phase !== phase) return resume(Effect.void)
        const tell = () => resume(Effect.void)
        flight.listeners ??= new Set()
        flight.listeners.add(tell)
        return Effect.sync(() => flight.listeners?.delete(tell))
      }),
    size: () => flights.size
  }
}
