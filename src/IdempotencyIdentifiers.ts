/**
 * The identity of one protected execution.
 *
 * @since 0.1.0
 */
import * as Either from "effect/Either"
import * as Equal from "effect/Equal"
import * as Hash from "effect/Hash"
import * as Schema from "effect/Schema"
import { IdempotencyValidationError } from "./IdempotencyError.js"
import { IdempotencyKey, OperationName } from "./IdempotencyKey.js"
import { identifiersIssues } from "./internal/identifiers.js"

/**
 * Operation × scope × key, with structural equality (`Equal`, `Hash`). `scope` is a tenant or principal: two scopes
 * never see each other's records. Its rules are those of a key.
 *
 * @since 0.1.0
 * @category models
 */
export class IdempotencyIdentifiers extends Schema.Class<IdempotencyIdentifiers>(
  "effect-idempotency/IdempotencyIdentifiers"
)({
  operation: OperationName,
  idempotencyKey: IdempotencyKey,
  scope: Schema.optional(IdempotencyKey)
}) {
  /**
   * Identifiers from plain strings, trimmed and checked; `IdempotencyValidationError` names everything that is wrong.
   *
   * @example
   * ```ts
   * import { IdempotencyIdentifiers } from "effect-idempotency"
   *
   * const ids = IdempotencyIdentifiers.from({ operation: "payment.charge", idempotencyKey: "order-1" })
   * ```
   *
   * @since 0.1.0
   * @category constructors
   */
  static from(input: {
    readonly operation: string
    readonly idempotencyKey: string
    readonly scope?: string | undefined
  }): Either.Either<IdempotencyIdentifiers, IdempotencyValidationError> {
    const operation = input.operation.trim()
    const key = input.idempotencyKey.trim()
    const scope = input.scope?.trim()
    const issues = identifiersIssues(operation, key, scope)
    if (issues.length > 0) return Either.left(new IdempotencyValidationError({ operation, issues }))
    // The checks above are those of the three schemas: the brands hold, and are not checked again.
    const checked = { operation: operation as OperationName, idempotencyKey: key as IdempotencyKey }
    return Either.right(
      new IdempotencyIdentifiers(scope === undefined ? checked : { ...checked, scope: scope as IdempotencyKey }, {
        disableValidation: true
      })
    )
  }

  /** A scope that is `undefined` is none. */
  [Equal.symbol](that: unknown): boolean {
    return (
      that instanceof IdempotencyIdentifiers &&
      this.operation === that.operation &&
      this.idempotencyKey === that.idempotencyKey &&
      this.scope === that.scope
    )
  }

  [Hash.symbol](): number {
    const { idempotencyKey, operation, scope } = this
    return Hash.cached(this, Hash.array([operation, scope, idempotencyKey]))
  }
}
