/** A TCP proxy that loses replies on purpose: the request arrives and is handled, and nobody hears of it. */
import { once } from "node:events"
import { connect, createServer, type Socket } from "node:net"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

export interface LossyProxy {
  readonly url: string
  /** So many of the next replies are lost, with their connections. */
  readonly lose: (replies: number) => Effect.Effect<void>
}

/** Before a server on this machine, on a free port. */
export const lossyProxy = (port: number): Effect.Effect<LossyProxy, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const sockets = new Set<Socket>()
      let toLose = 0
      const server = createServer((client) => {
        const upstream = connect(port, "127.0.0.1")
        const close = () => {
          client.destroy()
          upstream.destroy()
        }
        for (const socket of [client, upstream]) {
          sockets.add(socket)
          socket.on("error", close).on("close", () => {
            sockets.delete(socket)
            close()
          })
        }
        client.pipe(upstream)
        upstream.on("data", (reply) => {
          if (toLose === 0) return void client.write(reply)
          toLose--
          close()
        })
      })
      server.listen(0, "127.0.0.1")
      await once(server, "listening")
      const address = server.address()
      return {
        url: `http://127.0.0.1:${typeof address === "object" && address !== null ? address.port : ""}`,
        lose: (replies: number) =>
          Effect.sync(() => {
            toLose = replies
          }),
        sockets,
        server
      }
    }),
    ({ server, sockets }) =>
      Effect.async<void>((resume) => {
        server.close(() => resume(Effect.void))
        for (const socket of sockets) socket.destroy()
      })
  )
