import { availableParallelism } from "node:os"
import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"

const source = (path: string) => fileURLToPath(new URL(path, import.meta.url))

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
    // Much of what takes time here is waiting for servers.
    maxWorkers: availableParallelism() + 1,
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
