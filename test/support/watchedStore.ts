/** A memory store that counts its calls, and can be told to fail, to keep silent, or to answer late. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import { IdempotencyStorageError } from "../../src/IdempotencyError.js"
import { IdempotencyIdentifiers } from "../../src/IdempotencyIdentifiers.js"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import { makeMemoryDriver } from "../../src/internal/memoryDriver.js"
import type { ClaimRequest, CompleteRequest } from "../../src/internal/protocol.js"

type Driver = IdempotencyRepository.Driver
type Method = Exclude<keyof Driver, "name" | "atomicTogether">

export interface WatchedStore {
  /** What is really there, whatever the store's health. */
  readonly contents: Driver
  readonly driver: Driver
  readonly layer: Layer.Layer<IdempotencyRepository>
  /** The calls so far. */
  readonly calls: Array<Method>
  /**
   * `lost`: what is asked for is done, and the reply is lost. `stuck`: silent, and the client does not let itself be
   * interrupted.
   */
  health: "sound" | "failing" | "silent" | "dying" | "lost" | "refusing" | "stuck"
  /** What happens between a change and its reply. */
  beforeReply: (method: Method) => Effect.Effect<void>
}

export const makeWatchedStore = (name = "memory"): WatchedStore => {
  const contents = makeMemoryDriver(Number.POSITIVE_INFINITY).driver
  const calls: Array<Method> = []
  const failed = (method: Method, reason: "Unavailable" | "Rejected", applied: "no" | "unknown") =>
    new IdempotencyStorageError({ operation: "o", method, reason, applied })
  const watch = <A>(method: Method, call: Effect.Effect<A, IdempotencyStorageError>) =>
    Effect.suspend(() => {
      calls.push(method)
      switch (store.health) {
        case "sound":
          return Effect.tap(call, () => store.beforeReply(method))
        case "failing":
          return Effect.fail(failed(method, "Unavailable", "no"))
        case "refusing":
          return Effect.fail(failed(method, "Rejected", "no"))
        case "lost":
          return Effect.zipRight(call, Effect.fail(failed(method, "Unavailable", "unknown")))
        case "silent":
          return Effect.never
        case "stuck":
          return Effect.uninterruptible(Effect.zipRight(Effect.sleep("1 hour"), call))
        case "dying":
          return Effect.die("a broken driver")
      }
    })
  const driver: Driver = {
    name,
    claim: (ids, request) => watch("claim", contents.claim(ids, request)),
    complete: (ids, request) => watch("complete", contents.complete(ids, request)),
    release: (ids, request) => watch("release", contents.release(ids, request)),
    hold: (ids, request) => watch("hold", contents.hold(ids, request)),
    saveStep: (ids, request) => watch("saveStep", contents.saveStep(ids, request)),
    resolve: (ids, request) => watch("resolve", contents.resolve(ids, request)),
    reset: (ids, request) => watch("reset", contents.reset(ids, request)),
    renew: (leases) => watch("renew", contents.renew(leases)),
    read: (ids) => watch("read", contents.read(ids)),
    insert: (records, options) => watch("insert", contents.insert(records, options)),
    remove: (ids) => watch("remove", contents.remove(ids)),
    atomicTogether: contents.atomicTogether,
    changes: (ids) => Effect.suspend(() => (store.health === "silent" ? Effect.never : contents.changes(ids)))
  }
  const store: WatchedStore = {
    contents,
    driver,
    layer: Layer.effect(
      IdempotencyRepository,
      Effect.suspend(() => IdempotencyRepository.make(driver))
    ),
    calls,
    health: "sound",
    beforeReply: () => Effect.void
  }
  return store
}

export const ids = (idempotencyKey = "k") =>
  Either.getOrThrow(IdempotencyIdentifiers.from({ operation: "o", idempotencyKey }))

export const claimBy = (token: string, fingerprint?: string): ClaimRequest => ({
  token,
  fingerprint,
  guarantee: "at-least-once",
  lease: 60_000,
  retention: 3_600_000,
  unknownRetention: 3_600_000
})

export const completeBy = (
  token: string,
  fingerprint?: string,
  { encoded = '"done"', retention = 3_600_000 }: { readonly encoded?: string; readonly retention?: number } = {}
): CompleteRequest => ({ token, fingerprint, outcome: { _tag: "Success", encoded }, retention })
