/** The slot of a key, against a server's own answer. */
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import { slotOf } from "../../src/internal/redis/slots.js"
import { cluster } from "../support/redisServers.js"

it.scopedLive("slots are those of the server, hash tags included", () =>
  Effect.gen(function* () {
    const { servers } = yield* cluster
    const [node] = servers
    if (node === undefined) return yield* Effect.dieMessage("a cluster without nodes")
    const tricky = ["", "a", "{a}b", "{}a", "{a", "a}", "{{a}}b", "a{b}{c}", "{}{a}", "é{ü}"]
    const random = FastCheck.sample(FastCheck.string({ unit: "grapheme" }), { seed: 7, numRuns: 200 })
    for (const key of [...tricky, ...random]) {
      expect([key, slotOf(key)]).toEqual([key, yield* node.command("cluster", "keyslot", key)])
    }
  })
)
