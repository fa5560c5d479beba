/** The servers on which histories are made, and what the nemesis can do to each. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { codeOf } from "../../src/internal/sql/errors.js"
import { SqlIdempotencyRepository } from "../../src/sql.js"
import { pgClientOf } from "../support/databases.js"
import { startPostgres } from "../support/postgresServers.js"
import { standalone } from "../support/redisServers.js"
import type { StoreClock } from "./history.js"
import type { WorkerTask } from "./log.js"

export interface StoreServer {
  readonly store: WorkerTask["store"]
  readonly port: number
  /** How a worker reaches it through a proxy. */
  readonly urlOn: (port: number) => string
  /** It answers nobody for so long. */
  readonly stall: (millis: number) => Effect.Effect<unknown>
  /** It forgets its scripts, or drops its connections. */
  readonly flush: Effect.Effect<unknown>
  readonly clock: Omit<StoreClock, "offset">
}

export const redisServer: Effect.Effect<StoreServer, never, Scope.Scope> = Effect.map(
  standalone,
  ({ command, port }): StoreServer => ({
    store: "redis",
    port,
    urlOn: (proxy) => `redis://127.0.0.1:${proxy}`,
    stall: (millis) => command("client", "pause", millis, "all"),
    flush: command("script", "flush"),
    // A key lasts through the millisecond in which it expires.
    clock: { asked: "at the effect", lingering: 0, apart: 0 }
  })
)

export const postgresServer: Effect.Effect<StoreServer, never, Scope.Scope> = Effect.gen(function* () {
  const { port, query, signal, url } = yield* Effect.orDie(startPostgres())
  yield* Effect.orDie(SqlIdempotencyRepository.migration).pipe(Effect.provide(Layer.fresh(pgClientOf(url))))
  const server: StoreServer = {
    store: "postgres",
    port,
    urlOn: (proxy) => url.replace(`:${port}/`, `:${proxy}/`),
    stall: (millis) =>
      Effect.acquireUseRelease(
        signal("SIGSTOP"),
        () => Effect.sleep(millis),
        () => signal("SIGCONT")
      ),
    flush: query(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    ).pipe(
      // Another of these, where a stall has kept both waiting, has ended this one with all the others.
      Effect.catchIf(
        (error) => codeOf(error) === "57P01",
        () => Effect.void
      ),
      Effect.orDie
    ),
    // A statement asks the clock for each of the instants that it sets.
    clock: { asked: "during the call", lingering: 0, apart: 0 }
  }
  return server
})
