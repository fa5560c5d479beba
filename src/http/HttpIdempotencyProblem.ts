/**
 * What a server refuses a request with, as its clients see it.
 *
 * @since 0.1.0
 */
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import type { NonEmptyReadonlyArray } from "effect/Array"
import * as Schema from "effect/Schema"
import type { ProblemCode } from "../internal/http/problem.js"

const Status = Schema.Literal(400, 409, 413, 422, 503)
type Status = typeof Status.Type

const codes = {
  400: ["idempotency_key_missing", "idempotency_key_invalid", "idempotency_request_unreadable"],
  409: ["idempotency_request_in_flight", "idempotency_outcome_unknown", "idempotency_result_not_replayable"],
  413: ["idempotency_request_too_large"],
  422: ["idempotency_key_reused"],
  503: ["idempotency_storage_unavailable"]
} as const satisfies { readonly [S in Status]: NonEmptyReadonlyArray<ProblemCode> }

/** All but `status` and `code`, which are checked for each status. */
const shared = {
  type: Schema.String.annotations({ description: "URI of the problem's documentation, or about:blank" }),
  title: Schema.String,
  detail: Schema.String,
  retryable: Schema.Boolean.annotations({
    description: "Whether the same request, sent again later with the same key, may be answered otherwise"
  })
}

/**
 * The problem `application/problem+json` (RFC 9457) with which an endpoint of `HttpIdempotency.endpoint` refuses a
 * request. A derived `HttpApiClient` fails with it; `code` says which one it is, and `retryable` whether the same
 * request, sent again later with the same key, may be answered otherwise.
 *
 * @example
 * ```ts
 * import * as Effect from "effect/Effect"
 * import type { HttpIdempotencyProblem } from "effect-idempotency/http"
 *
 * declare const charge: Effect.Effect<string, HttpIdempotencyProblem>
 *
 * const program = charge.pipe(
 *   Effect.catchTag("HttpIdempotencyProblem", (problem) =>
 *     problem.code === "idempotency_key_reused" ? Effect.succeed("use another key") : Effect.fail(problem)
 *   )
 * )
 * ```
 *
 * @since 0.1.0
 * @category errors
 */
export class HttpIdempotencyProblem extends Schema.TaggedError<HttpIdempotencyProblem>(
  "effect-idempotency/HttpIdempotencyProblem"
)("HttpIdempotencyProblem", {
  ...shared,
  status: Status,
  code: Schema.Literal(...codes[400], ...codes[409], ...codes[413], ...codes[422], ...codes[503])
}) {
  /**
   * The responses, a schema for each of the statuses 400, 409, 413, 422 and 503, annotated for `HttpApi`. For an API
   * that is protected as a whole: `HttpApi.make("shop").addError(HttpIdempotencyProblem.response)`.
   *
   * @since 0.1.0
   * @category models
   */
  static readonly response: Schema.Schema<HttpIdempotencyProblem, HttpIdempotencyProblem.Json> = Schema.Union(
    responseOf(
      Schema.typeSchema(HttpIdempotencyProblem),
      400,
      "The Idempotency-Key is missing or invalid, or the request cannot be read"
    ),
    responseOf(
      Schema.typeSchema(HttpIdempotencyProblem),
      409,
      "A request with this Idempotency-Key is outstanding, or its outcome cannot be told"
    ),
    responseOf(Schema.typeSchema(HttpIdempotencyProblem), 413, "The request is too large to be protected"),
    responseOf(Schema.typeSchema(HttpIdempotencyProblem), 422, "The Idempotency-Key was used with another request"),
    responseOf(Schema.typeSchema(HttpIdempotencyProblem), 503, "Idempotency storage is unavailable")
  )

  /**
   * The problem's title and detail.
   *
   * @since 0.1.0
   */
  override get message(): string {
    return `${this.title}: ${this.detail}`
  }
}

/**
 * @since 0.1.0
 */
export declare namespace HttpIdempotencyProblem {
  /**
   * The problem on the wire.
   *
   * @since 0.1.0
   * @category models
   */
  export interface Json {
    readonly type: string
    readonly title: string
    readonly status: HttpIdempotencyProblem["status"]
    readonly detail: string
    readonly code: HttpIdempotencyProblem["code"]
    readonly retryable: boolean
  }
}

function responseOf(
  problem: Schema.Schema<HttpIdempotencyProblem>,
  status: Status,
  description: string
): Schema.Schema<HttpIdempotencyProblem, HttpIdempotencyProblem.Json> {
  const ofStatus: NonEmptyReadonlyArray<ProblemCode> = codes[status]
  return Schema.transform(
    Schema.Struct({ ...shared, status: Schema.Literal(status), code: Schema.Literal(...ofStatus) }),
    problem,
    {
      strict: true,
      decode: (json) => new HttpIdempotencyProblem(json),
      // One of another status does not encode: its own schema is the one that does.
      encode: ({ code, detail, retryable, status, title, type }) => ({ type, title, status, detail, code, retryable })
    }
  )
    .pipe(HttpApiSchema.withEncoding({ kind: "Json", contentType: "application/problem+json" }))
    .annotations(HttpApiSchema.annotations({ identifier: `IdempotencyProblem${status}`, description, status }))
}
