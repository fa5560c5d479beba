/**
 * Whether a history could have come about one operation after the other (Wing & Gong 1993, with Lowe's memory of what
 * was visited): each at some instant between its call and its answer, with the answer that the protocol has for it.
 *
 * Leases lapse and records expire by the store's clock, which callers know within bounds. What was not answered may have
 * taken effect at any time after its call, or never.
 */
import { inspect } from "node:util"
import * as Predicate from "effect/Predicate"
import type { History, Interval, Operation, Returned } from "./history.js"
import { absent, type Possible, type Successor, successors } from "./possible.js"

export type Verdict =
  | { readonly _tag: "Linearizable"; readonly visited: number }
  /** No order explains it; how far the longest one came. */
  | { readonly _tag: "Violation"; readonly visited: number; readonly report: string }
  /** The search was given up: nothing is known. */
  | { readonly _tag: "Exhausted"; readonly visited: number; readonly report: string }

export interface Bound {
  /** How many different sets of operations, each with a state, the search may visit. */
  readonly maxVisited: number
}

const defaultBound: Bound = { maxVisited: 200_000 }

type Answered = Operation & { readonly returned: Returned }

const isAnswered = (operation: Operation): operation is Answered => operation.returned !== undefined

/** Some operations in an order that explains them. */
interface Order {
  /** All of the first answered operations, */
  readonly prefix: number
  /** and some of those behind, */
  readonly behind: ReadonlyArray<number>
  /** and some of those without an answer. */
  readonly open: ReadonlyArray<number>
  /** Its last operation took effect after the latest of their calls. */
  readonly since: number
  readonly possible: Possible
  readonly last: { readonly operation: Operation; readonly before: Order } | undefined
}

/** What an order leaves to be explained, but for instants and what was not answered. */
const nameOf = ({ behind, possible: { isOne, state }, prefix }: Order): string =>
  [prefix, behind, isOne, JSON.stringify(state)].join("|")

const includes = (outer: Interval, inner: Interval): boolean => outer.lo <= inner.lo && inner.hi <= outer.hi

/** Of two that hold the same but for instants: whether the first may be all that the second may be. */
const covers = (outer: Possible, inner: Possible): boolean =>
  includes(outer.made, inner.made) && includes(outer.touched, inner.touched)

/** The answers that may tell of a change; a call that is answered otherwise never changes anything. */
const effective: ReadonlySet<unknown> = new Set([
  "Claimed",
  "AlreadyMine",
  "Unknown",
  "Renewed",
  "Done",
  "Released",
  "Held",
  "Saved",
  "Resolved",
  "Reset"
])

const isIdle = ({ call, returned: { reply } }: Answered): boolean =>
  call.verb === "read" || !(Predicate.hasProperty(reply, "_tag") && effective.has(reply._tag))

const insertSorted = (into: ReadonlyArray<number>, one: number): ReadonlyArray<number> =>
  [...into, one].sort((a, b) => a - b)

class Search {
  readonly answered: ReadonlyArray<Answered>
  readonly unanswered: ReadonlyArray<Operation>

  constructor(readonly history: History) {
    const byCall = (a: Operation, b: Operation) => a.invoked - b.invoked
    this.answered = history.operations.filter(isAnswered).sort(byCall)
    this.unanswered = history.operations.filter((operation) => !isAnswered(operation)).sort(byCall)
  }

  isComplete({ prefix }: Order): boolean {
    return prefix === this.answered.length
  }

  /** The answered operations that may be next, and when the first answer comes that an order still lacks. */
  next({ behind, prefix }: Order): { readonly indexes: ReadonlyArray<number>; readonly until: number } {
    const indexes: Array<number> = []
    let until = Number.POSITIVE_INFINITY
    for (let index = prefix; index < this.answered.length; index++) {
      const operation = this.answered[index]
      if (operation === undefined || operation.invoked > until) break
      if (behind.includes(index)) continue
      indexes.push(index)
      until = Math.min(until, operation.returned.at)
    }
    const mayBeNext = (index: number) => (this.answered[index]?.invoked ?? 0) <= until
    const returnOf = (index: number) => this.answered[index]?.returned.at ?? 0
    return { indexes: indexes.filter(mayBeNext).sort((a, b) => returnOf(a) - returnOf(b)), until }
  }

  /** When the operation takes effect, if it is the next one, by the store's clock. */
  present({ since }: Order, { invoked, returned }: Operation, until: number): Interval {
    const { asked, offset } = this.history.clock
    const [lo, hi] =
      asked === "at the effect"
        ? [Math.max(since, invoked), until]
        : [invoked, returned?.at ?? Number.POSITIVE_INFINITY]
    return { lo: Math.floor(lo + offset.lo), hi: Math.ceil(hi + offset.hi) }
  }

