/** Looks for what calls leave behind in a process of their own, which has to end by itself. */
import { execFile } from "node:child_process"
import { promisify } from "node:util"
import { expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { bundled } from "./bundle.js"
import { standalone } from "./redisServers.js"

export interface LeakTask {
  readonly url: string
  readonly calls: number
  /**
   * How many loops of the engines may still sleep until what they had to do by then: with a timer each, and two fibers.
   * Longer than a third of a lease none does.
   */
  readonly asleep: number
}

/** What there is in the process. */
export interface Present {
  readonly fibers: number
  /** Owners, flights, leases and what goes on in the background, of all engines. */
  readonly underWay: number
  /** Channels of Redis that somebody listens to. */
  readonly subscriptions: number
  readonly timers: number
  /** Sockets and requests of Node.js. */
  readonly others: ReadonlyArray<string>
}

export interface Leftovers {
  readonly isDone: boolean
  /** Before the first call. */
  readonly before: Present
  readonly after: Present
  /** Subscriptions while one engine waited for the other, and the other way round. */
  readonly seen: ReadonlyArray<number>
  /** In bytes, after garbage was collected. */
  readonly heapGrowth: number
  /** When the engines have been closed. */
  readonly fibersAtTheEnd: number
}

const run = promisify(execFile)

/** How often a command was called, by the server's own count. */
const timesIn = (stats: unknown, command: string): number =>
  Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(String(stats))?.[1] ?? 0)

/**
 * Makes so many calls by two engines; everything but the heap is as it was. The growth of the heap, when the process has
 * ended by itself.
 */
export const leavingNothing = (
  task: Omit<LeakTask, "url">,
  timeout: number
): Effect.Effect<number, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { command, url } = yield* standalone
    const script = yield* bundled(new URL("./leakWorker.ts", import.meta.url))
    const args = ["--expose-gc", script, JSON.stringify({ ...task, url } satisfies LeakTask)]
    const { stdout } = yield* Effect.promise(() => run(process.execPath, args, { timeout }))
    const { after, before, fibersAtTheEnd, heapGrowth, isDone, seen }: Leftovers = JSON.parse(stdout)
    const stats = yield* command("info", "commandstats")
    expect(isDone).toBe(true)
    expect(seen).toEqual([1, 1])
    expect(timesIn(stats, "subscribe")).toBeGreaterThan(task.calls / 100)
    expect(before).toMatchObject({ underWay: 0, subscriptions: 0, timers: 0 })
    expect({ ...after, fibers: 0, timers: 0 }).toEqual({ ...before, fibers: 0 })
    expect(after.fibers).toBeLessThanOrEqual(before.fibers + 2 * task.asleep)
    expect(after.timers).toBeLessThanOrEqual(task.asleep)
    expect(fibersAtTheEnd).toBe(0)
    return heapGrowth
  })
