/** The command on real stores: a key that is stuck is found and freed, or settled. */
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import { RedisIdempotencyRepository } from "../../src/redis.js"
import { SqlIdempotencyRepository } from "../../src/sql.js"
import { Mariadb, mysqlClient, pgClientOf } from "../support/databases.js"
import { startPostgres } from "../support/postgresServers.js"
import { cluster, standaloneWith } from "../support/redisServers.js"
import { claimBy, ids } from "../support/requests.js"
import { directoryFor } from "../support/servers.js"
import { builtCommand, command, commandProcess, documents, itself, type Ran, type Repository } from "./support.js"

const password = "s3cret/w0rd"
const encoded = encodeURIComponent(password)

const built = <E>(layer: Layer.Layer<IdempotencyRepository, E>) =>
  Effect.map(Layer.build(Layer.orDie(layer)), Context.get(IdempotencyRepository))

const stuckOrder = ids("order-1")
const stuckPayout = ids("payout-7", "payout", "tenant-1")

/** Owners that died a moment ago. */
const leaveStuck = (repository: Repository) =>
  Effect.gen(function* () {
    yield* repository.claims.claim(stuckOrder, claimBy("died", { lease: 1 }))
    yield* repository.claims.claim(stuckPayout, claimBy("died", { lease: 1, guarantee: "at-most-once" }))
    yield* Effect.sleep("5 millis")
  })

const stateOf = (repository: Repository, of = stuckOrder) =>
  Effect.map(repository.inspect(of), (found) => Option.getOrUndefined(found)?._tag)

/** Runs the command as a process that tells nobody the password. */
const guarded =
  (path: string, store: string) =>
  (...args: ReadonlyArray<string>): Effect.Effect<Ran> =>
    Effect.tap(commandProcess(path, args, { IDEMPOTENCY_STORE: store }), ({ err, out }) => {
      for (const text of [password, encoded]) expect(out + err).not.toContain(text)
    })

describe("the command on Redis", () => {
  it.scopedLive("finds the key that is stuck, tells of it, and frees it", () =>
    Effect.gen(function* () {
      const { port } = yield* standaloneWith("--requirepass", password)
      const url = `redis://:${encoded}@127.0.0.1:${port}`
      const repository = yield* built(RedisIdempotencyRepository.layerClient({ url }))
      yield* leaveStuck(repository)
      const run = guarded(yield* builtCommand([...itself, "ioredis"]), url)

      const [found, refused] = yield* Effect.all(
        [run("list", "--operation", "payment.charge", "--json"), run("reset", "payment.charge", "order-1")],
        { concurrency: "unbounded" }
      )
      expect(found).toMatchObject({ code: 0, err: "" })
      expect(documents(found.out)).toMatchObject([{ key: "order-1", state: "processing", lapsed: true, attempt: 1 }])
      expect(refused).toMatchObject({ code: 1, out: "" })
      expect(refused.err).toContain("give --yes")
      expect(yield* stateOf(repository)).toBe("Processing")
      const told = yield* command(["inspect", "payment.charge", "order-1", "--store", url])
      expect(told.out).toMatch(/^state +processing, lease lapsed .+ ago$/m)

      const freed = yield* run("reset", "payment.charge", "order-1", "--yes", "--json")
      expect(freed).toMatchObject({ code: 0, err: "" })
      expect(yield* stateOf(repository)).toBe("Released")
    })
  )

  it.scopedLive("tells why it cannot work there, without the password", () =>
    Effect.gen(function* () {
      const { port } = yield* standaloneWith("--requirepass", password)
      for (const [url, said] of [
        [`redis://:wrong-${encoded}@127.0.0.1:${port}`, "WRONGPASS"],
        [`redis://127.0.0.1:${port}`, "NOAUTH"],
        [`redis://:${encoded}@127.0.0.1:1`, "ECONNREFUSED"],
        // A server that is none of a cluster.
        [`redis://:${encoded}@127.0.0.1:${port}`, "cluster"]
      ] as const) {
        const flags = said === "cluster" ? ["--cluster"] : []
        const { code, err, out } = yield* command(["list", "--store", url, ...flags])
        expect([code, out], said).toEqual([1, ""])
        expect(err).toContain(said)
        for (const text of [password, encoded]) expect(err).not.toContain(text)
      }
    })
  )

  it.scopedLive("works by any node of a cluster, under another prefix", () =>
    Effect.gen(function* () {
      const { nodes, servers } = yield* cluster
      for (const { command } of servers) yield* command("config", "set", "requirepass", password)
      const options = { redisOptions: { password } }
      const repository = yield* built(
        RedisIdempotencyRepository.layerClient({ nodes, options, keyPrefix: "payments:" })
      )
      yield* leaveStuck(repository)
      const url = `redis://:${encoded}@127.0.0.1:${servers[1]?.port}`
      const store = ["--store", url, "--cluster", "--redis-prefix", "payments:"]
      const found = yield* command(["list", "--all", "--json", ...store])
      expect(found).toMatchObject({ code: 0, err: "" })
      expect(new Set(documents(found.out).map(({ key }) => key))).toEqual(new Set(["order-1", "payout-7"]))
      expect(yield* command(["reset", "payment.charge", "order-1", "-y", ...store])).toMatchObject({ code: 0 })
      expect(yield* stateOf(repository)).toBe("Released")
    })
  )
})

