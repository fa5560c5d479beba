/** What the two actions share: their forms, and what the store answers. */
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Effect from "effect/Effect"
import type { IdempotencyIdentifiers } from "../../IdempotencyIdentifiers.js"
import { checkForm } from "./csrf.js"
import { type Html, html } from "./html.js"
import type { Look } from "./keyPage.js"
import { notice, securityHeaders } from "./layout.js"
import { Refusal } from "./refusal.js"
import { headerOf, href, identity, type Visit } from "./site.js"

/** A result of the greatest length that is stored by default, each character of it written as three. */
const mostBytes = 3 * 1_048_576 + 10_000

const unreadable = (status: 400 | 413, text: string) =>
  new Refusal({ status, heading: "Nothing was done", explanation: html`<p>${text}</p>` })

/** The fields of a form of this console; `Refusal` if it is another's. */
export const formOf = (visit: Visit): Effect.Effect<URLSearchParams, Refusal> =>
  Effect.gen(function* () {
    if (Number(headerOf(visit, "content-length") ?? 0) > mostBytes) {
      return yield* unreadable(413, "The form is too long.")
    }
    const isForm = headerOf(visit, "content-type")?.startsWith("application/x-www-form-urlencoded") === true
    const text = isForm ? yield* Effect.orElseSucceed(visit.request.text, () => undefined) : undefined
    if (text === undefined || text.length > mostBytes) return yield* unreadable(400, "The form could not be read.")
    const form = new URLSearchParams(text)
    yield* checkForm(visit, form)
    return form
  })

const seenName = "seen"

/** With it a form says what its page has shown. */
export const seenField = (seen: string): Html => html`<input type="hidden" name="${seenName}" value="${seen}">`

/** Whether the form is about what is stored: what was not shown was not confirmed. */
export const isSeen = (form: URLSearchParams, { seen }: Look): boolean => form.get(seenName) === seen

export const changedNotice = notice(
  "error",
  "Nothing was done. What is stored has changed since you looked: below is what there is by now."
)

/** Back to the key, so that loading the page again does nothing again. */
export const doneAt = (visit: Visit, identifiers: IdempotencyIdentifiers, done: string) =>
  HttpServerResponse.empty({
    status: 303,
    headers: {
      ...securityHeaders,
      "cache-control": "no-store",
      location: href(visit, "/key", { ...identity(identifiers), done })
    }
  })
