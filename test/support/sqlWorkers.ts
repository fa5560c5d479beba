/** Worker processes on SQL databases. */
import { execFileSync } from "node:child_process"
import { renameSync } from "node:fs"
import { createRequire } from "node:module"
import { fileURLToPath } from "node:url"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { processOf, type Worker } from "./workers.js"

export interface SqlWorkerTask {
  readonly database:
    | { readonly dialect: "postgres"; readonly url: string }
    | { readonly dialect: "sqlite"; readonly filename: string }
  /** Whether the effect is claimed, or inserts a row into `business` in a transaction with its record. */
  readonly mode: "claim" | "transaction"
  readonly operation: string
  readonly keys: ReadonlyArray<string>
  /** How many call each key. */
  readonly fibers: number
  /** How many keys are called at a time. */
  readonly concurrency: number
  readonly ledger: string
  readonly guarantee: "at-least-once" | "at-most-once"
  readonly bodyMillis: number
  readonly lease: number
  readonly storageTimeout: number
  /** The body never ends. */
  readonly hangs: boolean
}

const Line = Schema.Union(
  /** It has a client and a table, and waits to be told to go on. */
  Schema.TaggedStruct("Ready", {}),
  /** A body that hangs has started. */
  Schema.TaggedStruct("Running", { key: Schema.String }),
  Schema.TaggedStruct("Answer", {
    key: Schema.String,
    /** Names the run of a body among all processes. */
    value: Schema.Struct({ run: Schema.String, attempt: Schema.Number })
  }),
  Schema.TaggedStruct("Failure", { key: Schema.String, error: Schema.String }),
  /** All have their answer; for how many milliseconds its event loop was blocked at most. */
  Schema.TaggedStruct("End", { stillness: Schema.Number })
)

export type SqlWorkerLine = typeof Line.Type

export interface SqlWorker extends Omit<Worker, "nextLine"> {
  readonly nextLine: Effect.Effect<SqlWorkerLine>
  /** All lines until the worker has nothing more to say. */
  readonly rest: Effect.Effect<ReadonlyArray<SqlWorkerLine>>
}

let bundle: string | undefined

/** The script as one file, which starts in a quarter of the time; where Node.js finds the packages that it imports. */
const bundled = (): string => {
  if (bundle === undefined) {
    const cache = fileURLToPath(new URL("../../node_modules/.cache/sql-workers", import.meta.url))
    const written = `${cache}/${process.pid}.mjs`
    const esbuild = createRequire(createRequire(import.meta.url).resolve("tsx")).resolve("esbuild/bin/esbuild")
    const options = ["--bundle", "--platform=node", "--format=esm", "--packages=external", "--log-level=warning"]
    const script = fileURLToPath(new URL("./sqlWorker.ts", import.meta.url))
    execFileSync(esbuild, [script, ...options, `--outfile=${written}`])
    bundle = `${cache}/worker.mjs`
    // Files that make one side by side replace one another's as a whole.
    renameSync(written, bundle)
  }
  return bundle
}

/** A worker that is ready and waits to be told to go on. */
export const sqlWorker = (task: SqlWorkerTask): Effect.Effect<SqlWorker, never, Scope.Scope> =>
  Effect.gen(function* () {
    const worker = yield* processOf([bundled()], task)
    const nextLine = Effect.orDie(Effect.flatMap(worker.nextLine, Schema.decodeUnknown(Line)))
    const rest = Effect.suspend(() => {
      const lines: Array<SqlWorkerLine> = []
      return Effect.repeat(
        Effect.map(nextLine, (line) => lines.push(line)),
        { until: () => lines.at(-1)?._tag === "End" }
      ).pipe(Effect.as(lines))
    })
    yield* Effect.filterOrDieMessage(nextLine, ({ _tag }) => _tag === "Ready", "the worker is not ready")
    return { ...worker, nextLine, rest }
  })
