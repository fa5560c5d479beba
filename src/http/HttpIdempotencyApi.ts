/**
 * `Idempotency-Key` on the endpoints of an `HttpApi`: what `HttpIdempotency.endpoint`, `group` and `handlers` take.
 *
 * @since 0.1.0
 */
import type * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import type * as HttpApiMiddleware from "@effect/platform/HttpApiMiddleware"
import type { IdempotentExecution } from "../IdempotentExecution.js"
import type { HttpIdempotencyOptions } from "./HttpIdempotency.js"
import type { HttpIdempotencyProblem } from "./HttpIdempotencyProblem.js"

/**
 * What the endpoints of a group say of their keys. Every member is optional.
 *
 * @since 0.1.0
 * @category models
 */
export interface HttpIdempotencyGroupOptions {
  /** What becomes of a request without a key: it passes through unprotected (the default), or is refused with 400. */
  readonly required?: boolean | undefined
  /** The request header. `Idempotency-Key` by default. */
  readonly header?: string | undefined
}

/**
 * What an endpoint says of its keys. Every member is optional.
 *
 * @since 0.1.0
 * @category models
 */
export interface HttpIdempotencyEndpointOptions extends HttpIdempotencyGroupOptions {
  /**
   * What is protected, 1–100 characters without `:`; part of the identity. By default a hash of the endpoint's method
   * and path pattern: say it, and keys stay what they are when the path changes.
   */
  readonly operation?: string | undefined
}

/**
 * How a server protects the endpoints that were declared: as `HttpIdempotency.middleware`, less what they say
 * themselves.
 *
 * @since 0.1.0
 * @category models
 */
export interface HttpIdempotencyHandlersOptions<E = never, R = never, FingerprintE = never, FingerprintR = never>
  extends Omit<
    HttpIdempotencyOptions<undefined, E, R, FingerprintE, FingerprintR>,
    "header" | "methods" | "operation" | "required"
  > {}

/**
 * Stands in the requirements of an endpoint that was declared with `HttpIdempotency.endpoint` or `group`. Only
 * `HttpIdempotency.handlers` takes it away: an API whose declared endpoints are not protected does not compile.
 * Handlers of such an endpoint may ask for `IdempotentExecution`.
 *
 * @since 0.1.0
 * @category models
 */
export interface HttpIdempotentEndpoint {
  readonly [HttpApiMiddleware.TypeId]: {
    readonly provides: IdempotentExecution
    readonly failure: HttpIdempotencyProblem
    readonly failureContext: never
  }
}

/**
 * The endpoints of a group after `HttpIdempotency.group`: those of `POST` and `PATCH` are declared.
 *
 * @since 0.1.0
 * @category models
 */
export type HttpIdempotentEndpoints<Endpoints extends HttpApiEndpoint.HttpApiEndpoint.Any> = Endpoints extends {
  readonly method: "POST" | "PATCH"
}
  ? HttpApiEndpoint.HttpApiEndpoint.AddContext<Endpoints, HttpIdempotentEndpoint>
  : Endpoints

/**
 * Asked of handlers when `scope` or `fingerprint` can fail with what the API does not declare: `addError` it on the API
 * or on the group.
 *
 * @since 0.1.0
 * @category models
 */
export type HttpIdempotencyDeclared<E, Declared> = [Exclude<E, Declared>] extends [never]
  ? unknown
  : { readonly "scope or fingerprint fail with an error that the API does not declare": Exclude<E, Declared> }
