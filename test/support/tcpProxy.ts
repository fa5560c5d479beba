/** A TCP proxy in this process, before a server on the loopback, that loses what it is told to lose. */
import { once } from "node:events"
import { connect, createServer, type Server, type Socket } from "node:net"
import { setTimeout } from "node:timers/promises"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

export interface TcpProxy {
  readonly port: number
  /** Drops every connection and refuses new ones. */
  readonly cut: Effect.Effect<void>
  /** Takes connections again. */
  readonly mend: Effect.Effect<void>
  /** Lets nothing through in either direction; what was sent meanwhile arrives when the proxy is mended. */
  readonly blackHole: Effect.Effect<void>
  /** Lets nothing through on the connections that there are, until it is mended; new ones are as always. */
  readonly freeze: Effect.Effect<void>
  /**
   * The next request that matches reaches the server; its connection is cut when the server has answered, before the
   * answer is passed on.
   */
  readonly loseReplyTo: (matches: (request: Buffer) => boolean) => Effect.Effect<void>
  /**
   * The next request that matches reaches the server, and nothing comes back on its connection from there on, which
   * stays open: a stream has no holes, so that later replies wait behind this one. All of them arrive when the proxy is
   * mended, or never. Other connections are as always.
   */
  readonly swallowReplyTo: (matches: (request: Buffer) => boolean) => Effect.Effect<void>
  /** The connection is cut instead of passing the next request that matches on. */
  readonly loseRequest: (matches: (request: Buffer) => boolean) => Effect.Effect<void>
  /**
   * The connection of the next request that matches is cut after so many bytes from there on, of both directions
   * together, and no other. All requests match if it is not said which.
   */
  readonly cutAfter: (bytes: number, matches?: (request: Buffer) => boolean) => Effect.Effect<void>
  /** From now on everything takes so much longer, in each direction; its order stays. */
  readonly latency: (millis: number) => Effect.Effect<void>
  /** Ends with the next request that matches, whatever becomes of it. */
  readonly request: (matches: (request: Buffer) => boolean) => Effect.Effect<void>
  /** How many bytes have been passed on so far, of both directions together. */
  readonly passed: () => number
  /** How many replies and requests were lost so far, and connections cut after so many bytes. */
  readonly lost: () => number
}

interface Fault {
  readonly what: "request" | "reply" | "replies"
  readonly matches: (request: Buffer) => boolean
}

/** A connection is cut after so many bytes; which one, its first request says. */
interface Cut {
  readonly matches: Fault["matches"]
  connection: Socket | undefined
  left: number
}

interface Controls {
  mode: "open" | "cut" | "blackHole"
  fault: Fault | undefined
  cut: Cut | undefined
  latency: number
  readonly watchers: Set<(request: Buffer) => void>
  lost: number
  passed: number
}

/** Delivers at once, or as much later as it is told, and in order. */
const later = (controls: Controls, deliver: (chunk: Buffer) => void): ((chunk: Buffer) => void) => {
  let waiting = 0
  let last = Promise.resolve()
  return (chunk) => {
    if (controls.latency === 0 && waiting === 0) return deliver(chunk)
    waiting++
    const due = setTimeout(controls.latency)
    last = last
      .then(() => due)
      .then(() => {
        waiting--
        deliver(chunk)
      })
  }
}

const pass = (controls: Controls, sockets: Set<Socket>, port: number, client: Socket): void => {
  const upstream = connect(port, "127.0.0.1")
  let losesReply = false
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
  if (controls.mode === "cut") {
    close()
    return
  }
  const passOn = (to: Socket, chunk: Buffer): void => {
    const { cut } = controls
    const left = cut?.connection === client ? cut.left : Number.POSITIVE_INFINITY
    controls.passed += Math.min(chunk.length, left)
    if (cut?.connection === client) cut.left -= chunk.length
    if (chunk.length < left) return void to.write(chunk)
    controls.cut = undefined
    controls.lost++
    // What has been passed on arrives.
    to.write(chunk.subarray(0, left), close)
  }
  const toServer = later(controls, (request) => passOn(upstream, request))
  const toClient = later(controls, (reply) => passOn(client, reply))
  client.on("data", (request) => {
    const { cut, fault } = controls
    for (const watch of controls.watchers) watch(request)
    if (cut !== undefined && cut.connection === undefined && cut.matches(request)) cut.connection = client
    if (fault?.matches(request)) {
      controls.fault = undefined
      controls.lost++
      if (fault.what === "request") {
        close()
        return
      }
      if (fault.what === "reply") losesReply = true
      else upstream.pause()
    }
    toServer(request)
  })
  if (controls.mode === "blackHole") client.pause()
  upstream.on("data", (reply) => {
    if (losesReply) close()
    else toClient(reply)
  })
}

const listen = async (
  port: number
): Promise<{ readonly server: Server; readonly proxy: TcpProxy; readonly close: () => void }> => {
  const sockets = new Set<Socket>()
  const controls: Controls = {
    mode: "open",
    fault: undefined,
    cut: undefined,
    latency: 0,
    watchers: new Set(),
    lost: 0,
    passed: 0
  }
  const server = createServer((client) => pass(controls, sockets, port, client))
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  const address = server.address()
  if (address === null || typeof address === "string") throw new Error("the proxy has no port")
  const setMode = (mode: Controls["mode"]) =>
    Effect.sync(() => {
      controls.mode = mode
      for (const socket of sockets) {
        if (mode === "cut") socket.destroy()
        else if (mode === "blackHole") socket.pause()
        else socket.resume()
      }
    })
  const setFault = (what: Fault["what"]) => (matches: Fault["matches"]) =>
    Effect.sync(() => {
      controls.fault = { what, matches }
    })
  return {
    server,
    close: () => {
      for (const socket of sockets) socket.destroy()
    },
    proxy: {
      port: address.port,
      cut: setMode("cut"),
      mend: setMode("open"),
      blackHole: setMode("blackHole"),
      freeze: Effect.sync(() => {
        for (const socket of sockets) socket.pause()
      }),
      loseReplyTo: setFault("reply"),
      swallowReplyTo: setFault("replies"),
      loseRequest: setFault("request"),
      cutAfter: (bytes, matches = () => true) =>
        Effect.sync(() => {
          controls.cut = { matches, connection: undefined, left: bytes }
        }),
      latency: (millis) =>
        Effect.sync(() => {
          controls.latency = millis
        }),
      request: (matches) =>
        Effect.async((resume) => {
          const watch = (request: Buffer) => {
            if (!matches(request)) return
            controls.watchers.delete(watch)
            resume(Effect.void)
          }
          controls.watchers.add(watch)
          return Effect.sync(() => void controls.watchers.delete(watch))
        }),
      passed: () => controls.passed,
      lost: () => controls.lost
    }
  }
}

/** A proxy on a free port before the given port, for the scope. */
export const tcpProxy = (port: number): Effect.Effect<TcpProxy, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.promise(() => listen(port)),
      ({ close, server }) =>
        Effect.async<void>((resume) => {
          server.close(() => resume(Effect.void))
          close()
        })
    ),
    ({ proxy }) => proxy
  )
