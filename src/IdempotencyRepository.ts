/**
 * Storage: the contract that users and the engine see, and the one that a store's author implements.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as HashMap from "effect/HashMap"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type {
  IdempotencyInFlightError,
  IdempotencyKeyCollisionError,
  IdempotencyRecordExpiredError,
  IdempotencyResultUnavailableError,
  IdempotencyStorageError,
  IdempotencyValidationError
} from "./IdempotencyError.js"
import type { IdempotencyIdentifiers } from "./IdempotencyIdentifiers.js"
import type { IdempotencyRecord } from "./IdempotencyRecord.js"
import { IdempotencyTransactions } from "./IdempotencyTransactions.js"
import { encryptedDriver, encryptedTransactions } from "./internal/encryptedDriver.js"
import { makeLocalCache } from "./internal/localCache.js"
import type * as Protocol from "./internal/protocol.js"
import { makeRepository } from "./internal/repository.js"
import type { Json } from "./Jsonable.js"
import { ResultCipher } from "./ResultCipher.js"

/**
 * Records, operators' tools, and the claims that the engine lives on. Layers come from the stores.
 *
 * @since 0.1.0
 * @category services
 */
export class IdempotencyRepository extends Context.Tag("effect-idempotency/IdempotencyRepository")<
  IdempotencyRepository,
  {
    /**
     * The settled record of the key. `None` if there is none, if it has expired, or while the key is claimed.
     * `IdempotencyResultUnavailableError` if what is stored cannot be read.
     */
    readonly get: (
      identifiers: IdempotencyIdentifiers
    ) => Effect.Effect<Option.Option<IdempotencyRecord>, IdempotencyStorageError | IdempotencyResultUnavailableError>
    /**
     * Stores a record where there is none. A record that exists, or a key that is claimed, is a collision; an expired
     * record is refused.
     */
    readonly save: (
      record: IdempotencyRecord
    ) => Effect.Effect<void, IdempotencyKeyCollisionError | IdempotencyRecordExpiredError | IdempotencyStorageError>
    /** Removes a settled record, its attempt included; whether it was there. */
    readonly delete: (identifiers: IdempotencyIdentifiers) => Effect.Effect<boolean, IdempotencyStorageError>
    /** `get` for many keys, one round trip per node. What has no record is left out. */
    readonly getMany: (
      identifiers: Iterable<IdempotencyIdentifiers>
    ) => Effect.Effect<
      HashMap.HashMap<IdempotencyIdentifiers, IdempotencyRecord>,
      IdempotencyStorageError | IdempotencyResultUnavailableError
    >
    /**
     * `save` for many records, one round trip per node. If one of them has expired, nothing is written. A
     * collision names every colliding key, duplicates within the input included; the others stay saved, unless
     * `rollbackOnError` is set: then all are saved or none. `IdempotencyValidationError`, before anything is written,
     * if the store cannot keep that for these keys (a cluster whose slots they do not share).
     */
    readonly saveMany: (
      records: Iterable<IdempotencyRecord>,
      options?: { readonly rollbackOnError?: boolean | undefined }
    ) => Effect.Effect<
      void,
      | IdempotencyKeyCollisionError
      | IdempotencyRecordExpiredError
      | IdempotencyValidationError
      | IdempotencyStorageError
    >
    /** `delete` for many keys, one round trip per node; how many were there. */
    readonly deleteMany: (
      identifiers: Iterable<IdempotencyIdentifiers>
    ) => Effect.Effect<number, IdempotencyStorageError>

    /** Operators: whatever is stored for a key, claims included. */
    readonly inspect: (
      identifiers: IdempotencyIdentifiers
    ) => Effect.Effect<
      Option.Option<IdempotencyRepository.State>,
      IdempotencyStorageError | IdempotencyResultUnavailableError
    >
    /**
     * Operators: lets a key run again; whether there was anything. `IdempotencyInFlightError` while an owner is
     * running, unless forced: the owner then loses its key and is interrupted at its next renewal. Its finished steps are
     * kept, and not run again; but where steps are encrypted, all of them are dropped, and run again, as soon as one will
     * never be decrypted (see {@link IdempotencyRepository.layerEncrypted}).
     */
    readonly reset: (
      identifiers: IdempotencyIdentifiers,
      options?: { readonly force?: boolean | undefined }
    ) => Effect.Effect<boolean, IdempotencyInFlightError | IdempotencyStorageError>
    /**
     * Operators: records what is known to have happened under a key whose outcome is unknown, or whose owner lapsed;
     * whether it was such a key. `IdempotencyInFlightError` while an owner is running. `IdempotencyValidationError`
     * if the result is not JSON.
     */
    readonly resolve: (
      identifiers: IdempotencyIdentifiers,
      outcome: IdempotencyRepository.Resolution
    ) => Effect.Effect<boolean, IdempotencyInFlightError | IdempotencyValidationError | IdempotencyStorageError>

    /**
     * Operators: what is stored, claims included and results left out, a page at a time. A page may hold fewer keys than
     * it could, or none, or one that an earlier page held: there is more as long as it has a cursor. What comes or goes
     * meanwhile may be missed. `IdempotencyValidationError` if the store cannot list, if `limit` is out of its bounds, or
     * if the cursor is not one of this store.
     */
    readonly list: (
      request?: IdempotencyRepository.ListRequest
    ) => Effect.Effect<IdempotencyRepository.Page, IdempotencyStorageError | IdempotencyValidationError>

    /** For the engine: the driver's verbs, measured. */
    readonly claims: IdempotencyRepository.Claims
    /** For stores made of stores: what this one was made of, unmeasured. */
    readonly driver: IdempotencyRepository.Driver
  }