  #after(order: Order, operation: Operation, until: number): ReadonlyArray<Successor> {
    const present = this.present(order, operation, until)
    return successors(order.possible, operation.call, operation.returned, present, this.history.clock)
  }

  /** The orders that are longer by one, the most likely first. */
  longer(order: Order): ReadonlyArray<Order> {
    const { indexes, until } = this.next(order)
    const lengthened = (operation: Operation, possible: Possible): Order => ({
      ...order,
      since: Math.max(order.since, operation.invoked),
      possible,
      last: { operation, before: order }
    })
    const idle: Array<Order> = []
    const others: Array<Order> = []
    for (const index of indexes) {
      const operation = this.answered[index]
      if (operation === undefined) continue
      for (const { hasChanged, possible } of this.#after(order, operation, until)) {
        const longer = this.#withAnswered(lengthened(operation, possible), index)
        const tellsNothing = possible.state === order.possible.state && covers(possible, order.possible)
        // Wherever an order has it later, it may as well be here.
        if (isIdle(operation) && tellsNothing && this.#isTimeless(order, longer)) return [longer]
        if (hasChanged) others.push(longer)
        else idle.push(longer)
      }
    }
    const open = this.unanswered.flatMap((operation, index) => {
      if (operation.invoked > until || order.open.includes(index)) return []
      return this.#after(order, operation, until).flatMap(({ hasChanged, possible }) =>
        // What changes nothing might as well never have been.
        hasChanged ? [{ ...lengthened(operation, possible), open: insertSorted(order.open, index) }] : []
      )
    })
    return [...idle, ...others, ...open]
  }

  /** What follows may take effect at the same times. */
  #isTimeless(order: Order, longer: Order): boolean {
    return this.history.clock.asked === "during the call" || longer.since === order.since
  }

  #withAnswered(order: Order, index: number): Order {
    const behind = new Set([...order.behind, index])
    let { prefix } = order
    while (behind.delete(prefix)) prefix++
    return { ...order, prefix, behind: [...behind].sort((a, b) => a - b) }
  }
}

const lengthOf = ({ behind, prefix }: Order): number => prefix + behind.length

const instant = (at: number): string => at.toFixed(3)

const show = (value: unknown): string => inspect(value, { breakLength: Number.POSITIVE_INFINITY, depth: 5 })

const showOperation = ({ by, call, invoked, returned }: Operation): string => {
  const times = `${instant(invoked)} to ${returned === undefined ? "?" : instant(returned.at)}`
  const { verb, ...request } = call
  const asked = "request" in request ? show(request.request) : ""
  return `  ${times} ${by}: ${verb} ${asked} -> ${returned === undefined ? "no answer" : show(returned.reply)}`
}

const tail = (order: Order, length: number): ReadonlyArray<Operation> => {
  const operations: Array<Operation> = []
  for (let at = order.last; at !== undefined && operations.length < length; at = at.before.last) {
    operations.unshift(at.operation)
  }
  return operations
}

const reportOf = (search: Search, longest: Order): string => {
  const { indexes, until } = search.next(longest)
  const stuck = indexes.flatMap((index) => search.answered[index] ?? [])
  const open = search.unanswered.filter(({ invoked }, index) => invoked <= until && !longest.open.includes(index))
  return [
    `${lengthOf(longest)} of ${search.answered.length} answers can be explained; the last of them:`,
    ...tail(longest, 12).map(showOperation),
    `Then the key may hold ${show(longest.possible)}`,
    "and none of these can be next:",
    ...stuck.map(showOperation),
    `with or without, before that, those that were never answered (${open.length}):`,
    ...open.slice(-12).map(showOperation)
  ].join("\n")
}

/**
 * The orders to go on from, the cheapest first: what is left to be explained, and what was not answered and took effect
 * all the same. Else the search loses itself in the ways in which many such calls may follow each other, where few of
 * them explain the rest. Of those that cost the same, the last one comes first.
 */
class Pending {
  readonly #byCost: Array<Array<Order> | undefined> = []

  constructor(readonly answers: number) {}

  push(order: Order): void {
    const cost = this.answers - lengthOf(order) + order.open.length
    const same = this.#byCost[cost]
    if (same === undefined) this.#byCost[cost] = [order]
    else same.push(order)
  }

  pop(): Order | undefined {
    return this.#byCost.find((orders) => orders !== undefined && orders.length > 0)?.pop()
  }
}

/** The orders that were met: one is of no use if another leaves the same, and more of what was not answered. */
class Visited {
  readonly #met = new Map<string, Array<Order>>()
  count = 0

  isNew(order: Order): boolean {
    const name = nameOf(order)
    const met = this.#met.get(name)
    const isCovered = met?.some(
      ({ open, possible }) => covers(possible, order.possible) && open.every((index) => order.open.includes(index))
    )
    if (isCovered === true) return false
    if (met === undefined) this.#met.set(name, [order])
    else met.push(order)
    this.count++
    return true
  }
}

/** Looks for an order that explains the history of one key. */
export const check = (history: History, { maxVisited }: Bound = defaultBound): Verdict => {
  const search = new Search(history)
  const start: Order = {
    prefix: 0,
    behind: [],
    open: [],
    since: Number.NEGATIVE_INFINITY,
    possible: absent,
    last: undefined
  }
  const visited = new Visited()
  const pending = new Pending(search.answered.length)
  pending.push(start)
  let longest = start
  for (let order = pending.pop(); order !== undefined; order = pending.pop()) {
    if (search.isComplete(order)) return { _tag: "Linearizable", visited: visited.count }
    if (lengthOf(order) > lengthOf(longest)) longest = order
    if (visited.count > maxVisited) {
      return { _tag: "Exhausted", visited: visited.count, report: reportOf(search, longest) }
    }
    for (const longer of search.longer(order).toReversed()) {
      if (visited.isNew(longer)) pending.push(longer)
    }
  }
  return { _tag: "Violation", visited: visited.count, report: reportOf(search, longest) }
}
