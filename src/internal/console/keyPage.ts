/** Everything about one key; its result only when asked for. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { IdempotencyStorageError } from "../../IdempotencyError.js"
import type { IdempotencyIdentifiers } from "../../IdempotencyIdentifiers.js"
import { IdempotencyRepository } from "../../IdempotencyRepository.js"
import { overview } from "../listing.js"
import type { Corrupted, Processing, State, Unknown } from "../protocol.js"
import { seenOf } from "../seen.js"
import { logged } from "./actionLog.js"
import { isSameOrigin } from "./csrf.js"
import { counted, instant, instantFrom, number } from "./format.js"
import { type Html, html, visible } from "./html.js"
import { notice, respond } from "./layout.js"
import { identifiersIn, identityFields } from "./lookup.js"
import { Refusal } from "./refusal.js"
import { headerOf, href, identity, type Visit } from "./site.js"
import { badge, lease, meaning, type Shown } from "./states.js"
import { code, facts } from "./table.js"
import { storeNow } from "./walk.js"

const causeOf = (cause: unknown): string =>
  cause instanceof Error ? cause.message : String(cause ?? "no reason given")

const absent = new Refusal({
  status: 404,
  heading: "Nothing is stored",
  explanation: html`<p>There is no record of this key: it was never used, or has expired, or its spelling is another one. The next call with it runs.</p>`
})

export interface Look {
  readonly state: State | Corrupted
  /** By the store's clock. */
  readonly now: number
  /** Goes into a form, to be known again. */
  readonly seen: string
}

/** What is stored, what cannot be read included; a refusal if that is nothing. */
export const look = (
  identifiers: IdempotencyIdentifiers,
  nothing: Refusal = absent
): Effect.Effect<Look, Refusal | IdempotencyStorageError, IdempotencyRepository> =>
  Effect.gen(function* () {
    const repository = yield* IdempotencyRepository
    const state = yield* repository.inspect(identifiers).pipe(
      Effect.map(Option.getOrUndefined),
      Effect.catchTag("IdempotencyResultUnavailableError", ({ cause }) =>
        Effect.succeed<Corrupted>({ _tag: "Corrupted", cause: causeOf(cause) })
      )
    )
    if (state === undefined) return yield* nothing
    const now = yield* storeNow(repository)
    return { state, now, seen: seenOf(state, now) }
  })

export const shownOf = (state: State | Corrupted): Shown => (state._tag === "Corrupted" ? state : overview(state))

/** What is to be confirmed is about this. */
export const lookFacts = (visit: Visit, identifiers: IdempotencyIdentifiers, { now, state }: Look): Html =>
  facts([
    ...identityFacts(visit, identifiers),
    ["State", badge(shownOf(state), now)],
    ...(state._tag === "Corrupted" ? [] : [["Attempt", number(state.attempt)] as const])
  ])

export const identityFacts = (visit: Visit, { idempotencyKey, operation, scope }: IdempotencyIdentifiers) =>
  [
    ["Operation", html`<a href="${href(visit, "/keys", { operation })}">${code(operation)}</a>`],
    ["Key", code(idempotencyKey)],
    ["Scope", scope === undefined ? html`<span class="muted">none</span>` : code(scope)]
  ] as const

const instants = (state: State, now: number): ReadonlyArray<readonly [string, Html]> => {
  const created = instantFrom(state.createdAt, now)
  const expires = ["Expires", instantFrom(state.expiresAt, now)] as const
  if (state._tag === "Completed") return [["Recorded", created], expires]
  if (state._tag !== "Processing") return [["Claimed", created], expires]
  const until = html`${lease(state.leaseUntil, now)} <span class="muted beside">${instant(state.leaseUntil)}</span>`
  return [["Claimed", created], ["Lease", until], expires]
}

const stateFacts = (state: State | Corrupted, now: number): ReadonlyArray<readonly [string, Html | string]> => {
  if (state._tag === "Corrupted") return [["Cause", html`${visible(state.cause)}`]]
  const { attempt, fingerprint } = state
  return [
    ["Attempt", number(attempt)],
    ...instants(state, now),
    ...(state._tag === "Processing" || state._tag === "Unknown" ? [["Guarantee", state.guarantee] as const] : []),
    ["Fingerprint", fingerprint === undefined ? html`<span class="muted">none</span>` : code(fingerprint)]
  ]
}

const steps = (state: State | Corrupted): Html | false =>
  state._tag !== "Corrupted" &&
  state._tag !== "Completed" &&
  state.steps.length > 0 &&
  html`<section class="card"><h2>Finished steps</h2><p class="muted">A later attempt does not repeat them.</p><ol class="steps">${state.steps.map(({ name }) => html`<li>${code(name)}</li>`)}</ol></section>`

