import type * as Context from "effect/Context"
import { IdempotencyKey } from "../IdempotencyKey.js"
import type { IdempotentExecution } from "../IdempotentExecution.js"

/** What a protected effect is told about itself. */
export const executionOf = (
  operation: string,
  idempotencyKey: string,
  scope: string | undefined,
  attempt: number
): Context.Tag.Service<IdempotentExecution> => ({
  operation,
  idempotencyKey,
  scope,
  attempt,
  childKey: (name) => IdempotencyKey.fromUntrusted("child", operation, scope ?? "", idempotencyKey, name)
})
