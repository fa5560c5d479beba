/**
 * The packed package in fresh projects, installed by npm: with its optional peers and without, under each TypeScript and
 * each way to resolve modules that it is for, and bundled.
 */
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { build } from "esbuild"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { entryPoints, inRepository, type Manifest, manifest, npmInstall, pack, run, temporaryFolder } from "./packed.js"

const program = `
import { Effect } from "effect"
import { layerMemory, withIdempotency } from "effect-idempotency"
import { IdempotentConsumer } from "effect-idempotency/consumer"

export const charge: Effect.Effect<string, unknown> = Effect.succeed("paid").pipe(
  withIdempotency("payment.charge", "order-1"),
  IdempotentConsumer.process("shipping", "message-1"),
  Effect.map(({ value }) => value),
  Effect.provide(layerMemory)
)

Effect.runPromise(charge).then((text) => console.log(text))
`

const importing = (names: ReadonlyArray<string>): string => {
  const imports = names.map((name, index) => `import * as entry${index} from "${name}"`)
  return [
    ...imports,
    `export const entries: ReadonlyArray<object> = [${names.map((_, index) => `entry${index}`)}]`
  ].join("\n")
}

const compilers = { "5.4": "typescript-5.4", "5.9": "typescript", "7": "typescript-7" } as const
const resolutions = { node16: "node16", nodenext: "nodenext", bundler: "esnext" } as const

/** All of them under the compiler that is fast; under the others, those that differ most. */
const compilations = (["5.4", "5.9", "7"] as const).flatMap((version) =>
  (["node16", "nodenext", "bundler"] as const).flatMap((resolution) =>
    (["without peers", "with all peers"] as const)
      .filter((name) => version === "7" || resolution === (name === "without peers" ? "nodenext" : "bundler"))
      .map((name) => [version, resolution, name] as const)
  )
)

/** The packages in whose declarations a compiler finds fault, the project being the empty name. */
const faulty = async (project: string, version: keyof typeof compilers, resolution: keyof typeof resolutions) => {
  const options = ["--strict", "--noEmit", "--skipLibCheck", "false", "--target", "es2022", "--lib", "es2023"]
  const modules = ["--module", resolutions[resolution], "--moduleResolution", resolution, "--types", "node"]
  const tsc = inRepository("node_modules", compilers[version], "bin", "tsc")
  const output = await run(process.execPath, [tsc, ...options, ...modules, "main.ts", "entries.ts"], {
    cwd: project,
    maxBuffer: 2 ** 26
  }).then(
    () => "",
    (error) => {
      if (!/error TS/.test(error.stdout)) throw error
      return String(error.stdout)
    }
  )
  const errors = output.match(/^.*error TS\d+.*$/gm) ?? []
  const packages = errors.map((error) => /^node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(error)?.[1] ?? error)
  return Array.from(new Set(packages)).sort()
}

describe("the package, installed by npm", () => {
  let folder = ""
  let said: Manifest
  const project = (name: string) => path.join(folder, name.replaceAll(" ", "-"))

  beforeAll(async () => {
    folder = await temporaryFolder()
    said = await manifest()
    const tarball = await pack(folder)
    const optional = Object.keys(said.peerDependenciesMeta)
    for (const [name, packages, entries] of [
      ["without peers", [], ["effect-idempotency", "effect-idempotency/consumer"]],
      ["with all peers", optional, entryPoints(said)]
    ] as const) {
      await fs.mkdir(project(name))
      await fs.writeFile(path.join(project(name), "main.ts"), program)
      await fs.writeFile(path.join(project(name), "entries.ts"), importing(entries))
      await npmInstall(project(name), said, [tarball], ["effect", "@types/node", ...packages])
    }
    // On a slow machine npm takes minutes for each, and more beside other long tests.
  }, 600_000)
  afterAll(() => fs.rm(folder, { recursive: true }))

  it("brings what it needs, and nothing that is optional", async () => {
    const installed = await fs.readdir(path.join(project("without peers"), "node_modules"))
    const known = [
      "@standard-schema",
      "@types",
      "effect",
      "effect-idempotency",
      "fast-check",
      "pure-rand",
      "undici-types"
    ]
    const expected = [...known, ...Object.keys(said.dependencies)].sort()
    expect(installed.filter((name) => !name.startsWith(".")).sort()).toEqual(expected)
  })

  it.each(compilations)(
    "compiles, declarations included: TypeScript %s, %s, %s",
    async (version, resolution, name) => {
      const found = await faulty(project(name), version, resolution)
      // What came after it is used in Effect's own declarations: users of that compiler need skipLibCheck.
      const ofEffect = version === "5.4" ? ["effect", "@effect/platform"] : []
      expect(found.filter((one) => !ofEffect.includes(one))).toEqual([])
    },
    120_000
  )

  it("runs when it is bundled", async () => {
    const outfile = path.join(project("without peers"), "bundle.mjs")
    await build({
      absWorkingDir: project("without peers"),
      entryPoints: ["main.ts"],
      outfile,
      bundle: true,
      format: "esm",
      minify: true,
      platform: "node"
    })
    expect((await run(process.execPath, [outfile])).stdout).toBe("paid\n")
  })

  it("has a reference of its API, written without a warning", async () => {
    const typedoc = inRepository("node_modules", ".bin", "typedoc")
    const written = run(typedoc, ["--out", path.join(folder, "api")], { cwd: inRepository() }).catch((error) => error)
    const { stderr, stdout } = await written
    expect(`${stdout}${stderr}`).not.toMatch(/\[(warning|error)\]/)
    expect(await fs.readdir(path.join(folder, "api"))).toContain("index.html")
  }, 120_000)
})
