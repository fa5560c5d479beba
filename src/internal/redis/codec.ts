import type { Completed, Corrupted, Guarantee, Outcome, State, Step } from "../protocol.js"

/** A field of the header: never empty, without spaces and line feeds; `-` stands for what is absent. */
export const encodeField = (value: string | undefined): string => {
  if (value === undefined) return "-"
  if (value === "") return "%"
  if (value === "-") return "%2D"
  return /[% \n]/.test(value) ? value.replace(/[% \n]/g, percentEncoded) : value
}

const percentEncoded = (character: string): string => `%${character.charCodeAt(0).toString(16).padStart(2, "0")}`

const decodeField = (field: string): string =>
  field === "%"
    ? ""
    : field.includes("%")
      ? field.replace(/%([0-9a-fA-F]{2})/g, (_, code: string) => String.fromCharCode(Number.parseInt(code, 16)))
      : field

const decodeOptional = (field: string): string | undefined => (field === "-" ? undefined : decodeField(field))

const outcomeLetters = { Success: "s", Failure: "f", Unavailable: "u" } as const
const guaranteeLetters = { "at-least-once": "l", "at-most-once": "m" } as const

export const encodeGuarantee = (guarantee: Guarantee): string => guaranteeLetters[guarantee]
export const encodeOutcome = (outcome: Outcome): string => outcomeLetters[outcome._tag]
export const payloadOf = (outcome: Outcome): string => (outcome._tag === "Unavailable" ? "" : outcome.encoded)

/** Three centuries: Lua writes a number of up to 14 digits as it is. */
const longest = 1e13

/** Some 31,000 years before and after 1970: what the header holds of an instant has up to 15 digits. */
const farthest = 999_999_999_999_999

/** Instants and durations are whole; a time to live is never nothing. */
export const encodeInstant = (millis: number): string =>
  Math.trunc(Math.max(-farthest, Math.min(millis, farthest))).toString()
export const encodeDuration = (millis: number): string => Math.min(Math.max(1, Math.ceil(millis)), longest).toString()

const decodeGuarantee = (letter: string | undefined): Guarantee => (letter === "m" ? "at-most-once" : "at-least-once")

const decodeOutcome = (letter: string, encoded: string): Outcome =>
  letter === "u" ? { _tag: "Unavailable" } : { _tag: letter === "s" ? "Success" : "Failure", encoded }

/** What Lua has checked before it answered is not checked again here, but what it cannot know is. */
export const decodeSteps = (payload: string): ReadonlyArray<Step> | undefined => {
  const steps: Array<Step> = []
  const sizes = /(\d+) (\d+) \d+ \d+\n/y
  while (sizes.lastIndex < payload.length) {
    const found = sizes.exec(payload)
    if (found === null) return undefined
    const name = sizes.lastIndex
    const encoded = name + Number(found[1])
    const end = encoded + Number(found[2])
    if (end > payload.length) return undefined
    steps.push({ name: payload.slice(name, encoded), encoded: payload.slice(encoded, end) })
    sizes.lastIndex = end
  }
  return steps
}

/** Numbers as long as Lua writes them, instants as long as {@link encodeInstant} does. */
const header =
  /^1 ([PUCR]) ([^ \n]+) (\d{1,14}) (-?\d{1,15}) (-?\d{1,15}) (\d{1,14}) (\d{1,14}) (-|[a-z]{1,2}) ([^ \n]+)\n/

export const corrupted = (cause: string): Corrupted => ({ _tag: "Corrupted", cause })

/** A settled record as it is stored. */
export const decodeCompleted = (raw: string): Completed | Corrupted => {
  const state = decodeState(raw, 0)
  return state._tag === "Completed" || state._tag === "Corrupted" ? state : corrupted("the record is not settled")
}

/** The key's expiry is that of every state but a settled one, which has its own. */
export const decodeState = (raw: string, expiresAt: number): State | Corrupted => {
  const fields = header.exec(raw)
  if (fields === null) return corrupted("the value is not a record of this version")
  const [
    matched,
    tag,
    token = "",
    attempt,
    createdAt,
    until,
    retention,
    unknownRetention,
    detail = "",
    fingerprint = ""
  ] = fields
  const owned = {
    token: decodeField(token),
    attempt: Number(attempt),
    fingerprint: decodeOptional(fingerprint),
    createdAt: Number(createdAt)
  }
  const payload = raw.slice(matched.length)
  if (tag === "C") {
    return { _tag: "Completed", ...owned, expiresAt: Number(until), outcome: decodeOutcome(detail, payload) }
  }
  const steps = payload === "" ? [] : decodeSteps(payload)
  if (steps === undefined) return corrupted("the steps cannot be read")
  const claimed = { ...owned, steps, retention: Number(retention), expiresAt }
  if (tag === "R") return { _tag: "Released", ...claimed }
  const terms = { ...claimed, guarantee: decodeGuarantee(detail[0]), unknownRetention: Number(unknownRetention) }
  return tag === "P"
    ? { _tag: "Processing", ...terms, leaseUntil: Number(until) }
    : { _tag: "Unknown", ...terms, reason: detail[1] === "h" ? "held" : "lapsed" }
}
