import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import { MemoryIdempotencyRepository } from "../../src/MemoryIdempotencyRepository.js"
import { repositoryContract } from "../../src/testing.js"
import { makeManualClock } from "../support/manualClock.js"
import { isProof } from "../support/proof.js"

repositoryContract("memory", MemoryIdempotencyRepository.layer, { advance: TestClock.adjust, modelRuns: 50 })

const { advance, clock } = makeManualClock()
repositoryContract(
  "memory with a capacity",
  Layer.merge(MemoryIdempotencyRepository.layerWith({ capacity: 50_000 }), Layer.setClock(clock)),
  { advance, modelRuns: isProof ? 1_000 : 200 }
)

repositoryContract("memory on the live clock", MemoryIdempotencyRepository.layer)
