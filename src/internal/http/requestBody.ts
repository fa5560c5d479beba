/** What a request's body says about the request, and whether it can be sent again. */
import * as HttpBody from "@effect/platform/HttpBody"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import { sha256 } from "../hash.js"

export interface PreparedBody {
  /** The body to send, the same bytes each time. */
  readonly body: HttpBody.HttpBody
  /** SHA-256 of the bytes; `undefined` where they are known only as they are sent, which may happen once. */
  readonly hash: string | undefined
}

/**
 * Encoders draw a new boundary each time, and a server that fingerprints bytes would see another request. This one is
 * of the content, so that a later process sends the same bytes too.
 */
const withFixedBoundary = (bytes: Uint8Array, contentType: string): HttpBody.HttpBody | undefined => {
  const drawn = /boundary="?([^";]+)/.exec(contentType)?.[1]
  if (drawn === undefined) return undefined
  // One character per byte, there and back.
  const text = Buffer.from(bytes).toString("latin1")
  const boundary = `form-${sha256(text.replaceAll(drawn, ""))}`
  return HttpBody.uint8Array(
    Buffer.from(text.replaceAll(drawn, boundary), "latin1"),
    `multipart/form-data; boundary=${boundary}`
  )
}

/** A form that cannot be read is left to the client, which fails with an error of its own. */
const encodedForm = (body: HttpBody.FormData): Effect.Effect<HttpBody.HttpBody> =>
  Effect.orElseSucceed(
    Effect.tryPromise(async () => {
      const encoder = new Response(body.formData)
      const contentType = encoder.headers.get("content-type") ?? ""
      return withFixedBoundary(new Uint8Array(await encoder.arrayBuffer()), contentType) ?? body
    }),
    () => body
  )

const hashOfRaw = (body: unknown): string | undefined => {
  if (Predicate.isString(body) || Predicate.isUint8Array(body)) return sha256(body)
  if (ArrayBuffer.isView(body)) return sha256(new Uint8Array(body.buffer, body.byteOffset, body.byteLength))
  if (body instanceof ArrayBuffer) return sha256(new Uint8Array(body))
  return body instanceof URLSearchParams ? sha256(body.toString()) : undefined
}

const hashOf = (body: HttpBody.HttpBody): string | undefined => {
  switch (body._tag) {
    case "Empty":
      return sha256("")
    case "Uint8Array":
      return sha256(body.body)
    case "Raw":
      return hashOfRaw(body.body)
    case "FormData":
    case "Stream":
      return undefined
  }
}

export const prepareBody = (body: HttpBody.HttpBody): Effect.Effect<PreparedBody> =>
  Effect.map(body._tag === "FormData" ? encodedForm(body) : Effect.succeed(body), (prepared) => ({
    body: prepared,
    hash: hashOf(prepared)
  }))
