/** Runs of worker processes on a server while a nemesis breaks what is between them, each from its seed. */
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { bundled } from "../support/bundle.js"
import { directoryFor } from "../support/servers.js"
import { type TcpProxy, tcpProxy } from "../support/tcpProxy.js"
import { processOf, type Worker } from "../support/workers.js"
import type { History, Interval } from "./history.js"
import { check, type Verdict } from "./linearizability.js"
import { historiesOf, monotonicMillis, type WorkerTask } from "./log.js"
import { type Fault, faultsOf, sizeOf } from "./plan.js"
import type { StoreServer } from "./stores.js"

export interface Run {
  readonly seed: number
  readonly histories: ReadonlyArray<History>
  readonly faults: ReadonlyArray<Fault>
  /** Those of the faults that were inflicted: a process that was killed has been seen to end. */
  readonly inflicted: ReadonlyArray<Fault>
  /** Requests and replies that were lost: the next one of a connection is, if one comes. */
  readonly lost: number
}

/** A process, ready to be told to go. */
interface Ready extends Worker {
  readonly task: WorkerTask
}

/** What to add to the common clock of all processes, by the clock that the servers on this machine ask. */
const measureOffset = (): Interval => {
  let best: Interval = { lo: Number.NEGATIVE_INFINITY, hi: Number.POSITIVE_INFINITY }
  for (let sample = 0; sample < 10; sample++) {
    const before = monotonicMillis()
    const wall = Date.now()
    const after = monotonicMillis()
    // A server and this process cut off what is less than a millisecond, each for itself.
    const offset = { lo: wall - after - 1, hi: wall + 1 - before }
    if (offset.hi - offset.lo < best.hi - best.lo) best = offset
  }
  return best
}

/** The bounds of all offsets while an effect runs: clocks are set, now and then. */
const measuringOffset = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<readonly [value: A, offset: Interval], E, R> =>
  Effect.suspend(() => {
    let all = measureOffset()
    const widen = Effect.sync(() => {
      const { hi, lo } = measureOffset()
      all = { lo: Math.min(all.lo, lo), hi: Math.max(all.hi, hi) }
    })
    return Effect.raceFirst(effect, Effect.zipRight(Effect.repeat(widen, Schedule.spaced(100)), Effect.never)).pipe(
      Effect.tap(() => widen),
      Effect.map((value) => [value, all] as const)
    )
  })

const wordOf = (worker: Worker, word: string) =>
  Effect.filterOrDieMessage(worker.nextLine, (line) => line === word, `the worker does not say that it is ${word}`)

/** Whether a process that is not told anything ends all the same. */
const hasEnded = (worker: Worker): Effect.Effect<boolean> =>
  Effect.timeoutTo(Effect.exit(worker.nextLine), {
    duration: "10 seconds",
    onTimeout: () => false,
    onSuccess: Exit.isFailure
  })

/** What the nemesis does to the workers and their server, and whether it could. */
const inflict = (
  { millis, what, worker }: Fault,
  server: StoreServer,
  proxies: ReadonlyArray<TcpProxy>,
  alive: Array<Ready>,
  heir: (worker: number) => Ready | undefined
): Effect.Effect<boolean> => {
  const proxy = proxies[worker]
  const victim = alive[worker]
  if (proxy === undefined || victim === undefined) return Effect.succeed(false)
  const done = Effect.as(true)
  const forAWhile = (begin: Effect.Effect<void>, end: Effect.Effect<void>) =>
    Effect.acquireUseRelease(
      begin,
      () => done(Effect.sleep(millis)),
      () => end
    )
  switch (what) {
    case "cut":
      return forAWhile(proxy.cut, proxy.mend)
    case "black hole":
      return forAWhile(proxy.blackHole, proxy.mend)
    case "lose a reply":
      return done(proxy.loseReplyTo(() => true))
    case "lose a request":
      return done(proxy.loseRequest(() => true))
    case "stall":
      return done(server.stall(millis))
    case "flush":
      return done(server.flush)
    case "stop":
      return forAWhile(victim.signal("SIGSTOP"), victim.signal("SIGCONT"))
    case "kill":
      return Effect.suspend(() => {
        const next = heir(worker)
        if (next === undefined) return Effect.succeed(false)
        alive[worker] = next
        return victim.signal("SIGKILL").pipe(Effect.zipRight(next.go), Effect.zipRight(hasEnded(victim)))
      })
  }
}

