/** The bytes of a response: known before it is sent, or seen while it is. */
import * as Headers from "@effect/platform/Headers"
import * as HttpBody from "@effect/platform/HttpBody"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Effect from "effect/Effect"
import { pipe } from "effect/Function"
import * as Predicate from "effect/Predicate"
import * as Stream from "effect/Stream"
import { concatBytes } from "./bytes.js"

type Response = HttpServerResponse.HttpServerResponse
type Bytes = Stream.Stream<Uint8Array, unknown>

/** `response` sends the bytes or the stream, whatever it was going to send them from. */
export type ResponseBody =
  | { readonly _tag: "Known"; readonly response: Response; readonly bytes: Uint8Array }
  | { readonly _tag: "Streamed"; readonly response: Response; readonly stream: Bytes }

const known = (response: Response, bytes: Uint8Array): ResponseBody => ({ _tag: "Known", response, bytes })

const empty = (response: Response): ResponseBody => known(response, new Uint8Array(0))

/** Bytes are sent in one way by all platforms; a raw body is not. */
const rawBytes = (response: Response, bytes: Uint8Array, contentType = ""): ResponseBody =>
  known(
    HttpServerResponse.setBody(response, HttpBody.uint8Array(bytes, response.headers["content-type"] ?? contentType)),
    bytes
  )

/** The response with another stream for a body; headers stay as they are. */
export const withStream = (response: Response, stream: Bytes): Response => {
  const { contentLength } = response.body
  // An empty content type adds no header: whatever there is is in the response's headers already.
  return HttpServerResponse.setBody(
    response,
    HttpBody.stream(stream, response.headers["content-type"] ?? "", contentLength)
  )
}

const streamed = (response: Response, stream: Bytes): ResponseBody => ({ _tag: "Streamed", response, stream })

const ofWeb = (response: Response, web: globalThis.Response): ResponseBody => {
  const converted = HttpServerResponse.setHeaders(
    HttpServerResponse.mergeCookies(HttpServerResponse.fromWeb(web), response.cookies),
    response.headers
  )
  return converted.body._tag === "Stream" ? streamed(converted, converted.body.stream) : empty(converted)
}

/** A body that `Response` knows how to read, with the content type that it gives it if there is none. */
const ofBodyInit = (response: Response, web: globalThis.Response): ResponseBody => {
  const contentType = response.headers["content-type"] ?? web.headers.get("content-type")
  const typed = contentType === null ? response : HttpServerResponse.setHeader(response, "content-type", contentType)
  const bytes: ReadableStream<Uint8Array> | null = web.body
  return streamed(
    typed,
    bytes === null
      ? Stream.empty
      : Stream.fromReadableStream(
          () => bytes,
          (cause) => cause
        )
  )
}

const isIterable = (body: unknown): body is AsyncIterable<Uint8Array | string> =>
  Predicate.hasProperty(body, Symbol.asyncIterator)

const ofRaw = (response: Response, body: unknown): ResponseBody => {
  if (body === null || body === undefined) return empty(response)
  // The type that `Response` gives it.
  if (typeof body === "string") return rawBytes(response, new TextEncoder().encode(body), "text/plain;charset=UTF-8")
  if (body instanceof Uint8Array) return rawBytes(response, body)
  if (body instanceof ArrayBuffer) return rawBytes(response, new Uint8Array(body))
  if (body instanceof globalThis.Response) return ofWeb(response, body)
  if (body instanceof Blob || body instanceof URLSearchParams) return ofBodyInit(response, new Response(body))
  if (isIterable(body)) {
    const chunks = Stream.fromAsyncIterable(body, (cause) => cause)
    const encoder = new TextEncoder()
    return streamed(
      response,
      Stream.map(chunks, (chunk) => (typeof chunk === "string" ? encoder.encode(chunk) : chunk))
    )
  }
  return streamed(response, Stream.die(new TypeError("a response has a raw body that cannot be read")))
}

export const bodyOf = (response: Response): ResponseBody => {
  const { body } = response
  switch (body._tag) {
    case "Empty":
      return empty(response)
    case "Uint8Array":
      return known(response, body.body)
    case "FormData":
      return ofBodyInit(response, new Response(body.formData))
    case "Stream":
      return streamed(response, body.stream)
    case "Raw":
      return ofRaw(response, body.body)
  }
}

/** Collects bytes up to a limit; beyond it, nothing is left. */
const makeCollector = (maxBytes: number) => {
  const chunks: Array<Uint8Array> = []
  let size = 0
  return {
    add: (chunk: Uint8Array): void => {
      size += chunk.length
      if (size > maxBytes) chunks.length = 0
      // The chunk is the sender's from here on, and may be written over; `slice` of a `Buffer` does not copy.
      else chunks.push(new Uint8Array(chunk))
    },
    isFull: (): boolean => size > maxBytes,
    bytes: (): Uint8Array | undefined => (size > maxBytes ? undefined : concatBytes(chunks, size))
  }
}

/**
 * The stream, unchanged and undelayed; at its end, and before that is passed on, `onEnd` gets its bytes: nothing if
 * they are more than `maxBytes`, or if the stream failed or was not read to its end.
 */
export const tee = (
  stream: Bytes,
  maxBytes: number,
  onEnd: (bytes: Uint8Array | undefined) => Effect.Effect<void>
): Bytes =>
  Stream.suspend(() => {
    const collector = makeCollector(maxBytes)
    let isWhole = false
    return pipe(
      Stream.map(stream, (chunk) => {
        collector.add(chunk)
        return chunk
      }),
      Stream.concat(
        Stream.execute(
          Effect.sync(() => {
            isWhole = true
          })
        )
      ),
      Stream.ensuring(Effect.suspend(() => onEnd(isWhole ? collector.bytes() : undefined)))
    )
  })

/** The bytes of a stream that nobody reads any more, if it ends, and within `maxBytes`. */
export const drain = (stream: Bytes, maxBytes: number): Effect.Effect<Uint8Array | undefined> =>
  Effect.suspend(() => {
    const collector = makeCollector(maxBytes)
    return pipe(
      Stream.runForEachWhile(stream, (chunk) =>
        Effect.sync(() => {
          collector.add(chunk)
          return !collector.isFull()
        })
      ),
      Effect.match({ onFailure: () => undefined, onSuccess: collector.bytes }),
      Effect.catchAllCause(() => Effect.succeed(undefined))
    )
  })

/** What speaks of one response's content or result, or of how long it may be kept, and would be false of another's. */
const ofOneResponse = new Set([
  "accept-ranges",
  "age",
  "allow",
  "cache-control",
  "cdn-cache-control",
  "content-digest",
  "content-disposition",
  "content-encoding",
  "content-language",
  "content-length",
  "content-location",
  "content-md5",
  "content-range",
  "content-type",
  "digest",
  "etag",
  "expires",
  "last-modified",
  "link",
  "location",
  "pragma",
  "preference-applied",
  "refresh",
  "repr-digest",
  "retry-after",
  "set-cookie",
  "surrogate-control",
  "trailer",
  "transfer-encoding",
  "warning"
])

/**
 * What is sent in place of a response that does not count, be it another owner's or a problem. What others have added
 * to that response stays, and so does whatever else its handler has set beyond the headers that are `kept`: nobody can
 * tell the two apart.
 */
export const replacedBy = (own: Response, other: Response, kept: ReadonlySet<string>): Response => {
  const added = Object.entries(own.headers).filter(([name]) => !kept.has(name) && !ofOneResponse.has(name))
  return HttpServerResponse.setHeaders(other, Headers.merge(Headers.fromInput(added), other.headers))
}
