/** The console's options, decoded; and where one request stands in it. */
import * as Headers from "@effect/platform/Headers"
import type * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import type { IdempotencyConsoleOptions } from "../../console/IdempotencyConsole.js"
import { IdempotencyValidationError } from "../../IdempotencyError.js"
import type { IdempotencyIdentifiers } from "../../IdempotencyIdentifiers.js"

export interface Site {
  readonly basePath: string | undefined
  readonly readOnly: boolean
  readonly pageSize: number
  readonly title: string
  readonly maxCounted: number
}

const withoutEnd = (path: string): string => path.replace(/\/+$/, "")

export const siteOf = ({
  basePath,
  maxCounted = 10_000,
  pageSize = 50,
  readOnly = true,
  title = "Idempotency"
}: IdempotencyConsoleOptions): Site => {
  const whole = (name: string, value: number, max: number) =>
    Number.isSafeInteger(value) && value >= 1 && value <= max
      ? []
      : [`${name} is not a whole number between 1 and ${max}`]
  const issues = [
    ...whole("pageSize", pageSize, 500),
    ...whole("maxCounted", maxCounted, 1_000_000),
    ...(basePath === undefined || /^(\/[\w.~!$&'()*+,;=:@%-]+)*\/?$/.test(basePath)
      ? []
      : ["basePath is not a path that begins with one slash"])
  ]
  if (issues.length > 0) throw new IdempotencyValidationError({ operation: "", issues })
  return {
    basePath: basePath === undefined ? undefined : withoutEnd(basePath),
    maxCounted,
    pageSize,
    // Nothing but `false` itself gives the actions away.
    readOnly: readOnly !== false,
    title
  }
}

/** A request, as the pages see it. */
export interface Visit {
  readonly site: Site
  readonly request: HttpServerRequest.HttpServerRequest
  /** What every link begins with; empty at the root. */
  readonly base: string
  /** Where in the console: `/` or `/keys`. */
  readonly path: string
  readonly params: URLSearchParams
}

const pathOf = (url: string): string => withoutEnd(/^(?:https?:\/\/[^/?#]*)?([^?#]*)/.exec(url)?.[1] ?? "") || "/"

const cutOff = (original: string, path: string): string => {
  if (path === "/") return original === "/" ? "" : original
  return original.endsWith(path) ? original.slice(0, -path.length) : ""
}

/** Two slashes at its beginning would make a link lead to another host. */
const onThisHost = (base: string): string => base.replace(/^[/\\]+/, "/")

export const visitOf = (site: Site, request: HttpServerRequest.HttpServerRequest): Visit => {
  const url = request.url
  const params = new URLSearchParams(url.includes("?") ? url.slice(url.indexOf("?") + 1) : "")
  const [original, path] = [pathOf(request.originalUrl), pathOf(url)]
  const { basePath } = site
  if (basePath === undefined) return { site, request, params, path, base: onThisHost(cutOff(original, path)) }
  // A router may have cut it off already.
  const isWhole = original === path && (path === basePath || path.startsWith(`${basePath}/`))
  return { site, request, params, base: basePath, path: isWhole ? path.slice(basePath.length) || "/" : path }
}

/** The parameter's text without white space around it; `undefined` if that is nothing. */
export const paramOf = (params: URLSearchParams, name: string): string | undefined =>
  params.get(name)?.trim() || undefined

export type Query = Readonly<Record<string, string | undefined>>

/** A link to a page of the console. */
export const href = ({ base }: Visit, path: string, query: Query = {}): string => {
  const params = new URLSearchParams()
  for (const [name, value] of Object.entries(query)) if (value !== undefined) params.set(name, value)
  const search = params.toString()
  return `${base}${path}${search === "" ? "" : `?${search}`}`
}

/** What stands for a key in a link and in a form. */
export const identity = ({ idempotencyKey, operation, scope }: IdempotencyIdentifiers): Query => ({
  operation,
  key: idempotencyKey,
  scope
})

export const headerOf = ({ request }: Visit, name: string): string | undefined => {
  const found = Headers.get(request.headers, name)
  return found._tag === "Some" ? found.value : undefined
}
