/** Processes that work on request: they answer one task at a time, over the channel to the process that started them. */
import { type ChildProcess, fork } from "node:child_process"
import { fileURLToPath } from "node:url"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

export interface Worker<Task, Reply> {
  readonly ask: (task: Task) => Promise<Reply>
  readonly kill: () => void
}

type Answer<Reply> = { readonly reply: Reply } | { readonly failure: string }

const nextMessage = <Message>(child: ChildProcess): Promise<Message> =>
  new Promise((resolve, reject) => {
    const onExit = () => reject(new Error("a worker process ended before it answered"))
    child.once("exit", onExit)
    child.once("message", (message) => {
      child.removeListener("exit", onExit)
      resolve(decoded(message))
    })
  })

/** What the two ends say to each other is their own: both are of this directory. */
const decoded = <Message>(said: unknown): Message => JSON.parse(String(said))

/** A process that runs a script of this directory, killed with the scope. */
export const workerOf = <Task, Reply>(script: string): Effect.Effect<Worker<Task, Reply>, never, Scope.Scope> =>
  Effect.gen(function* () {
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        fork(fileURLToPath(new URL(script, import.meta.url)), { execArgv: ["--import", "tsx"], stdio: "inherit" })
      ),
      (running) => Effect.sync(() => void running.kill("SIGKILL"))
    )
    yield* Effect.promise(() => nextMessage<"ready">(child))
    return {
      ask: async (task) => {
        const answered = nextMessage<Answer<Reply>>(child)
        child.send(JSON.stringify(task))
        const answer = await answered
        if ("failure" in answer) throw new Error(answer.failure)
        return answer.reply
      },
      kill: () => void child.kill("SIGKILL")
    }
  })

/** What the script does: it answers tasks until its parent is gone. */
export const answer = <Task, Reply>(handle: (task: Task) => Promise<Reply>): void => {
  const say = (message: Answer<Reply> | "ready") => process.send?.(JSON.stringify(message))
  process.on("message", (message) => {
    const task: Task = decoded(message)
    handle(task).then(
      (reply) => say({ reply }),
      (error: unknown) => say({ failure: error instanceof Error ? (error.stack ?? error.message) : String(error) })
    )
  })
  process.once("disconnect", () => process.exit())
  say("ready")
}

/** Milliseconds by a clock that all processes of a machine share. */
export const sharedNow = (): number => Number(process.hrtime.bigint()) / 1e6
