/** The options of the HTTP server side, decoded once. */
import type { HttpMethod } from "@effect/platform/HttpMethod"
import type * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import type * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import { IdempotencyValidationError } from "../../IdempotencyError.js"
import type { Json } from "../../Jsonable.js"
import { operationIssue } from "../identifiers.js"
import type { AnyOptions } from "../plan.js"
import { requestFingerprint } from "./fingerprint.js"
import { type KeyHeader, parseKeyHeader } from "./keyHeader.js"
import type { ProblemCode } from "./problem.js"
import { defaultHeaders, keptHeaders } from "./responseRecord.js"

type Request = HttpServerRequest.HttpServerRequest
type Response = HttpServerResponse.HttpServerResponse

/** What becomes of the key once a response is final. */
export type ResponsePolicy = "replay" | "release" | "hold"

/** The public options, whatever their types make of some of them. */
export interface ServerOptions<E, R> {
  readonly scope: "global" | ((request: Request) => Effect.Effect<string, E, R>)
  readonly operation?: string | undefined
  readonly methods?: ReadonlyArray<HttpMethod> | undefined
  readonly required?: boolean | undefined
  readonly header?: string | undefined
  readonly keyFormat?: "lenient" | "strict" | Schema.Schema.AnyNoContext | undefined
  readonly fingerprint?: ((request: Request) => Json | Uint8Array | Effect.Effect<unknown, E, R>) | undefined
  readonly onResponse?: ((response: Response) => ResponsePolicy) | undefined
  readonly inFlight?: "wait" | "fail" | undefined
  readonly waitTimeout?: Duration.DurationInput | undefined
  readonly timeToLive?: Duration.DurationInput | undefined
  readonly lease?: Duration.DurationInput | undefined
  readonly guarantee?: "at-least-once" | "at-most-once" | undefined
  readonly onStorageFailure?: "proceed" | "fail" | undefined
  readonly headers?: ReadonlyArray<string> | undefined
  readonly maxRequestBytes?: number | undefined
  readonly maxResponseBytes?: number | undefined
  readonly replayedHeader?: string | undefined
  readonly problemType?: ((code: ProblemCode) => string) | undefined
}

/** What does not depend on the server's own effects. */
export interface Rules {
  readonly operation: string | undefined
  readonly methods: ReadonlySet<string>
  readonly isRequired: boolean
  /** In lower case, as `replayedHeader`. */
  readonly header: string
  readonly keyOf: (value: string | undefined) => KeyHeader
  readonly onResponse: (response: Response) => ResponsePolicy
  /** What becomes of a key whose run ended without a response. */
  readonly onStop: "release" | "hold"
  readonly kept: ReadonlySet<string>
  readonly maxRequestBytes: number
  readonly maxResponseBytes: number
  readonly replayedHeader: string
  readonly problemType: (code: ProblemCode) => string
  readonly execution: AnyOptions
}

/** The options with their defaults. */
export interface Policy<E, R> extends Rules {
  readonly scopeOf: (request: Request) => Effect.Effect<string, E, R>
  /** `request` hands out `body`. */
  readonly fingerprintOf: (request: Request, body: Uint8Array) => Effect.Effect<unknown, E, R>
}

const mebibyte = 1_048_576

const keyParser = (format: NonNullable<ServerOptions<never, never>["keyFormat"]>): Rules["keyOf"] => {
  if (format === "lenient" || format === "strict") return (value) => parseKeyHeader(value, format)
  const decode = Schema.decodeUnknownEither(format)
  return (value) => {
    const parsed = parseKeyHeader(value, "lenient")
    if (parsed._tag !== "Key") return parsed
    return Either.match(decode(parsed.key), {
      onLeft: (): KeyHeader => ({
        _tag: "Invalid",
        detail: "The key does not have the form that this server asks for."
      }),
      // A schema that normalises makes one key of many spellings.
      onRight: (key: unknown): KeyHeader => (typeof key === "string" ? { _tag: "Key", key } : parsed)
    })
  }
}

const responsePolicy =
  (guarantee: ServerOptions<never, never>["guarantee"]): Rules["onResponse"] =>
  ({ status }) => {
    if (status >= 200 && status < 300) return "replay"
    return guarantee === "at-most-once" && status >= 500 ? "hold" : "release"
  }

/** The options with their defaults. Throws `IdempotencyValidationError` for what no request could be served with. */
export const decodeOptions = <E, R>(options: ServerOptions<E, R>): Policy<E, R> => {
  const { fingerprint, guarantee, header = "Idempotency-Key", keyFormat = "lenient", scope } = options
  const operation = options.operation?.trim()
  const issues: Array<string> = []
  const bytes = (name: "maxRequestBytes" | "maxResponseBytes"): number => {
    const value = options[name] ?? mebibyte
    if (!(Number.isSafeInteger(value) && value >= 0)) issues.push(`${name} is not a whole number of 0 or more`)
    return value
  }
  const issue = operation === undefined ? undefined : operationIssue(operation)
  if (issue !== undefined) issues.push(issue)
  const policy: Policy<E, R> = {
    scopeOf: scope === "global" ? () => Effect.succeed("global") : scope,
    operation,
    methods: new Set(options.methods ?? ["POST", "PATCH"]),
    isRequired: options.required ?? false,
    header: header.toLowerCase(),
    keyOf: keyParser(keyFormat),
    fingerprintOf:
      fingerprint === undefined
        ? (request, body) => Effect.sync(() => requestFingerprint(request, body))
        : (request) =>
            Effect.suspend((): Effect.Effect<unknown, E, R> => {
              const made = fingerprint(request)
              return Effect.isEffect(made) ? made : Effect.succeed(made)
            }),
    onResponse: options.onResponse ?? responsePolicy(guarantee),
    onStop: guarantee === "at-most-once" ? "hold" : "release",
    kept: keptHeaders(options.headers ?? defaultHeaders),
    maxRequestBytes: bytes("maxRequestBytes"),
    maxResponseBytes: bytes("maxResponseBytes"),
    replayedHeader: (options.replayedHeader ?? "Idempotent-Replayed").toLowerCase(),
    problemType: options.problemType ?? (() => "about:blank"),
    execution: {
      inFlight: options.inFlight ?? "fail",
      waitTimeout: options.waitTimeout,
      timeToLive: options.timeToLive,
      lease: options.lease,
      guarantee,
      onStorageFailure: options.onStorageFailure
    }
  }
  if (issues.length > 0) throw new IdempotencyValidationError({ operation: operation ?? "", issues })
  return policy
}
