/** The HTTP example, as it is run by hand, with its records in memory. */
import { execFile } from "node:child_process"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { describe, expect, it } from "vitest"

const run = promisify(execFile)
const root = fileURLToPath(new URL("../..", import.meta.url))

describe("the HTTP example", () => {
  it("charges once though replies are lost, and ends by itself", { timeout: 60_000 }, async () => {
    const { REDIS_URL: _, ...env } = process.env
    const { stderr, stdout } = await run(join(root, "node_modules", ".bin", "tsx"), ["examples/http/main.ts"], {
      cwd: root,
      env,
      timeout: 50_000
    })
    expect(stderr).toBe("")
    expect(stdout).toContain("records in memory")
    const rows = stdout
      .split("\n")
      .map((line) => line.split("│").map((cell) => cell.trim()))
      .filter((cells) => cells.length === 4)
      .slice(1)
      .map(([what, answer = "", sent, charges = ""]) => [
        what,
        // Orders are named by the time of the run.
        answer.replace(/ch_\w+-/g, "ch_"),
        Number(sent),
        charges.replace(/×.*-/, "× ")
      ])
    const [a, lost, twenty, ...others] = rows
    expect(a).toEqual(["a charge", "201 ch_a_1", 1, "1 × a"])
    expect(lost).toEqual(["its replies lost three times", "201 ch_b_1", 4, "1 × b"])
    expect(twenty).toEqual(["20 at once with one key", "20 answers, all of them 201 ch_c_1", 20, "1 × c"])
    expect(others).toEqual([
      ["the same key, another amount", "422 Idempotency-Key is already used", 1, "1 × a"],
      ["a card that is declined", "402 declined: over the limit", 1, "0 × d"],
      ["no key", "400 Idempotency-Key is missing", 1, "0 × e"],
      ["a key per try, replies lost twice", "201 ch_f_3", 3, "3 × f"]
    ])
  })
})
