/** A request's body: read once, within bounds, and handed out again as often as anybody asks. */
import * as FileSystem from "@effect/platform/FileSystem"
import * as HttpIncomingMessage from "@effect/platform/HttpIncomingMessage"
import * as HttpServerError from "@effect/platform/HttpServerError"
import type * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as Multipart from "@effect/platform/Multipart"
import * as UrlParams from "@effect/platform/UrlParams"
import * as Effect from "effect/Effect"
import { pipe } from "effect/Function"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Stream from "effect/Stream"
import { concatBytes } from "./bytes.js"

type Request = HttpServerRequest.HttpServerRequest

/** So much of a body that is too large is still read, and forgotten: a client that sends does not listen yet. */
const discardedBytes = 16 * 1024 * 1024

/** A body that somebody else has begun to read is waited for no longer than this. */
const alreadyReadTimeout = "1 second"

/** Whether the platform says that there is no body, in which case it has no stream either. */
const hasNoBody = ({ source }: Request): boolean => Predicate.hasProperty(source, "body") && source.body === null

/** Whether somebody has read the body, or has begun to: there is no second reading of the same bytes. */
const isRead = ({ source }: Request): boolean =>
  (Predicate.hasProperty(source, "readableDidRead") && source.readableDidRead === true) ||
  (Predicate.hasProperty(source, "bodyUsed") && source.bodyUsed === true)

/** How long the body is, where the request says so. */
const declaredLength = ({ headers }: Request): number | undefined => {
  const declared = headers["content-length"]
  return declared !== undefined && /^\d+$/.test(declared) ? Number(declared) : undefined
}

/** A body of known length, at once: by chunks of a stream a request over memory takes 1.3 times as long. */
const wholeBody = (request: Request, maxBytes: number): Effect.Effect<Uint8Array, HttpServerError.RequestError> =>
  pipe(
    request.arrayBuffer,
    Effect.provideService(HttpIncomingMessage.MaxBodySize, Option.some(FileSystem.Size(maxBytes))),
    Effect.map((buffer) => new Uint8Array(buffer))
  )

/** What reads a signature of the body, say, and stands outside, has read it as text, which requests remember. */
const rememberedText = (request: Request): Effect.Effect<Uint8Array> =>
  pipe(
    Effect.interruptible(request.text),
    Effect.timeout(alreadyReadTimeout),
    Effect.mapBoth({
      onFailure: (cause) =>
        new Error("the request's body was read before the idempotency middleware, other than as text or JSON", {
          cause
        }),
      onSuccess: (text) => new TextEncoder().encode(text)
    }),
    Effect.orDie
  )

/** The bytes of the body; `undefined` if there are more than `maxBytes`. */
export const readBody = (
  request: Request,
  maxBytes: number
): Effect.Effect<Uint8Array | undefined, HttpServerError.RequestError> =>
  Effect.suspend(() => {
    if (hasNoBody(request)) return Effect.succeed(new Uint8Array(0))
    const declared = declaredLength(request)
    if (declared !== undefined && declared > maxBytes) return Effect.succeed(undefined)
    if (isRead(request)) {
      return Effect.map(rememberedText(request), (bytes) => (bytes.length > maxBytes ? undefined : bytes))
    }
    if (declared !== undefined) return wholeBody(request, maxBytes)
    const chunks: Array<Uint8Array> = []
    const add = (size: number, chunk: Uint8Array): number => {
      const total = size + chunk.length
      if (total > maxBytes) chunks.length = 0
      else chunks.push(chunk)
      return total
    }
    return pipe(
      Stream.runFoldWhile(request.stream, 0, (size) => size <= maxBytes + discardedBytes, add),
      Effect.map((size) => (size > maxBytes ? undefined : concatBytes(chunks, size)))
    )
  })

/** The web request that a handler of web requests gets: without its client's signal, which must not stop it. */
const webSource = (source: globalThis.Request, bytes: Uint8Array): globalThis.Request =>
  source.body === null
    ? new Request(source, { signal: null })
    : new Request(source, { body: bytes.slice(), signal: null })

const memoized = <A>(make: () => A): (() => A) => {
  let made: { readonly value: A } | undefined
  return () => {
    made ??= { value: make() }
    return made.value
  }
}

/** What a request says of its body. */
type Members = Pick<
  Request,
  "arrayBuffer" | "json" | "modify" | "multipart" | "multipartStream" | "source" | "stream" | "text" | "urlParamsBody"
>

const membersOf = (request: Request, bytes: Uint8Array): { readonly [Name in keyof Members]: () => Members[Name] } => {
  const failed = (cause: unknown) => new HttpServerError.RequestError({ request, reason: "Decode", cause })
  const attempt = <A>(evaluate: () => A): Effect.Effect<A, HttpServerError.RequestError> =>
    Effect.try({ try: evaluate, catch: failed })
  const text = memoized(() => new TextDecoder().decode(bytes))
  const stream = memoized(
    (): Stream.Stream<Uint8Array> =>
      Stream.suspend(() => (bytes.length === 0 ? Stream.empty : Stream.succeed(bytes.slice())))
  )
  const multipartStream = memoized(() =>
    Stream.suspend(() => Stream.pipeThroughChannel(stream(), Multipart.makeChannel<never>(request.headers)))
  )
  return {
    source: memoized(() =>
      request.source instanceof globalThis.Request ? webSource(request.source, bytes) : request.source
    ),
    stream,
    multipartStream,
    multipart: memoized(() => Effect.runSync(Effect.cached(Multipart.toPersisted(multipartStream())))),
    text: () => Effect.sync(text),
    json: () => attempt(() => (text() === "" ? null : JSON.parse(text()))),
    urlParamsBody: () => attempt(() => UrlParams.fromInput(new URLSearchParams(text()))),
    arrayBuffer: () => Effect.sync(() => bytes.slice().buffer),
    modify: () => (options) => withBody(request.modify(options), bytes)
  }
}

/** What tells a request that comes from {@link withBody}. */
const bufferedSymbol = Symbol("effect-idempotency/buffered")

/**
 * The request with a body of these bytes. All else is the given one's, and what is set is set on that: platforms find
 * there what they look for on their own requests (the response to write to, a promise to resolve), and leave there that
 * a response was sent. Not an object that inherits from it: engines take long to make a prototype of an object, and to
 * find their way on one of a kind.
 */
export const withBody = (request: Request, bytes: Uint8Array): Request => {
  const members = new Map<PropertyKey, () => unknown>(Object.entries(membersOf(request, bytes)))
  return new Proxy(request, {
    get: (target, name): unknown => {
      if (name === bufferedSymbol) return true
      const member = members.get(name)
      return member === undefined ? Reflect.get(target, name, target) : member()
    }
  })
}

/** Whether the request comes from {@link withBody}. */
export const isBuffered = (request: Request): boolean => Reflect.get(request, bufferedSymbol) === true
