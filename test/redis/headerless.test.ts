/** Scripts without their headers, as servers before Redis 7 run them: those check each command, not the script. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { RedisClient } from "../../src/internal/redis/client.js"
import { forEachMember } from "../../src/internal/redis/lua.js"
import * as scripts from "../../src/internal/redis/scripts.js"
import * as verbs from "../../src/internal/redis/verbs.js"
import { primary, replicaOf, standalone } from "../support/redisServers.js"
import { claimBy, majors, nodeClient } from "./fixtures.js"

const run = (client: RedisClient, lua: string, ...args: ReadonlyArray<string>) =>
  Effect.tryPromise({ try: () => client.eval(lua, 1, ["idempotency:o:k", ...args]), catch: String })

/** A verb that is refused with these words. */
const refusedBy = `local function verb(key, why) error({ err = why }) end\n${forEachMember}`

describe.each(majors)("$major", ({ ioredis }) => {
  it.scopedLive("a replica refuses the whole call, so that the client looks for the primary", () =>
    Effect.gen(function* () {
      const replica = yield* replicaOf(yield* primary)
      const client = yield* nodeClient(ioredis, replica.port)
      const args = verbs.claim.encode(claimBy("t"))
      expect(yield* Effect.flip(run(client, scripts.claim.plain.lua, ...args))).toMatch(/^ReplyError: READONLY /)
    })
  )

  it.scopedLive("a refusal is told without the place in the script", () =>
    Effect.gen(function* () {
      const { port } = yield* standalone
      const client = yield* nodeClient(ioredis, port)
      const refused = run(
        client,
        refusedBy,
        "@user_script: 61: -OOM command not allowed when used memory > 'maxmemory'."
      )
      expect(yield* refused).toEqual([["E", "OOM command not allowed when used memory > 'maxmemory'."]])
      const demoted = run(client, refusedBy, "@user_script: 61: -READONLY You can't write against a replica.\r\n")
      expect(yield* Effect.flip(demoted)).toBe("ReplyError: READONLY You can't write against a replica.")
      expect(yield* run(client, refusedBy, "anything else")).toEqual([["E", "anything else"]])
    })
  )
})
