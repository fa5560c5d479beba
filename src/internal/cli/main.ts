/** The command as a process of Node.js. */
import * as Terminal from "@effect/platform/Terminal"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeTerminal from "@effect/platform-node/NodeTerminal"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import { exitCodes } from "./failure.js"
import { run } from "./run.js"
import { Stores } from "./stores.js"

/** Somebody can be asked where both what is typed and what is shown is a terminal's. */
const terminal = Layer.scoped(
  Terminal.Terminal,
  Effect.map(NodeTerminal.make(), (terminal) =>
    Terminal.Terminal.of({
      ...terminal,
      isTTY: Effect.map(terminal.isTTY, (isShown) => isShown && process.stdin.isTTY === true)
    })
  )
)

export const main = (version: string): void => {
  // Whoever reads has had enough, as `head` has.
  process.stdout.on("error", () => process.exit(exitCodes.failed))
  NodeRuntime.runMain(
    run(process.argv, version).pipe(
      Effect.tap((code) =>
        Effect.sync(() => {
          process.exitCode = code
        })
      ),
      Effect.provide([terminal, NodeFileSystem.layer, NodePath.layer, Stores.layer])
    ),
    {
      disableErrorReporting: true,
      teardown: (exit, onExit) => onExit(Exit.isSuccess(exit) ? exitCodes.done : exitCodes.interrupted)
    }
  )
}
