/** Redis before Postgres: what Redis loses is looked up, and what Postgres has committed stays. */
import { expect, layer } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Ref from "effect/Ref"
import {
  Idempotency,
  IdempotencyDomainService,
  IdempotencyMetrics,
  TieredIdempotencyRepository,
  withIdempotencyOutcome
} from "../../src/index.js"
import { RedisIdempotencyRepository } from "../../src/redis/RedisIdempotencyRepository.js"
import { SqlIdempotencyRepository } from "../../src/sql/SqlIdempotencyRepository.js"
import { Postgres, pgClient } from "../support/databases.js"
import { StandaloneRedis } from "../support/redisServers.js"

const stores = TieredIdempotencyRepository.layerWith({
  fast: Layer.unwrapEffect(Effect.map(StandaloneRedis, ({ url }) => RedisIdempotencyRepository.layerClient({ url }))),
  durable: SqlIdempotencyRepository.layer.pipe(
    Layer.provide(Layer.effectDiscard(SqlIdempotencyRepository.migration)),
    Layer.provide(pgClient)
  ),
  // A loaded machine may be slow to answer: what is shown here is what Redis keeps.
  fastTimeout: "5 seconds"
})

const engine = Idempotency.layerWith({ storageTimeout: "9 seconds" }).pipe(
  Layer.provide([stores, IdempotencyDomainService.layer, IdempotencyMetrics.layer]),
  Layer.provideMerge(Layer.merge(StandaloneRedis.layer, Postgres.layer))
)

layer(engine, { excludeTestServices: true, timeout: 60_000 })("Redis before Postgres", (it) => {
  it.effect("Redis wiped: replays come from the database, and the copies come back", () =>
    Effect.gen(function* () {
      const redis = yield* StandaloneRedis
      const postgres = yield* Postgres
      const runs = yield* Ref.make(0)
      const keys = Chunk.makeBy(100, (n) => `wiped-${n}`)
      const call = (key: string) =>
        Ref.updateAndGet(runs, (n) => n + 1).pipe(
          Effect.map((run) => ({ run })),
          withIdempotencyOutcome("charge", key, { onStorageFailure: "fail" })
        )
      const all = Effect.forEach(keys, call, { concurrency: 20 })
      const copies = redis.command("dbsize")
      // Copies are written in the background, and a store that was slow to answer is left alone for a while.
      const allAreCopied = Effect.repeat(Effect.zipRight(all, copies), { until: (n) => n === 100 })
      const first = yield* all
      expect(first.every(({ _tag }) => _tag === "Executed")).toBe(true)
      yield* allAreCopied

      yield* redis.command("flushall")
      expect(yield* copies).toBe(0)
      const again = yield* all
      expect(again.every(({ _tag }) => _tag === "Replayed")).toBe(true)
      expect(again.map(({ value }) => value)).toEqual(first.map(({ value }) => value))
      expect(yield* Ref.get(runs)).toBe(100)
      yield* allAreCopied

      // What is copied is answered without the database.
      yield* postgres.signal("SIGSTOP")
      const without = yield* Effect.ensuring(all, postgres.signal("SIGCONT"))
      expect(without.map(({ value }) => value)).toEqual(first.map(({ value }) => value))
      expect(yield* Ref.get(runs)).toBe(100)
    })
  )
})
