/** Records of Redis, read a second time by the description of their format: what a store must make of any bytes. */
import { isUtf8 } from "node:buffer"
import type { Due } from "../support/hostileStores.js"

const header = /^1 ([PUCR]) [^ \n]+ \d{1,14} -?\d{1,15} (-?\d{1,15}) \d{1,14} \d{1,14} ([a-z-]+) [^ \n]+\n/

const forms: ReadonlyArray<readonly [tag: string, detail: RegExp, state: "Processing" | "Unknown" | "Released"]> = [
  ["P", /^[lm]$/, "Processing"],
  ["U", /^[lm][lh]$/, "Unknown"],
  ["R", /^-$/, "Released"]
]

const corrupted: Due = { state: "Corrupted" }

/** Whether these bytes are steps; undecided where a text of theirs is none. */
const areSteps = (payload: Buffer): boolean | undefined => {
  if (payload.length === 0) return true
  const sizes = /^(\d+) (\d+) (\d+) (\d+)\n/.exec(payload.toString("latin1"))
  if (sizes === null) return false
  const [nameUnits, resultUnits, nameBytes, resultBytes] = sizes.slice(1).map(Number)
  const middle = sizes[0].length + (nameBytes ?? 0)
  const end = middle + (resultBytes ?? 0)
  if (end > payload.length) return false
  const [name, result] = [payload.subarray(sizes[0].length, middle), payload.subarray(middle, end)]
  if (!isUtf8(name) || !isUtf8(result)) return undefined
  return name.toString().length === nameUnits && result.toString().length === resultUnits
    ? areSteps(payload.subarray(end))
    : false
}

const completed = (detail: string, until: number, encoded: string): Due => {
  if (!/^[sfu]$/.test(detail)) return corrupted
  if (until <= Date.now()) return { state: "Absent" }
  return {
    state: "Completed",
    outcome: detail === "u" ? { _tag: "Unavailable" } : { _tag: detail === "s" ? "Success" : "Failure", encoded }
  }
}

/** What a store must make of this value of a key. */
export const dueOfRecord = (value: string | Buffer): Due | undefined => {
  const bytes = Buffer.from(value)
  const [matched = "", tag, until, detail = ""] = header.exec(bytes.toString("latin1")) ?? []
  const payload = bytes.subarray(matched.length)
  if (tag === "C") return completed(detail, Number(until), payload.toString())
  const state = forms.find(([of, form]) => of === tag && form.test(detail))?.[2]
  if (state === undefined) return corrupted
  const isWhole = areSteps(payload)
  if (isWhole === undefined) return undefined
  return isWhole ? { state } : corrupted
}
