/** The work that everything here is measured at: a body that makes a result of so many bytes of JSON. */
import { isDeepStrictEqual } from "node:util"
import * as Effect from "effect/Effect"

interface Line {
  readonly sku: string
  readonly quantity: number
  readonly price: number
}

/** What the protected effect succeeds with: JSON by type. */
export interface Result {
  readonly id: string
  readonly amount: number
  readonly captured: boolean
  readonly lines: ReadonlyArray<Line>
  readonly note: string
}

/** A result whose JSON has exactly so many bytes, 150 or more. */
export const resultOf = (bytes: number): Result => {
  const lines: Array<Line> = []
  const build = (note: string): Result => ({ id: "ch_000001", amount: 12_500, captured: true, lines, note })
  const line = (n: number): Line => ({ sku: `sku-${String(n).padStart(6, "0")}`, quantity: 2, price: 6250 })
  const size = (result: Result): number => JSON.stringify(result).length
  const lineSize = JSON.stringify(line(1)).length + 1
  // Mostly structure, as results are: the note only fills what is left.
  const count = Math.max(1, Math.floor((bytes - size(build("")) - 10) / lineSize))
  for (let n = 0; n < count; n++) lines.push(line(n))
  return build("-".repeat(Math.max(0, bytes - size(build("")))))
}

/** A body that counts how often it runs. */
export interface Body {
  readonly result: Result
  readonly bytes: number
  readonly executions: () => number
  readonly run: () => Result
  readonly effect: Effect.Effect<Result>
}

export const makeBody = (bytes: number): Body => {
  const result = resultOf(bytes)
  let executions = 0
  const run = () => {
    executions++
    return result
  }
  return { result, bytes, executions: () => executions, run, effect: Effect.sync(run) }
}

/** A figure of work that was not done is none: it ends the run. */
export const ensure = (holds: boolean, what: string): void => {
  if (!holds) throw new Error(`the work was not done: ${what}`)
}

export const ensureEqual = (value: unknown, expected: unknown, what: string): void =>
  ensure(isDeepStrictEqual(value, expected), `${what}: a result differs from what the body made`)
