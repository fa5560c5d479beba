/** Worker processes, and the ledger that they append to. */
import { type ChildProcess, spawn } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { bundled } from "./bundle.js"

/** Where a run of an effect may end: around a call of the store, or where its body has only begun. */
export type CrashPoint = "before claim" | "after claim" | "in body" | "before completion" | "after completion"

export interface WorkerTask {
  readonly url: string
  readonly operation: string
  readonly key: string
  readonly ledger: string
  readonly guarantee: "at-least-once" | "at-most-once"
  /** How many call within each engine. */
  readonly fibers: number
  /** How many engines there are over one store: the worker says `waiting` when each waits for another's run. */
  readonly engines?: number
  readonly bodyMillis: number
  readonly lease: number
  readonly storageTimeout: number
  /** There the worker says so, and its whole process stands still until it is told to go on. */
  readonly hangsAt?: CrashPoint
  /** The body says that it is `in body`, and goes on when the worker is told to. */
  readonly isTold?: boolean
}

export interface Worker {
  /** The next line that the worker prints, as JSON. */
  readonly nextLine: Effect.Effect<unknown>
  /** Lets the worker go on, if it waits to be told. */
  readonly go: Effect.Effect<void>
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
}

const stop = (child: ChildProcess) =>
  Effect.async<void>((resume) => {
    if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
    child.once("exit", () => resume(Effect.void))
    child.kill("SIGKILL")
  })

/** A process of Node.js with these arguments and the task as the last, killed with the scope if it still runs. */
export const processOf = (args: ReadonlyArray<string>, task: unknown): Effect.Effect<Worker, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => {
        const child = spawn(process.execPath, [...args, JSON.stringify(task)], { stdio: ["pipe", "pipe", "inherit"] })
        // It may be gone when it is told to go on.
        child.stdin.on("error", () => {})
        return child
      }),
      stop
    ),
    (child) => {
      const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
      return {
        nextLine: Effect.promise(async () => {
          const line = await lines.next()
          if (line.done === true) throw new Error("the worker ended without a word")
          return JSON.parse(line.value)
        }),
        go: Effect.sync(() => void child.stdin.write("go\n")),
        signal: (signal) => Effect.sync(() => void child.kill(signal))
      }
    }
  )

/** Starts worker processes on Redis. */
export class Workers extends Context.Tag("test/Workers")<
  Workers,
  (task: WorkerTask) => Effect.Effect<Worker, never, Scope.Scope>
>() {
  static readonly layer: Layer.Layer<Workers> = Layer.scoped(
    Workers,
    Effect.map(bundled(new URL("./worker.ts", import.meta.url)), (file) => (task) => processOf([file], task))
  )
}

export interface Ledger {
  readonly path: string
  /** How often a body ran for the key, in all processes. */
  readonly runs: (key: string) => number
}

/** An empty ledger file, removed with the scope. */
export const ledger: Effect.Effect<Ledger, never, Scope.Scope> = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "effect-idempotency-"))),
    (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
  ),
  (folder) => {
    const path = join(folder, "ledger")
    writeFileSync(path, "")
    return {
      path,
      runs: (key) =>
        readFileSync(path, "utf8")
          .split("\n")
          .filter((line) => line === key).length
    }
  }
)
