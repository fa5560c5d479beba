/** The contract of every store, over encryption. */
import { describe, layer as withLayer } from "@effect/vitest"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/TestClock"
import { IdempotencyRepository } from "../src/IdempotencyRepository.js"
import { repositoryContractCases } from "../src/internal/testing/cases.js"
import { agreesWithModel } from "../src/internal/testing/model.js"
import { MemoryIdempotencyRepository } from "../src/MemoryIdempotencyRepository.js"
import { ResultCipher } from "../src/ResultCipher.js"

const cipher = ResultCipher.layer({ keys: [{ id: "a", key: Redacted.make(new Uint8Array(32).fill(7)) }] })
const encrypted = IdempotencyRepository.layerEncrypted().pipe(
  Layer.provide([MemoryIdempotencyRepository.layer, Layer.orDie(cipher)])
)

/** The store counts what it stores, and that is longer: a step of just the greatest length does not fit. */
const cannotHold = ["their length is bounded"]

describe("the contract, over encryption", () => {
  withLayer(encrypted)((it) => {
    for (const { group, name, run } of repositoryContractCases) {
      if (cannotHold.includes(name)) continue
      it.effect(`${group}: ${name}`, () => run(TestClock.adjust))
    }
    it.effect(
      "random operations agree with the model",
      () => agreesWithModel(TestClock.adjust, { runs: 300, seed: undefined, timeout: 15_000 }),
      90_000
    )
  })
})
