/** A first call and its replay, with the connection that they use cut after so many of its bytes. */
import { expect } from "@effect/vitest"
import * as Array from "effect/Array"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import {
  Idempotency,
  IdempotencyDomainService,
  IdempotencyMetrics,
  type IdempotencyRepository,
  withIdempotencyOutcome
} from "../../src/index.js"
import type { TcpProxy } from "./tcpProxy.js"

export type Repository = Layer.Layer<IdempotencyRepository, unknown>

export const operation = "pay"

/** A client, and the proxy before the server of the keys. */
export interface Line {
  readonly repository: Repository
  readonly proxy: TcpProxy
  /** A key of that server. All are as long as each other, so that a run has as many bytes; none comes again. */
  readonly freshKey: () => string
}

// A loaded machine may be slow to connect again: tried for as long as the timeout says, however often.
const patient = Idempotency.layerWith({
  storageTimeout: "10 seconds",
  retry: Schedule.spaced("50 millis"),
  breakerThreshold: 1000
})

/** A first call and two more, with the connection cut after so many of its bytes; gives how many bytes were passed. */
const run = ({ freshKey, proxy }: Line, offset: number | undefined) =>
  Effect.gen(function* () {
    let runs = 0
    const call = (key: string) =>
      Effect.sync(() => {
        runs++
        return { paid: key }
      }).pipe(withIdempotencyOutcome(operation, key, { onStorageFailure: "fail", fingerprint: { key } }))
    // Connected, and the server knows the scripts.
    yield* call(freshKey())
    runs = 0
    const before = { passed: proxy.passed(), lost: proxy.lost() }
    const key = freshKey()
    if (offset !== undefined) yield* proxy.cutAfter(offset, (request) => request.includes(key))
    const outcomes = [yield* call(key), yield* call(key), yield* call(key)]
    const paid = { paid: key }
    expect({
      offset,
      runs,
      tags: outcomes.map(({ _tag }) => _tag),
      values: outcomes.map(({ value }) => value),
      cuts: proxy.lost() - before.lost
    }).toEqual({
      offset,
      runs: 1,
      tags: ["Executed", "Replayed", "Replayed"],
      values: [paid, paid, paid],
      cuts: offset === undefined ? 0 : 1
    })
    return proxy.passed() - before.passed
  })

/** How many clients there are at once, and how many runs each does, one after the other. */
export interface Share {
  readonly atOnce: number
  readonly runsPerClient: number
}

/** A run for each of the bytes of one, and for each another key. */
export const cutAtEveryByte = (line: Effect.Effect<Line, never, Scope.Scope>, { atOnce, runsPerClient }: Share) => {
  const runAll = (offsets: ReadonlyArray<number | undefined>) =>
    Effect.scoped(
      Effect.flatMap(line, (client) =>
        Effect.forEach(offsets, (offset) => run(client, offset)).pipe(
          Effect.provide(
            patient.pipe(
              Layer.provide([client.repository, IdempotencyDomainService.layer, IdempotencyMetrics.layerNoop])
            )
          )
        )
      )
    )
  return Effect.gen(function* () {
    // Other connections have bytes of their own, now and then.
    const bytes = Math.min(...(yield* runAll([undefined, undefined, undefined])))
    expect(bytes).toBeGreaterThan(500)
    const shares = Array.chunksOf(Array.range(0, bytes - 1), runsPerClient)
    yield* Effect.forEach(shares, runAll, { concurrency: atOnce, discard: true })
    return bytes
  })
}
