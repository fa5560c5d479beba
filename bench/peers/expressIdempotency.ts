/**
 * `express-idempotency` with its Redis adapter: its middleware alone, called as Express calls it, without a server.
 *
 * It reads, and then writes without a condition: two callers of a fresh key both run. No owner, no lease, no retention
 * but the adapter's. The record holds the whole request. It answers before the response is recorded; here a call ends
 * once it is, as with all others.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Store, Subject } from "../comparisons.js"
import { promises } from "../drive.js"
import { type Body, makeBody } from "../work.js"
import { load } from "./modules.js"

interface Resource {
  readonly idempotencyKey: string
}

interface DataAdapter {
  readonly findByIdempotencyKey: (key: string) => Promise<unknown>
  readonly create: (resource: Resource) => Promise<void>
  readonly update: (resource: Resource) => Promise<void>
  readonly delete: (key: string) => Promise<void>
}

type RedisAdapter = DataAdapter & {
  readonly connect: () => Promise<void>
  readonly disconnect: () => Promise<void>
}

interface AdapterClass {
  new (options: { readonly ttl: number; readonly connectionConfig: { readonly url: string } }): RedisAdapter
}

/** CommonJS with a default of its own: Node.js wraps it in another, and tsx does not. */
interface AdapterModule {
  readonly default: AdapterClass | { readonly default: AdapterClass }
}

type Middleware = (request: unknown, response: FakeResponse, next: (error?: unknown) => void) => Promise<void>

interface Module {
  readonly idempotency: (options: { readonly dataAdapter: DataAdapter }) => Middleware
}

/** What the middleware uses of a response of Express. */
interface FakeResponse {
  statusCode: number
  readonly setHeader: () => void
  readonly getHeaders: () => Readonly<Record<string, string>>
  readonly status: (code: number) => FakeResponse
  /** Replaced by the middleware. */
  send: (body: unknown) => void
}

const responseTo = (send: (body: unknown) => void): FakeResponse => {
  const response: FakeResponse = {
    statusCode: 200,
    setHeader: () => {},
    getHeaders: () => ({ "content-type": "application/json" }),
    status: (code) => {
      response.statusCode = code
      return response
    },
    send
  }
  return response
}

const requestOf = (key: string) => {
  const headers: Record<string, string> = { "idempotency-key": key }
  return { method: "POST", url: "/charges", query: {}, body: {}, headers, get: (name: string) => headers[name] }
}

const make = async (url: string, body: Body) => {
  const { idempotency }: Module = await load("express-idempotency")
  const { default: exported }: AdapterModule = await load("express-idempotency-redis-adapter")
  const Adapter = "default" in exported ? exported.default : exported
  const adapter = new Adapter({ ttl: 1800, connectionConfig: { url } })
  await adapter.connect()
  const recorded = new Map<string, () => void>()
  const middleware = idempotency({
    dataAdapter: {
      findByIdempotencyKey: (key) => adapter.findByIdempotencyKey(key),
      create: (resource) => adapter.create(resource),
      update: async (resource) => {
        await adapter.update(resource)
        recorded.get(resource.idempotencyKey)?.()
      },
      delete: (key) => adapter.delete(key)
    }
  })
  const execute = (key: string): Promise<unknown> =>
    new Promise((resolve, reject) => {
      let isReplay = false
      const response = responseTo((replayed) => {
        isReplay = true
        resolve(replayed)
      })
      middleware(requestOf(key), response, (error) => {
        if (error !== undefined) return reject(error)
        if (isReplay) return
        const result = body.run()
        recorded.set(key, () => {
          recorded.delete(key)
          resolve(result)
        })
        response.send(result)
      }).catch(reject)
    })
  return { adapter, drive: promises(execute) }
}

export const expressIdempotency = (
  url: string,
  store: Store,
  bytes: number
): Effect.Effect<Subject, never, Scope.Scope> =>
  Effect.gen(function* () {
    const body = makeBody(bytes)
    const { drive } = yield* Effect.acquireRelease(
      Effect.promise(() => make(url, body)),
      ({ adapter }) => Effect.promise(() => adapter.disconnect())
    )
    // With 1,000 calls at once it loses some of its records, and says so on the console.
    const mostCallers = 100
    return { name: "express-idempotency", role: "peer", body, store, first: drive, replay: drive, mostCallers }
  })