describe("the command on SQL databases", () => {
  it.scopedLive("finds what nobody knows the outcome of on Postgres, and settles it; it makes no table", () =>
    Effect.gen(function* () {
      const server = yield* Effect.orDie(startPostgres())
      const url = server.url.replace("postgres@", `postgres:${encoded}@`)
      const drivers = ["@effect/sql", "@effect/sql-pg"]
      const run = guarded(yield* builtCommand([...itself, ...drivers]), url)

      const early = yield* run("list")
      expect(early).toMatchObject({ code: 1, out: "" })
      expect(early.err).toContain(`relation "idempotency_records" does not exist`)
      expect(early.err).toContain("--table")

      const client = pgClientOf(server.url)
      yield* Effect.provide(SqlIdempotencyRepository.migration, client)
      const repository = yield* built(SqlIdempotencyRepository.layer.pipe(Layer.provide(client)))
      yield* leaveStuck(repository)
      const payout = ["payout", "payout-7", "--scope", "tenant-1"]

      const found = yield* run("list", "--operation", "payout")
      expect(found).toMatchObject({ code: 0, err: "" })
      expect(found.out).toMatch(/^payout +tenant-1 +payout-7 +(processing|unknown) +1 /m)

      const settled = yield* run("resolve", ...payout, "--success", `{"payoutId":"p-1"}`, "--yes")
      expect(settled).toEqual({
        code: 0,
        out: "payout payout-7 (scope tenant-1) is recorded as success.\n",
        err: ""
      })
      const shown = yield* command(["inspect", ...payout, "--json", "--show-result", "--store", url])
      expect(documents(shown.out)).toMatchObject([{ state: "completed", result: { payoutId: "p-1" } }])
    })
  )

  it.scopedLive("works on a file of SQLite, and leaves it as it is", () =>
    Effect.gen(function* () {
      const filename = join(yield* directoryFor("cli-sqlite"), "records.sqlite")
      const client = SqliteClient.layer({ filename, disableWAL: true })
      yield* Effect.provide(SqlIdempotencyRepository.migrationWith({ table: "records" }), client)
      const repository = yield* built(
        SqlIdempotencyRepository.layerWith({ table: "records" }).pipe(Layer.provide(client))
      )
      yield* leaveStuck(repository)
      const store = ["--store", `sqlite:${filename}`, "--table", "records"]
      const found = yield* command(["list", "--json", ...store])
      expect(found).toMatchObject({ code: 0, err: "" })
      expect(documents(found.out).map(({ key }) => key)).toEqual(["order-1", "payout-7"])
      expect(yield* command(["reset", "payment.charge", "order-1", "-y", ...store])).toMatchObject({ code: 0 })
      expect(yield* stateOf(repository)).toBe("Released")
      expect(yield* command(["inspect", "payment.charge", "order-9", ...store])).toMatchObject({ code: 3 })

      const journal = yield* Effect.provide(
        Effect.flatMap(SqliteClient.SqliteClient, (sql) => sql.unsafe("PRAGMA journal_mode")),
        client
      )
      expect(journal).toEqual([{ journal_mode: "delete" }])

      const absent = yield* command(["list", "--store", `sqlite://${filename}-not`])
      expect(absent).toMatchObject({ code: 1, out: "" })
      expect(absent.err).toContain("There is no database file")
      writeFileSync(`${filename}-text`, "no database".repeat(1000))
      const other = yield* command(["list", "--store", `sqlite:${filename}-text`])
      expect(other).toMatchObject({ code: 1, out: "" })
      expect(other.err).toContain("file is not a database")
    })
  )

  it.scopedLive("works on MariaDB", () =>
    Effect.gen(function* () {
      const client = Layer.succeedContext(yield* Layer.build(mysqlClient))
      yield* Effect.provide(SqlIdempotencyRepository.migration, client)
      yield* leaveStuck(yield* built(SqlIdempotencyRepository.layer.pipe(Layer.provide(client))))
      const { url } = yield* Mariadb
      const found = yield* command(["list", "--json", "--store", url])
      expect(found).toMatchObject({ code: 0, err: "" })
      expect(documents(found.out).map(({ key }) => key)).toEqual(["order-1", "payout-7"])
    }).pipe(Effect.provide(Mariadb.layer))
  )
})

describe("the command without its packages", () => {
  it.scopedLive("says what to install for itself, and for the store", () =>
    Effect.gen(function* () {
      const bare = yield* builtCommand(["effect"])
      const withoutDriver = yield* builtCommand(itself)
      const store = "redis://127.0.0.1:1"
      const [bareOfAll, driver] = yield* Effect.all(
        [commandProcess(bare, ["list"]), commandProcess(withoutDriver, ["list", "--store", store])],
        { concurrency: "unbounded" }
      )
      expect(bareOfAll).toMatchObject({ code: 1, out: "" })
      expect(bareOfAll.err).toContain("npm install @effect/cli@0.77 @effect/platform-node@0.108 @effect/platform@0.97.")
      expect(driver).toMatchObject({ code: 1, out: "" })
      expect(driver.err).toContain("npm install ioredis.")
    })
  )
})
