/** Every code block of the README is compiled and run; every example of the doc comments is compiled. */
import { execFile } from "node:child_process"
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join, relative } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { afterAll, beforeAll } from "vitest"
import { standalone } from "./support/redisServers.js"

const run = promisify(execFile)
const root = fileURLToPath(new URL("..", import.meta.url))
const bin = (name: string) => join(root, "node_modules", ".bin", name)

const readmeBlocks = [...readFileSync(join(root, "README.md"), "utf8").matchAll(/```ts\n([\s\S]*?)```/g)].map(
  ([, code = ""]) => code
)

const sources = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" }).filter((path) =>
  path.endsWith(".ts")
)
const docExamples = sources.flatMap((path) =>
  [...readFileSync(join(root, "src", path), "utf8").matchAll(/ *\* ```ts\n([\s\S]*?) *\* ```/g)].map(
    ([, code = ""], index) => ({
      name: `${path.replace(/\W/g, "_")}_${index}.ts`,
      code: code.replace(/^ *\* ?/gm, "")
    })
  )
)

describe("documentation", () => {
  let folder = ""
  const isTest = (code: string) => code.includes("@effect/vitest")
  const readmeFile = (code: string, index: number) =>
    join(folder, "readme", `block_${index}${isTest(code) ? ".test" : ""}.ts`)

  beforeAll(() => {
    // Within the project, so that its packages resolve.
    folder = mkdtempSync(join(root, "test", "tmp-documentation-"))
    mkdirSync(join(folder, "readme"))
    mkdirSync(join(folder, "examples"))
    for (const [index, code] of readmeBlocks.entries()) writeFileSync(readmeFile(code, index), code)
    for (const { code, name } of docExamples) writeFileSync(join(folder, "examples", name), code)
    const compilerOptions = {
      noUnusedLocals: false,
      paths: { "effect-idempotency": [join(root, "src/index.ts")], "effect-idempotency/*": [join(root, "src/*.ts")] },
      rootDir: root
    }
    writeFileSync(
      join(folder, "tsconfig.json"),
      JSON.stringify({
        extends: join(root, "tsconfig.json"),
        compilerOptions,
        include: ["readme", "examples"],
        exclude: []
      })
    )
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  it("has code blocks and examples", () => {
    expect(readmeBlocks.length).toBeGreaterThanOrEqual(6)
    expect(docExamples.length).toBeGreaterThanOrEqual(10)
  })

  it("compiles", async () => {
    const compiled = run(bin("tsc"), ["-p", folder, "--moduleDetection", "force"]).catch((error) => error)
    expect((await compiled).stdout).toBe("")
  })

  for (const [index, code] of readmeBlocks.entries()) {
    it.scopedLive(`README, block ${index + 1} runs`, () =>
      Effect.gen(function* () {
        const { port } = yield* standalone
        const env = { ...process.env, REDIS_URL: `redis://127.0.0.1:${port}` }
        const file = readmeFile(code, index)
        const [command, ...args] = isTest(code)
          ? [bin("vitest"), "run", relative(root, file)]
          : [bin("tsx"), "--tsconfig", join(root, "tsconfig.json"), file]
        yield* Effect.promise(() => run(command, args, { cwd: root, env }))
      })
    )
  }
})
