/** First executions and replays, of whatever can execute a key: the same for every store and peer. */
import * as Effect from "effect/Effect"
import type { Drive, Slice } from "./drive.js"
import { type Contender, compare, type Effort, type Measured, type Role } from "./rounds.js"
import { type Row, rowsOf } from "./rows.js"
import type { Setting } from "./scenario.js"
import { type Body, ensure, ensureEqual } from "./work.js"

/** Where a subject keeps its records. */
export interface Store {
  readonly empty: Effect.Effect<void>
  /** How many records there are, of these keys if the store cannot tell otherwise. */
  readonly records: (keys: ReadonlyArray<string>) => Effect.Effect<number>
  /** Those that have arrived so far. */
  readonly roundTrips?: Effect.Effect<number>
  /** What a record takes beyond this many bytes of payload and its key. */
  readonly overhead?: (payloadBytes: number) => Effect.Effect<number>
}

/** What is compared: a way to execute a key, and to replay it. */
export interface Subject {
  readonly name: string
  readonly role: Role
  readonly body: Body
  readonly store: Store
  readonly first: Drive
  readonly replay: Drive
  /** Gives the very object that the body made, not a decoded copy. */
  readonly keepsReferences?: boolean
  /** More calls at once than this make it fail: then it is left out. */
  readonly mostCallers?: number
}

let turns = 0

const checkValues = ({ body, name }: Subject, { values }: Slice): void => {
  ensure(values.length > 0, `${name} ended no call`)
  for (const value of values) ensureEqual(value, body.result, name)
}

const keysOf = (keyOf: (index: number) => string, count: number): ReadonlyArray<string> =>
  Array.from({ length: count }, (_, index) => keyOf(index))

const noTrips = Effect.succeed(Number.NaN)

const tripsSince = ({ store }: Subject, before: number, count: number): Effect.Effect<number | undefined> =>
  store.roundTrips === undefined
    ? Effect.succeed(undefined)
    : Effect.map(store.roundTrips, (now) => (now - before) / count)

/** Every call has a fresh key: the body runs for each, and afterwards there is one record for each. */
const firstOf = (subject: Subject, timeEvery: number): Contender => {
  let executed = 0
  let trips = 0
  let prefix = ""
  const keyOf = (index: number) => `${prefix}-${index}`
  return {
    name: subject.name,
    role: subject.role,
    before: Effect.gen(function* () {
      yield* subject.store.empty
      prefix = `first-${++turns}`
      executed = subject.body.executions()
      trips = yield* subject.store.roundTrips ?? noTrips
    }),
    drive: (count, concurrency) => subject.first({ count, concurrency, keyOf, timeEvery }),
    after: (slice) =>
      Effect.gen(function* () {
        const roundTrips = yield* tripsSince(subject, trips, slice.count)
        const ran = subject.body.executions() - executed
        ensure(ran === slice.count, `${subject.name}: ${ran} executions of ${slice.count} keys`)
        const records = yield* subject.store.records(keysOf(keyOf, slice.count))
        ensure(records === slice.count, `${subject.name}: ${records} records of ${slice.count} keys`)
        checkValues(subject, slice)
        const { overhead } = subject.store
        return { roundTrips, bytesPerRecord: overhead && (yield* overhead(subject.body.bytes)) }
      })
  }
}

/** Of enough keys that callers do not meet at one: what is under way for a key may be shared. */
const storedKeys = (concurrency: number, { isQuick }: Effort): number => Math.max(isQuick ? 200 : 1000, 4 * concurrency)

/** Every key is settled beforehand: the body never runs, and there are no more records than before. */
const replayOf = (subject: Subject, { concurrency, effort, timeEvery = 1 }: Comparison): Effect.Effect<Contender> =>
  Effect.gen(function* () {
    const stored = storedKeys(concurrency, effort)
    const prefix = `replay-${++turns}`
    const keyOf = (index: number) => `${prefix}-${index % stored}`
    const keys = keysOf(keyOf, stored)
    yield* Effect.promise(() => subject.first({ count: stored, concurrency: 20, keyOf, timeEvery: 1 }))
    const records = yield* subject.store.records(keys)
    ensure(records >= stored, `${subject.name}: ${records} records of ${stored} keys`)
    let executed = 0
    let trips = 0
    return {
      name: subject.name,
      role: subject.role,
      before: Effect.gen(function* () {
        executed = subject.body.executions()
        trips = yield* subject.store.roundTrips ?? noTrips
      }),
      drive: (count) => subject.replay({ count, concurrency, keyOf, timeEvery }),
      after: (slice) =>
        Effect.gen(function* () {
          const roundTrips = yield* tripsSince(subject, trips, slice.count)
          const ran = subject.body.executions() - executed
          ensure(ran === 0, `${subject.name}: ${ran} executions among replays`)
          checkValues(subject, slice)
          const isCopy = slice.values.every((value) => value !== subject.body.result)
          ensure(isCopy || subject.keepsReferences === true, `${subject.name}: a replay was not decoded`)
          return { roundTrips }
        })
    }
  })

/** The first of the subjects is the limit. */
export interface Comparison {
  readonly limit: Subject
  readonly others: ReadonlyArray<Subject>
  readonly concurrency: number
  readonly effort: Effort
  /** Every nth call is timed; all by default. */
  readonly timeEvery?: number
}

export const compareFirst = ({ concurrency, effort, limit, others, timeEvery = 1 }: Comparison) =>
  compare(
    firstOf(limit, timeEvery),
    others.map((subject) => firstOf(subject, timeEvery)),
    concurrency,
    effort
  )

export const compareReplay = (comparison: Comparison): Effect.Effect<ReadonlyArray<Measured>> =>
  Effect.gen(function* () {
    const { concurrency, effort, limit, others } = comparison
    // Each is emptied before any is seeded: some share a server.
    for (const { store } of [limit, ...others]) yield* store.empty
    const first = yield* replayOf(limit, comparison)
    const rest = yield* Effect.forEach(others, (subject) => replayOf(subject, comparison))
    return yield* compare(first, rest, concurrency, effort)
  })

/** The comparison at each number of callers that is asked for. */
export const atEach = (
  { concurrencies, effort }: Setting,
  scenario: string,
  compared: (comparison: Comparison) => Effect.Effect<ReadonlyArray<Measured>>,
  comparison: Omit<Comparison, "concurrency" | "effort">,
  also: ReadonlyArray<"cpu" | "bytes"> = []
): Effect.Effect<ReadonlyArray<Row>> =>
  Effect.map(
    Effect.forEach(concurrencies, (concurrency) => {
      const others = comparison.others.filter(({ mostCallers = concurrency }) => concurrency <= mostCallers)
      return Effect.map(compared({ ...comparison, others, concurrency, effort }), (measured) =>
        rowsOf(scenario, concurrency, measured, also)
      )
    }),
    (rows) => rows.flat()
  )
