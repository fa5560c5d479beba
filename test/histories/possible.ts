/**
 * A state of a key whose instants are known within bounds only, and what calls make of it.
 *
 * Every instant of a state was set by some operation to its own time plus a duration. Who looks from outside knows that
 * time within bounds; an answer that names an instant narrows them. So a state is kept with its instants counted from
 * the operations that set them: `createdAt` from one that made the key what it is, the lease's end and the expiry from
 * the last that touched them. The transition function is asked once for each way in which the present may lie to the
 * lease's end and the expiry, with instants that are told apart by their fractions.
 */
import * as Predicate from "effect/Predicate"
import type { State } from "../../src/internal/protocol.js"
import * as transition from "../../src/internal/transition.js"
import { apply, type Call, type Interval, type Returned, type StoreClock } from "./history.js"

export interface Possible {
  /** `createdAt` is counted from the time of what made it, the other instants from that of what touched them last. */
  readonly state: State | undefined
  readonly made: Interval
  readonly touched: Interval
  /** One operation did both. */
  readonly isOne: boolean
}

const unbounded: Interval = { lo: Number.NEGATIVE_INFINITY, hi: Number.POSITIVE_INFINITY }
const nothing: Interval = { lo: 0, hi: 0 }

export const absent: Possible = { state: undefined, made: nothing, touched: nothing, isOne: true }

type Anchor = "made" | "touched" | "now"

/** Three instants that no whole duration leads from one to the other. */
const fractions: ReadonlyArray<readonly [Anchor, number]> = [
  ["made", 0.25],
  ["touched", 0.5],
  ["now", 0.75]
]
const made = -1e9 + 0.25
const touched = 0.5

const anchorOf = (instant: number): Anchor => {
  const found = fractions.find(([, fraction]) => instant - Math.floor(instant) === fraction)
  if (found === undefined) throw new Error(`nothing set the instant ${instant}`)
  return found[0]
}

/** What is known about the times of the operations, while a call is judged. */
class Bounds {
  readonly known: Record<Anchor, Interval>

  constructor(
    { isOne, made: madeAt, touched: touchedAt }: Possible,
    /** The instants of this case. */
    readonly at: Readonly<Record<Anchor, number>>,
    now: Interval,
    readonly apart: number
  ) {
    this.known = { made: isOne ? touchedAt : madeAt, touched: touchedAt, now }
  }

  get areEmpty(): boolean {
    return Object.values(this.known).some(({ hi, lo }) => lo > hi)
  }

  narrow(anchor: Anchor, { hi, lo }: Interval): void {
    const before = this.known[anchor]
    this.known[anchor] = { lo: Math.max(before.lo, lo), hi: Math.min(before.hi, hi) }
  }

  /** The call is so many milliseconds after the last touch. */
  narrowGap({ hi, lo }: Interval): void {
    const { now, touched: last } = this.known
    this.narrow("now", { lo: last.lo + lo, hi: last.hi + hi })
    this.narrow("touched", { lo: now.lo - hi, hi: now.hi - lo })
  }

  /** Somebody was told an instant that the case has as `expected`. */
  tell(expected: number, told: number): void {
    const anchor = anchorOf(expected)
    const at = told - (expected - this.at[anchor])
    this.narrow(anchor, { lo: at - this.apart, hi: at + this.apart })
  }
}

const instants: ReadonlySet<string> = new Set(["createdAt", "expiresAt", "leaseUntil"])

const membersOf = (value: object): ReadonlyMap<string, unknown> => new Map<string, unknown>(Object.entries(value))

