/**
 * Messages that are delivered more than once, processed once.
 *
 * @since 0.1.0
 */
import type { DurationInput } from "effect/Duration"
import * as Effect from "effect/Effect"
import type { Exit } from "effect/Exit"
import { dual, unsafeCoerce } from "effect/Function"
import type * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import type { Stream } from "effect/Stream"
import type { IdempotencyKey } from "../IdempotencyKey.js"
import type { IdempotentExecution } from "../IdempotentExecution.js"
import { type AnyManyOptions, deduplicateWith, processBatchWith } from "../internal/consumer/many.js"
import { type AnyEffect, type AnyOneOptions, keyOf, processWith } from "../internal/consumer/process.js"
import type { Recordable } from "../Jsonable.js"
import type { CanonicalFingerprint, IdempotencyKeyInput, IdempotencyResult } from "../withIdempotency.js"
import type {
  CanonicalFingerprints,
  ConsumerFailures,
  ConsumerOptions,
  ConsumerServices,
  MessagesOptions
} from "./ConsumerOptions.js"
import type { MessageOutcome } from "./MessageOutcome.js"

type Row = keyof ConsumerFailures<unknown, unknown, unknown, unknown, unknown, unknown, unknown>
type Service = keyof ConsumerServices<unknown>

/**
 * A message, and how its processing ended.
 *
 * @since 0.1.0
 * @category models
 */
export interface Delivered<Message, A, E> {
  readonly message: Message
  readonly exit: Exit<MessageOutcome<A>, E>
}

/**
 * Messages of a broker that delivers at least once (SQS, Kafka, Redis Streams, NATS JetStream, …), processed once.
 *
 * A message is known by the name of its consumer and its id: each consumer (a consumer group, say) processes each
 * message. The name has 1–100 characters after trimming, and no `:`. The id is any string that is the same on every
 * delivery: one that cannot be a key as it stands is hashed. Within a handler, `IdempotentExecution` and
 * `withIdempotentStep` are at hand.
 *
 * Acknowledge a message once its outcome is there, `Processed` or `Duplicate`: then it is recorded. On
 * `IdempotencyInFlightError` have it delivered again after `retryAfter`; on `MessagePoisonedError` move it away; on
 * other failures leave it to the broker.
 *
 * @since 0.1.0
 * @category combinators
 */
