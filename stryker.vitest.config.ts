/**
 * What mutants are judged by: the fast tests of rows 1 to 3, which need no server. `executeTransaction.ts` does need a
 * database, and is not mutated.
 */
import { defineConfig } from "vitest/config"
import { BaseSequencer, type TestSpecification } from "vitest/node"
import config from "./vitest.config.js"

/** The first test that fails ends a mutant: what takes long comes last. */
class ShortestFirst extends BaseSequencer {
  override async sort(files: Array<TestSpecification>): Promise<Array<TestSpecification>> {
    return (await super.sort(files)).reverse()
  }
}

export default defineConfig({
  ...config,
  test: {
    include: [
      "test/Idempotency*.test.ts",
      "test/{ResultCipher,derivedKeys,encrypted*,errorMessages,guarantees,localCache,openBreaker,wording}.test.ts",
      "test/{engine,internal}/*.test.ts",
      "test/hostile/results.test.ts"
    ],
    // As in all tests: a worker loads its modules once.
    isolate: false,
    setupFiles: ["test/support/ownMethods.ts"],
    sequence: { sequencer: ShortestFirst },
    testTimeout: 20_000
  }
})
