/** The memory store, beside a bare Effect around a `Map`. */
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import type * as Scope from "effect/Scope"
import {
  type Idempotency,
  IdempotencyIdentifiers,
  IdempotencyRepository,
  MemoryIdempotencyRepository
} from "effect-idempotency"
import { atEach, compareFirst, compareReplay, type Store, type Subject } from "../comparisons.js"
import { fibers, type Run, runPromises } from "../drive.js"
import { engineOver, oursOver } from "../ours.js"
import type { Row } from "../rows.js"
import type { Scenario } from "../scenario.js"
import { makeBody } from "../work.js"

const names = ["memory/first", "memory/replay 200 B"] as const
const byPromise = ", runPromise per call"

/** The least that keeps results in memory. Driven as ours is. */
const bareMap = (drive: typeof fibers): Subject => {
  const records = new Map<string, string>()
  const body = makeBody(200)
  const execute = drive(Effect.runPromise, (key: string) =>
    Effect.suspend(() => {
      const stored = records.get(key)
      if (stored !== undefined) return Effect.succeed<unknown>(JSON.parse(stored))
      return Effect.map(body.effect, (result): unknown => {
        records.set(key, JSON.stringify(result))
        return result
      })
    })
  )
  const store: Store = {
    empty: Effect.sync(() => records.clear()),
    records: () => Effect.sync(() => records.size)
  }
  return { name: "an Effect around a Map", role: "limit", body, store, first: execute, replay: execute }
}

/** So many of the keys are looked up: they are lost together, or not at all. */
const looked = 2000

type Engine = Layer.Layer<Idempotency | IdempotencyRepository>

/** A store that is empty is a new one: the memory store forgets nothing before its time. */
export const makeStore = Effect.fn(function* (engine: Engine = engineOver(MemoryIdempotencyRepository.layer)) {
  const make = () => ManagedRuntime.make(engine)
  let runtime = make()
  yield* Effect.addFinalizer(() => runtime.disposeEffect)
  const run: Run<Idempotency | IdempotencyRepository> = (effect) => runtime.runPromise(effect)
  const recordsOf = (keys: ReadonlyArray<string>) =>
    Effect.gen(function* () {
      const repository = yield* IdempotencyRepository
      const some = yield* Effect.forEach(keys.slice(0, looked), (idempotencyKey) =>
        IdempotencyIdentifiers.from({ operation: "bench", idempotencyKey })
      )
      const found = yield* Effect.map(repository.getMany(some), (records) => [...records].length)
      return found === some.length ? keys.length : found
    })
  const store: Store = {
    empty: Effect.promise(async () => {
      await runtime.dispose()
      runtime = make()
      await runtime.runtime()
    }),
    records: (keys) => Effect.promise(() => run(recordsOf(keys)))
  }
  return { run, store }
})

const subjects: Effect.Effect<readonly [Subject, Subject], never, Scope.Scope> = Effect.gen(function* () {
  const byFibers = yield* makeStore()
  const byPromises = yield* makeStore()
  return [oursOver(byFibers.run, byFibers.store, 200)[0], oursOver(byPromises.run, byPromises.store, 200)[1]]
})

export const memory: Scenario = {
  topic: "memory",
  names,
  run: (setting) =>
    Effect.gen(function* () {
      const [byFibers, byPromises] = yield* subjects
      const rows: Array<Row> = []
      for (const name of names.filter(setting.wants)) {
        const compared = name === "memory/first" ? compareFirst : compareReplay
        const timeEvery = 16
        const one = { limit: bareMap(fibers), others: [byFibers], timeEvery }
        const other = { limit: bareMap(runPromises), others: [byPromises], timeEvery }
        rows.push(...(yield* atEach(setting, name, compared, one)))
        rows.push(...(yield* atEach(setting, `${name}${byPromise}`, compared, other)))
      }
      return rows
    })
}
