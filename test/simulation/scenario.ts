/** What happens in a run: generated from the seed alone. Durations and instants in milliseconds; 0 is the start. */
import { PCGRandom } from "effect/Utils"

export const storageTimeout = 300
export const maxResultBytes = 2000

/** How a body ends. `declined` is encoded by the error schema; `unrecordable` and `timeout` are not. */
export type Ending =
  | "success"
  | "declined"
  | "unrecordable"
  | "timeout"
  | "defect"
  | "interruption"
  | "unencodable"
  | "tooLarge"

export interface CallOptions {
  readonly guarantee: "at-least-once" | "at-most-once"
  readonly onStorageFailure: "proceed" | "fail"
  readonly strategy: "claim" | "optimistic"
  readonly inFlight: "wait" | "fail"
  readonly waitTimeout: number
  readonly lease: number
  readonly timeToLive: number
  readonly fingerprint: "A" | "B" | undefined
  readonly withSuccess: boolean
  readonly withError: boolean
  readonly withUnknown: boolean
}

export interface Caller {
  readonly name: string
  readonly process: number
  readonly key: string
  readonly at: number
  readonly options: CallOptions
  /** How long the body takes, part by part; a `saved` part is a recorded step. */
  readonly parts: ReadonlyArray<{ readonly millis: number; readonly saved: boolean }>
  /** The body asks for this key, under the same options, within its first part. */
  readonly nested: string | undefined
  readonly ending: Ending
  readonly interruptAt: number | undefined
}

export interface Process {
  readonly faults: { readonly probability: number; readonly maxDelay: number; readonly seed: number }
  /** Its requests are lost, or refused, in these windows; `renew` alone, or all of them. */
  readonly outages: ReadonlyArray<{
    readonly from: number
    readonly to: number
    readonly how: "requestLost" | "refused" | "cutAfter"
    readonly renewalsOnly: boolean
  }>
  /** It stands still, timers and all (SIGSTOP); to infinity: it has crashed. */
  readonly pauses: ReadonlyArray<{ readonly from: number; readonly to: number }>
  readonly closeAt: number | undefined
  readonly shutdownGrace: number
  readonly breakerThreshold: number
}

export interface Intervention {
  readonly at: number
  readonly key: string
  readonly what: "reset" | "resetForced" | "resolveSuccess" | "resolveUnavailable" | "wipe"
}

export interface Scenario {
  readonly seed: number
  readonly processes: ReadonlyArray<Process>
  readonly callers: ReadonlyArray<Caller>
  readonly interventions: ReadonlyArray<Intervention>
}

export interface Dice {
  readonly below: (n: number) => number
  readonly chance: (probability: number) => boolean
  readonly between: (min: number, max: number) => number
  readonly oneOf: <A>(...all: readonly [A, ...ReadonlyArray<A>]) => A
}

export const makeDice = (seed: number): Dice => {
  const generator = new PCGRandom(seed)
  const below = (n: number) => Math.min(n - 1, Math.floor(generator.number() * n))
  return {
    below,
    chance: (probability) => generator.number() < probability,
    between: (min, max) => min + below(max - min + 1),
    oneOf: (...all) => all[below(all.length)] as (typeof all)[number]
  }
}

const times = <A>(n: number, make: (index: number) => A): ReadonlyArray<A> =>
  Array.from({ length: n }, (_, i) => make(i))

/** What may happen at all in this run: most runs have few kinds of trouble, so that each can be met alone. */
interface Weather {
  /** The probability of a fault, by call. */
  readonly faults: number
  readonly outages: boolean
  readonly pauses: boolean
  readonly crashes: boolean
  readonly closes: boolean
  readonly interventions: boolean
  readonly interruptions: boolean
  readonly unhappyEndings: boolean
  readonly mixedFingerprints: boolean
  readonly steps: boolean
  readonly guarantee: CallOptions["guarantee"] | undefined
  /** How long the trouble lasts: most callers come before. */
  readonly horizon: number
}

const makeWeather = (dice: Dice): Weather => ({
  faults: dice.chance(0.4) ? dice.oneOf(0.05, 0.15, 0.4) : 0,
  outages: dice.chance(0.25),
  pauses: dice.chance(0.3),
  crashes: dice.chance(0.25),
  closes: dice.chance(0.15),
  interventions: dice.chance(0.2),
  interruptions: dice.chance(0.3),
  unhappyEndings: dice.chance(0.5),
  mixedFingerprints: dice.chance(0.3),
  steps: dice.chance(0.25),
  guarantee: dice.oneOf(undefined, "at-least-once", "at-least-once", "at-most-once", "at-most-once"),
  horizon: dice.oneOf(10, 1000, 3000, 6000)
})

const makeOptions = (dice: Dice, weather: Weather): CallOptions => {
  const guarantee = weather.guarantee ?? dice.oneOf("at-least-once", "at-most-once")
  const isStrict = guarantee === "at-most-once"
  return {
    guarantee,
    onStorageFailure: isStrict ? "fail" : dice.oneOf("proceed", "proceed", "fail"),
    strategy: !isStrict && dice.chance(0.1) ? "optimistic" : "claim",
    inFlight: dice.oneOf("wait", "wait", "wait", "fail"),
    waitTimeout: dice.oneOf(0, 50, 1000, 4000, 10_000, 10_000, 10_000),
    lease: dice.oneOf(3 * storageTimeout, 3 * storageTimeout, 3 * storageTimeout, 2000, 5000),
    timeToLive: dice.oneOf(2000, 60_000, 60_000, 60_000),
    fingerprint: weather.mixedFingerprints ? dice.oneOf("A", "A", "A", "B", undefined) : dice.oneOf("A", undefined),
    withSuccess: dice.chance(0.3),
    withError: dice.chance(0.5),
    withUnknown: dice.chance(0.4)
  }
}

