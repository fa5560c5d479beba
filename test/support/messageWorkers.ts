/** Worker processes of a consumer group on a Redis stream, which write a row to Postgres for every run of a handler. */
import { readFileSync, writeFileSync } from "node:fs"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { bundled } from "./bundle.js"
import { processOf } from "./workers.js"

export interface MessageWorkerTask {
  readonly redisUrl: string
  readonly postgresUrl: string
  /** Whether rows commit with the records of their messages, or messages are claimed on the Redis. */
  readonly mode: "transactional" | "claims"
  readonly stream: string
  readonly group: string
  /** After so many milliseconds without an acknowledgement a message is delivered again. */
  readonly minIdle: number
  readonly lease: number
  readonly storageTimeout: number
  /** Where the worker notes what it does, line by line, so that it is known after a kill. */
  readonly ledger: string
}

/** What a worker notes: the ids of messages, or the tag of a failure. */
export type Noted = "redelivered" | "began" | "ended" | "failed"

/** What a worker did until it was killed. */
export interface Life {
  readonly redelivered: ReadonlyArray<string>
  /** Their handlers had begun, and their processing had not ended. */
  readonly inHand: ReadonlyArray<string>
  /** Tags of what the processing of messages failed with. */
  readonly failures: ReadonlyArray<string>
}

const script = new URL("./messageWorker.ts", import.meta.url)

/** Starts workers: each has begun, and ends only when it is killed, with its scope. */
export const messageWorkers: Effect.Effect<
  (task: MessageWorkerTask) => Effect.Effect<void, never, Scope.Scope>,
  never,
  Scope.Scope
> = Effect.map(
  bundled(script),
  (file) => (task) =>
    Effect.gen(function* () {
      writeFileSync(task.ledger, "")
      const { nextLine } = yield* processOf([file], task)
      yield* Effect.filterOrDieMessage(nextLine, (line) => line === "ready", "the worker is not ready")
    })
)

export const lifeOf = (ledger: string): Life => {
  const lines = readFileSync(ledger, "utf8").split("\n").slice(0, -1)
  const noted = (what: Noted) =>
    lines.flatMap((line) => (line.startsWith(`${what} `) ? [line.slice(what.length + 1)] : []))
  const inHand = new Set<string>()
  for (const line of lines) {
    const [what, id = ""] = line.split(" ")
    if (what === "began") inHand.add(id)
    if (what === "ended") inHand.delete(id)
  }
  return { redelivered: noted("redelivered"), inHand: [...inHand], failures: noted("failed") }
}
