/** What callers ask and what the nemesis does, from a seed alone: the same seed, the same plan. */
import { PCGRandom } from "effect/Utils"
import type * as Protocol from "../../src/internal/protocol.js"
import type { Call } from "./history.js"

/** How large a run is. */
export interface Size {
  /** Worker processes, and how many callers each has. */
  readonly workers: number
  readonly callers: number
  readonly keys: number
  /** For how long workers call, and for how long at its end nothing is broken any more. */
  readonly millis: number
  readonly calmMillis: number
  /** Faults in that time. */
  readonly faults: number
}

/** 8 processes with two callers each, on 10 keys. */
const long: Size = { workers: 8, callers: 2, keys: 10, millis: 2500, calmMillis: 200, faults: 14 }

/** What fits into every run of the tests. */
const short: Size = { workers: 3, callers: 2, keys: 4, millis: 1000, calmMillis: 100, faults: 6 }

/** Seeds below it are of short runs. */
export const firstLong = 100

/** A seed says it all. */
export const sizeOf = (seed: number): Size => (seed < firstLong ? short : long)

/** Most seeds are for Redis, every third for Postgres. */
export const storeOf = (seed: number): "redis" | "postgres" => (seed % 3 === 0 ? "postgres" : "redis")

/** One call of a caller. */
export interface Step {
  /** Milliseconds to wait before it. */
  readonly pause: number
  readonly key: number
  readonly call: Call
  /** Milliseconds that the caller waits for an answer. */
  readonly patience: number
}

/** Which caller: of which worker, and whether that is one that takes the place of a killed one. */
export interface Caller {
  readonly worker: number
  readonly life: number
  readonly caller: number
}

class Dice {
  readonly generator: PCGRandom

  constructor(seed: number, stream: number) {
    this.generator = new PCGRandom(seed, stream)
  }

  upTo(max: number): number {
    return this.generator.integer(max + 1)
  }

  between(min: number, max: number): number {
    return min + this.upTo(max - min)
  }

  chance(probability: number): boolean {
    return this.generator.number() < probability
  }

  oneOf<A>(first: A, ...rest: ReadonlyArray<A>): A {
    return rest[this.upTo(rest.length) - 1] ?? first
  }

  /** One of the names, as often as its weight says. */
  weighted<Name extends string>(first: Name, weights: ReadonlyArray<readonly [Name, number]>): Name {
    let left = this.generator.number() * weights.reduce((sum, [, weight]) => sum + weight, 0)
    for (const [name, weight] of weights) {
      left -= weight
      if (left < 0) return name
    }
    return first
  }
}

const verbs: ReadonlyArray<readonly [Call["verb"], number]> = [
  ["read", 24],
  ["claim", 20],
  ["complete", 10],
  ["reset", 10],
  ["renew", 8],
  ["saveStep", 6],
  ["release", 8],
  ["hold", 3],
  ["resolve", 8]
]

/** Everything is short, so that leases lapse and records expire many times in a run. */
const lease = [15, 120] as const
const retention = [40, 350] as const
const unknownRetention = [100, 600] as const

const outcomeOf = (dice: Dice, encoded: string): Protocol.Outcome =>
  dice.oneOf<Protocol.Outcome>(
    { _tag: "Success", encoded },
    { _tag: "Success", encoded },
    { _tag: "Failure", encoded },
    { _tag: "Unavailable" }
  )

