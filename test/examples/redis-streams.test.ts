/** The example of Redis Streams, as it is run by hand. */
import { execFile } from "node:child_process"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { standalone } from "../support/redisServers.js"

const run = promisify(execFile)
const root = fileURLToPath(new URL("../..", import.meta.url))

describe("the example of Redis Streams", () => {
  it.scopedLive(
    "ships each order once though its worker is killed, and ends by itself",
    () =>
      Effect.gen(function* () {
        const { url } = yield* standalone
        const { stderr, stdout } = yield* Effect.promise(() =>
          run(join(root, "node_modules", ".bin", "tsx"), ["examples/redis-streams/main.ts"], {
            cwd: root,
            env: { ...process.env, REDIS_URL: url },
            timeout: 50_000
          })
        )
        expect(stderr).toBe("")
        const rows = stdout.split("\n").map((line) => line.split("│").map((cell) => cell.trim()))
        const saidBy = (worker: string) => rows.filter(([who]) => who === worker).map(([, what]) => what)

        const shippedByFirst = [1, 2, 3, 4, 5].map((n) => `order-${n}: shipped`)
        expect(saidBy("worker-1")).toEqual([...shippedByFirst, "order-6: killed before it was shipped"])

        const second = saidBy("worker-2")
        for (const n of [1, 2, 3, 4, 5]) expect(second).toContain(`order-${n}: Duplicate, acknowledged`)
        // Sent twice, delivered twice.
        expect(second.filter((what) => what === "order-2: Duplicate, acknowledged")).toHaveLength(2)
        for (const n of [6, 7, 8, 10]) expect(second).toContain(`order-${n}: Processed, acknowledged`)
        // The first of three attempts was the killed worker's.
        expect(second.filter((what) => what === "order-9: OutOfStock, left pending")).toHaveLength(2)
        expect(second.filter((what) => what === "order-9: poisoned, moved to the dead letters")).toHaveLength(1)

        const shipped = rows.filter(([order, times]) => /^order-\d+$/.test(order ?? "") && times !== undefined)
        expect(shipped).toEqual(
          [1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map((n) => [`order-${n}`, n === 9 ? "0×, a dead letter" : "1×"])
        )
      }),
    60_000
  )
})
