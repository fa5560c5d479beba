import * as Layer from "effect/Layer"
import { SqlIdempotencyRepository } from "../../src/sql/SqlIdempotencyRepository.js"
import { repositoryContract } from "../../src/testing.js"
import { Mariadb, mysqlClient, Postgres, pgClient, SqliteFile, sqliteClient } from "../support/databases.js"
import { liveModelRuns } from "../support/proof.js"

/** A loaded machine may be slow to answer, which is not what this suite is about. */
const store = SqlIdempotencyRepository.layerWith({ operationTimeout: "20 seconds" }).pipe(
  Layer.provide(Layer.effectDiscard(SqlIdempotencyRepository.migration))
)

const options = { timeout: "90 seconds", modelRuns: liveModelRuns } as const

repositoryContract("Postgres", store.pipe(Layer.provide(pgClient), Layer.provide(Postgres.layer)), options)
repositoryContract("SQLite", store.pipe(Layer.provide(sqliteClient), Layer.provide(SqliteFile.layer)), options)
repositoryContract("MariaDB", store.pipe(Layer.provide(mysqlClient), Layer.provide(Mariadb.layer)), options)