/** The calls of one caller, without end. */
export function* stepsOf(seed: number, { callers, keys, workers }: Size, who: Caller): Generator<Step, never> {
  const { caller, life, worker } = who
  const dice = new Dice(seed, 1 + (life * workers + worker) * callers + caller)
  /** Others make tokens with the same names at about the same time. */
  const tokenOf = (of: Caller, n: number) => `${of.worker}.${of.life}.${of.caller}.${n}`
  /** Of each key the last few, of which perhaps one has won. */
  const own = new Map<number, ReadonlyArray<string>>()
  let made = 0

  const anyones = () => {
    const other = { worker: dice.upTo(workers - 1), life: 0, caller: dice.upTo(callers - 1) }
    return tokenOf(other, Math.max(0, made - dice.upTo(3)))
  }
  const fresh = (key: number) => {
    const token = tokenOf(who, made++)
    own.set(key, [token, ...(own.get(key) ?? [])].slice(0, 3))
    return token
  }
  const ownOrAnyones = (key: number) => {
    const [first, ...rest] = own.get(key) ?? []
    return first === undefined || dice.chance(0.15) ? anyones() : dice.oneOf(first, ...rest)
  }
  const fingerprint = () => dice.oneOf(undefined, undefined, undefined, "f", "f", "f", "g")

  const callOf = (verb: Call["verb"], key: number, token: string): Call => {
    const encoded = JSON.stringify(`${token} on ${key}`)
    switch (verb) {
      case "claim":
        return {
          verb,
          request: {
            token,
            fingerprint: fingerprint(),
            guarantee: dice.chance(0.3) ? "at-most-once" : "at-least-once",
            lease: dice.between(...lease),
            retention: dice.between(...retention),
            unknownRetention: dice.between(...unknownRetention)
          }
        }
      case "renew":
        return { verb, request: { token, lease: dice.between(...lease) } }
      case "complete":
        return {
          verb,
          request: {
            token,
            outcome: outcomeOf(dice, encoded),
            fingerprint: fingerprint(),
            retention: dice.between(...retention)
          }
        }
      case "release":
      case "hold":
        return { verb, request: { token } }
      case "saveStep":
        return { verb, request: { token, name: dice.oneOf("one", "two", "three"), encoded } }
      case "resolve":
        return { verb, request: { token: fresh(key), outcome: outcomeOf(dice, encoded) } }
      case "reset":
        return { verb, request: { force: dice.chance(0.4) } }
      case "read":
        return { verb }
    }
  }

  const anyCall = (key: number): Call => {
    const verb = dice.weighted("read", verbs)
    return callOf(verb, key, verb === "claim" && dice.chance(0.6) ? fresh(key) : ownOrAnyones(key))
  }

  /** A pause that an owner's lease may not outlast, now and then. */
  const pause = () => (dice.chance(0.1) ? dice.between(20, 150) : dice.upTo(10))
  const step = (key: number, call: Call): Step => ({ pause: pause(), key, call, patience: dice.between(100, 500) })

  for (;;) {
    const key = dice.upTo(keys - 1)
    const token = fresh(key)
    // An owner as the engine is one, among calls of all kinds. It says some things twice.
    const between = Array.from({ length: dice.upTo(2) }, () => dice.oneOf<Call["verb"]>("renew", "saveStep", "read"))
    const end = dice.oneOf<Call["verb"]>("complete", "complete", "complete", "release", "hold")
    for (const verb of ["claim" as const, ...between, end]) {
      const call = callOf(verb, key, token)
      yield step(key, call)
      if (dice.chance(0.15)) yield step(key, call)
      if (dice.chance(0.4)) yield step(key, anyCall(key))
    }
  }
}

/** What the nemesis does at a time of the run. */
export interface Fault {
  readonly at: number
  readonly what: /** The worker's connections are cut, and it gets no new ones for a while. */
    | "cut"
    /** Nothing passes for a while; what was sent meanwhile arrives then. */
    | "black hole"
    | "lose a reply"
    | "lose a request"
    /** The server answers nobody for a while. */
    | "stall"
    /** The server forgets what it can: scripts, or the connections that there are. */
    | "flush"
    /** The worker's process stands still for a while. */
    | "stop"
    /** The worker's process is killed, and another takes its place. */
    | "kill"
  readonly worker: number
  readonly millis: number
}

const faults: ReadonlyArray<readonly [Fault["what"], number]> = [
  ["cut", 5],
  ["black hole", 4],
  ["lose a reply", 6],
  ["lose a request", 3],
  ["stall", 3],
  ["flush", 3],
  ["stop", 4]
]

/** What the nemesis does, in the order of time. One worker is killed in each run that has more than one. */
export const faultsOf = (seed: number, size: Size): ReadonlyArray<Fault> => {
  const dice = new Dice(seed, 0)
  const longest = 250
  const last = Math.max(0, size.millis - size.calmMillis - longest)
  const fault = (what: Fault["what"]): Fault => ({
    what,
    at: dice.upTo(last),
    worker: dice.upTo(size.workers - 1),
    millis: dice.between(20, longest)
  })
  const kills = size.workers > 1 ? [fault("kill")] : []
  return [
    ...kills,
    ...Array.from({ length: size.faults - kills.length }, () => fault(dice.weighted("cut", faults)))
  ].sort((a, b) => a.at - b.at)
}
