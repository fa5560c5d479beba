/** What may happen to a transaction on its way: duplicates at every isolation level, and a COMMIT that gets lost. */
import * as SqlClient from "@effect/sql/SqlClient"
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Ref from "effect/Ref"
import * as Scope from "effect/Scope"
import type { IdempotencyTransactions } from "../../src/IdempotencyTransactions.js"
import { layerSql, SqlIdempotencyRepository, withIdempotentTransaction } from "../../src/sql.js"
import { Postgres, pgClientOf } from "../support/databases.js"
import { isProof } from "../support/proof.js"
import { until } from "../support/sqlOrders.js"
import { tcpProxy } from "../support/tcpProxy.js"

const keys = isProof ? 100 : 20

const tables = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* SqlIdempotencyRepository.migration
  yield* sql`CREATE TABLE IF NOT EXISTS business (id TEXT NOT NULL, note TEXT NOT NULL)`
  yield* sql`CREATE TABLE IF NOT EXISTS counters (id TEXT PRIMARY KEY, value INTEGER NOT NULL)`
  yield* sql`INSERT INTO counters VALUES ('all', 0)`
})

const server = Layer.effectDiscard(Effect.flatMap(Postgres, ({ url }) => Effect.provide(tables, pgClientOf(url)))).pipe(
  Layer.provideMerge(Postgres.layer)
)

/** A program of its own: its connections, its engine, its single flight. */
const program = (url: string) => Layer.fresh(layerSql()).pipe(Layer.provideMerge(Layer.fresh(pgClientOf(url))))

const rowsOf = (id: string) =>
  Effect.flatMap(Postgres, ({ query }) => query("SELECT note FROM business WHERE id = $1", id)).pipe(
    Effect.map((rows) => rows.map(({ note }) => note))
  )

const isolations: ReadonlyArray<IdempotencyTransactions.Isolation | undefined> = [
  undefined,
  "read committed",
  "repeatable read",
  "serializable"
]

layer(server, { excludeTestServices: true, timeout: 60_000 })("a transaction on Postgres", (it) => {
  for (const isolation of isolations) {
    it.scoped(`50 duplicates from five programs, ${isolation ?? "as the server has it"}: one row, one result`, () =>
      Effect.gen(function* () {
        const { query, url } = yield* Postgres
        const id = `duplicates-${isolation}`
        const runs = yield* Ref.make(0)
        const book = Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const run = yield* Ref.updateAndGet(runs, (n) => n + 1)
          // What all transactions read and write conflicts where transactions are kept apart.
          yield* sql`SELECT value FROM counters WHERE id = 'all'`
          yield* sql`UPDATE counters SET value = value + 1 WHERE id = 'all'`
          yield* sql`INSERT INTO business VALUES (${id}, ${`run ${run}`})`
          yield* Effect.sleep("20 millis")
          return { run }
        })
        const ten = Effect.replicateEffect(withIdempotentTransaction(book, "book", id, { isolation }), 10, {
          concurrency: "unbounded"
        })
        const results = yield* Effect.forEach(
          Array.from({ length: 5 }, () => program(url)),
          (layer) => Effect.provide(ten, layer),
          { concurrency: "unbounded" }
        )
        const notes = yield* rowsOf(id)
        expect(notes).toHaveLength(1)
        const distinct = new Set(results.flat().map(({ run }) => `run ${run}`))
        expect(results.flat()).toHaveLength(50)
        expect([...distinct]).toEqual(notes)
        const idle = yield* query(
          "SELECT pid FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' AND datname IS NOT NULL"
        )
        expect(idle).toEqual([])
      })
    )
  }

  const lossy = (fault: "loseReplyTo" | "loseRequest") =>
    Effect.gen(function* () {
      const { port, url } = yield* Postgres
      const proxy = yield* tcpProxy(port)
      const context = yield* Layer.build(program(url.replace(String(port), String(proxy.port))))
      const isCommit = (request: Buffer) => request.includes("COMMIT\0")
      const runs = yield* Ref.make(0)
      const call = (id: string) =>
        Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          const run = yield* Ref.updateAndGet(runs, (n) => n + 1)
          yield* sql`INSERT INTO business VALUES (${id}, ${`run ${run}`})`
          return { run }
        }).pipe(withIdempotentTransaction("book", id), Effect.provide(context))
      for (let n = 0; n < keys; n++) {
        const id = `${fault}-${n}`
        yield* proxy[fault](isCommit)
        const first = yield* call(id)
        expect(proxy.lost()).toBe(n + 1)
        expect(yield* call(id)).toEqual(first)
        expect(yield* rowsOf(id)).toEqual([`run ${first.run}`])
      }
      return yield* Ref.get(runs)
    })

  /** One key after the other, each with a connection that is lost, on a busy machine. */
  const longest = 10_000 + keys * 1000

  it.scoped(
    `COMMIT's reply lost, ${keys} keys: one row each, from one run`,
    () =>
      Effect.gen(function* () {
        expect(yield* lossy("loseReplyTo")).toBe(keys)
      }),
    longest
  )

  it.scoped(
    `COMMIT's request lost, ${keys} keys: nothing is committed, and the retry makes one row`,
    () =>
      Effect.gen(function* () {
        expect(yield* lossy("loseRequest")).toBe(2 * keys)
      }),
    longest
  )

  it.scoped("the store's layer closes during COMMIT: it is answered, and committed, from one run", () =>
    Effect.gen(function* () {
      const { query, url } = yield* Postgres
      yield* query("CREATE TABLE slow (id TEXT NOT NULL)")
      yield* query(
        "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END $$"
      )
      yield* query(
        "CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION dawdle()"
      )
      const client = yield* Layer.build(Layer.fresh(pgClientOf(url)))
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(
        Layer.fresh(layerSql()).pipe(Layer.provideMerge(Layer.succeedContext(client))),
        scope
      )
      const runs = yield* Ref.make(0)
      const calling = yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const run = yield* Ref.updateAndGet(runs, (n) => n + 1)
        yield* sql`INSERT INTO slow VALUES ('slow')`
        return { run }
      }).pipe(withIdempotentTransaction("book", "slow"), Effect.provide(context), Effect.fork)
      const committing = query("SELECT pid FROM pg_stat_activity WHERE query = 'COMMIT' AND state = 'active'")
      yield* until(committing, ({ length }) => length === 1)
      yield* Scope.close(scope, Exit.void)
      expect(yield* Fiber.join(calling)).toEqual({ run: 1 })
      expect(yield* query("SELECT id FROM slow")).toHaveLength(1)
      expect(yield* Ref.get(runs)).toBe(1)
    })
  )
})
