/**
 * Every code block of the README and of the guides is compiled and run; every example of the doc comments is compiled;
 * what a document says that a block prints, it prints; links lead somewhere.
 */
import { execFile } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { dirname, join, relative } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { afterAll, beforeAll } from "vitest"
import { IdempotencyIdentifiers } from "../src/IdempotencyIdentifiers.js"
import { IdempotencyRepository } from "../src/IdempotencyRepository.js"
import { layerRedis } from "../src/redis.js"
import { withIdempotency } from "../src/withIdempotency.js"
import { type RedisServer, standalone } from "./support/redisServers.js"
import { tsc } from "./types/compilers.js"

const run = promisify(execFile)
const root = fileURLToPath(new URL("..", import.meta.url))
const bin = (name: string) => join(root, "node_modules", ".bin", name)
const text = (path: string): string => readFileSync(join(root, path), "utf8")

const documents = [
  "README.md",
  ...readdirSync(join(root, "docs"))
    .filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`)
]

interface Block {
  readonly name: string
  readonly file: string
  readonly code: string
  /** `ts compile` is for what needs a server that this test has none of. */
  readonly runs: boolean
  readonly isTest: boolean
  /** What the `text` block right after it says that it prints. */
  readonly output: string | undefined
}

const blocks = documents.flatMap((document) =>
  [...text(document).matchAll(/```ts( compile)?\n([\s\S]*?)```(?:\s*```text\n([\s\S]*?)```)?/g)].map(
    ([, compile, code = "", output], index): Block => {
      const isTest = /"@effect\/vitest"|repositoryContract\(/.test(code)
      return {
        name: `${document}, block ${index + 1}`,
        file: `${document.replace(/\W/g, "_")}_${index + 1}${isTest ? ".test" : ""}.ts`,
        code,
        runs: compile === undefined,
        isTest,
        output: output?.trimEnd()
      }
    }
  )
)
const programs = blocks.filter(({ isTest, runs }) => runs && !isTest)

const sources = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" }).filter((path) =>
  path.endsWith(".ts")
)
const docExamples = sources.flatMap((path) =>
  [...text(join("src", path)).matchAll(/ *\* ```ts\n([\s\S]*?) *\* ```/g)].map(([, code = ""], index) => ({
    name: `${path.replace(/\W/g, "_")}_${index}.ts`,
    code: code.replace(/^ *\* ?/gm, "")
  }))
)

/**
 * Imports the blocks one after the other, and writes down what each printed, or failed with. It ends at one that hangs;
 * what one leaves open keeps the process from ending.
 */
const runner = `
import { writeFileSync } from "node:fs"
import { format } from "node:util"

const hangs = "it did not end"
const results: Array<unknown> = []
for (const file of ${JSON.stringify(programs.map(({ file }) => `./blocks/${file}`))}) {
  const lines: Array<string> = []
  console.log = (...args: Array<unknown>) => void lines.push(format(...args))
  let timer: NodeJS.Timeout | undefined
  const late = new Promise((resolve) => (timer = setTimeout(resolve, 20_000, hangs)))
  const error = await Promise.race([late, import(file).then(() => undefined, (error: unknown) => format(error))])
  clearTimeout(timer)
  results.push({ output: lines.join("\\n"), ...(error === undefined ? {} : { error }) })
  writeFileSync(new URL("results.json", import.meta.url), JSON.stringify(results))
  if (error === hangs) process.exit()
}
`

interface Result {
  readonly output: string
  readonly error?: string
}

describe("documentation", () => {
  let folder = ""

  beforeAll(() => {
    // Within the project, so that its packages resolve.
    folder = mkdtempSync(join(root, "test", "tmp-documentation-"))
    for (const name of ["blocks", "examples"]) mkdirSync(join(folder, name))
    for (const { code, file } of blocks) writeFileSync(join(folder, "blocks", file), code)
    for (const { code, name } of docExamples) writeFileSync(join(folder, "examples", name), code)
    writeFileSync(join(folder, "runner.ts"), runner)
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
        include: ["blocks", "examples"],
        exclude: []
      })
    )
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  /** With a Redis of its own. */
  const runs = (command: string, ...args: ReadonlyArray<string>) =>
    Effect.gen(function* () {
      const { port } = yield* standalone
      const env = { ...process.env, REDIS_URL: `redis://127.0.0.1:${port}` }
      yield* Effect.promise(() => run(bin(command), [...args], { cwd: root, env, timeout: 60_000 }))
    })

  /** All in one process: most of what a block costs is its start. */
  let results: Promise<ReadonlyArray<Result>> | undefined
  const resultsOfPrograms = async (): Promise<ReadonlyArray<Result>> => {
    const all = runs("tsx", "--tsconfig", join(root, "tsconfig.json"), join(folder, "runner.ts"))
    await Effect.runPromise(Effect.scoped(all))
    return JSON.parse(readFileSync(join(folder, "results.json"), "utf8"))
  }

  it("has code blocks and examples", () => {
    for (const [document, least] of [["README.md", 10] as const, ["docs/", 15] as const]) {
      expect(blocks.filter(({ name }) => name.startsWith(document)).length, document).toBeGreaterThanOrEqual(least)
    }
    expect(docExamples.length).toBeGreaterThanOrEqual(10)
  })

  it("has no block that is TypeScript and taken for none", () => {
    for (const document of documents) {
      const fences = [...text(document).matchAll(/^```([^\n]*)\n[\s\S]*?^```$/gm)].map(([, info = ""]) => info)
      expect(fences.filter((info) => /^t(s|ypescript)/.test(info) && !/^ts( compile)?$/.test(info))).toEqual([])
    }
  })

  it("compiles", async () => {
    // The fastest of the compilers that the types are checked with.
    expect(await Effect.runPromise(tsc(root, "7", "-p", folder, "--moduleDetection", "force"))).toBe("")
  }, 120_000)

  for (const [index, { name, output }] of programs.entries()) {
    it(`${name} runs${output === undefined ? "" : ", and prints what is said there"}`, async () => {
      results ??= resultsOfPrograms()
      const result = (await results)[index]
      expect(result, "an earlier one did not end").toBeDefined()
      expect(result?.error).toBeUndefined()
      if (output !== undefined) expect(result?.output).toBe(output)
    }, 90_000)
  }

  it.scopedLive(
    "the tests in it pass",
    () => {
      const files = blocks
        .filter(({ isTest }) => isTest)
        .map(({ file }) => relative(root, join(folder, "blocks", file)))
      // Without a file it would run all there are.
      expect(files.length).toBeGreaterThanOrEqual(4)
      return runs("vitest", "run", "--no-isolate", "--no-file-parallelism", ...files)
    },
    90_000
  )

  for (const document of documents) {
    it(`the links of ${document} lead somewhere`, () => {
      const anchorOf = (heading: string) =>
        heading
          .toLowerCase()
          .replace(/[^\p{L}\p{N}\s_-]/gu, "")
          .replace(/\s/g, "-")
      const anchorsIn = (path: string) =>
        [...text(path).matchAll(/^#+ (.+)$/gm)].map(([, heading = ""]) => anchorOf(heading))
      for (const [, target = ""] of text(document).matchAll(/\]\((?!https?:)([^)\s]+)\)/g)) {
        const [path = "", anchor] = target.split("#")
        const file = path === "" ? document : join(dirname(document), path)
        expect(existsSync(join(root, file)), `${document}: ${target}`).toBe(true)
        if (anchor !== undefined) expect(anchorsIn(file), `${document}: ${target}`).toContain(anchor)
      }
    })
  }
})