/** Plays a seed on a server with the bundle of the worker's script; the histories of its keys. */
const play = (seed: number, server: StoreServer, bundle: string): Effect.Effect<Run> =>
  Effect.gen(function* () {
    const size = sizeOf(seed)
    const faults = faultsOf(seed, size)
    const directory = yield* directoryFor("histories")
    const operation = `history-${seed}-${monotonicMillis()}`
    const proxies = yield* Effect.replicateEffect(tcpProxy(server.port), size.workers)
    const taskOf = (worker: number, life: number): WorkerTask => ({
      seed,
      size,
      worker,
      life,
      store: server.store,
      url: server.urlOn(proxies[worker]?.port ?? server.port),
      operation,
      log: join(directory, `${worker}-${life}.log`)
    })
    const start = (task: WorkerTask): Effect.Effect<Ready, never, Scope.Scope> =>
      Effect.gen(function* () {
        const worker = yield* processOf([bundle], task)
        yield* wordOf(worker, "ready")
        return { ...worker, task }
      })
    const killed = faults.flatMap(({ what, worker }) => (what === "kill" ? [worker] : []))
    const tasks = [
      ...Array.from({ length: size.workers }, (_, worker) => taskOf(worker, 0)),
      ...killed.map((worker) => taskOf(worker, 1))
    ]
    const all = yield* Effect.forEach(tasks, start, { concurrency: 4 })
    const alive = all.slice(0, size.workers)
    const heir = (of: number) => all.find(({ task: { life, worker } }) => life === 1 && worker === of)
    const nemesis = Effect.filter(
      faults,
      (fault) =>
        Effect.zipRight(
          Effect.sleep(fault.at),
          Effect.suspend(() => inflict(fault, server, proxies, alive, heir))
        ),
      { concurrency: "unbounded" }
    )
    const run = Effect.gen(function* () {
      yield* Effect.forEach(alive, ({ go }) => go, { discard: true })
      const breaking = yield* Effect.fork(nemesis)
      yield* Effect.sleep(size.millis)
      const inflicted = yield* Fiber.join(breaking)
      yield* Effect.forEach(alive, ({ go }) => go, { discard: true })
      yield* Effect.forEach(alive, (worker) => wordOf(worker, "done"), { concurrency: "unbounded", discard: true })
      return inflicted
    })
    const [inflicted, offset] = yield* measuringOffset(run)
    return {
      seed,
      faults,
      inflicted,
      lost: proxies.reduce((sum, proxy) => sum + proxy.lost(), 0),
      histories: historiesOf(tasks, { ...server.clock, offset })
    }
  }).pipe(Effect.scoped)

/** Plays seeds on a server, with what they share made once. */
export const makePlay = (
  server: StoreServer
): Effect.Effect<(seed: number) => Effect.Effect<Run>, never, Scope.Scope> =>
  Effect.map(bundled(new URL("./worker.ts", import.meta.url)), (bundle) => (seed) => play(seed, server, bundle))

export interface Judged {
  readonly calls: number
  readonly unanswered: number
  readonly visited: number
  /** What is wrong, with the seed that makes the same plan again. */
  readonly wrong: ReadonlyArray<string>
}

const wrongOf = (seed: number, key: number, verdict: Verdict): ReadonlyArray<string> =>
  verdict._tag === "Linearizable"
    ? []
    : [
        `NEMESIS_SEED=${seed} npm run test:soak: key ${key}: ${
          verdict._tag === "Violation" ? "not linearizable" : `the search was given up after ${verdict.visited} states`
        }\n${verdict.report}`
      ]

/** What the checker says to the histories of a run. */
export const judge = ({ histories, seed }: Run): Judged => {
  const verdicts = histories.map((history) => check(history))
  const operations = histories.flatMap((history) => history.operations)
  return {
    calls: operations.length,
    unanswered: operations.filter(({ returned }) => returned === undefined).length,
    visited: verdicts.reduce((sum, { visited }) => sum + visited, 0),
    wrong: verdicts.flatMap((verdict, key) => wrongOf(seed, key, verdict))
  }
}
