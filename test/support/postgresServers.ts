/**
 * Postgres servers for tests, each on a free loopback port and with a data directory of its own, stopped with the scope.
 *
 * The binaries are `postgres` and `initdb` on the `PATH`, else the newest in `/usr/lib/postgresql`; on Debian and
 * Ubuntu, as root, they are installed once. As root the servers run as the user `postgres` or `nobody`.
 */
import { readdirSync } from "node:fs"
import { join } from "node:path"
import * as Reactivity from "@effect/experimental/Reactivity"
import type { SqlError } from "@effect/sql/SqlError"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { dataDirectory } from "./dataDirectories.js"
import {
  freePort,
  installOnce,
  isExecutable,
  onPath,
  runServer,
  type ServerProcess,
  unprivilegedUser
} from "./servers.js"

export interface PostgresServer extends ServerProcess {
  readonly host: "127.0.0.1"
  readonly port: number
  readonly url: string
  /** The rows of a statement, with parameters `$1` and so on, from a connection of its own. */
  readonly query: (
    text: string,
    ...params: ReadonlyArray<unknown>
  ) => Effect.Effect<ReadonlyArray<Readonly<Record<string, unknown>>>, SqlError>
}

const packaged = "/usr/lib/postgresql"

const packagedVersions = (): ReadonlyArray<string> => {
  try {
    return readdirSync(packaged).sort((a, b) => Number(b) - Number(a))
  } catch {
    return []
  }
}

interface Binaries {
  readonly postgres: string
  readonly initdb: string
}

const findBinaries = (): Binaries | undefined => {
  const candidates = [
    { postgres: onPath("postgres"), initdb: onPath("initdb") },
    ...packagedVersions().map((version) => ({
      postgres: join(packaged, version, "bin", "postgres"),
      initdb: join(packaged, version, "bin", "initdb")
    }))
  ]
  for (const { initdb, postgres } of candidates) {
    if (postgres !== undefined && initdb !== undefined && isExecutable(postgres) && isExecutable(initdb))
      return { postgres, initdb }
  }
  return undefined
}

let binaries: Binaries | undefined
const serverBinaries = (): Binaries => {
  binaries ??= installOnce("postgresql", findBinaries)
  if (binaries !== undefined) return binaries
  throw new Error(
    `These tests need a Postgres server: put postgres and initdb on the PATH, install them in ${packaged}, or run the tests as root on Debian or Ubuntu`
  )
}

const runQuery = (
  url: string,
  text: string,
  params: ReadonlyArray<unknown>
): Effect.Effect<ReadonlyArray<Readonly<Record<string, unknown>>>, SqlError> =>
  // The second connection is the one that recalls an interrupted statement.
  PgClient.make({ url: Redacted.make(url), maxConnections: 2, connectTimeout: "5 seconds" }).pipe(
    Effect.flatMap((sql) => sql.unsafe<Readonly<Record<string, unknown>>>(text, params)),
    Effect.scoped,
    Effect.provide(Reactivity.layer)
  )

const defaults = {
  unix_socket_directories: "",
  max_connections: "200",
  // In the data directory, so that nothing outlives a crash.
  dynamic_shared_memory_type: "mmap"
}

/** One server, with settings as in `postgresql.conf` beside those of every test's server. What commits is on disk. */
export const startPostgres = (
  settings: Readonly<Record<string, string>> = {}
): Effect.Effect<PostgresServer, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const { initdb, postgres } = serverBinaries()
    const user = unprivilegedUser("postgres", "nobody")
    const { data, directory } = yield* dataDirectory({
      name: "postgres",
      server: postgres,
      initializer: initdb,
      args: (path) => ["-D", path, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
      user
    })
    const port = yield* Effect.promise(() => freePort())
    const url = `postgres://postgres@127.0.0.1:${port}/postgres`
    const options = Object.entries({ ...defaults, ...settings }).flatMap(([name, value]) => ["-c", `${name}=${value}`])
    const server = yield* runServer({
      name: "Postgres",
      binary: postgres,
      args: ["-D", data, "-h", "127.0.0.1", "-p", `${port}`, ...options],
      directory,
      user,
      // Its immediate shutdown: it ends its children and gives its shared memory back, and keeps nothing else waiting.
      endsBy: "SIGQUIT",
      answers: runQuery(url, "select 1", [])
    })
    return Object.assign(server, {
      host: "127.0.0.1" as const,
      port,
      url,
      query: (text: string, ...params: ReadonlyArray<unknown>) => runQuery(url, text, params)
    })
  })
