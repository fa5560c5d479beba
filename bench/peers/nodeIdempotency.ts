/**
 * `@node-idempotency/core` with its Redis adapter, as its middlewares call it: before and after the handler.
 *
 * A claim has no owner and no lease: a process that dies leaves the key in progress for the whole retention, and what
 * completes a record does not ask whose it is. Callers that meet a running one fail, or poll every 100 ms.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Store, Subject } from "../comparisons.js"
import { promises } from "../drive.js"
import { type Body, makeBody } from "../work.js"
import { load } from "./modules.js"

interface Request {
  readonly method: string
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
}

interface Response {
  readonly body: unknown
}

interface Core {
  readonly Idempotency: new (
    storage: Storage,
    options: { readonly cacheTTLMS: number }
  ) => {
    readonly onRequest: (request: Request) => Promise<Response | undefined>
    readonly onResponse: (request: Request, response: Response) => Promise<void>
  }
}

interface Storage {
  readonly connect: () => Promise<void>
  readonly disconnect: () => Promise<void>
}

interface Adapter {
  readonly RedisStorageAdapter: new (options: { readonly url: string }) => Storage
}

const make = async (url: string, body: Body) => {
  const { Idempotency }: Core = await load("@node-idempotency/core")
  const { RedisStorageAdapter }: Adapter = await load("@node-idempotency/storage-adapter-redis")
  const storage = new RedisStorageAdapter({ url })
  await storage.connect()
  const idempotency = new Idempotency(storage, { cacheTTLMS: 1_800_000 })
  const execute = async (key: string): Promise<unknown> => {
    const request = { method: "POST", path: "/charges", headers: { "idempotency-key": key } }
    const replayed = await idempotency.onRequest(request)
    if (replayed !== undefined) return replayed.body
    const result = body.run()
    await idempotency.onResponse(request, { body: result })
    return result
  }
  return { storage, drive: promises(execute) }
}

export const nodeIdempotency = (url: string, store: Store, bytes: number): Effect.Effect<Subject, never, Scope.Scope> =>
  Effect.gen(function* () {
    const body = makeBody(bytes)
    const { drive } = yield* Effect.acquireRelease(
      Effect.promise(() => make(url, body)),
      ({ storage }) => Effect.promise(() => storage.disconnect())
    )
    return { name: "@node-idempotency", role: "peer", body, store, first: drive, replay: drive }
  })
