/** The way to one key by its identity, which every store has. */
import * as Either from "effect/Either"
import { IdempotencyIdentifiers } from "../../IdempotencyIdentifiers.js"
import { type Html, html } from "./html.js"
import { notice } from "./layout.js"
import { Refusal } from "./refusal.js"
import { href, identity, paramOf, type Visit } from "./site.js"

const field = (visit: Visit, name: string, label: string, options: { readonly hint?: string; readonly max: number }) =>
  html`<div class="field"><label for="one-${name}">${label}</label><input id="one-${name}" name="${name}" maxlength="${options.max}" autocomplete="off" autocapitalize="off" spellcheck="false"${options.hint === undefined && html` required`} value="${paramOf(visit.params, name) ?? ""}">${options.hint !== undefined && html`<span class="hint">${options.hint}</span>`}</div>`

export const lookupForm = (visit: Visit): Html =>
  html`<form class="search" method="get" action="${href(visit, "/key")}">
${field(visit, "operation", "Operation", { max: 100 })}${field(visit, "key", "Key", { max: 255 })}${field(visit, "scope", "Scope", { max: 255, hint: "If it has one" })}
<div class="field"><button class="button primary" type="submit">Open key</button></div>
</form>`

/** In the place of a list. */
export const cannotList = (visit: Visit, issues: ReadonlyArray<string>): Html =>
  html`${notice("info", html`<p>There is no list of the keys here: ${issues.join("; ")}. A key can still be opened by its identity.</p>`)}
<section class="card"><h2>Open one key</h2>${lookupForm(visit)}</section>`

/** The key that a link or a form is about. */
export const identifiersIn = (params: URLSearchParams): Either.Either<IdempotencyIdentifiers, Refusal> =>
  Either.mapLeft(
    IdempotencyIdentifiers.from({
      operation: params.get("operation") ?? "",
      idempotencyKey: params.get("key") ?? "",
      scope: paramOf(params, "scope")
    }),
    ({ issues }) =>
      new Refusal({
        status: 400,
        heading: "This is not a key",
        explanation: html`<ul>${issues.map((issue) => html`<li>${issue}</li>`)}</ul>`
      })
  )

/** The identity, as a form sends it. */
export const identityFields = (identifiers: IdempotencyIdentifiers): Html =>
  html`${Object.entries(identity(identifiers)).map(
    ([name, value]) => value !== undefined && html`<input type="hidden" name="${name}" value="${value}">`
  )}`
