/**
 * Powertools for AWS Lambda, with its persistence for Redis on the client of the `redis` project.
 *
 * It hashes the key (MD5), and keeps a lease only as a time in the record, by the clocks of the clients, without an
 * owner: an owner that lapsed overwrites its successor. Callers that meet a running one fail, nobody waits.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Store, Subject } from "../comparisons.js"
import { promises } from "../drive.js"
import { type Body, makeBody } from "../work.js"
import { load } from "./modules.js"

interface Client {
  readonly connect: () => Promise<Client>
  readonly close: () => Promise<void>
}

interface Powertools {
  readonly makeIdempotent: (
    run: (event: { readonly key: string }, context: unknown) => Promise<unknown>,
    options: { readonly persistenceStore: unknown; readonly config: unknown }
  ) => (event: { readonly key: string }, context: unknown) => Promise<unknown>
  readonly IdempotencyConfig: new (options: { readonly eventKeyJmesPath: string }) => unknown
}

interface Cache {
  readonly CachePersistenceLayer: new (options: { readonly client: Client }) => unknown
}

interface Redis {
  readonly createClient: (options: { readonly url: string }) => Client
}

const make = async (url: string, body: Body) => {
  const { IdempotencyConfig, makeIdempotent }: Powertools = await load("@aws-lambda-powertools/idempotency")
  const { CachePersistenceLayer }: Cache = await load("@aws-lambda-powertools/idempotency/cache")
  const { createClient }: Redis = await load("@redis/client")
  const client = await createClient({ url }).connect()
  const run = makeIdempotent(async () => body.run(), {
    persistenceStore: new CachePersistenceLayer({ client }),
    config: new IdempotencyConfig({ eventKeyJmesPath: "key" })
  })
  // As in a Lambda function, whose remaining time is the lease.
  const context = { getRemainingTimeInMillis: () => 30_000 }
  return { client, drive: promises((key) => run({ key }, context)) }
}

export const powertools = (url: string, store: Store, bytes: number): Effect.Effect<Subject, never, Scope.Scope> =>
  Effect.gen(function* () {
    const body = makeBody(bytes)
    const { drive } = yield* Effect.acquireRelease(
      Effect.promise(() => make(url, body)),
      ({ client }) => Effect.promise(() => client.close())
    )
    return { name: "Powertools", role: "peer", body, store, first: drive, replay: drive }
  })
