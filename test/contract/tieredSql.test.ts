import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { MemoryIdempotencyRepository, TieredIdempotencyRepository } from "../../src/index.js"
import { RedisIdempotencyRepository } from "../../src/redis/RedisIdempotencyRepository.js"
import { SqlIdempotencyRepository } from "../../src/sql/SqlIdempotencyRepository.js"
import { repositoryContract } from "../../src/testing.js"
import { Postgres, pgClient, SqliteFile, sqliteClient } from "../support/databases.js"
import { liveModelRuns } from "../support/proof.js"
import { StandaloneRedis } from "../support/redisServers.js"

/** A loaded machine may be slow to answer, which is not what this suite is about. */
const patient = { operationTimeout: "20 seconds" } as const
const patientTiers = { fastTimeout: "20 seconds", ...patient } as const

const sql = SqlIdempotencyRepository.layerWith(patient).pipe(
  Layer.provide(Layer.effectDiscard(SqlIdempotencyRepository.migration))
)

const redis = Layer.unwrapEffect(
  Effect.map(StandaloneRedis, ({ url }) =>
    RedisIdempotencyRepository.layerClient({ url, startup: "fail", startupTimeout: "20 seconds" })
  )
)

const redisBeforePostgres = TieredIdempotencyRepository.layerWith({
  fast: redis.pipe(Layer.provide(StandaloneRedis.layer)),
  durable: sql.pipe(Layer.provide(pgClient), Layer.provide(Postgres.layer)),
  ...patientTiers
})

const memoryBeforeSqlite = TieredIdempotencyRepository.layerWith({
  fast: MemoryIdempotencyRepository.layer,
  durable: sql.pipe(Layer.provide(sqliteClient), Layer.provide(SqliteFile.layer)),
  ...patientTiers
})

const options = { timeout: "90 seconds", modelRuns: liveModelRuns } as const

repositoryContract("Redis before Postgres", redisBeforePostgres, options)
repositoryContract("memory before SQLite", memoryBeforeSqlite, options)
