/** What must not compile, and what the compiler must say of it, in every version. */

export interface Rejection {
  readonly code: string
  readonly says: string
  /** TypeScript 7 explains the last overload alone, which is the data-last one. */
  readonly saysIn7?: string
}

/** What every piece of code below begins with. */
export const preamble = [
  `import * as Effect from "effect/Effect"`,
  `import * as Option from "effect/Option"`,
  `import * as Schema from "effect/Schema"`,
  `import { Idempotency, isIdempotencyError, layerMemory } from "effect-idempotency"`,
  `import { withIdempotency, withIdempotencyOutcome, withIdempotentStep } from "effect-idempotency"`,
  `import { IdempotentConsumer } from "effect-idempotency/consumer"`,
  `import { withIdempotentTransaction } from "effect-idempotency/sql"`,
  `import { CardDeclined, charge, chargeDated, DatedReceiptSchema } from "../fixtures/domain.js"`,
  `export const protect = withIdempotency("pay", "k")`,
  `export declare const perhaps: string | undefined`,
  `export class Counter { count = 1; next() { return this.count + 1 } }`,
  ""
].join("\n")

const aDate = "a Date comes back as a string"
const noFunctions = "JSON has no functions: is this a class instance?"
const noSymbolKeys = "JSON has no symbol keys: is this a class instance?"

