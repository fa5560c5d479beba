/** What a wire loses, holds back or delays, between the engine and a Redis: the short form. */
import { describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { standalone } from "../support/redisServers.js"
import { type KindOfClient, onNode } from "../support/wireClients.js"
import { Played, play, someRows } from "../support/wireRows.js"

const kinds: ReadonlyArray<KindOfClient> = ["ioredis 5 with its default options", "the library's client on ioredis 5"]
const options = { excludeTestServices: true, timeout: "60 seconds" } as const

layer(
  play(kinds, () => someRows, Effect.map(standalone, onNode)),
  options
)((it) => {
  for (const kind of kinds) {
    describe(kind, () => {
      for (const { name } of someRows) it.effect(name, () => Effect.flatMap(Played, (end) => end(kind, name)))
    })
  }
})
