/** `bench/results.json`: for each topic what was measured last, when and where. */
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { type Goal, goals } from "./goals.js"
import type { Effort } from "./rounds.js"
import type { Row } from "./rows.js"

export interface Machine {
  readonly node: string
  readonly cpu: string
  readonly date: string
  /** The versions of the peers. */
  readonly peers: Readonly<Record<string, string>>
}

export interface Measured {
  readonly machine: Machine
  readonly effort: Effort
  readonly rows: ReadonlyArray<Row>
}

export interface Results {
  readonly goals: ReadonlyArray<Goal>
  readonly topics: Readonly<Record<string, Measured>>
}

const file = fileURLToPath(new URL("./results.json", import.meta.url))

export const readResults = (): Results | undefined =>
  existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : undefined

/** In place of what was measured of the topic before. */
export const writeResults = (topic: string, measured: Measured): void => {
  const topics = { ...readResults()?.topics, [topic]: measured }
  writeFileSync(file, `${JSON.stringify({ goals, topics }, undefined, 2)}\n`)
}
