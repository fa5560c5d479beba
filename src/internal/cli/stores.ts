/** Stores by their URLs. Their drivers are the user's to install, and loaded when they are needed. */
import { existsSync } from "node:fs"
import type * as SqlClient from "@effect/sql/SqlClient"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type { IdempotencyStorageError } from "../../IdempotencyError.js"
import { IdempotencyRepository } from "../../IdempotencyRepository.js"
import { defaultTable } from "../sql/table.js"
import { CliFailure, failed, fromLibrary, innermost, usage } from "./failure.js"
import { install } from "./packages.js"
import { decoded } from "./secrets.js"

/** Where the records are, as the options say. */
export interface StoreSettings {
  readonly url: Redacted.Redacted<string>
  readonly table: string | undefined
  readonly redisPrefix: string | undefined
  readonly cluster: boolean
}

type Repository = Context.Tag.Service<IdempotencyRepository>

/** Opens a store for the scope. */
export class Stores extends Context.Tag("effect-idempotency/cli/Stores")<
  Stores,
  { readonly open: (settings: StoreSettings) => Effect.Effect<Repository, CliFailure, Scope.Scope> }
>() {
  static readonly layer: Layer.Layer<Stores> = Layer.sync(Stores, () => ({ open }))
}

/** An operator waits longer than a caller would. */
const operationTimeout = "10 seconds"
const connectTimeout = "5 seconds"

const isMissing = (error: unknown): boolean =>
  Predicate.hasProperty(error, "code") && (error.code === "ERR_MODULE_NOT_FOUND" || error.code === "MODULE_NOT_FOUND")

/** Imports what needs these packages; says which to install if it cannot be found. */
export const load = <A>(packages: ReadonlyArray<string>, imported: () => Promise<A>): Effect.Effect<A, CliFailure> =>
  Effect.tryPromise({
    try: imported,
    catch: (error) =>
      isMissing(error)
        ? failed(
            "MissingPackage",
            `This store needs a package that is not installed: ${install(packages)}. (${innermost(error).split("\n")[0]})`
          )
        : failed("BrokenPackage", `${packages.join(", ")} cannot be loaded: ${innermost(error)}.`)
  })

/** An address of IPv6 is in brackets in a URL alone. */
export const nodeOf = ({ hostname, port }: URL): { readonly host: string; readonly port: number } => ({
  host: hostname.replace(/^\[|\]$/g, ""),
  port: port === "" ? 6379 : Number(port)
})

const redis = ({ cluster, redisPrefix, url }: StoreSettings, node: URL) =>
  Effect.flatMap(
    load(["ioredis"], () => import("../../redis/RedisIdempotencyRepository.js")),
    ({ RedisIdempotencyRepository }) => {
      const options = {
        keyPrefix: redisPrefix,
        startup: "fail",
        startupTimeout: connectTimeout,
        operationTimeout
      } as const
      if (!cluster) return built(RedisIdempotencyRepository.layerClient({ url, ...options }))
      const { password, protocol, username } = node
      // The other nodes are found by their addresses alone: user and password are those of this one.
      const redisOptions = {
        ...(username === "" ? {} : { username: decoded(username) }),
        ...(password === "" ? {} : { password: decoded(password) }),
        ...(protocol === "rediss:" ? { tls: {} } : {})
      }
      return built(
        RedisIdempotencyRepository.layerClient({ nodes: [nodeOf(node)], options: { redisOptions }, ...options })
      )
    }
  )

const built = <E extends Error>(
  layer: Layer.Layer<IdempotencyRepository, E>
): Effect.Effect<Repository, E, Scope.Scope> => Effect.map(Layer.build(layer), Context.get(IdempotencyRepository))

/** A table is never made: whoever mistypes its name would work on an empty one. */
const tableHint = (error: IdempotencyStorageError, table: string): CliFailure => {
  const { code, exitCode, message } = fromLibrary(error)
  return error.reason !== "Misconfigured"
    ? new CliFailure({ code, exitCode, message })
    : failed(
        code,
        `${message} The table "${table}" has to be there, and this command does not make it: say its name with --table, or make it with the migration of SqlIdempotencyRepository.`
      )
}

