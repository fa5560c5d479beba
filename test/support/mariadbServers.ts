/**
 * MariaDB servers for tests, each on a free loopback port and with a data directory of its own, stopped with the scope.
 *
 * The binaries are `mariadbd` (or `mysqld`, if that is MariaDB's) and `mariadb-install-db` on the `PATH`; on Debian and
 * Ubuntu, as root, they are installed once. As root the servers run as the user `mysql` or `nobody`.
 */
import { execFileSync } from "node:child_process"
import { join } from "node:path"
import * as Reactivity from "@effect/experimental/Reactivity"
import type { SqlError } from "@effect/sql/SqlError"
import * as MysqlClient from "@effect/sql-mysql2/MysqlClient"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { dataDirectory } from "./dataDirectories.js"
import { freePort, installOnce, onPath, runServer, type ServerProcess, unprivilegedUser } from "./servers.js"

export interface MariadbServer extends ServerProcess {
  readonly host: "127.0.0.1"
  readonly port: number
  /** Of the database `test` for `root`, who has no password. */
  readonly url: string
  /** The rows of a statement, with parameters `?`, from a connection of its own. */
  readonly query: (
    text: string,
    ...params: ReadonlyArray<unknown>
  ) => Effect.Effect<ReadonlyArray<Readonly<Record<string, unknown>>>, SqlError>
}

interface Binaries {
  readonly mariadbd: string
  readonly installer: string
}

const isMariadb = (binary: string): boolean =>
  execFileSync(binary, ["--version"], { encoding: "utf8" }).includes("MariaDB")

const findBinaries = (): Binaries | undefined => {
  const mariadbd = onPath("mariadbd") ?? onPath("mysqld")
  const installer = onPath("mariadb-install-db") ?? onPath("mysql_install_db")
  return mariadbd !== undefined && installer !== undefined && isMariadb(mariadbd) ? { mariadbd, installer } : undefined
}

let binaries: Binaries | undefined
const serverBinaries = (): Binaries => {
  binaries ??= installOnce("mariadb-server", findBinaries)
  if (binaries !== undefined) return binaries
  throw new Error(
    "These tests need a MariaDB server: put mariadbd and mariadb-install-db on the PATH, or run the tests as root on Debian or Ubuntu"
  )
}

const runQuery = (
  url: string,
  text: string,
  params: ReadonlyArray<unknown>
): Effect.Effect<ReadonlyArray<Readonly<Record<string, unknown>>>, SqlError> =>
  MysqlClient.make({ url: Redacted.make(url), maxConnections: 1 }).pipe(
    // Not every statement can be prepared.
    Effect.flatMap((sql) => sql.unsafe<Readonly<Record<string, unknown>>>(text, params).unprepared),
    Effect.scoped,
    Effect.provide(Reactivity.layer)
  )

const logFile = "--innodb-log-file-size=8M"

const defaults = {
  "max-connections": "200",
  "innodb-buffer-pool-size": "64M",
  "character-set-server": "utf8mb4"
}

/** One server, with settings as of its command line beside those of every test's server. What commits is on disk. */
export const startMariadb = (
  settings: Readonly<Record<string, string>> = {}
): Effect.Effect<MariadbServer, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const { installer, mariadbd } = serverBinaries()
    const user = unprivilegedUser("mysql", "nobody")
    const { data, directory } = yield* dataDirectory({
      name: "mariadb",
      server: mariadbd,
      initializer: installer,
      args: (path) => [
        "--no-defaults",
        `--datadir=${path}`,
        "--auth-root-authentication-method=normal",
        "--skip-name-resolve",
        "--skip-test-db",
        logFile
      ],
      user
    })
    const port = yield* Effect.promise(() => freePort())
    const authority = `root@127.0.0.1:${port}`
    const url = `mysql://${authority}/test`
    const server = yield* runServer({
      name: "MariaDB",
      binary: mariadbd,
      args: [
        "--no-defaults",
        `--datadir=${data}`,
        `--tmpdir=${directory}`,
        "--bind-address=127.0.0.1",
        `--port=${port}`,
        `--socket=${join(directory, "socket")}`,
        `--pid-file=${join(directory, "pid")}`,
        "--skip-name-resolve",
        logFile,
        ...Object.entries({ ...defaults, ...settings }).map(([name, value]) => `--${name}=${value}`)
      ],
      directory,
      user,
      answers: runQuery(`mysql://${authority}/mysql`, "create database if not exists test", [])
    })
    return Object.assign(server, {
      host: "127.0.0.1" as const,
      port,
      url,
      query: (text: string, ...params: ReadonlyArray<unknown>) => runQuery(url, text, params)
    })
  })
