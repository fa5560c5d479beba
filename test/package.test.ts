/** The packed package, as a user gets it. */
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { publint } from "publint"
import { formatMessage } from "publint/utils"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import {
  entryPoints,
  inRepository,
  type Manifest,
  manifest,
  pack,
  run,
  temporaryFolder,
  unpack
} from "./packaging/packed.js"

/** What has to be installed for each of the names that the package is imported by, besides `effect`. */
const needs: Readonly<Record<string, ReadonlyArray<string>>> = {
  "effect-idempotency": [],
  "effect-idempotency/console": ["@effect/platform"],
  "effect-idempotency/consumer": [],
  "effect-idempotency/http": ["@effect/platform"],
  "effect-idempotency/redis": ["ioredis"],
  "effect-idempotency/sql": ["@effect/sql"],
  "effect-idempotency/testing": ["@effect/vitest", "vitest"]
}

const subsets = ([first, ...rest]: ReadonlyArray<string>): ReadonlyArray<ReadonlyArray<string>> =>
  first === undefined ? [[]] : subsets(rest).flatMap((subset) => [subset, [first, ...subset]])

/** Each combination of the peers of each entry, then all at once. */
const combinations = Array.from(
  new Set(
    [...Object.values(needs).flatMap(subsets), Object.values(needs).flat()].map((all) =>
      [...new Set(all)].sort().join(" ")
    )
  )
)

/** What every user has. */
const always = ["effect", "canonicalize", "structured-headers", "@standard-schema", "fast-check", "pure-rand"]

const program = `
import { Effect } from "effect"
import { layerMemory, withIdempotency } from "effect-idempotency"
const call = Effect.sync(() => "paid").pipe(withIdempotency("payment.charge", "order-1"))
console.log(await Effect.runPromise(call.pipe(Effect.provide(layerMemory))))`

/** Imports every entry in every project: what each failed with. */
const probe = `
const [, , entries, ...projects] = process.argv
const failures = []
for (const project of projects) {
  const { load } = await import(project)
  const found = {}
  for (const entry of entries.split(" ")) found[entry] = await load(entry).then(() => "", (error) => error.message)
  failures.push(found)
}
console.log(JSON.stringify(failures))
process.exit()`

/** What vitest says to those who import it and are no test: by then all is found. */
const loaded = (entry: string): RegExp =>
  entry === "effect-idempotency/testing" ? /^Vitest failed to access its internal state/ : /^$/

describe("the packed package", () => {
  let folder = ""
  let tarball = ""
  let said: Manifest
  const project = (index: number): string => path.join(folder, `project-${index}`)

  beforeAll(async () => {
    folder = await temporaryFolder()
    said = await manifest()
    tarball = await pack(folder)
    await Promise.all(
      combinations.map(async (peers, index) => {
        await unpack(tarball, project(index), [...always, ...peers.split(" ").filter((name) => name !== "")])
        await fs.writeFile(path.join(project(index), "main.mjs"), program)
        await fs.writeFile(path.join(project(index), "load.mjs"), "export const load = (name) => import(name)")
      })
    )
    await fs.writeFile(path.join(folder, "probe.mjs"), probe)
  })
  afterAll(() => fs.rm(folder, { recursive: true }))

  it("works from its root without any optional peer", async () => {
    const { stdout } = await run(process.execPath, ["main.mjs"], { cwd: project(0) })
    expect(stdout).toBe("paid\n")
  })

  it("knows what each of its entries needs", () => {
    expect(Object.keys(needs).sort()).toEqual([...entryPoints(said)].sort())
    const optional = Object.keys(said.peerDependenciesMeta)
    expect(optional).toEqual(expect.arrayContaining(Object.values(needs).flat()))
    expect(Object.keys(said.peerDependencies).sort()).toEqual([...optional, "effect"].sort())
  })

  it("loads what its peers are there for, and says which one is missing for the rest", async () => {
    const entries = Object.keys(needs)
    const loaders = combinations.map((_, index) => path.join(project(index), "load.mjs"))
    const { stdout } = await run(process.execPath, [path.join(folder, "probe.mjs"), entries.join(" "), ...loaders])
    const failures: ReadonlyArray<Readonly<Record<string, string>>> = JSON.parse(stdout)
    expect(failures).toHaveLength(combinations.length)
    for (const [index, peers] of combinations.entries()) {
      for (const entry of entries) {
        const missing = needs[entry]?.filter((name) => !peers.split(" ").includes(name)) ?? []
        const [, named = ""] = /^Cannot find package '([^']+)'/.exec(failures[index]?.[entry] ?? "") ?? []
        const about = `${entry} with ${peers || "no peers"}: ${failures[index]?.[entry]}`
        if (missing.length === 0) expect(failures[index]?.[entry], about).toMatch(loaded(entry))
        else expect(missing, about).toContain(named)
      }
    }
  })

  it("has nothing that publint objects to", async () => {
    const buffer = await fs.readFile(tarball)
    const { messages, pkg } = await publint({ pack: { tarball: new Uint8Array(buffer).buffer }, strict: true })
    expect(messages.map((message) => formatMessage(message, pkg))).toEqual([])
  })

  it("resolves to its types as it resolves to its code", async () => {
    const attw = inRepository("node_modules", ".bin", "attw")
    const told = await run(attw, [tarball, "--profile", "esm-only", "--format", "ascii"]).catch((error) => error)
    expect(told.code, told.stdout).toBe(undefined)
  })

  it("has a change log that begins with its version", async () => {
    const [, version] = /^## (.+)$/m.exec(await fs.readFile(inRepository("CHANGELOG.md"), "utf8")) ?? []
    expect(version).toBe(said.version)
  })

  it("holds what it needs and no tests", async () => {
    const { stdout } = await run("tar", ["-tzf", tarball])
    const files = stdout
      .trim()
      .split("\n")
      .map((file) => file.replace(/^package\//, ""))
    const wanted = [
      "dist/index.js",
      "dist/index.d.ts",
      "src/index.ts",
      "docs/README.md",
      "CHANGELOG.md",
      "LICENSE",
      "README.md"
    ]
    expect(wanted.filter((file) => !files.includes(file))).toEqual([])
    expect(
      files.filter((file) => !/^(dist|docs|src)\/|^(package\.json|(CHANGELOG|README)\.md|LICENSE)$/.test(file))
    ).toEqual([])
    expect(files.filter((file) => /\.(test|proof)\.|fixtures/.test(file))).toEqual([])
  })
})