export const IdempotentConsumer: {
  /**
   * Runs a handler once for a message; every later delivery of it is a `Duplicate`, with the recorded result. While the
   * message is being processed elsewhere, it fails with `IdempotencyInFlightError`, unless `inFlight` is `wait`.
   *
   * Fails with what the handler fails with, and, as the options say, with `IdempotencyValidationError` (a message
   * without an id, a bad name or option: nothing ran), `IdempotencyResultUnavailableError` (it was processed, but its
   * result cannot be given), `IdempotencyInFlightError`, `IdempotencyStorageError`, `IdempotencyOutcomeUnknownError`,
   * `IdempotencyInvalidTtlError`, `IdempotencyFingerprintMismatchError`, as `withIdempotency` does, and with
   * `MessagePoisonedError` after `maxAttempts`.
   *
   * @example
   * ```ts
   * import * as Effect from "effect/Effect"
   * import { layerMemory } from "effect-idempotency"
   * import { IdempotentConsumer } from "effect-idempotency/consumer"
   *
   * const ship = (order: { readonly id: string }) => Effect.succeed({ parcel: `parcel of ${order.id}` })
   *
   * const onMessage = (id: string, order: { readonly id: string }) =>
   *   ship(order).pipe(
   *     IdempotentConsumer.process("shipping", id, { maxAttempts: 5, timeToLive: "12 hours" }),
   *     Effect.as("acknowledge" as const),
   *     Effect.catchTags({
   *       IdempotencyInFlightError: ({ retryAfter }) => Effect.succeed({ deliverAgainAfter: retryAfter }),
   *       MessagePoisonedError: () => Effect.succeed("dead-letter" as const)
   *     })
   *   )
   *
   * const program = onMessage("message-1", { id: "order-1" }).pipe(Effect.provide(layerMemory))
   * ```
   *
   * @since 0.1.0
   * @category combinators
   */
  readonly process: {
    <
      A,
      E,
      R,
      Success extends Schema.Schema.Any | undefined = never,
      Error extends Schema.Schema.All | undefined = never,
      const Guarantee extends "at-least-once" | "at-most-once" | undefined = "at-least-once",
      const OnStorageFailure extends "proceed" | "fail" | undefined = "proceed",
      TimeToLive extends DurationInput | undefined = never,
      Fingerprint = never,
      Unknown extends boolean = never,
      MaxAttempts extends number | undefined = never,
      const Transactional extends boolean | undefined = false
    >(
      handler: Effect.Effect<A, E, R> & Recordable<Success, A>,
      consumer: string,
      messageId: IdempotencyKeyInput,
      options?: ConsumerOptions<
        Success,
        Error,
        Guarantee,
        OnStorageFailure,
        TimeToLive,
        Fingerprint,
        E,
        Unknown,
        MaxAttempts,
        Transactional
      > &
        CanonicalFingerprint<Fingerprint>
    ): Effect.Effect<
      MessageOutcome<IdempotencyResult<Success, A>>,
      | E
      | Schema.Schema.Type<Error>
      | ConsumerFailures<
          Guarantee,
          OnStorageFailure,
          TimeToLive,
          Fingerprint,
          Unknown,
          MaxAttempts,
          Transactional
        >[Row],
      | Exclude<R, IdempotentExecution>
      | ConsumerServices<Transactional>[Service]
      | Schema.Schema.Context<Success>
      | Schema.Schema.Context<Error>
    >
    <
      Success extends Schema.Schema.Any | undefined = never,
      Error extends Schema.Schema.All | undefined = never,
      const Guarantee extends "at-least-once" | "at-most-once" | undefined = "at-least-once",
      const OnStorageFailure extends "proceed" | "fail" | undefined = "proceed",
      TimeToLive extends DurationInput | undefined = never,
      Fingerprint = never,
      Unknown extends boolean = never,
      MaxAttempts extends number | undefined = never,
      const Transactional extends boolean | undefined = false,
      EIn = unknown
    >(
      consumer: string,
      messageId: IdempotencyKeyInput,
      options?: ConsumerOptions<
        Success,
        Error,
        Guarantee,
        OnStorageFailure,
        TimeToLive,
        Fingerprint,
        EIn,
        Unknown,
        MaxAttempts,
        Transactional
      > &
        CanonicalFingerprint<Fingerprint>
    ): <A, E, R>(
      handler: Effect.Effect<A, E, R> & Effect.Effect<unknown, EIn, unknown> & Recordable<Success, A>
    ) => Effect.Effect<
      MessageOutcome<IdempotencyResult<Success, A>>,
      | E
      | Schema.Schema.Type<Error>
      | ConsumerFailures<
          Guarantee,
          OnStorageFailure,
          TimeToLive,
          Fingerprint,
          Unknown,
          MaxAttempts,
          Transactional
        >[Row],
      | Exclude<R, IdempotentExecution>
      | ConsumerServices<Transactional>[Service]
      | Schema.Schema.Context<Success>
      | Schema.Schema.Context<Error>
    >
  }
  /**
   * Processes many messages, and gives an exit for each, in their order: what becomes of one is its own. All claims are
   * sent at once, before the first handler runs (one round trip for up to 128 messages on a Redis that is not a
   * cluster); then handlers run, `concurrency` at a time. A message that waits for its turn is held under its lease, as
   * one that is being handled.
   *
   * An id that comes twice is processed once: the second message waits for the first, and is its `Duplicate`, or is
   * tried itself if the first failed. Interruption stops all handlers; what had not begun is free for the next
   * delivery, under any guarantee.
   *
   * Never fails. Exits fail with what `process` fails with; with `IdempotencyValidationError` all of them, if
   * `concurrency` is not an integer of at least 1; and die with what `id`, `scope` or `fingerprint` throw.
   *
   * @example
   * ```ts
   * import * as Array from "effect/Array"
   * import * as Console from "effect/Console"
   * import * as Effect from "effect/Effect"
   * import * as Exit from "effect/Exit"
   * import { layerMemory } from "effect-idempotency"
   * import { IdempotentConsumer } from "effect-idempotency/consumer"
   *
   * const messages = [{ id: "m-1", to: "ada" }, { id: "m-2", to: "grace" }, { id: "m-1", to: "ada" }]
   *
   * const program = IdempotentConsumer.processBatch("mailer", messages, { id: ({ id }) => id, concurrency: 4 })(
   *   ({ to }) => Console.log(`a mail to ${to}`)
   * ).pipe(
   *   Effect.map((exits) => Array.zip(messages, exits).filter(([, exit]) => Exit.isSuccess(exit))), // to acknowledge
   *   Effect.provide(layerMemory)
   * )
   * ```
   *
   * @since 0.1.0
   * @category combinators
   */
  readonly processBatch: <
    Message,
    Success extends Schema.Schema.Any | undefined = never,
    Error extends Schema.Schema.All | undefined = never,
    const Guarantee extends "at-least-once" | "at-most-once" | undefined = "at-least-once",
    const OnStorageFailure extends "proceed" | "fail" | undefined = "proceed",
    TimeToLive extends DurationInput | undefined = never,
    Fingerprint = never,
    Unknown extends boolean = never,
    MaxAttempts extends number | undefined = never,
    const Transactional extends boolean | undefined = false,
    EIn = unknown
  >(
    consumer: string,
    messages: Iterable<Message>,
    options: MessagesOptions<
      NoInfer<Message>,
      Success,
      Error,
      Guarantee,
      OnStorageFailure,
      TimeToLive,
      Fingerprint,
      EIn,
      Unknown,
      MaxAttempts,
      Transactional
    > &
      CanonicalFingerprints<Fingerprint>
  ) => <A, E, R>(
    handler: (
      message: Message
    ) => Effect.Effect<A, E, R> & Effect.Effect<unknown, EIn, unknown> & Recordable<Success, A>
  ) => Effect.Effect<
    Array<
      Exit<
        MessageOutcome<IdempotencyResult<Success, A>>,
        | E
        | Schema.Schema.Type<Error>
        | ConsumerFailures<
            Guarantee,
            OnStorageFailure,
            TimeToLive,
            Fingerprint,
            Unknown,
            MaxAttempts,
            Transactional
          >[Row]
      >
    >,
    never,
    | Exclude<R, IdempotentExecution>
    | ConsumerServices<Transactional>[Service]
    | Schema.Schema.Context<Success>
    | Schema.Schema.Context<Error>
  >
  /**
   * An operator of streams: every message passes through its handler once, and is followed by how that ended. The order
   * stays; one handler runs at a time unless `concurrency` says more, which is also how many claims go together. An id
   * that comes again while it is being handled waits, and is then a `Duplicate`.
   *
   * The stream fails with what it failed with before; what `process` fails with is in the `exit` of its message.
   *
   * @example
   * ```ts
   * import * as Console from "effect/Console"
   * import * as Effect from "effect/Effect"
   * import * as Stream from "effect/Stream"
   * import { layerMemory } from "effect-idempotency"
   * import { IdempotentConsumer } from "effect-idempotency/consumer"
   *
   * interface Message { readonly id: string; readonly to: string }
   *
   * const program = Stream.make<Array<Message>>({ id: "m-1", to: "ada" }, { id: "m-1", to: "ada" }).pipe(
   *   IdempotentConsumer.deduplicate("mailer", { id: (message: Message) => message.id, concurrency: 8 })(
   *     ({ to }) => Console.log(`a mail to ${to}`)
   *   ),
   *   Stream.runForEach(({ exit, message }) => Console.log(`${message.id}: ${exit._tag}`)),
   *   Effect.provide(layerMemory)
   * )
   * ```
   *
   * @since 0.1.0
   * @category combinators
   */
  readonly deduplicate: <
    Message,
    Success extends Schema.Schema.Any | undefined = never,
    Error extends Schema.Schema.All | undefined = never,
    const Guarantee extends "at-least-once" | "at-most-once" | undefined = "at-least-once",
    const OnStorageFailure extends "proceed" | "fail" | undefined = "proceed",
    TimeToLive extends DurationInput | undefined = never,
    Fingerprint = never,
    Unknown extends boolean = never,
    MaxAttempts extends number | undefined = never,
    const Transactional extends boolean | undefined = false,
    EIn = unknown
  >(
    consumer: string,
    options: MessagesOptions<
      Message,
      Success,
      Error,
      Guarantee,
      OnStorageFailure,
      TimeToLive,
      Fingerprint,
      EIn,
      Unknown,
      MaxAttempts,
      Transactional
    > &
      CanonicalFingerprints<Fingerprint>
  ) => <A, E, R>(
    handler: (
      message: Message
    ) => Effect.Effect<A, E, R> & Effect.Effect<unknown, EIn, unknown> & Recordable<Success, A>
  ) => <E2, R2>(
    stream: Stream<Message, E2, R2>
  ) => Stream<
    Delivered<
      Message,
      IdempotencyResult<Success, A>,
      | E
      | Schema.Schema.Type<Error>
      | ConsumerFailures<Guarantee, OnStorageFailure, TimeToLive, Fingerprint, Unknown, MaxAttempts, Transactional>[Row]
    >,
    E2,
    | R2
    | Exclude<R, IdempotentExecution>
    | ConsumerServices<Transactional>[Service]
    | Schema.Schema.Context<Success>
    | Schema.Schema.Context<Error>
  >
  /**
   * The key that a message has in the store, for `IdempotencyRepository`'s `inspect`, `reset` and `resolve`: the id
   * itself, or its hash where it holds what a key must not, has outer white space, is longer than a key, or looks like
   * such a hash. No two ids have one key. None for what is no id: absent, or blank.
   *
   * @example
   * ```ts
   * import * as Effect from "effect/Effect"
   * import { IdempotencyIdentifiers, IdempotencyRepository } from "effect-idempotency"
   * import { IdempotentConsumer } from "effect-idempotency/consumer"
   *
   * const stored = Effect.gen(function* () {
   *   const idempotencyKey = yield* IdempotentConsumer.keyOf("orders:4711")
   *   const { inspect } = yield* IdempotencyRepository
   *   return yield* inspect(yield* IdempotencyIdentifiers.from({ operation: "shipping", idempotencyKey }))
   * })
   * ```
   *
   * @since 0.1.0
   * @category combinators
   */
  readonly keyOf: (messageId: IdempotencyKeyInput) => Option.Option<IdempotencyKey>
} = {
  process: dual(
    (args) => Effect.isEffect(args[0]),
    (handler: AnyEffect, consumer: string, messageId: IdempotencyKeyInput, options?: AnyOneOptions) =>
      processWith(handler, consumer, messageId, options)
  ),
  // The types above say of each function what the engine, which has none, makes of its arguments.
  processBatch: unsafeCoerce(
    <Message>(consumer: string, messages: Iterable<Message>, options: AnyManyOptions<Message>) =>
      (handler: (message: Message) => AnyEffect) =>
        processBatchWith(handler, consumer, messages, options)
  ),
  deduplicate: unsafeCoerce(
    <Message>(consumer: string, options: AnyManyOptions<Message>) =>
      (handler: (message: Message) => AnyEffect) =>
      <E, R>(stream: Stream<Message, E, R>) =>
        deduplicateWith(handler, consumer, stream, options)
  ),
  keyOf
}
