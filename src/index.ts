/**
 * Run any effect once per idempotency key.
 *
 * @since 0.1.0
 */
export { Idempotency, type IdempotencyEngineOptions } from "./Idempotency.js"
export { IdempotencyDomainService, type IdempotencyDomainServiceOptions } from "./IdempotencyDomainService.js"
export * from "./IdempotencyError.js"
export { IdempotencyIdentifiers } from "./IdempotencyIdentifiers.js"
export { IdempotencyKey, type IdempotencyKeySchema, type KeySource, OperationName } from "./IdempotencyKey.js"
export { IdempotencyMetrics } from "./IdempotencyMetrics.js"
export { IdempotencyOutcome, type IdempotencyOutcomeDefinition } from "./IdempotencyOutcome.js"
export { IdempotencyRecord } from "./IdempotencyRecord.js"
export { IdempotencyRepository } from "./IdempotencyRepository.js"
export { IdempotencyTransactions } from "./IdempotencyTransactions.js"
export { IdempotentExecution } from "./IdempotentExecution.js"
export type {
  FingerprintInput,
  Json,
  Jsonable,
  JsonableIn,
  NotJson,
  Recordable,
  RecordableAsJson
} from "./Jsonable.js"
export { layerMemory } from "./layerMemory.js"
export { MemoryIdempotencyRepository, type MemoryIdempotencyRepositoryOptions } from "./MemoryIdempotencyRepository.js"
export { ResultCipher } from "./ResultCipher.js"
export {
  TieredIdempotencyRepository,
  type TieredIdempotencyRepositoryOptions
} from "./TieredIdempotencyRepository.js"
export {
  type CanonicalFingerprint,
  type IdempotencyFailures,
  type IdempotencyKeyFor,
  type IdempotencyKeyInput,
  type IdempotencyOptions,
  type IdempotencyResult,
  withIdempotency,
  withIdempotencyOutcome
} from "./withIdempotency.js"
export { withIdempotentStep } from "./withIdempotentStep.js"