/** Whether an answer is the expected one, but for its instants, which narrow the bounds. What is absent may be `null`. */
const agrees = (expected: unknown, told: unknown, bounds: Bounds): boolean => {
  if (typeof expected !== "object" || typeof told !== "object" || expected === null || told === null) {
    return expected === told || (Predicate.isNullable(expected) && Predicate.isNullable(told))
  }
  const [ours, theirs] = [membersOf(expected), membersOf(told)]
  return [...new Set([...ours.keys(), ...theirs.keys()])].every((name) => {
    const [our, their] = [ours.get(name), theirs.get(name)]
    if (typeof our === "number" && typeof their === "number") {
      if (instants.has(name)) {
        bounds.tell(our, their)
        return true
      }
      // To the lease's end, from the present.
      if (name === "remaining") {
        const gap = our + bounds.at.now - bounds.at.touched - their
        bounds.narrowGap({ lo: gap - bounds.apart, hi: gap + bounds.apart })
        return true
      }
      // That of a released record is the time between its instants.
      if (name === "retention") return Math.abs(our - their) <= bounds.apart
    }
    return agrees(our, their, bounds)
  })
}

/** The state with other instants. */
const withInstants = (state: State, ofCreation: (at: number) => number, ofOthers: (at: number) => number): State => {
  const moved = { createdAt: ofCreation(state.createdAt), expiresAt: ofOthers(state.expiresAt) }
  return state._tag === "Processing"
    ? { ...state, ...moved, leaseUntil: ofOthers(state.leaseUntil) }
    : { ...state, ...moved }
}

/** One way to judge a state: the gaps since the last touch for which it holds, and one of them. */
interface Case {
  readonly gaps: Interval
  readonly example: number
}

/** What lingers is judged as before for a while. */
const casesOf = (state: State | undefined, lingering: number): ReadonlyArray<Case> => {
  if (state === undefined) return [{ gaps: unbounded, example: 0 }]
  const ends = state._tag === "Processing" ? [state.leaseUntil, state.expiresAt] : [state.expiresAt]
  const edges = [...new Set(ends)].sort((a, b) => a - b)
  return [Number.NEGATIVE_INFINITY, ...edges].map((lo, index) => {
    const next = edges[index] ?? Number.POSITIVE_INFINITY
    return {
      gaps: { lo, hi: next - 1 + (next === state.expiresAt ? lingering : 0) },
      example: Number.isFinite(lo) ? lo : next - 1
    }
  })
}

const afterwards = (
  before: Possible,
  stored: State | undefined,
  state: State | undefined,
  bounds: Bounds
): Possible => {
  const { at, known } = bounds
  if (state === undefined) return absent
  if (state === stored) return { ...before, made: before.isOne ? known.touched : known.made, touched: known.touched }
  const maker = anchorOf(state.createdAt)
  const toucher = anchorOf(state.expiresAt)
  return {
    state: withInstants(
      state,
      (instant) => instant - at[maker],
      (instant) => instant - at[toucher]
    ),
    made: known[maker],
    touched: known[toucher],
    isOne: maker === toucher
  }
}

/** What the key may be after a call, and whether that call made it so: time alone may have, too. */
export interface Successor {
  readonly possible: Possible
  readonly hasChanged: boolean
}

/**
 * What the key may be after the call, if it took effect at a time within these bounds by the store's clock and was
 * answered so: one for each way to judge the state, or none if the protocol has no such answer.
 */
export const successors = (
  before: Possible,
  call: Call,
  returned: Returned | undefined,
  now: Interval,
  { apart, asked, lingering }: StoreClock
): ReadonlyArray<Successor> =>
  casesOf(before.state, lingering).flatMap(({ example, gaps }) => {
    const at = { made: before.isOne ? touched : made, touched, now: touched + 0.25 + example }
    const bounds = new Bounds(before, at, now, apart)
    if (before.state !== undefined) bounds.narrowGap(gaps)
    if (bounds.areEmpty) return []
    const stored =
      before.state === undefined
        ? undefined
        : withInstants(
            before.state,
            (instant) => instant + at.made,
            (instant) => instant + at.touched
          )
    const { reply, state } = apply(call, stored, at.now)
    if (returned !== undefined && (!agrees(reply, returned.reply, bounds) || bounds.areEmpty)) return []
    const hasChanged = state !== transition.live(stored, at.now)
    // What has expired by this present may be there by an earlier one that is judged later.
    const left = !hasChanged && asked === "during the call" ? stored : state
    return [{ possible: afterwards(before, stored, left, bounds), hasChanged }]
  })
