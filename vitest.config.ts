import { availableParallelism } from "node:os"
import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"
import { BaseSequencer, type TestSpecification } from "vitest/node"

const source = (path: string) => fileURLToPath(new URL(path, import.meta.url))

const workers = availableParallelism() + 1

/** What takes longest comes first, also where no earlier run has told: at the end it would run alone. */
class LongestFirst extends BaseSequencer {
  override async sort(files: Array<TestSpecification>): Promise<Array<TestSpecification>> {
    const isLong = ({ moduleId }: TestSpecification) =>
      /[/\\]test[/\\](simulation|types|documentation|package|chaos|histories)\b/.test(moduleId)
    const sorted = await super.sort(files)
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))]
  }
}

export default defineConfig({
  resolve: {
    alias: [
      { find: /^effect-idempotency$/, replacement: source("./src/index.ts") },
      { find: /^effect-idempotency\/(.*)$/, replacement: source("./src/$1.ts") }
    ]
  },
  test: {
    // The long form has files of its own, and makes others longer.
    include: process.env["PROOF"] === "1" ? ["test/**/*.{test,proof}.ts"] : ["test/**/*.test.ts"],
    // A worker loads its modules once, not once for each file: that took a third of all the time.
    isolate: false,
    setupFiles: [source("./test/support/ownMethods.ts"), source("./test/support/eventLoop.ts")],
    sequence: { sequencer: LongestFirst },
    // Much of what takes time here is waiting for servers.
    maxWorkers: workers,
    // One that is idle is not ended before the others: two ways to end it meet at times, and fail the run.
    minWorkers: workers,
    // Fibers live shortly, and those that a small young generation lets grow old cost most.
    poolOptions: { forks: { execArgv: ["--max-semi-space-size=64"] } },
    testTimeout: 30_000,
    hookTimeout: 120_000,
    coverage: {
      provider: "v8",
      include: ["src/**"],
      reporter: ["text-summary", "json"],
      thresholds: { lines: 95, branches: 95 }
    }
  }
})
