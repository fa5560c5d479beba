/** A response as it is recorded: status, the headers that are kept, and the body's bytes; and back. */
import * as Headers from "@effect/platform/Headers"
import * as HttpBody from "@effect/platform/HttpBody"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import type * as Either from "effect/Either"
import type * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import { textOf } from "./bytes.js"

type Response = HttpServerResponse.HttpServerResponse

/** What of a response is recorded, beside what always is, unless the server says otherwise. */
export const defaultHeaders: ReadonlyArray<string> = ["content-language", "location", "etag", "link", "cache-control"]

/** What speaks of one connection, one moment, one caller or one trace, and would be false in a replay. */
const neverKept = new Set([
  "set-cookie",
  "set-cookie2",
  "date",
  "content-length",
  "www-authenticate",
  "authentication-info",
  "proxy-authenticate",
  "proxy-authentication-info",
  "connection",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "traceparent",
  "tracestate",
  "traceresponse",
  "baggage",
  "b3",
  "server-timing",
  "uber-trace-id",
  "x-trace-id",
  "x-amzn-trace-id",
  "x-cloud-trace-context"
])
const neverKeptPrefixes = ["ratelimit", "x-ratelimit", "x-rate-limit", "x-b3-", "x-datadog-"]

const isNeverKept = (name: string): boolean =>
  neverKept.has(name) || neverKeptPrefixes.some((prefix) => name.startsWith(prefix))

/** Without these nobody can read the recorded bytes. */
const alwaysKept = ["content-type", "content-encoding"]

/** The names that are kept, of those that a server lists and beside them. */
export const keptHeaders = (names: ReadonlyArray<string>): ReadonlySet<string> =>
  new Set([...alwaysKept, ...names.map((name) => name.toLowerCase()).filter((name) => !isNeverKept(name))])

/** A body that is UTF-8 is recorded as text, any other in base64; an empty one not at all. */
const ResponseRecord = Schema.Struct({
  status: Schema.Int.pipe(Schema.between(100, 999)),
  headers: Schema.Record({ key: Schema.String, value: Schema.String }),
  text: Schema.optional(Schema.String),
  base64: Schema.optional(Schema.Uint8ArrayFromBase64)
})

export type ResponseRecord = typeof ResponseRecord.Type

const Encoded = Schema.parseJson(ResponseRecord)
const encode = Schema.encodeSync(Encoded)
const decode = Schema.decodeUnknownEither(Encoded)

const namedByConnection = (headers: Headers.Headers): ReadonlySet<string> =>
  new Set((headers["connection"] ?? "").split(",").map((name) => name.trim().toLowerCase()))

/** JSON of a response with a body of these bytes. */
export const encodeResponse = (
  { headers, status }: Pick<Response, "headers" | "status">,
  body: Uint8Array,
  kept: ReadonlySet<string>
): string => {
  const hopByHop = namedByConnection(headers)
  const text = textOf(body)
  return encode({
    status,
    headers: Object.fromEntries(Object.entries(headers).filter(([name]) => kept.has(name) && !hopByHop.has(name))),
    ...(body.length === 0 ? {} : text === undefined ? { base64: body } : { text })
  })
}

export const decodeResponse = (encoded: string): Either.Either<ResponseRecord, ParseResult.ParseError> =>
  decode(encoded)

/** The recorded response, and a header that says so. */
export const replayOf = (
  { base64, headers, status, text }: ResponseRecord,
  replayedHeader: string
): HttpServerResponse.HttpServerResponse => {
  const body = base64 ?? new TextEncoder().encode(text ?? "")
  const response = HttpServerResponse.empty({
    status,
    headers: Headers.set(Headers.fromInput(headers), replayedHeader, "true")
  })
  // Without a content type there was none: the platform would make one up.
  return body.length === 0
    ? response
    : HttpServerResponse.setBody(response, HttpBody.uint8Array(body, headers["content-type"] ?? ""))
}