/** What the guide says of a user of Redis: each permission of its rule, and what is amiss without it. */
const [, aclRule = ""] = /^ACL SETUSER \S+ on >\S+ (.+)$/m.exec(text("docs/operating.md")) ?? []
const aclEffects = [...text("docs/operating.md").matchAll(/^\| (`[~&+].*?) \| (.*) \|$/gm)].flatMap(
  ([, names = "", effect]) =>
    [...names.replaceAll("\\|", "|").matchAll(/`([^`]+)`/g)].map(([, name = ""]) => [name, effect ?? ""] as const)
)

describe("the user of Redis in docs/operating.md", () => {
  const permissions = aclRule.split(" ")

  it("has its permissions explained, each of them", () => {
    expect(aclEffects.map(([name]) => name).sort()).toEqual([...permissions].sort())
  })

  /** Whether calls work, and everything that the server has denied them. */
  const tryAs = (server: RedisServer, username: string, rules: ReadonlyArray<string>) =>
    Effect.gen(function* () {
      yield* server.command("acl", "setuser", username, "on", ">secret", ...rules)
      yield* server.command("acl", "log", "reset")
      // A server that has the scripts is not sent them.
      yield* server.command("script", "flush")
      const ids = yield* IdempotencyIdentifiers.from({ operation: "acl", idempotencyKey: username })
      const calls = Effect.gen(function* () {
        const repository = yield* IdempotencyRepository
        const call = withIdempotency(Effect.succeed(1), "acl", username, { onStorageFailure: "fail" })
        const works = yield* Effect.exit(Effect.zipRight(call, call))
        const change = Effect.flatMap(repository.driver.changes(ids), Effect.timeoutOption("100 millis"))
        yield* Effect.scoped(change)
        yield* Effect.exit(repository.get(ids))
        yield* Effect.exit(repository.delete(ids))
        return Exit.isSuccess(works)
      })
      const options = { username, password: "secret" }
      const live = layerRedis({ url: server.url, options, startup: "fail", eviction: "fail" })
      const works = yield* Effect.orElseSucceed(Effect.provide(calls, live), () => false)
      const denied = yield* server.command("acl", "log")
      return { works, denied: Array.isArray(denied) ? denied.length : 0 }
    })

  it.scopedLive("may do all that the store does; each permission is needed for what the guide says", () =>
    Effect.gen(function* () {
      const server = yield* standalone
      expect(yield* tryAs(server, "whole", permissions)).toEqual({ works: true, denied: 0 })
      for (const [index, [name, effect]] of aclEffects.entries()) {
        const without = permissions.filter((one) => one !== name)
        const { denied, works } = yield* tryAs(server, `without-${index}`, without)
        expect([name, denied > 0, works]).toEqual([name, true, !effect.startsWith("the store does not work")])
      }
    })
  )
})
