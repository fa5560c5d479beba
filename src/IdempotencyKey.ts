/**
 * Idempotency keys and operation names, and ways to derive a key.
 *
 * @since 0.1.0
 */
import type * as Brand from "effect/Brand"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import { IdempotencyValidationError } from "./IdempotencyError.js"
import { canonicalJson, hashParts, hashPartsToHex, isWellFormed, sha256Hex } from "./internal/hash.js"
import { keyIssue, operationIssue } from "./internal/identifiers.js"
import { pythonJson } from "./internal/pythonJson.js"
import type { FingerprintInput, Json } from "./Jsonable.js"

/** Trims, then refuses what `issueOf` finds wrong. */
const trimmed = (issueOf: (text: string) => string | undefined) =>
  Schema.transform(
    Schema.String,
    Schema.String.pipe(
      Schema.filter((text) => (text === text.trim() ? issueOf(text) : "surrounding white space is not trimmed"))
    ),
    { strict: true, decode: (text) => text.trim(), encode: (text) => text }
  )

/**
 * What is protected: 1–100 characters after trimming, no `:`, no control characters.
 *
 * @since 0.1.0
 * @category models
 */
export type OperationName = string & Brand.Brand<"OperationName">

/**
 * The schema of {@link OperationName}. Decoding trims.
 *
 * @since 0.1.0
 * @category schemas
 */
export const OperationName: Schema.Schema<OperationName, string> = trimmed(operationIssue).pipe(
  Schema.brand("OperationName"),
  Schema.annotations({ identifier: "OperationName" })
)

/**
 * Which one of an operation's executions: 1–255 characters after trimming, no `:`, no control characters.
 *
 * @since 0.1.0
 * @category models
 */
export type IdempotencyKey = string & Brand.Brand<"IdempotencyKey">

/**
 * What a derived key stands for: an entity, what is done to it, and with which parameters. No `params` and empty ones
 * are the same. `derive` takes them if they are JSON by type; an instance of a class without properties of its own has
 * no JSON form.
 *
 * @since 0.1.0
 * @category models
 */
export interface KeySource<P> {
  readonly entityId: string
  readonly action: string
  readonly params?: P | undefined
}

/**
 * The schema of {@link IdempotencyKey} (decoding trims), and the ways to make a key.
 *
 * @since 0.1.0
 * @category schemas
 */
export interface IdempotencyKeySchema extends Schema.Schema<IdempotencyKey, string> {
  /**
   * A deterministic key: 32 hexadecimal characters, of SHA-256 over the length-prefixed parts, with `params` in
   * their RFC 8785 form, so that the order of properties does not matter. Unambiguous: `("a", "b:c")` and
   * `("a:b", "c")` differ. Throws `IdempotencyValidationError` if `params` has no JSON form, as an instance of a class
   * without properties of its own.
   *
   * @example
   * ```ts
   * import { IdempotencyKey } from "effect-idempotency"
   *
   * const key = IdempotencyKey.derive({ entityId: "order-1", action: "charge", params: { amount: 100 } })
   * ```
   *
   * @since 0.1.0
   * @category constructors
   */
  readonly derive: <P = never>(
    // The check is apart from what `P` is inferred from: a union would not be inferred through it.
    source: KeySource<P> & { readonly params?: FingerprintInput<NoInfer<P>> | undefined }
  ) => IdempotencyKey

  /**
   * The key that the widespread Python recipe makes, byte for byte: the first 32 hexadecimal digits of
   * `sha256(entity_id + ":" + action [+ ":" + json.dumps(params, sort_keys=True) if params])`. For fleets of several
   * languages; ambiguous where parts hold colons, so prefer `derive`. A whole number counts as a Python `int`.
   * Throws `IdempotencyValidationError` if `params` has no JSON form.
   *
   * @example
   * ```ts
   * import { IdempotencyKey } from "effect-idempotency"
   *
   * const key = IdempotencyKey.deriveCompatible({ entityId: "order-1", action: "charge", params: { amount: 100 } })
   * ```
   *
   * @since 0.1.0
   * @category constructors
   */
  readonly deriveCompatible: (source: {
    readonly entityId: string
    readonly action: string
    readonly params?: { readonly [key: string]: Json | undefined } | undefined
  }) => IdempotencyKey

