import { describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Redis } from "ioredis"
import { layerRedis } from "../../src/redis.js"
import { isProof } from "../support/proof.js"
import { StandaloneRedis } from "../support/redisServers.js"
import { apiMounts } from "./apiMounts.js"
import { policyCases } from "./policyCases.js"
import { refusalCases } from "./refusalCases.js"
import { replayCases } from "./replayCases.js"
import { mounts } from "./support.js"

const onRedis = Layer.unwrapScoped(
  Effect.gen(function* () {
    const { url } = yield* StandaloneRedis
    const redis = yield* Effect.acquireRelease(
      Effect.sync(() => new Redis(url)),
      (client) => Effect.sync(() => client.disconnect())
    )
    redis.on("error", () => {})
    return layerRedis({ redis, startupTimeout: "20 seconds" })
  })
).pipe(Layer.provide(StandaloneRedis.layer))

/** In memory all of them are tried; over Redis, in the short form, one of each kind. */
const tried = [mounts, apiMounts].flatMap((all) => (isProof ? all : all.slice(0, 1)))

for (const mount of tried) {
  describe(`${mount.name}, Redis`, () => {
    layer(onRedis, { excludeTestServices: true, timeout: "60 seconds" })((it) => {
      replayCases(it.scoped, mount)
      refusalCases(it.scoped, mount)
      policyCases(it.scoped, mount)
    })
  })
}
