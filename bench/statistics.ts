/** What the rounds are reduced to. */

/** A median and how far the rounds lie apart. */
export interface Spread {
  readonly median: number
  readonly min: number
  readonly max: number
  /** The median distance from the median: the spread without the outliers. */
  readonly deviation: number
}

/** The value below which the fraction `q` of the values lies, between neighbours by their distance. */
export const quantile = (values: ReadonlyArray<number>, q: number): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (sorted.length - 1) * q
  const below = sorted[Math.floor(at)] ?? Number.NaN
  const above = sorted[Math.ceil(at)] ?? Number.NaN
  return below === above ? below : below + (above - below) * (at - Math.floor(at))
}

export const median = (values: ReadonlyArray<number>): number => quantile(values, 0.5)

export const spreadOf = (values: ReadonlyArray<number>): Spread => {
  const middle = median(values)
  return {
    median: middle,
    min: quantile(values, 0),
    max: quantile(values, 1),
    deviation: median(values.map((value) => Math.abs(value - middle)))
  }
}

/** Each value against the limit of the same round: what slows the machine down for a while slows both. */
export const ratiosOf = (values: ReadonlyArray<number>, limits: ReadonlyArray<number>): ReadonlyArray<number> =>
  values.map((value, round) => value / (limits[round] ?? Number.NaN))