  /**
   * An opaque key of 43 characters from client input: base64url of SHA-256 over the length-prefixed parts. Whatever
   * the parts hold, the key is valid, and different parts give different keys.
   *
   * @example
   * ```ts
   * import { IdempotencyKey } from "effect-idempotency"
   *
   * const key = IdempotencyKey.fromUntrusted("tenant-1", "any text: at all")
   * ```
   *
   * @since 0.1.0
   * @category constructors
   */
  readonly fromUntrusted: (...parts: ReadonlyArray<string>) => IdempotencyKey

  /**
   * A random key (UUID version 4, RFC 9562), for callers that keep it across their retries.
   *
   * @since 0.1.0
   * @category constructors
   */
  readonly random: Effect.Effect<IdempotencyKey>
}

const keySchema: Schema.Schema<IdempotencyKey, string> = trimmed(keyIssue).pipe(
  Schema.brand("IdempotencyKey"),
  Schema.annotations({ identifier: "IdempotencyKey" })
)

const keyOf: (text: string) => IdempotencyKey = Schema.validateSync(keySchema)

const invalidParams = (why: string) =>
  new IdempotencyValidationError({ operation: "", issues: [`the parameters have no JSON form: ${why}`] })

/** The canonical JSON of parameters, or `undefined` where there are none. What has no JSON form is not none. */
const canonicalParams = (params: unknown): string | undefined => {
  if (params === undefined) return undefined
  const canonical = Either.getOrThrowWith(canonicalJson(params), invalidParams)
  return canonical === "{}" || canonical === "[]" ? undefined : canonical
}

/**
 * The schema of a key, and the ways to make one: see {@link IdempotencyKeySchema}.
 *
 * @example
 * ```ts
 * import * as Schema from "effect/Schema"
 * import { IdempotencyKey } from "effect-idempotency"
 *
 * const key: IdempotencyKey = Schema.decodeSync(IdempotencyKey)(" order-1 ") // "order-1"
 * ```
 *
 * @since 0.1.0
 * @category schemas
 */
export const IdempotencyKey: IdempotencyKeySchema = Object.assign(keySchema, {
  derive: <P = never>({ entityId, action, params }: KeySource<P>): IdempotencyKey => {
    const canonical = canonicalParams(params)
    return keyOf(
      canonical === undefined ? hashPartsToHex(entityId, action) : hashPartsToHex(entityId, action, canonical)
    )
  },
  deriveCompatible: ({
    entityId,
    action,
    params
  }: {
    readonly entityId: string
    readonly action: string
    readonly params?: { readonly [key: string]: Json | undefined } | undefined
  }): IdempotencyKey => {
    if (!isWellFormed(entityId) || !isWellFormed(action)) throw invalidParams("a part holds a lone surrogate")
    // `null`, which the type excludes, is Python's `None`.
    const canonical = canonicalParams(params ?? undefined)
    if (canonical === undefined) return keyOf(sha256Hex(`${entityId}:${action}`).slice(0, 32))
    const text = Either.getOrThrowWith(
      Either.try({ try: () => pythonJson(params as Json), catch: (cause) => String(cause) }),
      invalidParams
    )
    return keyOf(sha256Hex(`${entityId}:${action}:${text}`).slice(0, 32))
  },
  fromUntrusted: (...parts: ReadonlyArray<string>): IdempotencyKey => keyOf(hashParts(...parts)),
  random: Effect.sync(() => keyOf(globalThis.crypto.randomUUID()))
})