const mostShown = 100_000

const pretty = (encoded: string): string => {
  try {
    return JSON.stringify(JSON.parse(encoded), null, 2)
  } catch {
    return encoded
  }
}

const resultText = (encoded: string): Html => {
  if (encoded === "") return html`<p>There is none: it ended without a value.</p>`
  const text = pretty(encoded)
  return html`<pre class="result" tabindex="0" aria-label="The recorded JSON"><code>${visible(text.slice(0, mostShown))}</code></pre>
${text.length > mostShown && notice("info", `The first ${number(mostShown)} of ${number(text.length)} characters.`)}`
}

const result = (visit: Visit, identifiers: IdempotencyIdentifiers, state: State | Corrupted, isShown: boolean) => {
  if (state._tag !== "Completed" || state.outcome._tag === "Unavailable") return false
  const { _tag, encoded } = state.outcome
  const name = _tag === "Success" ? "Result" : "Failure"
  const body = isShown
    ? html`${resultText(encoded)}<p><a class="button" href="${href(visit, "/key", identity(identifiers))}">Hide it</a></p>`
    : html`<p class="muted">Hidden, as it may hold what not everybody should see: ${counted(encoded.length, "character")} of JSON. That it was shown is logged.</p>
<form method="get" action="${href(visit, "/key")}">${identityFields(identifiers)}<input type="hidden" name="result" value="show"><button class="button" type="submit">Show the ${name.toLowerCase()}</button></form>`
  return html`<section class="card"><h2>${name}</h2>${body}</section>`
}

/** Whether `resolve` has something to say: a key whose outcome is known is refused by the store. */
export const isResolvable = (state: State | Corrupted, now: number): state is Processing | Unknown =>
  state._tag === "Unknown" || (state._tag === "Processing" && now >= state.leaseUntil)

const actions = (visit: Visit, identifiers: IdempotencyIdentifiers, state: State | Corrupted, now: number) =>
  !visit.site.readOnly &&
  html`<section class="card"><h2>Actions</h2><p class="muted">Nothing is done before you confirm it on the next page.</p><p class="buttons">${
    isResolvable(state, now) &&
    html`<a class="button${state.guarantee === "at-most-once" && " primary"}" href="${href(visit, "/resolve", identity(identifiers))}">Resolve…</a>`
  }<a class="button danger" href="${href(visit, "/reset", identity(identifiers))}">Reset…</a></p></section>`

const doneTexts: ReadonlyMap<string, string> = new Map([
  ["reset", "The key was reset: the next call with it runs."],
  ["resolved", "The key was resolved: calls with it get what you recorded."]
])

/** Only after a form of this console: a link from elsewhere shall not tell operators what was done. */
const doneNotice = (visit: Visit): Html | false => {
  const text = doneTexts.get(visit.params.get("done") ?? "")
  const isOurs = headerOf(visit, "sec-fetch-site") === undefined || isSameOrigin(visit)
  return text !== undefined && isOurs && notice("done", text)
}

export const keyPage = (visit: Visit) =>
  Effect.gen(function* () {
    const identifiers = yield* identifiersIn(visit.params)
    const isShown = visit.params.get("result") === "show"
    const { now, state } = yield* look(identifiers)
    if (isShown && state._tag === "Completed") yield* logged("An operator was shown a recorded result", identifiers)
    const shown = shownOf(state)
    const done = doneNotice(visit)
    const body = html`
<section class="card"><p class="state" aria-live="polite" aria-atomic="true">${badge(shown, now)}</p><p class="meaning">${meaning(shown, now)}</p>
${facts([...identityFacts(visit, identifiers), ...stateFacts(state, now)])}</section>
${steps(state)}
${result(visit, identifiers, state, isShown)}
${actions(visit, identifiers, state, now)}`
    const { operation } = identifiers
    return respond(visit, {
      name: "Key",
      above: html`<nav class="path" aria-label="Path"><ol><li><a href="${href(visit, "/keys")}">Keys</a></li><li><a href="${href(visit, "/keys", { operation })}">${code(operation)}</a></li></ol></nav>`,
      heading: html`<span class="unseen">Key </span>${code(identifiers.idempotencyKey)}`,
      body,
      ...(done === false ? {} : { fixed: done }),
      // What is shown stays, and is not logged again and again.
      live: isShown ? undefined : { everyMillis: 3_000 }
    })
  })
