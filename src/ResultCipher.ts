/**
 * Encryption of results at rest.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import type * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import type { IdempotencyValidationError } from "./IdempotencyError.js"
import type { IdempotencyIdentifiers } from "./IdempotencyIdentifiers.js"
import { makeAesGcm, Undecryptable } from "./internal/cipher.js"

/**
 * What encrypts results before they are stored, for `IdempotencyRepository.layerEncrypted`. `make` and the layers give
 * AES-256-GCM by Web Crypto, under keys of yours; provide a service of your own to use a key management service.
 *
 * The first key encrypts, and all of them decrypt. To rotate: add the new key last, in every process; then put it first,
 * in every process; and remove the old one once the longest retention has passed. A text that was encrypted under a key
 * that is not among them cannot be read.
 *
 * Each text has a random initialization vector of 96 bits: change the key before it has encrypted 2³² of them.
 *
 * @example
 * ```ts
 * import * as Config from "effect/Config"
 * import * as Layer from "effect/Layer"
 * import { IdempotencyRepository, ResultCipher } from "effect-idempotency"
 * import { RedisIdempotencyRepository } from "effect-idempotency/redis"
 *
 * // 32 bytes in base64, as `openssl rand -base64 32` prints them.
 * const cipher = ResultCipher.layerConfig({
 *   keys: Config.map(Config.redacted("RESULT_KEY"), (key) => [{ id: "2026-01", key }])
 * })
 *
 * const repository = IdempotencyRepository.layerEncrypted().pipe(
 *   Layer.provide([RedisIdempotencyRepository.layerClient({ url: "redis://localhost:6380" }), cipher])
 * )
 * ```
 *
 * @since 0.1.0
 * @category services
 */
export class ResultCipher extends Context.Tag("effect-idempotency/ResultCipher")<
  ResultCipher,
  {
    /** A text that gives nothing away of the plain one but its length. */
    readonly encrypt: (plain: string, context: ResultCipher.Context) => Effect.Effect<string, Error>
    /**
     * The plain text, if it was encrypted in this very context; else it must fail, with {@link ResultCipher.Undecryptable}
     * where it will never succeed. No message may repeat the plain text or a key: it reaches logs.
     */
    readonly decrypt: (encrypted: string, context: ResultCipher.Context) => Effect.Effect<string, Error>
  }
>() {
  /**
   * AES-256-GCM. `IdempotencyValidationError` names everything that is wrong with the keys, and never a key.
   *
   * @example
   * ```ts
   * import type * as Context from "effect/Context"
   * import type * as Effect from "effect/Effect"
   * import * as Redacted from "effect/Redacted"
   * import { type IdempotencyValidationError, ResultCipher } from "effect-idempotency"
   *
   * const key = Redacted.make(crypto.getRandomValues(new Uint8Array(32)))
   * const cipher: Effect.Effect<Context.Tag.Service<ResultCipher>, IdempotencyValidationError> = ResultCipher.make({
   *   keys: [{ id: "2026-01", key }]
   * })
   * ```
   *
   * @since 0.1.0
   * @category constructors
   */
  static readonly make: (
    options: ResultCipher.Options
  ) => Effect.Effect<Context.Tag.Service<ResultCipher>, IdempotencyValidationError> = makeAesGcm

  /**
   * {@link ResultCipher.make}, as a layer.
   *
   * @example
   * ```ts
   * import type * as Redacted from "effect/Redacted"
   * import { ResultCipher } from "effect-idempotency"
   *
   * // The first encrypts, both decrypt.
   * const cipher = (newer: Redacted.Redacted<string>, older: Redacted.Redacted<string>) =>
   *   ResultCipher.layer({ keys: [{ id: "2026-02", key: newer }, { id: "2026-01", key: older }] })
   * ```
   *
   * @since 0.1.0
   * @category layers
   */
  static readonly layer = (options: ResultCipher.Options): Layer.Layer<ResultCipher, IdempotencyValidationError> =>
    Layer.effect(ResultCipher, makeAesGcm(options))

  /**
   * {@link ResultCipher.layer}, from `Config`.
   *
   * @since 0.1.0
   * @category layers
   */
  static readonly layerConfig = (
    config: Config.Config.Wrap<ResultCipher.Options>
  ): Layer.Layer<ResultCipher, IdempotencyValidationError | ConfigError.ConfigError> =>
    Layer.effect(ResultCipher, Effect.flatMap(Config.unwrap(config), makeAesGcm))

  /**
   * The error of a text that will never be decrypted: it was changed, or its key is gone. To a process, a key that it was
   * not given is gone, whoever else has it. As soon as one recorded step fails so, `reset` drops all steps of its key, as
   * they would keep it from every caller; while any step fails with another error all of them stay, for a cipher that is
   * away comes back.
   *
   * @example
   * ```ts
   * import * as Effect from "effect/Effect"
   * import { ResultCipher } from "effect-idempotency"
   *
   * const destroyed = Effect.fail(new ResultCipher.Undecryptable("its key was destroyed"))
   * ```
   *
   * @since 0.1.0
   * @category errors
   */
  static readonly Undecryptable: new (message: string, options?: ErrorOptions) => Error = Undecryptable
}

/**
 * @since 0.1.0
 */
export declare namespace ResultCipher {
  /**
   * The keys: at least one. The first encrypts, all decrypt.
   *
   * @since 0.1.0
   * @category models
   */
  interface Options {
    readonly keys: ReadonlyArray<Key>
  }

  /**
   * A key of the cipher.
   *
   * @since 0.1.0
   * @category models
   */
  interface Key {
    /** 1 to 64 letters, digits, `_` and `-`, unique among the keys. It is stored beside each text, and is no secret. */
    readonly id: string
    /** 32 random bytes, as they are or in base64 (either alphabet). */
    readonly key: Redacted.Redacted<Uint8Array> | Redacted.Redacted<string>
  }

  /**
   * What a text belongs to: additional authenticated data. All of it is known again where the text is decrypted.
   *
   * @since 0.1.0
   * @category models
   */
  interface Context {
    readonly identifiers: IdempotencyIdentifiers
    readonly kind: "success" | "failure" | "step"
    /**
     * The attempt that ended with it: the token of its claim, which no other has. Its number where record and effect
     * share a transaction. `undefined` for a step, which later attempts are given too.
     */
    readonly attempt: string | number | undefined
    /** The name of the step. */
    readonly step: string | undefined
  }
}