const makeEnding = (dice: Dice, weather: Weather): Ending =>
  weather.unhappyEndings && dice.chance(0.5)
    ? dice.oneOf("declined", "declined", "unrecordable", "timeout", "defect", "interruption", "unencodable", "tooLarge")
    : "success"

const makeCaller = (dice: Dice, weather: Weather, index: number, processes: number, keys: number): Caller => {
  const options = makeOptions(dice, weather)
  const late = weather.horizon + dice.below(2 * options.lease)
  const at = dice.oneOf(0, 0, dice.below(weather.horizon), dice.below(weather.horizon), late)
  const key = `k${dice.below(keys)}`
  return {
    name: `c${index}`,
    process: dice.below(processes),
    key,
    at,
    options,
    parts: times(dice.between(1, 2), () => ({
      millis: dice.oneOf(0, dice.below(100), dice.below(options.lease), dice.between(1, 3) * options.lease),
      saved: weather.steps && dice.chance(0.7)
    })),
    nested: dice.chance(0.04) ? `k${dice.below(keys)}` : undefined,
    ending: makeEnding(dice, weather),
    interruptAt:
      weather.interruptions && dice.chance(0.4)
        ? at + dice.oneOf(0, 1, dice.below(500), dice.below(2000), dice.below(6000))
        : undefined
  }
}

/** When trouble comes: mostly while some body is running. */
type Moment = () => number

const momentOf =
  (dice: Dice, callers: ReadonlyArray<Caller>): Moment =>
  () => {
    const caller = callers[dice.below(callers.length)]
    if (caller === undefined) return dice.below(1000)
    const duration = caller.parts.reduce((sum, { millis }) => sum + millis, 0)
    return caller.at + dice.oneOf(dice.below(10), dice.below(1000), dice.below(duration + 1))
  }

const makeProcess = (dice: Dice, weather: Weather, moment: Moment, mayCrash: boolean): Process => ({
  faults: { probability: weather.faults, maxDelay: dice.oneOf(50, 500, 4000), seed: dice.below(2 ** 31) },
  outages: weather.outages
    ? times(dice.between(1, 2), () => {
        const from = moment()
        return {
          from,
          to: from + dice.oneOf(100, 1000, 3000, 6000, 12_000),
          how: dice.oneOf("requestLost", "refused", "cutAfter"),
          renewalsOnly: dice.chance(0.3)
        }
      })
    : [],
  pauses: [
    ...(weather.pauses && dice.chance(0.7)
      ? times(1, () => {
          const from = moment()
          return { from, to: from + dice.oneOf(100, 1000, 3000, 6000, 12_000) }
        })
      : []),
    ...(mayCrash && weather.crashes ? [{ from: moment(), to: Number.POSITIVE_INFINITY }] : [])
  ],
  closeAt: weather.closes && dice.chance(0.7) ? moment() : undefined,
  shutdownGrace: dice.oneOf(1, 200, 3000),
  breakerThreshold: dice.oneOf(2, 5)
})

const withOptions = (caller: Caller, options: Partial<CallOptions>): Caller => ({
  ...caller,
  interruptAt: undefined,
  options: { ...caller.options, strategy: "claim", ...options }
})

/** The heart of the protocol, met too seldom by chance: an owner falls silent in the midst of its body, and others wait. */
const withSilentOwner = (dice: Dice, scenario: Scenario): Scenario => {
  const [owner, heir, ...callers] = scenario.callers
  const [process, ...processes] = scenario.processes
  if (owner === undefined || heir === undefined || process === undefined) return scenario
  const { guarantee, lease, onStorageFailure } = owner.options
  const silence = { from: 1 + dice.below(lease), to: dice.oneOf(Number.POSITIVE_INFINITY, 6000, 12_000) }
  return {
    ...scenario,
    callers: [
      { ...withOptions(owner, {}), process: 0, key: "k0", at: 0, parts: [{ millis: 2 * lease, saved: false }] },
      {
        ...withOptions(heir, { guarantee, onStorageFailure, inFlight: "wait", waitTimeout: 10_000 }),
        process: scenario.processes.length - 1,
        key: "k0",
        at: dice.below(2 * lease)
      },
      ...callers
    ],
    processes: [{ ...process, pauses: [...process.pauses, silence] }, ...processes]
  }
}

export const makeScenario = (seed: number): Scenario => {
  const dice = makeDice(seed)
  const weather = makeWeather(dice)
  const processes = dice.oneOf(1, 2, 2, 2)
  const keys = dice.oneOf(1, 1, 1, 2)
  const crashing = dice.below(processes)
  const callers = times(dice.between(2, 6), (index) => makeCaller(dice, weather, index, processes, keys))
  const moment = momentOf(dice, callers)
  const scenario: Scenario = {
    seed,
    callers,
    processes: times(processes, (index) => {
      const own = callers.filter(({ process }) => process === index)
      return makeProcess(dice, weather, momentOf(dice, own), index === crashing)
    }),
    interventions: weather.interventions
      ? times(dice.between(1, 3), () => ({
          at: moment(),
          key: `k${dice.below(keys)}`,
          what: dice.oneOf(
            "reset",
            "resetForced",
            "resetForced",
            "resolveSuccess",
            "resolveUnavailable",
            "wipe",
            "wipe"
          )
        }))
      : []
  }
  return dice.chance(0.15) ? withSilentOwner(dice, scenario) : scenario
}
