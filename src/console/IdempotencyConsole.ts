/**
 * The operator's console: what a store holds, which keys are stuck, and how to free them.
 *
 * @since 0.1.0
 */
import type * as HttpApp from "@effect/platform/HttpApp"
import type { IdempotencyRepository } from "../IdempotencyRepository.js"
import { makeApp } from "../internal/console/app.js"

/**
 * How the console behaves. Nothing is required.
 *
 * @since 0.1.0
 * @category models
 */
export interface IdempotencyConsoleOptions {
  /**
   * Where browsers find the console, as `/admin/idempotency`: what its links begin with. It is found out by itself where
   * a router cuts it off (`HttpRouter.mountApp`, `mount`, `prefixAll`), and is the root otherwise. Needed where the app
   * sees whole paths (as in a web handler of another framework), and where a proxy changes them.
   */
  readonly basePath?: string | undefined
  /**
   * Whether keys can only be looked at; `true` by default. With `false` there are two actions, `reset` and `resolve`,
   * for everybody who reaches the console: mount one of either kind to give them to some.
   */
  readonly readOnly?: boolean | undefined
  /** How many keys a page of a list holds, 1 to 500; 50 by default. */
  readonly pageSize?: number | undefined
  /** What the pages are called. `Idempotency` by default. */
  readonly title?: string | undefined
  /**
   * How many keys the overview counts at most, 1 to 1,000,000; 10,000 by default. Each view of the page reads so many
   * from the store, for 5 seconds at most, and says where it stopped.
   */
  readonly maxCounted?: number | undefined
}

/**
 * An app of pages: counts by state and operation, the keys in flight, the unknown outcomes, a search, and everything about
 * one key, its result hidden until asked for. With `readOnly: false` also `reset` and `resolve`, each confirmed on a page
 * of its own, and logged at level Info with the operation and a hash of the key.
 *
 * - **It has no authentication.** Whoever reaches it sees operations, keys, scopes and, when asked for, results. Mount it
 *   behind your own, and annotate the logs there with who it is.
 * - Works without JavaScript. With it, tables follow the store; a tab that is hidden asks for nothing.
 * - Actions are refused unless they come from the console's own pages: the browser says so (`Sec-Fetch-Site`, or `Origin`
 *   against `Host`), and the form carries the token of a cookie.
 * - A store that cannot list its keys shows one at a time, by its identity.
 *
 * @since 0.1.0
 * @category apps
 */
export const IdempotencyConsole: {
  /**
   * The app, over the `IdempotencyRepository` of its context. Failures of the store are pages with status 503. Throws
   * `IdempotencyValidationError` for an option that cannot be.
   *
   * @example
   * ```ts
   * import * as HttpRouter from "@effect/platform/HttpRouter"
   * import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
   * import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
   * import * as Effect from "effect/Effect"
   * import { IdempotencyConsole } from "effect-idempotency/console"
   *
   * declare const operatorOf: (request: HttpServerRequest.HttpServerRequest) => Effect.Effect<string, "unknown">
   *
   * const console = IdempotencyConsole.app({ readOnly: false }).pipe(
   *   (app) =>
   *     Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
   *       Effect.flatMap(operatorOf(request), (operator) => Effect.annotateLogs(app, { operator }))
   *     ),
   *   Effect.catchAll(() => HttpServerResponse.empty({ status: 401 }))
   * )
   *
   * const router = HttpRouter.empty.pipe(HttpRouter.mountApp("/admin/idempotency", console))
   * ```
   *
   * @since 0.1.0
   * @category constructors
   */
  readonly app: (options?: IdempotencyConsoleOptions) => HttpApp.Default<never, IdempotencyRepository>
} = { app: makeApp }
