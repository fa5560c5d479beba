/** Postgres and SQLite: beside the least statements through `@effect/sql`, within one transaction and without. */
import { join } from "node:path"
import * as SqlClient from "@effect/sql/SqlClient"
import { SqliteClient } from "@effect/sql-sqlite-node"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { SqlIdempotencyRepository, withIdempotentTransaction } from "effect-idempotency/sql"
import { pgClientOf } from "../../test/support/databases.js"
import { startPostgres } from "../../test/support/postgresServers.js"
import { directoryFor } from "../../test/support/servers.js"
import { atEach, compareFirst, compareReplay } from "../comparisons.js"
import { bothWays, engineOver, oursOver, runOver } from "../ours.js"
import type { Row } from "../rows.js"
import type { Scenario, Setting } from "../scenario.js"
import { type Database, numberOf, rawSql, storeOf } from "../sqlStore.js"

type Clients = Layer.Layer<SqlClient.SqlClient>

/** One for what is measured against, one for ours: they do not share connections. */
interface Opened {
  readonly raw: Database
  readonly ours: Database
}

const clientOf = (layer: Clients): Effect.Effect<SqlClient.SqlClient, never, Scope.Scope> =>
  Effect.map(Layer.build(Layer.fresh(layer)), Context.get(SqlClient.SqlClient))

const open = (layer: Clients, also: Omit<Database, "client"> = {}): Effect.Effect<Opened, never, Scope.Scope> =>
  Effect.gen(function* () {
    return { raw: { client: yield* clientOf(layer), ...also }, ours: { client: yield* clientOf(layer), ...also } }
  })

const extension = "pg_stat_statements"

const openPostgres: Effect.Effect<Opened, unknown, Scope.Scope> = Effect.gen(function* () {
  const { url } = yield* startPostgres({ shared_preload_libraries: extension })
  const layer = pgClientOf(url)
  const asking = yield* clientOf(pgClientOf(url, { maxConnections: 2 }))
  yield* asking.unsafe(`CREATE EXTENSION ${extension}`)
  return yield* open(layer, {
    statements: numberOf(
      asking.unsafe(`SELECT coalesce(sum(calls), 0) AS count FROM ${extension} WHERE query NOT LIKE '%${extension}%'`)
    ),
    rowSize: (table) =>
      numberOf(asking.unsafe(`SELECT avg(pg_column_size(r.*) - length(idempotency_key)) AS count FROM ${table} AS r`))
  })
})

const openSqlite: Effect.Effect<Opened, unknown, Scope.Scope> = Effect.gen(function* () {
  const filename = join(yield* directoryFor("bench"), "records.sqlite")
  return yield* open(Layer.orDie(SqliteClient.layer({ filename })))
})

const scenario = (
  topic: string,
  opened: Effect.Effect<Opened, unknown, Scope.Scope>,
  mostCallers = Number.POSITIVE_INFINITY
): Scenario => {
  const kinds = [
    { name: `${topic}/first, same transaction`, compared: compareFirst, limit: "together", also: true },
    { name: `${topic}/replay 200 B, same transaction`, compared: compareReplay, limit: "together", also: false },
    { name: `${topic}/first`, compared: compareFirst, limit: "apart", also: true },
    { name: `${topic}/replay 200 B`, compared: compareReplay, limit: "apart", also: false }
  ] as const
  return {
    topic,
    names: kinds.map(({ name }) => name),
    run: (asked) =>
      Effect.gen(function* () {
        const concurrencies = asked.concurrencies.filter((callers) => callers <= mostCallers)
        const setting: Setting = { ...asked, concurrencies }
        const { ours, raw } = yield* opened
        const client = Layer.succeed(SqlClient.SqlClient, ours.client)
        yield* Effect.provide(SqlIdempotencyRepository.migration, client)
        const limits = yield* rawSql(raw, 200)
        const run = yield* runOver(engineOver(Layer.provide(SqlIdempotencyRepository.layer, client)))
        const store = storeOf(ours, "idempotency_records")
        const others = {
          apart: oursOver(run, store, 200),
          together: bothWays(run, store, 200, (body, key) => withIdempotentTransaction(body.effect, "bench", key))
        }
        const rows: Array<Row> = []
        for (const { also, compared, limit, name } of kinds) {
          if (!setting.wants(name)) continue
          const named = compared === compareReplay ? { ...limits[limit], name: "SELECT" } : limits[limit]
          const [byFibers, byPromises] = others[limit]
          const comparison = { limit: named, others: setting.effort.isQuick ? [byFibers] : [byFibers, byPromises] }
          rows.push(...(yield* atEach(setting, name, compared, comparison, also ? ["bytes"] : [])))
        }
        return rows
      })
  }
}

export const postgres: Scenario = scenario("postgres", openPostgres)
/** All wait for one connection, in a semaphore that asks each of them again whenever it is free: 1000 never end. */
export const sqlite: Scenario = scenario("sqlite", openSqlite, 100)
