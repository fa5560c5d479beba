/** Stores made of stores keep the contract of every store. */
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import { MemoryIdempotencyRepository } from "../../src/MemoryIdempotencyRepository.js"
import { TieredIdempotencyRepository } from "../../src/TieredIdempotencyRepository.js"
import { repositoryContract } from "../../src/testing.js"
import { makeManualClock } from "../support/manualClock.js"
import { isProof } from "../support/proof.js"

const memoryBeforeMemory = TieredIdempotencyRepository.layerWith({
  fast: MemoryIdempotencyRepository.layerWith({ capacity: 50_000 }),
  durable: MemoryIdempotencyRepository.layer
})

const localCache = IdempotencyRepository.layerLocalCache().pipe(Layer.provide(MemoryIdempotencyRepository.layer))

repositoryContract("memory before memory", memoryBeforeMemory, { advance: TestClock.adjust, modelRuns: 10 })

const tieredTime = makeManualClock()
repositoryContract(
  "memory before memory, at length",
  Layer.merge(memoryBeforeMemory, Layer.setClock(tieredTime.clock)),
  { advance: tieredTime.advance, modelRuns: isProof ? 500 : 50 }
)

repositoryContract("a local cache before memory", localCache, { advance: TestClock.adjust, modelRuns: 10 })

const cachedTime = makeManualClock()
repositoryContract(
  "a local cache before memory, at length",
  Layer.merge(localCache, Layer.setClock(cachedTime.clock)),
  { advance: cachedTime.advance, modelRuns: isProof ? 500 : 50 }
)
