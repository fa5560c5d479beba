import { describe, expect, it } from "@effect/vitest"
import { median, quantile, ratiosOf, spreadOf } from "../bench/statistics.js"
import { resultOf } from "../bench/work.js"

describe("statistics of the benchmarks", () => {
  it("interpolates between neighbours, whatever the order", () => {
    expect(median([3, 1, 2])).toBe(2)
    expect(median([4, 1, 3, 2])).toBe(2.5)
    expect(quantile([10, 20], 0.25)).toBe(12.5)
    expect(quantile([5, 1, 9], 0)).toBe(1)
    expect(quantile([5, 1, 9], 1)).toBe(9)
  })

  it("has no quantile of nothing", () => {
    expect(median([])).toBeNaN()
  })

  it("keeps outliers out of the deviation, and in the range", () => {
    expect(spreadOf([1, 2, 3, 4, 100])).toEqual({ median: 3, min: 1, max: 100, deviation: 1 })
  })

  it("pairs each round with the limit of that round", () => {
    expect(ratiosOf([10, 40], [20, 20])).toEqual([0.5, 2])
  })

  it.each([200, 1024, 10_240, 1_048_576])("makes results of exactly %i bytes of JSON", (bytes) => {
    expect(JSON.stringify(resultOf(bytes)).length).toBe(bytes)
  })
})
