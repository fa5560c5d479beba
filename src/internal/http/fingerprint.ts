/** What a request is told from others by. */
import { createHash } from "node:crypto"
import type * as HttpServerRequest from "@effect/platform/HttpServerRequest"

/** The path with its query as the client sent it, however much of it routers have taken off. */
export const targetOf = ({ originalUrl }: HttpServerRequest.HttpServerRequest): string => {
  if (originalUrl.startsWith("/")) return originalUrl
  const path = originalUrl.indexOf("/", originalUrl.indexOf("//") + 2)
  return path === -1 ? "/" : originalUrl.slice(path)
}

/** SHA-256 over method, path with query, content type and the raw body, each preceded by its length. */
export const requestFingerprint = (request: HttpServerRequest.HttpServerRequest, body: Uint8Array) => {
  const hash = createHash("sha256")
  for (const text of [request.method, targetOf(request), request.headers["content-type"] ?? ""]) {
    hash.update(`${Buffer.byteLength(text)}:`).update(text)
  }
  return new Uint8Array(hash.update(`${body.length}:`).update(body).digest())
}
