/** What the start of a layer finds out about its user's permissions, without a change. */
import { describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import { RedisIdempotencyRepository } from "../../src/redis.js"
import { type RedisServer, standalone, standaloneWith } from "../support/redisServers.js"

const start = (url: string, username: string, password: string) =>
  Effect.exit(
    Effect.scoped(
      Layer.build(RedisIdempotencyRepository.layerClient({ url, options: { username, password }, startup: "fail" }))
    )
  )

/** Everything but these commands. */
const without = ({ command, url }: RedisServer, ...commands: ReadonlyArray<string>) => {
  const username = ["without", ...commands].join("-")
  const denied = commands.map((name) => `-${name}`)
  return Effect.zipRight(
    command("acl", "setuser", username, "on", ">secret", "~*", "&*", "+@all", ...denied),
    start(url, username, "secret")
  )
}

/** What is needed where lists are, as the guide for operators says. */
const needs = ["eval", "evalsha", "time", "get", "set", "del", "pexpiretime", "scan", "getrange"]

describe("the user of a layer", () => {
  it.scopedLive("needs what the verbs need; what they can do without, it need not have", () =>
    Effect.gen(function* () {
      const server = yield* standalone
      for (const needed of [["evalsha"], ["eval"], ["time"], ["get"], ["set"], ["del"], ["pexpiretime", "pttl"]]) {
        const exit = yield* without(server, ...needed)
        expect([needed, Exit.isFailure(exit) && exit.cause]).toMatchObject([
          needed,
          { error: { method: "probe", reason: "Misconfigured" } }
        ])
        // A server that has the script is not sent it.
        yield* server.command("script", "flush")
      }
      for (const spare of [["publish", "subscribe"], ["pexpiretime"], ["pttl"], ["config"], ["wait"]]) {
        const exit = yield* without(server, ...spare)
        expect([spare, Exit.isSuccess(exit)]).toEqual([spare, true])
      }
      expect(String(yield* server.command("info", "persistence"))).toContain("rdb_changes_since_last_save:0")

      yield* server.command("set", "idempotency:a:b", "x")
      const list = (...denied: ReadonlyArray<string>) =>
        Effect.gen(function* () {
          const username = ["lists", ...denied].join("-")
          const allowed = needs.filter((name) => !denied.includes(name)).map((name) => `+${name}`)
          yield* server.command("acl", "setuser", username, "on", ">secret", "~idempotency:*", ...allowed)
          const options = { username, password: "secret", enableReadyCheck: false }
          const repository = yield* Layer.build(
            RedisIdempotencyRepository.layerClient({ url: server.url, options, startup: "fail" })
          )
          return yield* Effect.either(Context.get(repository, IdempotencyRepository).list())
        })
      expect(yield* list()).toMatchObject({ _tag: "Right", right: { entries: [{}], cursor: undefined } })
      for (const name of ["scan", "getrange"]) {
        expect(yield* list(name)).toMatchObject({ _tag: "Left", left: { method: "list", reason: "Misconfigured" } })
      }
    })
  )

  it.scopedLive("is not asked for what the server does not know", () =>
    Effect.gen(function* () {
      // As before Redis 7.
      const { command, url } = yield* standaloneWith("--rename-command", "pexpiretime", "")
      expect(Exit.isSuccess(yield* start(url, "default", ""))).toBe(true)
      yield* command("acl", "setuser", "old", "on", ">secret", "~*", "&*", "+@all", "-pttl")
      expect(Exit.isFailure(yield* start(url, "old", "secret"))).toBe(true)
    })
  )
})
