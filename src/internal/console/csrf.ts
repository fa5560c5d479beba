/**
 * Whether a form comes from a page of this console. There are no sessions, so two things have to agree: what the browser
 * says of the page that sent it, which no page can change; and a token that the form and a cookie share, for browsers
 * that say nothing of value. Other sites can neither read the cookie nor have it sent.
 */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Effect from "effect/Effect"
import { type Html, html } from "./html.js"
import { Refusal } from "./refusal.js"
import { headerOf, type Visit } from "./site.js"

const cookieName = "idempotency-console"
const fieldName = "token"
const tokenPattern = /^[\w-]{32}$/

/** By the newer header; by the older one where that is missing, as it is without TLS. */
export const isSameOrigin = (visit: Visit): boolean => {
  const site = headerOf(visit, "sec-fetch-site")
  if (site !== undefined) return site === "same-origin"
  const origin = headerOf(visit, "origin")
  const host = headerOf(visit, "host")
  if (origin === undefined || host === undefined || !URL.canParse(origin)) return false
  return new URL(origin).host === host
}

const cookieOf = ({ request }: Visit): string | undefined => {
  const token = request.cookies[cookieName]
  return token !== undefined && tokenPattern.test(token) ? token : undefined
}

export interface Token {
  /** Goes into the form. */
  readonly field: Html
  /** Goes onto the response. */
  readonly cookie: (response: HttpServerResponse.HttpServerResponse) => HttpServerResponse.HttpServerResponse
}

const isSecure = (visit: Visit): boolean =>
  headerOf(visit, "x-forwarded-proto") === "https" || visit.request.originalUrl.startsWith("https:")

/** The token of this browser: several pages may be open in it. */
export const tokenFor = (visit: Visit): Effect.Effect<Token> =>
  Effect.sync(() => {
    const token = cookieOf(visit) ?? randomBytes(24).toString("base64url")
    return {
      field: html`<input type="hidden" name="${fieldName}" value="${token}">`,
      cookie: HttpServerResponse.unsafeSetCookie(cookieName, token, {
        httpOnly: true,
        path: visit.base === "" ? "/" : visit.base,
        sameSite: "strict",
        secure: isSecure(visit)
      })
    }
  })

const digest = (text: string): Buffer => createHash("sha256").update(text).digest()

/** `Refusal` unless the form is one of ours. */
export const checkForm = (visit: Visit, form: URLSearchParams): Effect.Effect<void, Refusal> => {
  const cookie = cookieOf(visit)
  const field = form.get(fieldName)
  const isOurs =
    isSameOrigin(visit) && cookie !== undefined && field !== null && timingSafeEqual(digest(cookie), digest(field))
  return isOurs
    ? Effect.void
    : Effect.fail(
        new Refusal({
          status: 403,
          heading: "Nothing was done",
          explanation: html`<p>This request did not come from a form of this console, or the browser did not keep the console's cookie. Go back, load the page again, and try once more.</p>`
        })
      )
}
