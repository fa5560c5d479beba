/** 200,000 calls leave nothing behind, and the process ends by itself. */
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { LeakTask, Leftovers } from "../support/leaks.js"
import { standalone } from "../support/redisServers.js"

const script = fileURLToPath(new URL("../support/leakWorker.ts", import.meta.url))

describe("a process that has made 200,000 calls", () => {
  it.scopedLive(
    "has no fibers, timers, leases and flights of them left, no more heap than before, and ends by itself",
    () =>
      Effect.gen(function* () {
        const { command, url } = yield* standalone
        const task: LeakTask = { url, calls: 200_000 }
        const { stdout } = yield* Effect.promise(() =>
          promisify(execFile)(process.execPath, ["--expose-gc", "--import", "tsx", script, JSON.stringify(task)], {
            timeout: 500_000
          })
        )
        const leftovers: Leftovers = JSON.parse(stdout)
        expect(leftovers).toMatchObject({
          isDone: true,
          underWay: { owners: 0, flights: 0, leases: 0, background: 0 }
        })
        const { after, before } = leftovers.resources
        const others = (names: ReadonlyArray<string>) => names.filter((name) => name !== "Timeout")
        expect(others(after)).toEqual(others(before))
        // The layer's own: one timer for all deadlines, and one for all renewals.
        expect(after.length - others(after).length).toBeLessThanOrEqual(2)
        // The names of metrics and what V8 keeps of compiled code: far less than a byte of each call.
        expect(leftovers.heapGrowth).toBeLessThan(2_000_000)
        expect(yield* command("pubsub", "channels")).toEqual([])
      }),
    540_000
  )
})
