/** The frame of every page, and the headers of every response. */
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import { assetPath } from "./assets.js"
import { type Html, html } from "./html.js"
import { href, type Visit } from "./site.js"

export const securityHeaders: Readonly<Record<string, string>> = {
  "content-security-policy": [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'"
  ].join("; "),
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "same-origin",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY"
}

/** A part of the page that the script keeps up to date. */
export interface Live {
  readonly everyMillis: number
}

export interface Page {
  readonly heading: Html | string
  /** In the window's title. */
  readonly name: string
  /** Above the heading. */
  readonly above?: Html
  /** What stays as it is while the rest is kept up to date. */
  readonly fixed?: Html
  readonly body: Html
  readonly live?: Live | undefined
  readonly status?: number
}

const sections = [
  ["/", "Overview"],
  ["/in-flight", "In flight"],
  ["/unknown", "Unknown"],
  ["/keys", "Keys"]
] as const

const navigation = (visit: Visit): Html =>
  html`<nav aria-label="Console"><ul>${sections.map(
    ([path, name]) =>
      html`<li><a href="${href(visit, path)}"${path === visit.path && html` aria-current="page"`}>${name}</a></li>`
  )}</ul></nav>`

/** Without the script there is a link that loads the page again; the script puts its own controls in its place. */
const liveControls = (visit: Visit): Html =>
  html`<div class="live-controls">
<a class="button quiet" data-live-reload href="${href(visit, visit.path, Object.fromEntries(visit.params))}">Refresh</a>
<span class="muted" data-live-status hidden></span>
<button type="button" class="button quiet" data-live-toggle hidden>Pause updates</button>
</div>`

export const documentOf = (visit: Visit, page: Page): Html => {
  const { site } = visit
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${page.name} · ${site.title}</title>
<link rel="icon" type="image/svg+xml" href="${href(visit, assetPath("icon.svg"))}">
<link rel="stylesheet" href="${href(visit, assetPath("console.css"))}">
<script defer src="${href(visit, assetPath("console.js"))}"></script>
</head>
<body>
<a class="skip" href="#main">Skip to content</a>
<header class="top"><div class="inner">
<a class="brand" href="${href(visit, "/")}"><img src="${href(visit, assetPath("icon.svg"))}" alt="" width="24" height="24"><span>${site.title}</span></a>
${navigation(visit)}
<span class="mode">${site.readOnly ? "Read-only" : "Actions allowed"}</span>
</div></header>
<main id="main" tabindex="-1">
${page.above}
<div class="heading"><h1>${page.heading}</h1>${page.live !== undefined && liveControls(visit)}</div>
<p class="problem" role="status" data-live-problem></p>
${page.fixed}
${
  page.live === undefined
    ? page.body
    : html`<div id="live" tabindex="-1" data-live="${page.live.everyMillis}">${page.body}</div>`
}
</main>
<footer class="inner muted">Instants are by the store's clock, in UTC.</footer>
</body>
</html>
`
}

export const respond = (visit: Visit, page: Page): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.text(documentOf(visit, page).markup, {
    status: page.status ?? 200,
    contentType: "text/html; charset=utf-8",
    headers: { ...securityHeaders, "cache-control": "no-store" }
  })

/** A box that tells what is to be known before all else. */
export const notice = (kind: "info" | "warning" | "error" | "done", text: Html | string): Html =>
  html`<div class="notice ${kind}"${(kind === "error" || kind === "done") && html` role="alert"`}>${text}</div>`
