/** The app: which page a request is for, and what becomes of those that fail. */
import type * as HttpApp from "@effect/platform/HttpApp"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Effect from "effect/Effect"
import type { IdempotencyConsoleOptions } from "../../console/IdempotencyConsole.js"
import type { IdempotencyStorageError } from "../../IdempotencyError.js"
import type { IdempotencyRepository } from "../../IdempotencyRepository.js"
import { type Asset, assets } from "./assets.js"
import { html } from "./html.js"
import { keyPage } from "./keyPage.js"
import { respond, securityHeaders } from "./layout.js"
import { inFlightPage, keysPage, unknownPage } from "./listPages.js"
import { lookupForm } from "./lookup.js"
import { overviewPage } from "./overviewPage.js"
import { Refusal } from "./refusal.js"
import { resetAction, resetForm } from "./resetPage.js"
import { resolveAction, resolveForm } from "./resolvePage.js"
import { href, siteOf, type Visit, visitOf } from "./site.js"

type Response = HttpServerResponse.HttpServerResponse
type Handler = (visit: Visit) => Effect.Effect<Response, Refusal | IdempotencyStorageError, IdempotencyRepository>

interface Route {
  readonly GET: Handler
  readonly POST?: Handler
}

const pages: ReadonlyMap<string, Route> = new Map<string, Route>([
  ["/", { GET: overviewPage }],
  ["/in-flight", { GET: inFlightPage }],
  ["/unknown", { GET: unknownPage }],
  ["/keys", { GET: keysPage }],
  ["/key", { GET: keyPage }]
])

const actions: ReadonlyMap<string, Route> = new Map<string, Route>([
  ["/reset", { GET: resetForm, POST: resetAction }],
  ["/resolve", { GET: resolveForm, POST: resolveAction }]
])

const assetResponse = ({ body, contentType }: Asset): Response =>
  HttpServerResponse.text(body, {
    contentType,
    headers: { ...securityHeaders, "cache-control": "private, max-age=31536000, immutable" }
  })

const notFound = new Refusal({
  status: 404,
  heading: "There is no such page",
  explanation: html`<p>Choose one of those above.</p>`
})

const notAllowed = (allow: string) =>
  new Refusal({
    status: 405,
    heading: "Nothing was done",
    explanation: html`<p>This page does not take such a request.</p>`,
    allow
  })

const handle: Handler = (visit) => {
  const { path, request, site } = visit
  const asset = assets.get(path)
  const route = pages.get(path) ?? (site.readOnly ? undefined : actions.get(path))
  const isRead = request.method === "GET" || request.method === "HEAD"
  if (asset !== undefined) return isRead ? Effect.succeed(assetResponse(asset)) : notAllowed("GET, HEAD")
  if (route === undefined) return notFound
  if (isRead) return route.GET(visit)
  if (request.method === "POST" && route.POST !== undefined) return route.POST(visit)
  return notAllowed(route.POST === undefined ? "GET, HEAD" : "GET, HEAD, POST")
}

const refused = (visit: Visit, { allow, explanation, heading, status }: Refusal): Response => {
  const body = html`<section class="card">${explanation}</section>
${visit.path === "/key" && html`<section class="card"><h2>Open another key</h2>${lookupForm(visit)}</section>`}`
  const response = respond(visit, { name: heading, heading, body, status })
  return allow === undefined ? response : HttpServerResponse.setHeader(response, "allow", allow)
}

const causes: Readonly<Record<IdempotencyStorageError["reason"], string>> = {
  Unavailable: "It cannot be reached.",
  Timeout: "It did not answer in time.",
  Rejected: "It refused the request.",
  Misconfigured: "It is set up wrongly: the log of the program says more."
}

const storeFailed = (visit: Visit, { applied, method, reason }: IdempotencyStorageError): Response => {
  const isAction = visit.request.method === "POST"
  const effect =
    applied === "no"
      ? "Nothing was changed."
      : "It may have taken effect all the same: look at the key before you try again."
  const body = html`<section class="card"><p>${causes[reason]} <span class="muted">(${reason}, in ${method})</span></p>${isAction && html`<p><strong>${effect}</strong></p>`}<p><a class="button" href="${isAction ? href(visit, "/") : href(visit, visit.path, Object.fromEntries(visit.params))}">${isAction ? "To the overview" : "Try again"}</a></p></section>`
  const page = { name: "The store does not answer", heading: "The store does not answer", body, status: 503 }
  return HttpServerResponse.setHeader(respond(visit, page), "retry-after", "5")
}

export const makeApp = (options: IdempotencyConsoleOptions = {}): HttpApp.Default<never, IdempotencyRepository> => {
  const site = siteOf(options)
  return Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
    const visit = visitOf(site, request)
    return Effect.catchTags(handle(visit), {
      Refusal: (refusal) => Effect.succeed(refused(visit, refusal)),
      IdempotencyStorageError: (error) => Effect.succeed(storeFailed(visit, error))
    })
  })
}