>() {
  /**
   * The repository over a driver: records, validation and metrics. It measures with the `IdempotencyMetrics` from
   * beneath if there are, else with Effect `Metric`s.
   *
   * @example
   * ```ts
   * import * as Layer from "effect/Layer"
   * import { IdempotencyRepository } from "effect-idempotency"
   *
   * // A store of your own.
   * declare const driver: IdempotencyRepository.Driver
   *
   * const repository = Layer.effect(IdempotencyRepository, IdempotencyRepository.make(driver))
   * ```
   *
   * @since 0.1.0
   * @category constructors
   */
  static readonly make: (
    driver: IdempotencyRepository.Driver,
    options?: IdempotencyRepository.Options
  ) => Effect.Effect<Context.Tag.Service<IdempotencyRepository>> = makeRepository

  /**
   * A cache in this process before the repository from beneath: replays of a settled record ask no store for a while.
   * It holds successes and recorded failures, and compares fingerprints as the store does. `reset`, `resolve` and
   * `delete` through this repository clear it; other processes may replay the old result for up to `timeToLive`.
   *
   * `get`, `getMany` and `claims.read` may be answered from the cache too; `inspect` asks the store. `IdempotencyValidationError` if an
   * option is out of its bounds.
   *
   * @example
   * ```ts
   * import * as Layer from "effect/Layer"
   * import { IdempotencyRepository } from "effect-idempotency"
   * import { RedisIdempotencyRepository } from "effect-idempotency/redis"
   *
   * const repository = IdempotencyRepository.layerLocalCache({ timeToLive: "5 seconds" }).pipe(
   *   Layer.provide(RedisIdempotencyRepository.layerClient({ url: "redis://localhost:6380" }))
   * )
   * ```
   *
   * @since 0.1.0
   * @category layers
   */
  static readonly layerLocalCache = (
    options: IdempotencyRepository.LocalCacheOptions = {}
  ): Layer.Layer<IdempotencyRepository, IdempotencyValidationError, IdempotencyRepository> =>
    Layer.effect(
      IdempotencyRepository,
      Effect.flatMap(Effect.zip(IdempotencyRepository, makeLocalCache(options)), ([{ driver }, cached]) =>
        IdempotencyRepository.make(cached(driver), options)
      )
    )

  /**
   * Results are encrypted by the `ResultCipher` before they reach the repository from beneath, and decrypted on their
   * way back: successes, recorded failures, steps, HTTP responses, and what operators save and resolve. Identities,
   * fingerprints (hashes), numbers of attempts, names of steps, instants and the length of a result stay as they are; of
   * these, only identities and names of steps are authenticated.
   *
   * A result is bound to its identity, to its kind (success, failure, or step and its name) and to the attempt that
   * ended with it, which is known by the token of its claim. What was changed, moved to another record, taken from
   * an earlier attempt, or encrypted under a key that is not given is `IdempotencyResultUnavailableError`: never replayed
   * and never run again until `reset`. A step is bound to its identity and name alone, as later attempts are given it too.
   * Whoever may write to the store can still delete a record, or put a whole old record back.
   *
   * `reset` keeps the steps of a key, unless one of them will never be decrypted: then it drops all of them, with a
   * warning in the log, and they run again. Under a key that this process was not given nothing will ever be decrypted,
   * also where others have that key: give all keys to every process that resets. While any step cannot be read for
   * another reason, as the cipher is away, all of them stay.
   *
   * `withIdempotentTransaction`: the `IdempotencyTransactions` of the SQL layer write rows themselves. Given to this layer
   * with `Layer.provideMerge`, both services are replaced by those that encrypt. Those of a SQL layer that is provided to
   * the program on its own write plain text, which this repository then refuses.
   *
   * It belongs above a tiered repository, as what a repository copies is what it sees; a local cache belongs above it,
   * unless it is to hold ciphertext too. Stored texts are a third longer, and about 60 characters: `maxResultBytes` is
   * still about the plain text, and the bound on the length of all steps about the stored one.
   *
   * What was stored before is refused, unless `plaintext` is `"accept"`: meant for a migration, as it also accepts
   * what somebody else has written.
   *
   * @example
   * ```ts
   * import * as Layer from "effect/Layer"
   * import * as Redacted from "effect/Redacted"
   * import { IdempotencyRepository, ResultCipher } from "effect-idempotency"
   * import { SqlIdempotencyRepository } from "effect-idempotency/sql"
   *
   * declare const key: Redacted.Redacted<Uint8Array>
   *
   * // `IdempotencyRepository` and `IdempotencyTransactions`, encrypting both.
   * const services = IdempotencyRepository.layerEncrypted().pipe(
   *   Layer.provideMerge(SqlIdempotencyRepository.layer),
   *   Layer.provide(ResultCipher.layer({ keys: [{ id: "2026-01", key }] }))
   * )
   * ```
   *
   * @since 0.1.0
   * @category layers
   */
  static readonly layerEncrypted = ({
    plaintext = "refuse",
    ...options
  }: IdempotencyRepository.EncryptedOptions = {}): Layer.Layer<
    IdempotencyRepository,
    never,
    IdempotencyRepository | ResultCipher
  > =>
    Layer.effectContext(
      Effect.gen(function* () {
        const { driver } = yield* IdempotencyRepository
        const cipher = yield* ResultCipher
        const transactions = yield* Effect.serviceOption(IdempotencyTransactions)
        const repository = yield* IdempotencyRepository.make(encryptedDriver(driver, cipher, plaintext), options)
        const context = Context.make(IdempotencyRepository, repository)
        // Not in the type, as only a SQL layer has them; merged after those of a layer that is merged with this one.
        return Option.match(transactions, {
          onNone: () => context,
          onSome: (plain) =>
            Context.add(context, IdempotencyTransactions, encryptedTransactions(plain, cipher, plaintext))
        })
      })
    )
}

