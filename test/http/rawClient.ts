/** Requests as bytes on a socket: header lines, cuts and pauses are the test's. */
import { type ClientRequest, type IncomingMessage, request } from "node:http"
import { connect } from "node:net"
import * as Effect from "effect/Effect"

export interface Sent {
  readonly method?: string
  readonly path?: string
  /** The value of `Idempotency-Key`; several are several lines. */
  readonly key?: string | ReadonlyArray<string> | undefined
  readonly headers?: Record<string, string>
  readonly body?: string | Uint8Array
  /** Sends the body without saying how long it is. */
  readonly chunked?: boolean
}

export interface Reply {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
  readonly text: string
}

const open = (
  url: string,
  { body = "{}", chunked = false, headers = {}, key, method = "POST", path = "/charges" }: Sent
) => {
  const hasBody = method !== "GET"
  const outgoing = request(`${url}${path}`, {
    method,
    agent: false,
    headers: {
      "content-type": "application/json",
      ...(key === undefined ? {} : { "idempotency-key": typeof key === "string" ? key : [...key] }),
      ...(hasBody && !chunked ? { "content-length": Buffer.byteLength(body) } : {}),
      ...headers
    }
  })
  if (hasBody) outgoing.write(body)
  outgoing.end()
  return outgoing
}

const received = (response: IncomingMessage, body: Buffer): Reply => ({
  status: response.statusCode ?? 0,
  headers: Object.fromEntries(Object.entries(response.headers).map(([name, value]) => [name, String(value)])),
  body,
  text: body.toString()
})

/** Sends a request and gets its response, to the end. */
export const send = (url: string, sent: Sent = {}): Effect.Effect<Reply> =>
  Effect.async((resume) => {
    const outgoing = open(url, sent)
    outgoing.on("error", (error) => resume(Effect.die(error)))
    outgoing.on("response", (response) => {
      const chunks: Array<Buffer> = []
      response.on("data", (chunk: Buffer) => chunks.push(chunk))
      response.on("error", (error) => resume(Effect.die(error)))
      response.on("end", () => resume(Effect.succeed(received(response, Buffer.concat(chunks)))))
    })
    return Effect.sync(() => outgoing.destroy())
  })

/** Sends a request, and leaves it to the test what becomes of it. */
export const sendAndHold = (url: string, sent: Sent = {}): Effect.Effect<ClientRequest> =>
  Effect.sync(() => {
    const outgoing = open(url, sent)
    outgoing.on("error", () => {})
    return outgoing
  })

/** The first bytes of a response whose rest is still to come. */
export const firstChunk = (outgoing: ClientRequest): Effect.Effect<string> =>
  Effect.async((resume) => {
    outgoing.on("response", (response) => {
      response.on("error", () => {})
      response.once("data", (chunk: Buffer) => resume(Effect.succeed(chunk.toString())))
    })
  })

/** The client goes away. */
export const cut = (outgoing: ClientRequest): Effect.Effect<void> => Effect.sync(() => void outgoing.destroy())

/** Sends a text at once, and gets all that comes back until the server closes the connection. */
export const sendText = (url: string, text: string): Effect.Effect<string> =>
  Effect.async((resume) => {
    const { hostname, port } = new URL(url)
    const socket = connect(Number(port), hostname, () => socket.write(text))
    let received = ""
    socket.on("data", (chunk) => {
      received += chunk.toString("latin1")
    })
    socket.on("error", (error) => resume(Effect.die(error)))
    socket.on("close", () => resume(Effect.succeed(received)))
  })
