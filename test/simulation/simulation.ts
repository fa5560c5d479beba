/** Plays a scenario: real engines, callers, operators and bad networks around one memory store, in virtual time. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { Idempotency } from "../../src/Idempotency.js"
import { IdempotencyIdentifiers } from "../../src/IdempotencyIdentifiers.js"
import type { Outcome, State } from "../../src/internal/protocol.js"
import { startCaller } from "./calls.js"
import { makeNode, type Node } from "./node.js"
import { type Change, makeObservedStore, wrongOf } from "./observedStore.js"
import { elapsed, type Mutation, outside, type Played, start, type World } from "./played.js"
import { type Intervention, makeDice, makeScenario } from "./scenario.js"
import { makeVirtualTime } from "./virtualTime.js"

/** By then every run has come to rest, if it ever does. */
const horizon = 600_000

const identifiersOf = (key: string): IdempotencyIdentifiers =>
  Either.getOrThrow(IdempotencyIdentifiers.from({ operation: "op", idempotencyKey: key }))

const intervene = ({ store, tell, time }: World, { at, key, what }: Intervention, index: number): void => {
  const driver = store.driverOf(undefined)
  const ids = identifiersOf(key)
  const run = <A, E>(effect: Effect.Effect<A, E>) =>
    void Effect.runSync(Effect.withClock(effect, time.clockOf(outside)))
  const resolve = (outcome: Outcome) => run(driver.resolve(ids, { token: `operator ${index}`, outcome }))
  time.after(outside, at, () => {
    tell(() => `operator: ${what} ${key}`)
    switch (what) {
      case "wipe":
        return store.wipe()
      case "reset":
        return run(driver.reset(ids, { force: false }))
      case "resetForced":
        return run(driver.reset(ids, { force: true }))
      case "resolveSuccess":
        return resolve({ _tag: "Success", encoded: `{"run":${-1 - index}}` })
      case "resolveUnavailable":
        return resolve({ _tag: "Unavailable" })
    }
  })
}

/** What must be gone once every caller has its answer, and once the engines have closed. */
const leaveNothing = (world: World, nodes: ReadonlyArray<Node>): void => {
  const { liveFibers, network, problems, time } = world
  const alive = nodes.filter(({ history }) => !history.hasCrashed)
  for (const node of alive) {
    for (const [what, count] of Object.entries(Context.get(node.context, Idempotency).underWay())) {
      if (count !== 0) problems.push(`an engine still has ${count} ${what} under way`)
    }
    if (node.inFlight() !== 0) problems.push(`an engine measures ${node.inFlight()} executions in flight`)
  }
  for (const node of alive) node.close()
  time.run(time.now() + horizon)
  for (const { history } of alive) if (history.closedAt === undefined) problems.push("an engine does not close")
  Effect.runFork(Scope.close(network, Exit.void), { scheduler: time.schedulerOf(outside) })
  time.run(time.now() + horizon)
  const timers = time.timers().filter(Number.isFinite).length
  if (timers > 0) problems.push(`${timers} timers are still set`)
  if (alive.length === nodes.length && liveFibers.size > 0) problems.push(`${liveFibers.size} fibers are left`)
}

/* What is told. */

const describeState = (state: State | undefined): string => {
  if (state === undefined) return "Absent"
  switch (state._tag) {
    case "Processing":
      return `Processing(${state.attempt}, until ${elapsed(state.leaseUntil)})`
    case "Completed":
      return `Completed(${state.attempt}, ${JSON.stringify(state.outcome).slice(0, 60)})`
    default:
      return `${state._tag}(${state.attempt})`
  }
}

const makeDescribeChange = () => {
  const names = new Map<string, string>()
  const nameOf = (token: string | undefined): string => {
    if (token === undefined || token.startsWith("operator")) return token ?? ""
    const name = names.get(token) ?? `t${names.size + 1}`
    names.set(token, name)
    return name
  }
  return ({ after, before, key, method, process, reply, token }: Change): string => {
    const change = before === after ? "still" : `${describeState(before)} →`
    return `   p${process ?? "-"} ${method} ${key} ${nameOf(token)}: ${reply}; ${change} ${describeState(after)}`
  }
}

/** Plays the scenario of a seed. The same seed and mutation always play the same. */
export const play = (
  seed: number,
  options: { readonly mutation?: Mutation; readonly isTraced?: boolean } = {}
): Played => {
  const { isTraced = false, mutation = {} } = options
  const scenario = makeScenario(seed)
  const dice = makeDice(seed ^ 0x5bd1e995)
  const isShuffled = dice.chance(0.5)
  const time = makeVirtualTime(start, (n) => (isShuffled ? dice.below(n) : 0))
  const trace: Array<string> = []
  const problems: Array<string> = []
  const tell = (event: () => string): void => {
    if (isTraced) trace.push(`${String(elapsed(time.now())).padStart(7)} ${event()}`)
  }
  const describeChange = makeDescribeChange()
  const store = makeObservedStore(time, mutation.store ?? ((driver) => driver), (change) => {
    const wrong = wrongOf(change)
    if (wrong !== undefined) problems.push(`the store, at ${elapsed(change.at)}, in ${change.method}: ${wrong}`)
    tell(() => describeChange(change))
  })
  const network = Effect.runSync(Scope.make())
  const liveFibers: World["liveFibers"] = new Set()
  const world: World = { scenario, time, store, runs: [], calls: [], problems, tell, liveFibers, network, mutation }

  const nodes: Array<Node> = []
  time.withPlatformTimers(() => {
    try {
      for (const [index, process] of scenario.processes.entries()) nodes.push(makeNode(world, process, index))
      for (const caller of scenario.callers) {
        const node = nodes[caller.process]
        if (node !== undefined) startCaller(world, node, caller)
      }
      for (const [index, intervention] of scenario.interventions.entries()) intervene(world, intervention, index)
      time.run(start + horizon)
      leaveNothing(world, nodes)
    } catch (error) {
      problems.push(String(error))
    }
  })
  const { calls, runs } = world
  return { scenario, runs, calls, changes: store.changes, nodes: nodes.map(({ history }) => history), problems, trace }
}
