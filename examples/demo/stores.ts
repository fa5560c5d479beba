/** Where the demo keeps its records: in memory, or on the Redis of `REDIS_URL`; both can be cut off. */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { connect, createServer, type Socket } from "node:net"
import { fileURLToPath } from "node:url"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import {
  Idempotency,
  IdempotencyDomainService,
  IdempotencyMetrics,
  IdempotencyRepository,
  IdempotencyStorageError,
  MemoryIdempotencyRepository
} from "effect-idempotency"
import { RedisIdempotencyRepository } from "effect-idempotency/redis"
import { type Gateway, hang, type Order } from "./payments.js"

/** A store that the demo can cut off, and a worker that holds a key and is killed. */
export interface DemoStore {
  readonly name: string
  readonly engine: Layer.Layer<Idempotency>
  readonly cutOff: Effect.Effect<void>
  readonly reconnect: Effect.Effect<void>
  /** Ends once the worker has claimed the order's key and was killed. */
  readonly killedWorker: (order: Order) => Effect.Effect<void, unknown, Gateway | Scope.Scope>
}

/** Short deadlines, so that an outage does not make the demo long. */
const engineOver = <E>(repository: Layer.Layer<IdempotencyRepository, E>): Layer.Layer<Idempotency, E> =>
  Idempotency.layerWith({ storageTimeout: "300 millis", shutdownGrace: "100 millis" }).pipe(
    Layer.orDie,
    Layer.provide([repository, IdempotencyDomainService.layer, IdempotencyMetrics.layer])
  )

/** The memory store behind a plug that can be pulled. */
const plugged = (repository: Context.Tag.Service<IdempotencyRepository>) => {
  let isPulled = false
  const through =
    <Args extends ReadonlyArray<unknown>, A>(
      method: string,
      call: (...args: Args) => Effect.Effect<A, IdempotencyStorageError>
    ) =>
    (...args: Args): Effect.Effect<A, IdempotencyStorageError> =>
      Effect.suspend(() =>
        isPulled
          ? Effect.fail(
              new IdempotencyStorageError({ operation: "payment.charge", method, reason: "Unavailable", applied: "no" })
            )
          : call(...args)
      )
  const { claims } = repository
  return {
    pull: Effect.sync(() => {
      isPulled = true
    }),
    plug: Effect.sync(() => {
      isPulled = false
    }),
    layer: Layer.succeed(IdempotencyRepository, {
      ...repository,
      claims: {
        claim: through("claim", claims.claim),
        renew: through("renew", claims.renew),
        complete: through("complete", claims.complete),
        release: through("release", claims.release),
        hold: through("hold", claims.hold),
        saveStep: through("saveStep", claims.saveStep),
        read: through("read", claims.read),
        changes: claims.changes
      }
    })
  }
}

export const memory: Effect.Effect<DemoStore, never, Scope.Scope> = Effect.gen(function* () {
  const repository = Context.get(yield* Layer.build(MemoryIdempotencyRepository.layer), IdempotencyRepository)
  const service = plugged(repository)
  return {
    name: "memory",
    engine: engineOver(service.layer),
    cutOff: service.pull,
    reconnect: service.plug,
    // There is no other process to kill: the worker is an engine of its own whose plug is pulled for good.
    killedWorker: (order) =>
      Effect.gen(function* () {
        const worker = plugged(repository)
        const claimed = yield* Effect.makeLatch()
        yield* hang(order, claimed.open).pipe(Effect.provide(engineOver(worker.layer)), Effect.forkScoped)
        yield* claimed.await
        yield* worker.pull
      })
  }
})

/** A TCP proxy before the server, which can drop every connection and refuse new ones. */
const proxyTo = (target: URL) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const sockets = new Set<Socket>()
      let isCut = false
      const server = createServer((client) => {
        const upstream = connect(Number(target.port || 6379), target.hostname)
        for (const socket of [client, upstream]) {
          sockets.add(socket)
          socket.on("error", () => socket.destroy()).on("close", () => sockets.delete(socket))
        }
        if (isCut) return client.destroy()
        client.pipe(upstream).pipe(client)
        client.on("close", () => upstream.destroy())
        upstream.on("close", () => client.destroy())
      })
      server.listen(0, "127.0.0.1")
      await once(server, "listening")
      const address = server.address()
      const url = new URL(target)
      url.hostname = "127.0.0.1"
      url.port = typeof address === "object" && address !== null ? String(address.port) : ""
      const cut = () => {
        isCut = true
        for (const socket of sockets) socket.destroy()
      }
      const mend = () => {
        isCut = false
      }
      return { url: url.toString(), cut, mend, server }
    }),
    ({ cut, server }) =>
      Effect.async<void>((resume) => {
        cut()
        server.close(() => resume(Effect.void))
      })
  )

/** What the worker process runs; it prints a line once it holds the key. */
const workerScript = fileURLToPath(new URL("./worker.ts", import.meta.url))

const spawnWorker = (url: string, order: Order) =>
  Effect.tryPromise(async () => {
    const worker = spawn(process.execPath, ["--import", "tsx", workerScript, url, JSON.stringify(order)], {
      stdio: ["ignore", "pipe", "inherit"]
    })
    await Promise.race([
      once(worker.stdout, "data"),
      once(worker, "exit").then(() => Promise.reject(new Error("the worker ended before it held the key")))
    ])
    worker.kill("SIGKILL")
    await once(worker, "exit")
  })

export const redis = (url: string): Effect.Effect<DemoStore, never, Scope.Scope> =>
  Effect.map(proxyTo(new URL(url)), (proxy) => ({
    name: `Redis at ${new URL(url).host}`,
    engine: Layer.orDie(engineOver(RedisIdempotencyRepository.layerClient({ url: proxy.url, startup: "fail" }))),
    cutOff: Effect.sync(proxy.cut),
    reconnect: Effect.sync(proxy.mend),
    killedWorker: (order) => spawnWorker(url, order)
  }))

/** The engine of a worker process. */
export const workerEngine = (url: string): Layer.Layer<Idempotency, IdempotencyStorageError> =>
  engineOver(RedisIdempotencyRepository.layerClient({ url, startup: "fail" }))