export const rejections: { readonly [name: string]: Rejection } = {
  /* Results that are not JSON. */
  "a Date in the result, and names the remedy": {
    // The first of its kind: a compiler explains only once per program why a Date is not what is wanted.
    code: `chargeDated.pipe(withIdempotency("pay", "k"))`,
    says: `Property '"this result needs a \`success\` schema"' is missing in type 'Date' but required in type 'NotJson<"${aDate}">'`
  },
  "a Date, applied by hand": { code: `protect(chargeDated)`, says: aDate },
  "a Date, data-first": {
    code: `withIdempotency(chargeDated, "pay", "k")`,
    says: aDate,
    saysIn7: "is not assignable to parameter of type 'string'"
  },
  "a Date, for an outcome": { code: `chargeDated.pipe(withIdempotencyOutcome("pay", "k"))`, says: aDate },
  "a Date, in a step": { code: `chargeDated.pipe(withIdempotentStep("charge"))`, says: aDate },
  "a Date, beside other options": {
    code: `chargeDated.pipe(withIdempotency("pay", "k", { error: CardDeclined, timeToLive: "1 hour" }))`,
    says: aDate
  },
  "a Map": { code: `protect(Effect.succeed(new Map([["a", 1]])))`, says: noFunctions },
  "a Set": { code: `protect(Effect.succeed({ tags: new Set(["a"]) }))`, says: noFunctions },
  "a Uint8Array": { code: `protect(Effect.succeed(new Uint8Array(1)))`, says: noFunctions },
  "an instance with methods": { code: `protect(Effect.succeed(new Counter()))`, says: noFunctions },
  "a function": { code: `protect(Effect.succeed({ retry: () => 1 }))`, says: noFunctions },
  "an Option": { code: `protect(Effect.succeed(Option.some(1)))`, says: noSymbolKeys },
  "a bigint": { code: `protect(Effect.succeed({ amount: 5n }))`, says: "JSON has no bigint" },
  "a symbol": { code: `protect(Effect.succeed(Symbol.for("a")))`, says: "JSON has no symbol" },
  unknown: { code: `protect(Effect.succeed(JSON.parse("1") as unknown))`, says: "unknown may not be JSON" },
  "an unknown property": {
    code: `protect(Effect.succeed({ payload: JSON.parse("1") as unknown }))`,
    says: "unknown may not be JSON"
  },
  "any object": {
    code: `protect(Effect.succeed({} as object))`,
    says: "an object type without properties may not be JSON"
  },
  "undefined in an array": {
    code: `protect(Effect.succeed(["a", undefined]))`,
    says: "undefined in an array comes back as null"
  },
  "a Date in a fingerprint": { code: `withIdempotency("pay", "k", { fingerprint: { at: new Date() } })`, says: aDate },

  /* Schemas and callbacks. */
  "a schema of another type": {
    code: `charge.pipe(withIdempotency("pay", "k", { success: DatedReceiptSchema }))`,
    says: "Property 'at' is missing in type 'Receipt'"
  },
  "a schema of the encoded side": {
    code: `withIdempotency("pay", "k", { success: Schema.Struct({ at: Schema.String }) })(chargeDated)`,
    says: "Type 'Date' is not assignable to type 'string'"
  },
  "a callback for one of two failures": {
    code: `withIdempotency("pay", "k", { isOutcomeUnknown: (_: CardDeclined) => true })(charge)`,
    says: "missing in type 'GatewayTimeout' but required in type 'CardDeclined'"
  },
  "a callback that is not annotated where it must be": {
    code: `withIdempotency("pay", "k", { isOutcomeUnknown: (error) => error._tag === "GatewayTimeout" })(charge)`,
    says: "'error' is of type 'unknown'"
  },

  /* Misspelt options. */
  "a misspelt option": {
    code: `charge.pipe(withIdempotency("pay", "k", { leese: "1 second" }))`,
    says: "'leese' does not exist in type 'IdempotencyOptions<"
  },
  "a misspelt option, data-first": {
    code: `withIdempotency(charge, "pay", "k", { leese: "1 second", scope: "tenant-1" })`,
    says: "'leese' does not exist in type 'IdempotencyOptions<"
  },
  "a misspelt value": {
    code: `charge.pipe(withIdempotency("pay", "k", { onStorageFailure: "ignore" }))`,
    says: `Type '"ignore"' is not assignable to type`
  },
  "a misspelt unit": {
    code: `charge.pipe(withIdempotency("pay", "k", { timeToLive: "1 hourr" }))`,
    says: `"1 hourr"`
  },

  /* Options that exclude each other. */
  "at-most-once that proceeds": {
    code: `withIdempotency("pay", "k", { guarantee: "at-most-once", onStorageFailure: "proceed" })`,
    says: `Type '"proceed"' is not assignable to type '"fail"'`
  },
  "at-most-once that is optimistic": {
    code: `withIdempotency("pay", "k", { guarantee: "at-most-once", strategy: "optimistic" })`,
    says: `Type '"at-most-once"' is not assignable to type '"at-least-once"'`
  },
  "at-most-once without a key": {
    code: `withIdempotency("pay", perhaps, { guarantee: "at-most-once" })`,
    says: "Argument of type 'string | undefined' is not assignable to parameter of type 'string'"
  },
  "an optimistic lease": {
    code: `withIdempotency("pay", "k", { strategy: "optimistic", lease: "10 seconds" })`,
    says: "Type 'string' is not assignable to type 'undefined'"
  },

  /* Consumers. */
  "a Date that a message's handler gives": {
    code: `chargeDated.pipe(IdempotentConsumer.process("shipping", "m-1"))`,
    says: aDate
  },
  "a Date that the handler of a batch gives": {
    code: `IdempotentConsumer.processBatch("shipping", ["m-1"], { id: (id) => id })(() => chargeDated)`,
    says: aDate
  },
  "a misspelt option of a consumer": {
    code: `charge.pipe(IdempotentConsumer.process("shipping", "m-1", { maxAttemps: 5 }))`,
    says: "'maxAttemps' does not exist in type 'ConsumerOptions<"
  },
  "a misspelt option of a batch": {
    code: `IdempotentConsumer.processBatch("shipping", ["m-1"], { id: (id) => id, concurency: 5 })`,
    says: "'concurency' does not exist in type 'MessagesOptions<"
  },
  "an optimistic consumer": {
    code: `IdempotentConsumer.process("shipping", "m-1", { strategy: "optimistic" })`,
    says: "'strategy' does not exist in type 'ConsumerOptions<"
  },
  "a consumer at-most-once that runs without an id": {
    code: `IdempotentConsumer.process("shipping", "m-1", { guarantee: "at-most-once", onMissingId: "run" })`,
    says: `Type '"run"' is not assignable to type '"refuse"'`
  },

  /* Transactions. */
  "a Date that a transaction gives": {
    code: `chargeDated.pipe(withIdempotentTransaction("pay", "k"))`,
    says: aDate
  },
  "a transaction whose key may be absent": {
    code: `charge.pipe(withIdempotentTransaction("pay", perhaps))`,
    says: "Argument of type 'string | undefined' is not assignable to parameter of type 'string'"
  },
  "a misspelt option of a transaction": {
    code: `charge.pipe(withIdempotentTransaction("pay", "k", { timeToLife: "1 hour" }))`,
    says: "'timeToLife' does not exist in type 'IdempotentTransactionOptions<"
  },
  "an isolation level that is none": {
    code: `charge.pipe(withIdempotentTransaction("pay", "k", { isolation: "snapshot" }))`,
    says: `Type '"snapshot"' is not assignable to type`
  },
  "recorded failures of a transaction": {
    code: `withIdempotentTransaction("pay", "k", { error: CardDeclined })`,
    says: "'error' does not exist in type 'IdempotentTransactionOptions<"
  },
  "recorded failures of an inbox": {
    code: `IdempotentConsumer.process("shipping", "m-1", { transactional: true, error: CardDeclined })`,
    says: "Type 'typeof CardDeclined' is not assignable to type 'undefined'"
  },
  "the lease of an inbox": {
    code: `IdempotentConsumer.process("shipping", "m-1", { transactional: true, lease: "1 minute" })`,
    says: "Type 'string' is not assignable to type 'undefined'"
  },
  "an inbox at-most-once": {
    code: `IdempotentConsumer.process("shipping", "m-1", { transactional: true, guarantee: "at-most-once" })`,
    says: "Type 'string' is not assignable to type 'undefined'"
  },
  "an inbox that proceeds without its database": {
    code: `IdempotentConsumer.process("shipping", "m-1", { transactional: true, onStorageFailure: "proceed" })`,
    says: "Type 'string' is not assignable to type 'undefined'"
  },

  /* What a program has to provide. */
  "a program without a layer": {
    code: `Effect.runPromise(Effect.succeed(1).pipe(protect))`,
    says: "Type 'Idempotency' is not assignable to type 'never'"
  },
  "a step outside a protected effect": {
    code: `Effect.runPromise(Effect.succeed(1).pipe(withIdempotentStep("charge")))`,
    says: "Type 'IdempotentExecution' is not assignable to type 'never'"
  },
  "a transaction on a store without any": {
    code: `Effect.runPromise(Effect.succeed(1).pipe(withIdempotentTransaction("pay", "k"), Effect.provide(layerMemory)))`,
    says: "Type 'IdempotencyTransactions' is not assignable to type 'never'"
  },
  "an engine without a store": {
    code: `Effect.runPromise(Effect.succeed(1).pipe(protect, Effect.provide(Idempotency.layer)))`,
    says: "IdempotencyRepository"
  },
  "a helper of any result": {
    code: `export const helper = <A, E, R>(self: Effect.Effect<A, E, R>) => protect(self)`,
    says: "RecordableAsJson<A>"
  }
}
