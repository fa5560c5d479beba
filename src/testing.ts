/**
 * For tests: the contract suite for stores, and metrics that remember.
 *
 * @since 0.1.0
 */
export * from "./testing/FaultInjectingRepository.js"
export * from "./testing/RecordingMetrics.js"
export * from "./testing/repositoryContract.js"
