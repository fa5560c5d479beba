/**
 * JSON as Python's `json.dumps(value, sort_keys=True)` writes it: keys by code point, `", "` and `": "`, ASCII only.
 * A number that is whole is written as Python writes an `int`, any other as `repr(float)` does.
 */
import type { Json } from "../Jsonable.js"

const escapeNonAscii = (text: string): string =>
  text.replace(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)

const pythonString = (text: string): string => escapeNonAscii(JSON.stringify(text))

/** `repr(float)` of a number that is not whole: the shortest digits that round-trip, with an exponent below 1e-4. */
const pythonFloat = (value: number): string => {
  if (Math.abs(value) >= 1e-4) return String(value)
  const [mantissa = "", exponent = ""] = value.toExponential().split("e-")
  return `${mantissa}e-${exponent.padStart(2, "0")}`
}

const pythonNumber = (value: number): string => {
  if (!Number.isFinite(value)) throw new RangeError("a number is not finite")
  return Number.isInteger(value) ? BigInt(value).toString() : pythonFloat(value)
}

const byCodePoint = (left: string, right: string): number => {
  const a = Array.from(left)
  const b = Array.from(right)
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    const difference = (a[i]?.codePointAt(0) ?? 0) - (b[i]?.codePointAt(0) ?? 0)
    if (difference !== 0) return difference
  }
  return a.length - b.length
}

export const pythonJson = (value: Json | undefined): string => {
  if (value === null || value === undefined) return "null"
  switch (typeof value) {
    case "string":
      return pythonString(value)
    case "number":
      return pythonNumber(value)
    case "boolean":
      return String(value)
    default:
      return isArray(value)
        ? `[${value.map(pythonJson).join(", ")}]`
        : `{${Object.entries(value)
            .filter(([, member]) => member !== undefined)
            .sort(([a], [b]) => byCodePoint(a, b))
            .map(([key, member]) => `${pythonString(key)}: ${pythonJson(member)}`)
            .join(", ")}}`
  }
}

const isArray = (value: Json): value is ReadonlyArray<Json> => Array.isArray(value)
