/** Results in memory that no body of ours gave: as `storedBytes.test.ts`, without a server. */
import { expect, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import { MemoryIdempotencyRepository } from "../../src/MemoryIdempotencyRepository.js"
import { dueOfSuccess, examine, hostileStore, payloads } from "../support/hostileStores.js"
import { isProof } from "../support/proof.js"
import { freshIds, minute } from "../support/requests.js"

layer(MemoryIdempotencyRepository.layer, { excludeTestServices: true })("memory", (it) => {
  const long = `"${"x".repeat(10 * 1024 * 1024)}"`
  const results = [...payloads, ...(isProof ? [["10 MiB", long] as const] : [])]
  it.scoped.each(results)("a result that is %s", ([, encoded]) =>
    Effect.gen(function* () {
      const repository = yield* IdempotencyRepository
      const store = yield* hostileStore(repository)
      const ids = freshIds()
      const outcome = { _tag: "Success", encoded } as const
      const write = Effect.zipRight(
        repository.reset(ids, { force: true }),
        // A token that was released is refused: each time another.
        Effect.suspend(() =>
          repository.claims.complete(ids, {
            token: globalThis.crypto.randomUUID(),
            outcome,
            fingerprint: undefined,
            retention: minute
          })
        )
      )
      expect(yield* examine(store, ids, write, dueOfSuccess(encoded))).toEqual([])
      expect({}).not.toHaveProperty("polluted")
    })
  )
})
