/** How values are written for people and for programs. */
import * as Duration from "effect/Duration"
import { isInstant } from "../protocol.js"

/** What would move a cursor, turn the direction of text, or cannot be seen. */
const unprintable = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Surrogate}]/gu

const codeUnits = (text: string): string =>
  Array.from({ length: text.length }, (_, index) => `\\u${text.charCodeAt(index).toString(16).padStart(4, "0")}`).join(
    ""
  )

/** A stored text as it may be sent to a terminal. */
export const printable = (text: string): string => text.replace(unprintable, codeUnits)

/** One line of JSON. Nothing unprintable stands outside of its strings, where an escape means the same. */
export const jsonLine = (value: unknown): string => printable(JSON.stringify(value))

/** Its two largest units: `3d 4h`, `5m 3s`, `120ms`. */
export const duration = (millis: number): string => {
  const whole = millis >= 1000 ? Math.floor(millis / 1000) * 1000 : Math.max(0, Math.round(millis))
  return whole === 0 ? "0s" : Duration.format(whole).split(" ").slice(0, 2).join(" ")
}

/** In ISO 8601, where a date can be made of it. */
export const instant = (millis: number): string => (isInstant(millis) ? new Date(millis).toISOString() : String(millis))

/** Lines of a table, whose columns are as wide as these rows and the least widths ask for. */
export const aligned = (
  rows: ReadonlyArray<ReadonlyArray<string>>,
  least: ReadonlyArray<number> = []
): { readonly lines: ReadonlyArray<string>; readonly widths: ReadonlyArray<number> } => {
  const columns = Math.max(0, ...rows.map(({ length }) => length))
  const widths = Array.from({ length: columns }, (_, column) =>
    rows.reduce((widest, row) => Math.max(widest, row[column]?.length ?? 0), least[column] ?? 0)
  )
  return {
    widths,
    lines: rows.map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd()
    )
  }
}
