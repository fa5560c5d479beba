/** The command, in this process or as one of its own. */
import { execFile, execFileSync } from "node:child_process"
import { copyFileSync, mkdirSync, symlinkSync } from "node:fs"
import { createRequire } from "node:module"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import * as Terminal from "@effect/platform/Terminal"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Mailbox from "effect/Mailbox"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import type { CliFailure } from "../../src/internal/cli/failure.js"
import { run } from "../../src/internal/cli/run.js"
import { type StoreSettings, Stores } from "../../src/internal/cli/stores.js"
import { MemoryIdempotencyRepository } from "../../src/MemoryIdempotencyRepository.js"
import { directoryFor } from "../support/servers.js"

export type Repository = Context.Tag.Service<IdempotencyRepository>

export interface Ran {
  readonly code: number
  readonly out: string
  readonly err: string
}

/** A terminal where somebody presses these keys after a while; none where there is nobody. */
const terminal = ({ keys, meanwhile = Effect.void }: Surroundings, shown: Array<string>) =>
  Layer.succeed(
    Terminal.Terminal,
    Terminal.Terminal.of({
      columns: Effect.succeed(80),
      rows: Effect.succeed(24),
      isTTY: Effect.succeed(keys !== undefined),
      readInput: Effect.gen(function* () {
        yield* Effect.orDie(meanwhile)
        const input = yield* Mailbox.make<Terminal.UserInput>()
        for (const key of keys ?? "") {
          yield* input.offer({
            input: Option.some(key),
            key: { name: key, ctrl: false, meta: false, shift: false }
          })
        }
        yield* input.end
        return input
      }),
      readLine: Effect.die("no command reads lines"),
      display: (text) => Effect.sync(() => void shown.push(text))
    })
  )

export interface Surroundings {
  readonly open?: (settings: StoreSettings) => Effect.Effect<Repository, CliFailure, Scope.Scope>
  readonly keys?: string
  /** What happens between a question and the answer. */
  readonly meanwhile?: Effect.Effect<unknown, unknown>
  readonly env?: Readonly<Record<string, string>>
}

/** Runs the command in this process; what a prompt shows is part of its output. */
export const command = (args: ReadonlyArray<string>, surroundings: Surroundings = {}): Effect.Effect<Ran> =>
  Effect.gen(function* () {
    const { env = {}, open } = surroundings
    const [out, err]: [Array<string>, Array<string>] = [[], []]
    const console = yield* Effect.console
    const recording = {
      ...console,
      log: (line: unknown) => Effect.sync(() => void out.push(`${line}\n`)),
      error: (line: unknown) => Effect.sync(() => void err.push(`${line}\n`)),
      unsafe: { ...console.unsafe, error: (line: unknown) => void err.push(`${line}\n`) }
    }
    const stores = open === undefined ? Stores.layer : Layer.succeed(Stores, { open })
    const code = yield* run(["node", "bin.js", ...args], "1.2.3").pipe(
      Effect.withConsole(recording),
      Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(env)))),
      Effect.provide([stores, terminal(surroundings, out), NodeFileSystem.layer, NodePath.layer])
    )
    return { code, out: out.join(""), err: err.join("") }
  })

/** A store in memory. */
export const memory = Effect.map(Layer.build(MemoryIdempotencyRepository.layer), Context.get(IdempotencyRepository))

/** The command on this repository, wherever it is told to look. */
export const over = (repository: Repository, surroundings: Surroundings = {}): Surroundings => ({
  open: () => Effect.succeed(repository),
  env: { IDEMPOTENCY_STORE: "redis://:s3cret-word@localhost" },
  ...surroundings
})

/** The documents on these lines. */
export const documents = (lines: string): ReadonlyArray<Readonly<Record<string, unknown>>> =>
  lines
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line))

const root = fileURLToPath(new URL("../..", import.meta.url))

/** What the command needs beside the drivers of stores. */
export const itself = ["effect", "canonicalize", "@effect/cli", "@effect/platform", "@effect/platform-node"]

/**
 * The built command, laid out as in its package, with these packages installed beside it. A bundle starts in a third of
 * the time that the sources take.
 */
export const builtCommand = (packages: ReadonlyArray<string>): Effect.Effect<string, never, Scope.Scope> =>
  Effect.map(directoryFor("cli"), (folder) => {
    const esbuild = createRequire(createRequire(import.meta.url).resolve("tsx")).resolve("esbuild/bin/esbuild")
    // What is imported when it is needed stays apart.
    const options = ["--bundle", "--splitting", "--platform=node", "--format=esm", "--packages=external"]
    const target = [`--outdir=${join(folder, "dist")}`, `--outbase=${join(root, "src")}`, "--log-level=warning"]
    execFileSync(esbuild, [join(root, "src", "cli", "bin.ts"), ...options, ...target])
    copyFileSync(join(root, "package.json"), join(folder, "package.json"))
    for (const name of packages) {
      const link = join(folder, "node_modules", name)
      mkdirSync(dirname(link), { recursive: true })
      symlinkSync(join(root, "node_modules", name), link)
    }
    return join(folder, "dist", "cli", "bin.js")
  })

/** Runs it as a process that has no terminal. */
export const commandProcess = (
  path: string,
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string>> = {}
): Effect.Effect<Ran> =>
  Effect.async((resume) => {
    const child = execFile(
      process.execPath,
      [path, ...args],
      { env: { ...process.env, ...env }, timeout: 25_000 },
      (_, out, err) => resume(Effect.succeed({ code: child.exitCode ?? -1, out, err }))
    )
  })
