/** The size of the root export, bounded. */
import { readFileSync } from "node:fs"
import { describe, expect, it } from "vitest"
import { inRepository } from "./packed.js"
import { sizeOf } from "./size.js"

/** Compressed bytes: a tenth above what was measured. */
const bounds = { everything: 34_500, "withIdempotency and layerMemory": 32_800 } as const

describe("the root export", () => {
  it.each(["everything", "withIdempotency and layerMemory"] as const)("is small: %s", async (use) => {
    const { gzip } = await sizeOf(use)
    expect(gzip).toBeGreaterThan(1000)
    expect(gzip).toBeLessThan(bounds[use])
  })

  it("is as large as the README says", async () => {
    const [, said] = /(\d+) kB[^.]*`npm run size`/.exec(readFileSync(inRepository("README.md"), "utf8")) ?? []
    const { gzip } = await sizeOf("everything")
    expect(Math.abs(Number(said) * 1000 - gzip)).toBeLessThan(gzip / 10)
  })
})