/**
 * @since 0.1.0
 */
export declare namespace IdempotencyRepository {
  /**
   * How the operations on records and those of operators behave.
   *
   * @since 0.1.0
   * @category models
   */
  interface Options {
    /** How long each may take before it fails with a `Timeout`; 1 second by default. */
    readonly operationTimeout?: Duration.DurationInput | undefined
  }

  /**
   * How much `layerLocalCache` holds, and for how long.
   *
   * @since 0.1.0
   * @category models
   */
  interface LocalCacheOptions extends Options {
    /** How many records at most, 1 or more; 10,000 by default. The least recently used goes first. */
    readonly capacity?: number | undefined
    /** How many bytes of encoded results and keys at most, 1 or more; 64 MiB by default. */
    readonly maxBytes?: number | undefined
    /** How long a record is used at most, never beyond its own end; 10 seconds by default. */
    readonly timeToLive?: Duration.DurationInput | undefined
  }

  /**
   * What `layerEncrypted` makes of what was stored before.
   *
   * @since 0.1.0
   * @category models
   */
  interface EncryptedOptions extends Options {
    /** Whether a result that is not encrypted is refused (the default), or replayed: for a migration. */
    readonly plaintext?: "refuse" | "accept" | undefined
  }

  /**
   * What a store's author implements.
   *
   * @since 0.1.0
   * @category models
   */
  type Driver = Protocol.Driver

  /**
   * What is stored for a key.
   *
   * @since 0.1.0
   * @category models
   */
  type State = Protocol.State

  /**
   * Which keys to list, and where to go on.
   *
   * @since 0.1.0
   * @category models
   */
  interface ListRequest {
    /** Only those of this operation. */
    readonly operation?: string | undefined
    /** Only those that begin with this. */
    readonly keyPrefix?: string | undefined
    /** Only those in this state, as it is stored: a lapsed owner is still `Processing`. */
    readonly state?: Protocol.ListRequest["state"]
    /** The cursor of the page before. */
    readonly cursor?: string | undefined
    /** About how many a page holds, 1 to 1,000; 100 by default. */
    readonly limit?: number | undefined
  }

  /**
   * Part of a list: its keys, where it goes on, and its instant by the store's clock.
   *
   * @since 0.1.0
   * @category models
   */
  type Page = Protocol.Page

  /**
   * What a list tells of one key: its state without its result and its steps.
   *
   * @since 0.1.0
   * @category models
   */
  type Entry = Protocol.Entry

  /**
   * The verbs of the driver that the engine uses.
   *
   * @since 0.1.0
   * @category models
   */
  type Claims = Pick<
    Protocol.Driver,
    | "claim"
    | "renew"
    | "complete"
    | "release"
    | "hold"
    | "saveStep"
    | "read"
    | "readStored"
    | "readCopy"
    | "changes"
    | "objection"
    | "partOf"
  >

  /**
   * What an operator knows to have happened.
   *
   * @since 0.1.0
   * @category models
   */
  type Resolution =
    | { readonly _tag: "Success"; readonly result: Json | undefined }
    | { readonly _tag: "Failure"; readonly error: Json }
    | { readonly _tag: "Unavailable" }
}
