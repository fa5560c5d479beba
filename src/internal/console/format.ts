/** How amounts of time, instants and numbers are written. */
import { isInstant } from "../protocol.js"
import { type Html, html } from "./html.js"

const units = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["min", 60_000],
  ["s", 1000]
] as const

/** The two largest units, as `2 min 5 s`. */
export const duration = (millis: number): string => {
  if (!Number.isFinite(millis)) return "unknown"
  const first = units.findIndex(([, length]) => Math.abs(millis) >= length)
  if (first === -1) return "under 1 s"
  let rest = Math.abs(millis)
  return units
    .slice(first, first + 2)
    .flatMap(([name, length]) => {
      const count = Math.floor(rest / length)
      rest -= count * length
      return count === 0 ? [] : [`${count} ${name}`]
    })
    .join(" ")
}

/** An instant in UTC, to the second. */
export const instant = (millis: number): Html => {
  if (!isInstant(millis)) return html`not an instant`
  const iso = new Date(millis).toISOString()
  return html`<time datetime="${iso}">${iso.replace("T", " ").replace(/\.\d+Z$/, " UTC")}</time>`
}

/** An instant, and how long ago it was or how soon it will be. */
export const instantFrom = (millis: number, now: number): Html =>
  html`${instant(millis)} <span class="muted beside">${millis <= now ? `${duration(now - millis)} ago` : `in ${duration(millis - now)}`}</span>`

export const number = (value: number): string => value.toLocaleString("en-US")

/** `1 key`, `2 keys`. */
export const counted = (count: number, one: string, many = `${one}s`): string =>
  `${number(count)} ${count === 1 ? one : many}`
