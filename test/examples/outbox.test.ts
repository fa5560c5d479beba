/** The example of an outbox and an inbox, as it is run by hand. */
import { execFile } from "node:child_process"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { startPostgres } from "../support/postgresServers.js"

const run = promisify(execFile)
const root = fileURLToPath(new URL("../..", import.meta.url))

describe("the example of an outbox and an inbox", () => {
  it.scopedLive(
    "ships each order once though requests and messages come twice, leaves nothing behind, and ends by itself",
    () =>
      Effect.gen(function* () {
        const { query, url } = yield* startPostgres()
        const { stderr, stdout } = yield* Effect.promise(() =>
          run(join(root, "node_modules", ".bin", "tsx"), ["examples/outbox/main.ts"], {
            cwd: root,
            env: { ...process.env, DATABASE_URL: url },
            timeout: 50_000
          })
        )
        expect(stderr).toBe("")
        expect(stdout).toContain("A relay crashed")
        const rows = stdout.split("\n").flatMap((line) => {
          const [what, count] = line.split("│").map((cell) => cell.trim())
          return count === undefined ? [] : [[what, count]]
        })
        expect(Object.fromEntries(rows)).toEqual({
          requests: "10",
          orders: "5",
          // Those of the crashed relay came again.
          deliveries: "8",
          duplicates: "3",
          shipments: "5"
        })
        expect(yield* query("SELECT 1 FROM pg_namespace WHERE nspname = 'outbox_example'")).toEqual([])
      }),
    60_000
  )
})
