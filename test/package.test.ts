/** The packed package, as a user gets it. */
import { execFile } from "node:child_process"
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { afterAll, beforeAll, describe, expect, it } from "vitest"

const run = promisify(execFile)
const root = fileURLToPath(new URL("..", import.meta.url))

describe("the packed package", () => {
  let project = ""

  beforeAll(async () => {
    project = mkdtempSync(join(tmpdir(), "effect-idempotency-package-"))
    const { stdout } = await run("npm", ["pack", "--json", "--pack-destination", project], { cwd: root })
    const [{ filename }]: [{ filename: string }] = JSON.parse(stdout.slice(stdout.indexOf("[\n")))
    const installed = join(project, "node_modules", "effect-idempotency")
    mkdirSync(installed, { recursive: true })
    await run("tar", ["-xzf", join(project, filename), "-C", installed, "--strip-components", "1"])
    // What every user has; none of the optional peers.
    for (const name of ["effect", "canonicalize", "@standard-schema", "fast-check", "pure-rand"]) {
      symlinkSync(join(root, "node_modules", name), join(project, "node_modules", name))
    }
    writeFileSync(
      join(project, "main.mjs"),
      `import { Effect } from "effect"
import { layerMemory, withIdempotency } from "effect-idempotency"
const call = Effect.sync(() => "paid").pipe(withIdempotency("payment.charge", "order-1"))
console.log(await Effect.runPromise(call.pipe(Effect.provide(layerMemory))))`
    )
  })
  afterAll(() => rmSync(project, { recursive: true }))

  it("works from its root without any optional peer", async () => {
    const { stdout } = await run(process.execPath, ["main.mjs"], { cwd: project })
    expect(stdout).toBe("paid\n")
  })

  it("has consumers without any optional peer", async () => {
    const { stdout } = await run(
      process.execPath,
      [
        "--input-type=module",
        "-e",
        `import * as consumer from "effect-idempotency/consumer"; console.log(Object.keys(consumer).join())`
      ],
      { cwd: project }
    )
    expect(stdout).toBe("IdempotentConsumer,MessageOutcome,MessagePoisonedError\n")
  })

  it("needs ioredis for its Redis store alone, and says so", async () => {
    const imported = run(process.execPath, ["--input-type=module", "-e", `import "effect-idempotency/redis"`], {
      cwd: project
    })
    await expect(imported).rejects.toThrow("Cannot find package 'ioredis'")
  })
})
