/** The reaper on a table of a million rows, half of them expired, and the claims that are made meanwhile. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { makeStatements } from "../../src/internal/sql/statements.js"
import { SqlIdempotencyRepository } from "../../src/sql.js"
import { pgClientOf } from "../support/databases.js"
import { startPostgres } from "../support/postgresServers.js"
import { claimBy, freshIds, ids, numberOf, repositoryOf, rowsOf } from "./fixtures.js"

const total = 1_000_000

/** The server itself writes down every statement that waited for a lock for longer than this. */
const settings = {
  deadlock_timeout: "50ms",
  log_lock_waits: "on",
  logging_collector: "on",
  log_filename: "server.log",
  max_wal_size: "4GB"
}

const fill = `INSERT INTO idempotency_records (operation, scope, idempotency_key, version, state, token, attempt, created_at, expires_at, retention, outcome, result)
SELECT 'payment.charge', '', 'row-' || n, 1, CASE WHEN n % 10 = 0 THEN 'Released' ELSE 'Completed' END, 't', 1, 1,
  CASE WHEN n % 2 = 0 THEN n ELSE 9000000000000 END, 60000, 'Success', '{"id":"row"}'
FROM generate_series(0, ${total - 1}) AS n`

/** How many rows each statement has deleted. */
const counting = [
  "CREATE TABLE batches (size BIGINT NOT NULL)",
  "CREATE FUNCTION count_batch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO batches SELECT count(*) FROM deleted; RETURN NULL; END $$",
  "CREATE TRIGGER counting AFTER DELETE ON idempotency_records REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION count_batch()"
]

const old = "WHERE expires_at < 10000000"

it.scopedLive(
  "a million rows, half of them expired: bounded batches, and no claim is blocked for more than 50 ms meanwhile",
  () =>
    Effect.gen(function* () {
      const server = yield* startPostgres(settings)
      const lockWaits = Effect.map(
        server.query("SELECT pg_read_file(pg_current_logfile()) AS text"),
        ([row]) => String(row?.["text"]).match(/still waiting for/g)?.length ?? 0
      )
      yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* SqlIdempotencyRepository.migration
        const { claims } = yield* repositoryOf()

        // A claim that somebody does block is seen.
        const blocked = freshIds()
        yield* sql.withTransaction(
          Effect.zipRight(
            rowsOf(
              sql,
              `INSERT INTO idempotency_records (operation, scope, idempotency_key, version, state, token, attempt, created_at, expires_at) VALUES ('${blocked.operation}', '', '${blocked.idempotencyKey}', 1, 'Released', 't', 1, 1, 1)`
            ),
            Effect.fork(claims.claim(blocked, claimBy("t"))).pipe(
              Effect.zipRight(Effect.repeat(lockWaits, { until: (count) => count > 0 }))
            )
          )
        )
        const before = yield* lockWaits
        expect(before).toBeGreaterThan(0)

        yield* rowsOf(sql, fill)
        yield* rowsOf(sql, "DELETE FROM idempotency_records WHERE idempotency_key NOT LIKE 'row-%'")
        yield* Effect.forEach(counting, (statement) => rowsOf(sql, statement))
        const latencies: Array<number> = []
        const claim = (n: number) =>
          Effect.gen(function* () {
            // Fresh keys, expired ones from both ends of the backlog, and settled ones.
            const key = [freshIds(), ids(`row-${n * 2}`), ids(`row-${total - 2 - n * 2}`), ids(`row-${n * 2 + 1}`)][
              n % 4
            ]
            const start = performance.now()
            const { _tag } = yield* claims.claim(key ?? freshIds(), claimBy("t"))
            latencies.push(performance.now() - start)
            expect(_tag).toBe(n % 4 === 3 ? "Settled" : "Claimed")
            yield* Effect.sleep("1 millis")
          })
        const prober = yield* Effect.fork(
          Effect.iterate(0, { while: () => true, body: (n) => Effect.as(claim(n), n + 1) })
        )

        const start = performance.now()
        yield* Layer.build(SqlIdempotencyRepository.layerReaper({ interval: "10 millis" }))
        const left = numberOf(
          sql,
          `SELECT count(*) AS n FROM (SELECT 1 FROM idempotency_records ${old} LIMIT 1) AS found`
        )
        yield* Effect.repeat(Effect.zipLeft(left, Effect.sleep("250 millis")), { until: (count) => count === 0 })
        const took = performance.now() - start
        yield* Fiber.interrupt(prober)

        const largest = yield* numberOf(sql, "SELECT max(size) AS n FROM batches")
        const batches = yield* numberOf(sql, "SELECT count(*) AS n FROM batches WHERE size > 0")
        latencies.sort((a, b) => a - b)
        const at = (share: number) =>
          (latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))] ?? 0).toFixed(1)
        console.info(
          `half of ${total} rows reaped in ${(took / 1000).toFixed(1)} s; ${latencies.length} claims meanwhile: p50 ${at(0.5)}, p99 ${at(0.99)}, max ${at(1)} ms; lock waits over 50 ms: ${(yield* lockWaits) - before}; ${batches} batches, the largest of ${largest}`
        )
        expect(
          yield* numberOf(sql, `SELECT count(*) AS n FROM idempotency_records WHERE expires_at = 9000000000000`)
        ).toBe(total / 2)
        expect(largest).toBe(1000)
        expect(latencies.length).toBeGreaterThan(100)
        expect((yield* lockWaits) - before).toBe(0)

        // With nothing to delete, half a million live rows are not looked at.
        const { reap } = makeStatements({
          dialect: "postgres",
          table: "idempotency_records",
          channel: "",
          lockTimeout: 250
        })
        const plan = yield* rowsOf(sql, `EXPLAIN (ANALYZE, FORMAT TEXT) ${reap(1000)}`)
        expect(plan.map((row) => row["QUERY PLAN"]).join("\n")).not.toContain("Rows Removed by Filter")
      }).pipe(Effect.provide(pgClientOf(server.url)))
    }),
  180_000
)