const sql = <E>(
  { table = defaultTable }: StoreSettings,
  driver: string,
  client: () => Promise<Layer.Layer<SqlClient.SqlClient, E>>
) =>
  Effect.gen(function* () {
    const database = yield* load([driver, "@effect/sql"], client)
    const { SqlIdempotencyRepository } = yield* load(
      ["@effect/sql"],
      () => import("../../sql/SqlIdempotencyRepository.js")
    )
    const connection = yield* Layer.build(database).pipe(
      // Some clients throw what they find wrong with what they are given.
      Effect.catchAllCause((cause) =>
        Cause.isInterruptedOnly(cause)
          ? Effect.interrupt
          : Effect.fail(failed("StoreUnavailable", `The store cannot be opened: ${innermost(Cause.squash(cause))}.`))
      )
    )
    return yield* built(
      SqlIdempotencyRepository.layerWith({ table, operationTimeout }).pipe(
        Layer.provide(Layer.succeedContext(connection))
      )
    ).pipe(
      Effect.mapError((error) =>
        error._tag === "IdempotencyStorageError" ? tableHint(error, table) : fromLibrary(error)
      )
    )
  })

const sqlite = (settings: StoreSettings): Effect.Effect<Repository, CliFailure, Scope.Scope> => {
  const filename = Redacted.value(settings.url).replace(/^sqlite:(\/\/)?/i, "")
  // The client would make the file.
  return existsSync(filename)
    ? sql(settings, "@effect/sql-sqlite-node", () =>
        // What the program has set is left as it is.
        import("@effect/sql-sqlite-node/SqliteClient").then((client) => client.layer({ filename, disableWAL: true }))
      )
    : Effect.fail(failed("StoreUnavailable", `There is no database file ${JSON.stringify(filename)}.`))
}

const kinds =
  "redis://, rediss://, postgres://, postgresql:// or mysql:// with a host, or sqlite: with the path of a file"

const refuseOptions = (settings: StoreSettings, isRedis: boolean): CliFailure | undefined => {
  if (isRedis) return settings.table === undefined ? undefined : usage("--table is for SQL databases.")
  return settings.cluster || settings.redisPrefix !== undefined
    ? usage("--cluster and --redis-prefix are for Redis.")
    : undefined
}

const open = (settings: StoreSettings): Effect.Effect<Repository, CliFailure, Scope.Scope> =>
  Effect.suspend(() => {
    const text = Redacted.value(settings.url)
    const isSqlite = /^sqlite:/i.test(text)
    const url = isSqlite || !URL.canParse(text) ? undefined : new URL(text)
    const isRedis = url?.protocol === "redis:" || url?.protocol === "rediss:"
    const refused = refuseOptions(settings, isRedis)
    if (refused !== undefined) return Effect.fail(refused)
    if (isSqlite) return sqlite(settings)
    // The text is not repeated: it may hold a password where none is looked for.
    if (url === undefined || url.hostname === "") return Effect.fail(usage(`The URL of the store is none: ${kinds}.`))
    switch (url.protocol) {
      case "redis:":
      case "rediss:":
        return Effect.mapError(redis(settings, url), (error) =>
          error._tag === "CliFailure" ? error : fromLibrary(error)
        )
      case "postgres:":
      case "postgresql:":
        return sql(settings, "@effect/sql-pg", () =>
          import("@effect/sql-pg/PgClient").then((client) =>
            // The second connection is the one that recalls a statement.
            client.layer({ url: settings.url, maxConnections: 2, connectTimeout })
          )
        )
      case "mysql:":
        return sql(settings, "@effect/sql-mysql2", () =>
          import("@effect/sql-mysql2/MysqlClient").then((client) =>
            client.layer({ url: settings.url, maxConnections: 2 })
          )
        )
      default:
        return Effect.fail(usage(`Such a store is not known: ${kinds}.`))
    }
  })
