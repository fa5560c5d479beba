/** The package as its users get it: packed, and installed into projects of their kind. */
import { execFile } from "node:child_process"
import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"

export const run = promisify(execFile)

const repository = fileURLToPath(new URL("../..", import.meta.url))

export const inRepository = (...parts: ReadonlyArray<string>): string => path.join(repository, ...parts)

/** What `package.json` says. */
export interface Manifest {
  readonly version: string
  readonly exports: Readonly<Record<string, unknown>>
  readonly dependencies: Readonly<Record<string, string>>
  readonly devDependencies: Readonly<Record<string, string>>
  readonly peerDependencies: Readonly<Record<string, string>>
  readonly peerDependenciesMeta: Readonly<Record<string, { readonly optional?: boolean }>>
}

export const manifest = async (): Promise<Manifest> =>
  JSON.parse(await fs.readFile(inRepository("package.json"), "utf8"))

export const temporaryFolder = async (): Promise<string> =>
  fs.realpath(await fs.mkdtemp(path.join(os.tmpdir(), "effect-idempotency-package-")))

/**
 * Packs a copy of the repository into a folder: its path. A copy, since packing builds, and other tests may be doing the
 * same.
 */
export const pack = async (folder: string): Promise<string> => {
  const copy = path.join(folder, "repository")
  await fs.mkdir(copy)
  await fs.symlink(inRepository("node_modules"), path.join(copy, "node_modules"))
  for (const name of await fs.readdir(repository)) {
    if (/^(src|docs|[^.].*\.(json|md)|LICENSE)$/.test(name)) {
      await fs.cp(inRepository(name), path.join(copy, name), { recursive: true })
    }
  }
  const { stdout } = await run("npm", ["pack", "--json", "--pack-destination", folder], { cwd: copy })
  const [packed]: ReadonlyArray<{ readonly filename: string }> = JSON.parse(stdout.slice(stdout.indexOf("[\n")))
  if (packed === undefined) throw new Error(`npm pack gave nothing: ${stdout}`)
  return path.join(folder, packed.filename)
}

/** Unpacks a tarball as the package of a project, with these other packages beside it: the repository's. */
export const unpack = async (tarball: string, project: string, packages: Iterable<string>): Promise<void> => {
  const modules = path.join(project, "node_modules")
  const installed = path.join(modules, "effect-idempotency")
  await fs.mkdir(installed, { recursive: true })
  await run("tar", ["-xzf", tarball, "-C", installed, "--strip-components", "1"])
  for (const name of packages) {
    await fs.mkdir(path.dirname(path.join(modules, name)), { recursive: true })
    await fs.symlink(inRepository("node_modules", name), path.join(modules, name))
  }
}

/** The names that a project imports the package by. */
export const entryPoints = ({ exports }: Manifest): ReadonlyArray<string> =>
  Object.keys(exports)
    .filter((name) => !name.endsWith(".json"))
    .map((name) => path.posix.join("effect-idempotency", name))

/** Installs into a project, by npm: files, and packages in the versions that the repository is tested with. */
export const npmInstall = async (
  project: string,
  { devDependencies, peerDependencies }: Manifest,
  files: ReadonlyArray<string>,
  names: ReadonlyArray<string>
): Promise<void> => {
  await fs.writeFile(path.join(project, "package.json"), JSON.stringify({ type: "module", private: true }))
  const packages = names.map((name) => `${name}@${devDependencies[name] ?? peerDependencies[name] ?? "latest"}`)
  const quiet = ["--no-audit", "--no-fund", "--prefer-offline"]
  await run("npm", ["install", ...quiet, ...files, ...packages], { cwd: project, maxBuffer: 2 ** 26 })
}
