/**
 * NATS servers with JetStream for tests, each on a free loopback port and with a store of its own, stopped with the
 * scope.
 *
 * The binary is `nats-server` on the `PATH`; on Debian and Ubuntu, as root, it is installed once.
 */
import { join } from "node:path"
import { jetstreamManager } from "@nats-io/jetstream"
import { connect } from "@nats-io/transport-node"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { directoryFor, freePort, installOnce, onPath, runServer, type ServerProcess } from "./servers.js"

export interface NatsServer extends ServerProcess {
  readonly host: "127.0.0.1"
  readonly port: number
  readonly url: string
}

let binary: string | undefined
const serverBinary = (): string => {
  binary ??= installOnce("nats-server", () => onPath("nats-server"))
  if (binary !== undefined) return binary
  throw new Error(
    "These tests need a NATS server: put nats-server on the PATH, or run them as root on Debian or Ubuntu"
  )
}

const answers = (url: string): Effect.Effect<unknown, unknown> =>
  Effect.acquireUseRelease(
    Effect.tryPromise({
      try: () => connect({ servers: url, reconnect: false, timeout: 1000 }),
      catch: (error) => error
    }),
    (connection) =>
      Effect.tryPromise({
        try: async () => (await jetstreamManager(connection, { timeout: 1000 })).getAccountInfo(),
        catch: (error) => error
      }),
    (connection) => Effect.promise(() => connection.close())
  )

/** One server, with arguments of its command line beside those of every test's server. */
export const startNats = (...args: ReadonlyArray<string>): Effect.Effect<NatsServer, unknown, Scope.Scope> =>
  Effect.gen(function* () {
    const directory = yield* directoryFor("nats")
    const port = yield* Effect.promise(() => freePort())
    const url = `nats://127.0.0.1:${port}`
    const server = yield* runServer({
      name: "NATS",
      binary: serverBinary(),
      args: ["-a", "127.0.0.1", "-p", `${port}`, "-js", "-sd", join(directory, "store"), ...args],
      directory,
      answers: answers(url)
    })
    return Object.assign(server, { host: "127.0.0.1" as const, port, url })
  })
