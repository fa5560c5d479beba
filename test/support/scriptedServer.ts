/** An HTTP server on a free port that answers as it is told to, and remembers what it was asked. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { parseItem } from "structured-headers"

/** `drop`: the request is handled, and the connection cut instead of an answer. `hang`: there is none. */
export type Answer =
  | "drop"
  | "hang"
  | "truncated"
  | {
      readonly status: number
      readonly headers?: Readonly<Record<string, string>>
      readonly body?: string
    }

export interface Received {
  readonly method: string
  readonly url: string
  readonly headers: IncomingMessage["headers"]
  readonly body: Buffer
  /** The header as it came. */
  readonly rawKey: string | undefined
}

export interface ScriptedServer {
  readonly url: string
  readonly received: ReadonlyArray<Received>
  /** What the next requests get; after them, 200. */
  readonly answer: (...answers: ReadonlyArray<Answer>) => void
  /** The keys that came, read as structured-field strings. */
  readonly keys: () => ReadonlyArray<string>
}

const keyIn = (rawKey: string | undefined): string => {
  const item = rawKey === undefined ? undefined : parseItem(rawKey)[0]
  if (typeof item !== "string") throw new Error(`not a structured-field string: ${rawKey}`)
  return item
}

const reply = (answer: Answer, response: ServerResponse): void => {
  if (answer === "hang") return
  if (answer === "drop") {
    response.destroy()
  } else if (answer === "truncated") {
    response.writeHead(200, { "content-length": "1000" })
    response.write("half", () => response.destroy())
  } else {
    response.writeHead(answer.status, answer.headers)
    response.end(answer.body ?? `answer ${answer.status}`)
  }
}

const bodyOf = async (request: IncomingMessage): Promise<Buffer> => {
  const chunks: Array<Buffer> = []
  for await (const chunk of request) chunks.push(chunk)
  return Buffer.concat(chunks)
}

export const scriptedServer: Effect.Effect<ScriptedServer, never, Scope.Scope> = Effect.acquireRelease(
  Effect.async<ScriptedServer & { readonly close: () => Promise<void> }>((resume) => {
    const received: Array<Received> = []
    const script: Array<Answer> = []
    const server = createServer((request, response) => {
      bodyOf(request).then(
        (body) => {
          const { headers, method = "", url = "" } = request
          const rawKey = headers["idempotency-key"]
          received.push({ method, url, headers, body, rawKey: Array.isArray(rawKey) ? rawKey.join(", ") : rawKey })
          reply(script.shift() ?? { status: 200 }, response)
        },
        () => response.destroy()
      )
    })
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      if (address === null || typeof address === "string") throw new Error("the server has no port")
      resume(
        Effect.succeed({
          url: `http://127.0.0.1:${address.port}`,
          received,
          answer: (...answers) => {
            script.push(...answers)
          },
          keys: () => received.map(({ rawKey }) => keyIn(rawKey)),
          close: () =>
            new Promise<void>((resolve) => {
              server.close(() => resolve())
              server.closeAllConnections()
            })
        })
      )
    })
  }),
  ({ close }) => Effect.promise(close)
)
