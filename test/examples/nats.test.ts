/** The example of NATS JetStream, as it is run by hand, with its records in memory and on Redis. */
import { execFile } from "node:child_process"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { startNats } from "../support/natsServers.js"
import { standalone } from "../support/redisServers.js"

const run = promisify(execFile)
const root = fileURLToPath(new URL("../..", import.meta.url))

const inMemory = Effect.succeed({ url: "" })

describe("the example of NATS JetStream", () => {
  for (const [records, store] of [
    ["in memory", inMemory],
    ["on Redis", standalone]
  ] as const) {
    it.scopedLive(
      `ships each order once, and ends by itself, with its records ${records}`,
      () =>
        Effect.gen(function* () {
          const { url } = yield* startNats()
          const { url: redisUrl } = yield* store
          const { stderr, stdout } = yield* Effect.promise(() =>
            run(join(root, "node_modules", ".bin", "tsx"), ["examples/nats/main.ts"], {
              cwd: root,
              env: { ...process.env, NATS_URL: url, REDIS_URL: redisUrl },
              timeout: 50_000
            })
          )
          expect(stderr).toBe("")
          const rows = stdout.split("\n").map((line) => line.split("│").map((cell) => cell.trim()))
          // What has become of an order's deliveries, whichever worker got them.
          const toldOf = (id: string) =>
            rows.filter(([, what]) => what?.startsWith(`${id},`)).map(([, what = ""]) => what.replace(/^.*: /, ""))

          expect(stdout).toContain("sent-again, again later: taken by the server")
          expect(toldOf("sent-again").sort()).toEqual(["shipped before, acknowledged", "shipped, acknowledged"])
          expect(toldOf("ack-lost")).toEqual(["shipped, the acknowledgement gets lost", "shipped before, acknowledged"])
          expect(stdout).toMatch(/slow, delivery 2: in flight elsewhere: later again/)
          expect(toldOf("slow")).toContain("shipped, acknowledged")
          expect(toldOf("unicorn")).toEqual(["soon again", "soon again", "soon again", "moved to the dead letters"])

          const shipped = rows.filter(([id, times]) => /^[\w-]+$/.test(id ?? "") && /^\d×$/.test(times ?? ""))
          expect(Object.fromEntries(shipped)).toEqual({
            plain: "1×",
            "sent-again": "1×",
            "ack-lost": "1×",
            slow: "1×",
            unicorn: "0×"
          })
          expect(stdout).toContain("dead letters: 1\n")
        }),
      60_000
    )
  }
})
