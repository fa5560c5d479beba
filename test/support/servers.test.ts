/** The servers that tests start: they answer, keep what was committed, and leave nothing behind. */
import { once } from "node:events"
import { connect as connectSocket } from "node:net"
import * as SqlClient from "@effect/sql/SqlClient"
import * as MysqlClient from "@effect/sql-mysql2/MysqlClient"
import * as PgClient from "@effect/sql-pg/PgClient"
import { describe, expect, it } from "@effect/vitest"
import { jetstream, jetstreamManager } from "@nats-io/jetstream"
import { connect } from "@nats-io/transport-node"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { startMariadb } from "./mariadbServers.js"
import { startNats } from "./natsServers.js"
import { startPostgres } from "./postgresServers.js"
import { standalone } from "./redisServers.js"
import type { ServerProcess } from "./servers.js"

const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

const isListening = (port: number): Effect.Effect<boolean> =>
  Effect.promise(async () => {
    const socket = connectSocket(port, "127.0.0.1")
    try {
      await once(socket, "connect")
      return true
    } catch {
      return false
    } finally {
      socket.destroy()
    }
  })

const servers: ReadonlyArray<{
  readonly name: string
  readonly start: Effect.Effect<Pick<ServerProcess, "pid" | "signal"> & { readonly port: number }, unknown, Scope.Scope>
}> = [
  { name: "Redis", start: standalone },
  { name: "Postgres", start: startPostgres() },
  { name: "MariaDB", start: startMariadb() },
  { name: "NATS", start: startNats() }
]

describe.each(servers)("$name", ({ start }) => {
  it.live("is gone when the scope is closed", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { pid, port } = yield* Scope.extend(start, scope)
      expect(isAlive(pid)).toBe(true)
      expect(yield* isListening(port)).toBe(true)
      yield* Scope.close(scope, Exit.void)
      expect(isAlive(pid)).toBe(false)
      expect(yield* isListening(port)).toBe(false)
    })
  )

  it.live("is gone when it was stopped by a signal", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { pid, port, signal } = yield* Scope.extend(start, scope)
      yield* signal("SIGSTOP")
      yield* Scope.close(scope, Exit.void)
      expect(isAlive(pid)).toBe(false)
      expect(yield* isListening(port)).toBe(false)
    })
  )

  it.scoped("starts under a test's clock", () => start)
})

const pgLayer = (url: string) => PgClient.layer({ url: Redacted.make(url) })
const mysqlLayer = (url: string) => MysqlClient.layer({ url: Redacted.make(url) })

describe("Postgres", () => {
  it.scopedLive("answers the client of @effect/sql-pg, with the settings it was started with", () =>
    Effect.gen(function* () {
      const { query, url } = yield* startPostgres({ default_transaction_isolation: "repeatable read" })
      const rows = yield* Effect.provide(
        Effect.flatMap(
          SqlClient.SqlClient,
          (sql) => sql<{ readonly level: string }>`select current_setting('transaction_isolation') as level`
        ),
        pgLayer(url)
      )
      expect(rows).toEqual([{ level: "repeatable read" }])
      expect(yield* query("select $1::int + $2::int as sum, current_setting('fsync') as fsync", 1, 2)).toEqual([
        { sum: 3, fsync: "on" }
      ])
    })
  )

  it.scopedLive("has its committed rows after a crash, and nothing else", () =>
    Effect.gen(function* () {
      const server = yield* startPostgres()
      const { pid, port, query } = server
      yield* query("create table kept (id int primary key)")
      yield* query("insert into kept values ($1)", 1)
      const cutOff = yield* Effect.fork(
        Effect.either(query("begin; insert into kept values (2); select pg_sleep(60); commit"))
      )
      yield* Effect.repeat(
        query(
          "select 1 as found from pg_stat_activity where query like 'begin;%' and state = 'active' and pid <> pg_backend_pid()"
        ),
        {
          until: ({ length }) => length === 1
        }
      )
      yield* server.signal("SIGKILL")
      expect(Either.isLeft(yield* Fiber.join(cutOff))).toBe(true)
      expect(Either.isLeft(yield* Effect.either(query("select 1")))).toBe(true)
      yield* server.restart
      expect(server.pid).not.toBe(pid)
      expect(server.port).toBe(port)
      expect(yield* query("select id from kept")).toEqual([{ id: 1 }])
    })
  )

  it.scopedLive("pauses with its connections, and goes on", () =>
    Effect.gen(function* () {
      const { query, signal, url } = yield* startPostgres()
      yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql`select 1`
        yield* signal("SIGSTOP")
        const waiting = yield* Effect.fork(sql`select 2 as two`)
        yield* Effect.sleep("300 millis")
        expect(yield* Fiber.poll(waiting)).toMatchObject({ _tag: "None" })
        yield* signal("SIGCONT")
        expect(yield* Fiber.join(waiting)).toEqual([{ two: 2 }])
      }).pipe(Effect.provide(pgLayer(url)))
      expect(yield* query("select 3 as three")).toEqual([{ three: 3 }])
    })
  )
})

describe("MariaDB", () => {
  it.scopedLive("answers the client of @effect/sql-mysql2, with the settings it was started with", () =>
    Effect.gen(function* () {
      const { query, url } = yield* startMariadb({ "transaction-isolation": "READ-COMMITTED" })
      const rows = yield* Effect.provide(
        Effect.flatMap(SqlClient.SqlClient, (sql) => sql`select @@tx_isolation as level, database() as name`),
        mysqlLayer(url)
      )
      expect(rows).toEqual([{ level: "READ-COMMITTED", name: "test" }])
      expect(yield* query("select ? as text, @@character_set_database as charset", "é")).toEqual([
        { text: "é", charset: "utf8mb4" }
      ])
    })
  )

  it.scopedLive("has its committed rows after a crash", () =>
    Effect.gen(function* () {
      const { query, restart, signal } = yield* startMariadb()
      yield* query("create table kept (id int primary key)")
      yield* query("insert into kept values (?)", 1)
      yield* signal("SIGKILL")
      yield* restart
      expect(yield* query("select id from kept")).toEqual([{ id: 1 }])
    })
  )
})

describe("NATS", () => {
  const connected = (url: string) =>
    Effect.acquireRelease(
      Effect.promise(() => connect({ servers: url })),
      (connection) => Effect.promise(() => connection.close())
    )

  it.scopedLive("has its stored messages after a crash", () =>
    Effect.gen(function* () {
      const { restart, url } = yield* startNats()
      yield* Effect.scoped(
        Effect.flatMap(connected(url), (connection) =>
          Effect.promise(async () => {
            const manager = await jetstreamManager(connection)
            await manager.streams.add({ name: "orders", subjects: ["orders.*"] })
            await jetstream(connection).publish("orders.placed", "1")
          })
        )
      )
      yield* restart
      const connection = yield* connected(url)
      const stored = yield* Effect.promise(async () => {
        const manager = await jetstreamManager(connection)
        return (await manager.streams.info("orders")).state.messages
      })
      expect(stored).toBe(1)
    })
  )
})
