/** Interleaved rounds: in each, everything that is compared has its turn, the limit first. */
import * as Effect from "effect/Effect"
import type { Slice } from "./drive.js"
import { median, quantile, ratiosOf, type Spread, spreadOf } from "./statistics.js"

export type Role = "limit" | "ours" | "peer"

/** What a turn shows beside its time. */
export interface Observed {
  /** Round trips per operation, counted where they arrive. */
  readonly roundTrips?: number | undefined
  /** What a stored record takes beyond its payload and its key. */
  readonly bytesPerRecord?: number | undefined
}

export interface Contender {
  readonly name: string
  readonly role: Role
  /** Before its turn, outside its time: an empty store, fresh keys. */
  readonly before: Effect.Effect<void>
  readonly drive: (count: number, concurrency: number) => Promise<Slice>
  /** After its turn, outside its time: ends the run if the work was not done. */
  readonly after: (slice: Slice) => Effect.Effect<Observed>
}

export interface Measured extends Observed {
  readonly name: string
  readonly role: Role
  readonly operationsPerSecond: Spread
  /** Of operations per second, to the limit of the same round. */
  readonly ratio: Spread
  readonly cpuMicros: Spread
  /** Of CPU time per operation, to the limit of the same round. */
  readonly cpuRatio: Spread
  /** Milliseconds: the medians of the rounds. */
  readonly p50: number
  readonly p99: number
}

/** How long and how often. */
export interface Effort {
  readonly isQuick: boolean
  readonly rounds: number
  /** How long a turn takes, about. */
  readonly turnMillis: number
  /** How long each runs before the rounds: code that is not compiled yet is many times slower. */
  readonly warmUpMillis: number
}

const fewest = 20
const most = 400_000

/** Garbage is not collected in between: V8 forgets, with it, some of the code that it has compiled. */
const turn = (contender: Contender, count: number, concurrency: number) =>
  Effect.gen(function* () {
    yield* contender.before
    const slice = yield* Effect.promise(() => contender.drive(count, concurrency))
    const observed = yield* contender.after(slice)
    return { slice, observed }
  })

/** Warms up, and finds how many operations fill a turn. Each has its own number: their speeds are far apart. */
const calibrate = (contender: Contender, concurrency: number, { turnMillis, warmUpMillis }: Effort) =>
  Effect.gen(function* () {
    const atLeast = Math.max(fewest, 2 * concurrency)
    let count = atLeast
    for (let spent = 0; spent < warmUpMillis; ) {
      const { slice } = yield* turn(contender, count, concurrency)
      spent += slice.millis
      // The first operations are slow: growing by steps keeps one of them from deciding.
      const filling = Math.min(Math.round((count * turnMillis) / slice.millis), count * 10)
      count = Math.min(most, Math.max(atLeast, filling))
      if (count === most) break
    }
    return count
  })

type Turns = ReadonlyArray<{ readonly slice: Slice; readonly observed: Observed }>

const reduce = (contender: Contender, turns: Turns, limits: Turns): Measured => {
  const rates = (of: Turns) => of.map(({ slice }) => (slice.count / slice.millis) * 1000)
  const cpu = (of: Turns) => of.map(({ slice }) => slice.cpuMicros / slice.count)
  const latency = (q: number) => median(turns.map(({ slice }) => quantile(slice.latencies, q)))
  const observed = (pick: (observed: Observed) => number | undefined) => {
    const seen = turns.flatMap((each) => pick(each.observed) ?? [])
    return seen.length === 0 ? undefined : median(seen)
  }
  return {
    name: contender.name,
    role: contender.role,
    operationsPerSecond: spreadOf(rates(turns)),
    ratio: spreadOf(ratiosOf(rates(turns), rates(limits))),
    cpuMicros: spreadOf(cpu(turns)),
    cpuRatio: spreadOf(ratiosOf(cpu(turns), cpu(limits))),
    p50: latency(0.5),
    p99: latency(0.99),
    roundTrips: observed(({ roundTrips }) => roundTrips),
    bytesPerRecord: observed(({ bytesPerRecord }) => bytesPerRecord)
  }
}

/** The limit and what is measured against it, in interleaved rounds after a warm-up. */
export const compare = (
  limit: Contender,
  others: ReadonlyArray<Contender>,
  concurrency: number,
  effort: Effort
): Effect.Effect<ReadonlyArray<Measured>> =>
  Effect.gen(function* () {
    const contenders = [limit, ...others]
    const counts = yield* Effect.forEach(contenders, (contender) => calibrate(contender, concurrency, effort))
    const rounds = yield* Effect.replicateEffect(
      Effect.forEach(contenders, (contender, index) => turn(contender, counts[index] ?? fewest, concurrency)),
      effort.rounds
    )
    const turnsOf = (index: number): Turns => rounds.flatMap((round) => round[index] ?? [])
    return contenders.map((contender, index) => reduce(contender, turnsOf(index), turnsOf(0)))
  })
