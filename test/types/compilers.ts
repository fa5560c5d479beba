/**
 * The compilers that the types are checked with, and a project that has the package installed as a user has: the
 * fixtures there see its declarations and its `exports`, not its sources.
 */
import { execFile } from "node:child_process"
import * as fs from "node:fs/promises"
import { availableParallelism, tmpdir } from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

const repository = fileURLToPath(new URL("../..", import.meta.url))
const inRepository = (...parts: ReadonlyArray<string>): string => path.join(repository, ...parts)

/** By the name that their packages are installed under. */
export const compilers = { "5.4": "typescript-5.4", "5.9": "typescript", "7": "typescript-7" } as const

export type Version = keyof typeof compilers

export const versions: ReadonlyArray<Version> = ["5.4", "5.9", "7"]

export interface Diagnostic {
  /** Relative to the project; empty if it concerns no file. */
  readonly file: string
  readonly line: number
  readonly code: string
  readonly message: string
}

const head = /^(?:(.+?)\((\d+),\d+\): )?error (TS\d+): /

/** One for each line that begins a diagnostic: the indented lines after it say why. */
const parse = (output: string): ReadonlyArray<Diagnostic> =>
  output
    .split(/^(?=\S)/m)
    .filter((text) => text.trim() !== "")
    .map((text) => {
      const [all = "", file = "", line = "0", code = ""] = head.exec(text) ?? []
      return { file, line: Number(line), code, message: text.slice(all.length).trim() }
    })

/** What a compiler says. */
export const tsc = (cwd: string, version: Version, ...args: ReadonlyArray<string>): Effect.Effect<string> =>
  Effect.async((resume, signal) => {
    const bin = inRepository("node_modules", compilers[version], "bin", "tsc")
    execFile(process.execPath, [bin, ...args], { cwd, signal, maxBuffer: 2 ** 26 }, (error, stdout, stderr) => {
      const crashed = stderr !== "" || (error !== null && stdout === "")
      resume(crashed ? Effect.die(error ?? new Error(stderr)) : Effect.succeed(stdout))
    })
  })

const commonOptions = {
  target: "ES2022",
  lib: ["ES2023"],
  module: "NodeNext",
  moduleResolution: "NodeNext",
  types: ["node"],
  strict: true,
  noUncheckedIndexedAccess: true,
  verbatimModuleSyntax: true
}

export interface Compilation {
  readonly version: Version
  /** Files or folders, relative to the project. */
  readonly include: ReadonlyArray<string>
  readonly exactOptionalPropertyTypes?: boolean
  /** Whether `effect-idempotency` means the sources, and not the installed package. */
  readonly fromSource?: boolean
  /** Whether declarations are checked too: those of the project and of the package, not of its dependencies. */
  readonly checkDeclarations?: boolean
  /** Where declarations go; without it nothing is emitted. */
  readonly declarations?: string
}

export interface Project {
  readonly folder: string
  /** What was said when the package's declarations were written; packing it checks its sources. */
  readonly build: ReadonlyArray<Diagnostic>
  readonly write: (file: string, text: string) => Effect.Effect<void>
  /** The text of a file; nothing if there is no such file. */
  readonly read: (file: string) => Effect.Effect<string>
  readonly compile: (compilation: Compilation) => Effect.Effect<ReadonlyArray<Diagnostic>>
}

const sourcePaths = {
  "effect-idempotency": [inRepository("src/index.ts")],
  "effect-idempotency/*": [inRepository("src/*.ts")]
}

const install = async (folder: string): Promise<void> => {
  const modules = path.join(folder, "node_modules")
  await fs.mkdir(path.join(modules, "effect-idempotency"), { recursive: true })
  const dependencies = (await fs.readdir(inRepository("node_modules"))).filter((name) => !name.startsWith("."))
  await Promise.all(
    dependencies.map((name) => fs.symlink(inRepository("node_modules", name), path.join(modules, name)))
  )
  await fs.copyFile(inRepository("package.json"), path.join(modules, "effect-idempotency", "package.json"))
  await fs.cp(inRepository("test/types/fixtures"), path.join(folder, "fixtures"), { recursive: true })
  await fs.writeFile(path.join(folder, "package.json"), JSON.stringify({ type: "module", private: true }))
}

const makeProject = (folder: string): Effect.Effect<Project> =>
  Effect.gen(function* () {
    yield* Effect.promise(() => install(folder))
    const built = yield* tsc(
      folder,
      "5.9",
      ...["--project", inRepository("src/tsconfig.json"), "--outDir", "node_modules/effect-idempotency/dist"],
      ...["--emitDeclarationOnly", "--declarationMap", "false", "--sourceMap", "false", "--noCheck"]
    )
    const oneCompiler = (yield* Effect.makeSemaphore(availableParallelism())).withPermits(1)
    let configurations = 0
    const write: Project["write"] = (file, text) =>
      Effect.promise(async () => {
        await fs.mkdir(path.dirname(path.join(folder, file)), { recursive: true })
        await fs.writeFile(path.join(folder, file), text)
      })
    return {
      folder,
      build: parse(built),
      write,
      read: (file) => Effect.promise(() => fs.readFile(path.join(folder, file), "utf8").catch(() => "")),
      compile: ({
        checkDeclarations = false,
        declarations,
        exactOptionalPropertyTypes = true,
        fromSource = false,
        include,
        version
      }) =>
        Effect.gen(function* () {
          const configuration = `tsconfig.${configurations++}.json`
          const emit =
            declarations === undefined
              ? { noEmit: true }
              : { declaration: true, emitDeclarationOnly: true, outDir: declarations, rootDir: "." }
          const paths = fromSource ? { paths: sourcePaths } : {}
          const compilerOptions = {
            ...commonOptions,
            ...emit,
            ...paths,
            exactOptionalPropertyTypes,
            skipLibCheck: !checkDeclarations
          }
          yield* write(configuration, JSON.stringify({ compilerOptions, include }))
          const output = yield* oneCompiler(tsc(folder, version, "--project", configuration, "--pretty", "false"))
          return parse(output).filter(({ file }) => !checkDeclarations || !path.normalize(file).startsWith(".."))
        })
    }
  })

/** A project with the fixtures in `fixtures/` and the package, as built from the sources, installed. */
export const project: Effect.Effect<Project, never, Scope.Scope> = Effect.flatMap(
  Effect.acquireRelease(
    Effect.promise(async () => fs.realpath(await fs.mkdtemp(path.join(tmpdir(), "effect-idempotency-types-")))),
    (folder) => Effect.promise(() => fs.rm(folder, { recursive: true, force: true }))
  ),
  makeProject
)
