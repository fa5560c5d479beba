/** What a wire loses, holds back or delays, between the engine and a Redis or a cluster, with every kind of client. */
import { describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { cluster, standalone } from "../support/redisServers.js"
import { type KindOfClient, onCluster, onNode } from "../support/wireClients.js"
import { everyRow, Played, play } from "../support/wireRows.js"

const stores = {
  "one Redis": Effect.map(standalone, onNode),
  "a cluster": Effect.map(cluster, onCluster)
}

const pairs: Readonly<Record<string, ReadonlyArray<KindOfClient>>> = {
  "default options": ["ioredis 5 with its default options", "ioredis 6 with its default options"],
  "the library's options": ["the library's client on ioredis 5", "the library's client on ioredis 6"]
}

/** All rows of a pair are prepared at once, and played at once. */
const options = { excludeTestServices: true, timeout: "120 seconds" } as const
const longest = 60_000

for (const [name, store] of Object.entries(stores)) {
  for (const [of, kinds] of Object.entries(pairs)) {
    layer(play(kinds, everyRow, store), options)(`${name}, ${of}`, (it) => {
      for (const kind of kinds) {
        describe(kind, () => {
          for (const { name } of everyRow(kind))
            it.effect(name, () => Effect.flatMap(Played, (end) => end(kind, name)), longest)
        })
      }
    })
  }
}
