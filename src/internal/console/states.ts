/** The states of a key, in words for operators. */
import type { Corrupted, Overview } from "../protocol.js"
import { listedStates } from "../protocol.js"
import { duration } from "./format.js"
import { type Html, html } from "./html.js"

export type Shown = Overview | Corrupted

/** What a key is to an operator: a lapsed owner is another matter than a running one. */
export type Kind = "running" | "lapsed" | "unknown" | "completed" | "released" | "corrupted"

export const kindOf = (state: Shown, now: number): Kind => {
  switch (state._tag) {
    case "Processing":
      return now < state.leaseUntil ? "running" : "lapsed"
    case "Unknown":
      return "unknown"
    case "Completed":
      return "completed"
    case "Released":
      return "released"
    case "Corrupted":
      return "corrupted"
  }
}

export const kindNames: Readonly<Record<Kind, string>> = {
  running: "In flight",
  lapsed: "Lapsed",
  unknown: "Unknown",
  completed: "Completed",
  released: "Released",
  corrupted: "Unreadable"
}

export type ListedState = (typeof listedStates)[number]

export const stateNames: Readonly<Record<ListedState, string>> = {
  Processing: "In flight",
  Unknown: "Outcome unknown",
  Completed: "Completed",
  Released: "Released",
  Corrupted: "Unreadable"
}

export const isListedState = (text: string): text is ListedState => listedStates.some((state) => state === text)

const icons: Readonly<Record<Kind, Html>> = {
  running: html`<path d="M8 2a6 6 0 1 1-6 6" fill="none" stroke="currentColor" stroke-width="2.4" stroke-linecap="round"/>`,
  lapsed: html`<path d="M8 1.8 15 14H1z" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linejoin="round"/><path d="M8 6v3.6M8 11.4v.4" stroke="currentColor" stroke-width="1.8" stroke-linecap="round"/>`,
  unknown: html`<path d="M5.2 5.6a2.8 2.8 0 1 1 4.3 2.4C8.4 8.7 8 9.2 8 10.3M8 13v.4" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round"/>`,
  completed: html`<path d="m3 8.6 3.3 3.3L13 5" fill="none" stroke="currentColor" stroke-width="2.2" stroke-linecap="round" stroke-linejoin="round"/>`,
  released: html`<circle cx="8" cy="8" r="5" fill="none" stroke="currentColor" stroke-width="1.8" stroke-dasharray="2.6 2.6"/>`,
  corrupted: html`<path d="m4 4 8 8M12 4l-8 8" stroke="currentColor" stroke-width="2.2" stroke-linecap="round"/>`
}

/** Decoration beside the words that say the same. */
export const icon = (kind: Kind): Html =>
  html`<svg class="icon" viewBox="0 0 16 16" width="14" height="14" aria-hidden="true">${icons[kind]}</svg>`

const wordsOf = (state: Shown, kind: Kind): string => {
  if (state._tag === "Processing" && kind === "lapsed") {
    return state.guarantee === "at-most-once" ? "Lapsed, outcome unknown" : "Lapsed"
  }
  if (state._tag === "Completed" && state.outcome === "Failure") return "Completed with a failure"
  if (state._tag === "Completed" && state.outcome === "Unavailable") return "Completed, result lost"
  return state._tag === "Unknown" ? "Outcome unknown" : kindNames[kind]
}

export const badge = (state: Shown, now: number): Html => {
  const kind = kindOf(state, now)
  return html`<span class="badge ${kind}">${icon(kind)}${wordsOf(state, kind)}</span>`
}

/** What the lease says of the owner. */
export const lease = (leaseUntil: number, now: number): string =>
  now < leaseUntil ? `${duration(leaseUntil - now)} left` : `lapsed ${duration(now - leaseUntil)} ago`

/** What it means for callers, and what there is to do. */
export const meaning = (state: Shown, now: number): string => {
  const unknown =
    "The run may have happened, so it is not repeated: calls with this key fail. Find out what happened, then resolve the key with it, or reset the key to let it run again."
  switch (state._tag) {
    case "Processing":
      if (now < state.leaseUntil) {
        return "An owner runs it, and renews its lease. Other calls with this key wait, or are told to try again."
      }
      return state.guarantee === "at-most-once"
        ? `Its owner stopped answering. ${unknown}`
        : "Its owner stopped answering. The next call with this key takes over and runs again; until one comes, nothing happens."
    case "Unknown":
      return state.reason === "held"
        ? `Its owner could not tell how it ended. ${unknown}`
        : `Its owner stopped answering. ${unknown}`
    case "Completed":
      return state.outcome === "Unavailable"
        ? "It ran, but its result could not be stored. Calls with this key are told so, and it is not run again until it expires or is reset."
        : `Calls with this key get the recorded ${state.outcome === "Success" ? "result" : "failure"} until it expires. After a reset the next call runs again.`
    case "Released":
      return "Nobody owns it: the next call with this key runs. The attempt, and steps that had finished, are remembered until it expires."
    case "Corrupted":
      return "What is stored here is not a record that can be read: it was changed or damaged, or belongs to a key of encryption that is not given. Calls with this key fail, and nothing runs again, until it is reset or expires."
  }
}
