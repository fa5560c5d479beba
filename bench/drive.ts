/** Ways to make calls: by promises, by fibers of one runtime, and by a `runPromise` for each. */
import * as Effect from "effect/Effect"

export interface Load {
  readonly count: number
  /** How many calls are under way at any time. */
  readonly concurrency: number
  readonly keyOf: (index: number) => string
  /** Every nth call is timed: reading the clock is not free beside calls of a microsecond. */
  readonly timeEvery: number
}

/** What was measured while a load was driven. */
export interface Slice {
  readonly count: number
  readonly millis: number
  /** Of this process, its threads included. */
  readonly cpuMicros: number
  /** In milliseconds. */
  readonly latencies: ReadonlyArray<number>
  /** Some of the values that the calls ended with. */
  readonly values: ReadonlyArray<unknown>
}

export type Drive = (load: Load) => Promise<Slice>

/** How a runtime runs effects. */
export type Run<R> = <A, E>(effect: Effect.Effect<A, E, R>) => Promise<A>

const keepEvery = 61

/** What the workers of a load share. */
const makeTally = ({ count, timeEvery }: Load) => {
  const latencies: Array<number> = []
  const values: Array<unknown> = []
  let next = 0
  return {
    latencies,
    values,
    hasNext: () => next < count,
    take: () => next++,
    startOf: (index: number) => (index % timeEvery === 0 ? performance.now() : 0),
    ended: (index: number, start: number, value: unknown) => {
      if (index % timeEvery === 0) latencies.push(performance.now() - start)
      if (index % keepEvery === 0) values.push(value)
    }
  }
}

type Tally = ReturnType<typeof makeTally>

const measured = async (load: Load, work: (tally: Tally) => Promise<unknown>): Promise<Slice> => {
  const tally = makeTally(load)
  const cpu = process.cpuUsage()
  const start = performance.now()
  await work(tally)
  const millis = performance.now() - start
  const { system, user } = process.cpuUsage(cpu)
  return { count: load.count, millis, cpuMicros: system + user, latencies: tally.latencies, values: tally.values }
}

const workersOf = <A>({ concurrency }: Load, worker: () => A): ReadonlyArray<A> =>
  Array.from({ length: concurrency }, worker)

export const promises =
  (call: (key: string) => Promise<unknown>): Drive =>
  (load) =>
    measured(load, (tally) => {
      const worker = async () => {
        while (tally.hasNext()) {
          const index = tally.take()
          const start = tally.startOf(index)
          tally.ended(index, start, await call(load.keyOf(index)))
        }
      }
      return Promise.all(workersOf(load, worker))
    })

export const fibers =
  <E, R>(run: Run<R>, call: (key: string) => Effect.Effect<unknown, E, R>): Drive =>
  (load) =>
    measured(load, (tally) => {
      const worker = () => {
        let index = 0
        let start = 0
        return Effect.whileLoop({
          while: tally.hasNext,
          body: () => {
            index = tally.take()
            start = tally.startOf(index)
            return call(load.keyOf(index))
          },
          step: (value) => tally.ended(index, start, value)
        })
      }
      return run(Effect.all(workersOf(load, worker), { concurrency: "unbounded", discard: true }))
    })

export const runPromises = <E, R>(run: Run<R>, call: (key: string) => Effect.Effect<unknown, E, R>): Drive =>
  promises((key) => run(call(key)))
