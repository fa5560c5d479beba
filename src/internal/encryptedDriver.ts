/** What a store holds of results, encrypted on the way to it and decrypted on the way back. */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { pipe } from "effect/Function"
import { IdempotencyStorageError } from "../IdempotencyError.js"
import type { IdempotencyIdentifiers } from "../IdempotencyIdentifiers.js"
import type { IdempotencyTransactions } from "../IdempotencyTransactions.js"
import type { ResultCipher } from "../ResultCipher.js"
import { Undecryptable } from "./cipher.js"
import type { ClaimReply, Completed, Corrupted, Driver, Outcome, Released, State, Step } from "./protocol.js"
import { readStored } from "./protocol.js"
import { resultUnavailable } from "./storedRecord.js"
import { logsAbout } from "./tracing.js"

type Cipher = Context.Tag.Service<ResultCipher>

/** Whether what was stored before results were encrypted is refused or replayed. */
export type Plaintext = "refuse" | "accept"

/**
 * No JSON text begins like this. What follows tells how the attempt is known again: by the token of its claim, or by
 * its number. Another letter does not help a forger: the attempt is authenticated as the one or as the other.
 */
const envelope = /^enc1\.([tns])\.(.*)$/s
const byToken = "enc1.t."
const byNumber = "enc1.n."
const ofStep = "enc1.s."
const isEnvelope = (stored: string): boolean => stored.startsWith("enc")

/** A later release may read what this one cannot; what is of this version and not of its form, none will. */
const unreadable = (stored: string): Error => {
  if (!isEnvelope(stored)) return new Undecryptable("it is not encrypted")
  return stored.startsWith("enc1.") ? new Undecryptable("it is of another kind") : new Error("it is of another version")
}

const kinds = { Success: "success", Failure: "failure" } as const

const unavailable: Outcome = { _tag: "Unavailable" }
const corrupted = (error: Error): Corrupted => ({
  _tag: "Corrupted",
  cause: `what is stored cannot be decrypted: ${error.message}`
})

/** A cipher that dies is one that fails. */
const careful = (call: () => Effect.Effect<string, Error>): Effect.Effect<string, Error> =>
  Effect.catchAllDefect(Effect.suspend(call), () => Effect.fail(new Error("the cipher died")))

const makeSealing = (cipher: Cipher, plaintext: Plaintext) => {
  const seal = (
    identifiers: IdempotencyIdentifiers,
    outcome: Outcome,
    attempt: string | number
  ): Effect.Effect<Outcome, Error> => {
    if (outcome._tag === "Unavailable") return Effect.succeed(outcome)
    const context = { identifiers, kind: kinds[outcome._tag], attempt, step: undefined }
    const prefix = typeof attempt === "string" ? byToken : byNumber
    return Effect.map(
      careful(() => cipher.encrypt(outcome.encoded, context)),
      (encrypted) => ({ _tag: outcome._tag, encoded: prefix + encrypted })
    )
  }

  /** A caller gets its own value, and the others are told that there was one. */
  const sealOrGiveUp = (identifiers: IdempotencyIdentifiers, outcome: Outcome, attempt: string | number) =>
    Effect.catchAll(seal(identifiers, outcome, attempt), (error) =>
      Effect.as(
        Effect.logWarning(
          `idempotency: a result of "${identifiers.operation}" is not recorded, as it cannot be encrypted; later callers will not get it`,
          Cause.fail(error)
        ).pipe(logsAbout(identifiers)),
        unavailable
      )
    )

  const decrypt = (
    stored: string,
    letters: string,
    contextOf: (letter: string) => ResultCipher.Context
  ): Effect.Effect<string, Error> => {
    const [, letter = "", encrypted = ""] = envelope.exec(stored) ?? []
    if (letter !== "" && letters.includes(letter)) return careful(() => cipher.decrypt(encrypted, contextOf(letter)))
    return plaintext === "accept" && !isEnvelope(stored) ? Effect.succeed(stored) : Effect.fail(unreadable(stored))
  }

  const open = (identifiers: IdempotencyIdentifiers, record: Completed): Effect.Effect<Completed, Error> => {
    const { attempt, outcome, token } = record
    if (outcome._tag === "Unavailable") return Effect.succeed(record)
    const opened = decrypt(outcome.encoded, "tn", (letter) => ({
      identifiers,
      kind: kinds[outcome._tag],
      attempt: letter === "t" ? token : attempt,
      step: undefined
    }))
    return Effect.map(opened, (encoded) => ({ ...record, outcome: { _tag: outcome._tag, encoded } }))
  }

  const contextOfStep = (identifiers: IdempotencyIdentifiers, step: string): ResultCipher.Context => ({
    identifiers,
    kind: "step",
    attempt: undefined,
    step
  })

  const openStep = (identifiers: IdempotencyIdentifiers, { encoded, name }: Step): Effect.Effect<Step, Error> =>
    Effect.map(
      decrypt(encoded, "s", () => contextOfStep(identifiers, name)),
      (plain) => ({ name, encoded: plain })
    )

  const openSteps = (
    identifiers: IdempotencyIdentifiers,
    steps: ReadonlyArray<Step>
  ): Effect.Effect<ReadonlyArray<Step>, Error> => Effect.forEach(steps, (step) => openStep(identifiers, step))

  const sealStep = (identifiers: IdempotencyIdentifiers, { encoded, name }: Step): Effect.Effect<string, Error> =>
    Effect.map(
      careful(() => cipher.encrypt(encoded, contextOfStep(identifiers, name))),
      (encrypted) => ofStep + encrypted
    )

  const openState = (
    identifiers: IdempotencyIdentifiers,
    state: State | Corrupted | undefined
  ): Effect.Effect<State | Corrupted | undefined> => {
    if (state === undefined || state._tag === "Corrupted") return Effect.succeed(state)
    const opened: Effect.Effect<State, Error> =
      state._tag === "Completed"
        ? open(identifiers, state)
        : Effect.map(openSteps(identifiers, state.steps), (steps) => ({ ...state, steps }))
    return Effect.catchAll(opened, (error) => Effect.succeed(corrupted(error)))
  }

  return { open, openState, openStep, openSteps, seal, sealOrGiveUp, sealStep }
}

const logDropped = (identifiers: IdempotencyIdentifiers, error: Error): Effect.Effect<void> =>
  Effect.logWarning(
    `idempotency: steps of "${identifiers.operation}" are dropped, as they cannot be decrypted`,
    Cause.fail(error)
  ).pipe(logsAbout(identifiers))

/** Nothing was sent. */
const notSealed = (identifiers: IdempotencyIdentifiers | undefined, method: string) => (cause: Error) =>
  new IdempotencyStorageError({
    operation: identifiers?.operation ?? "",
    method,
    reason: "Rejected",
    applied: "no",
    cause
  })

/** The driver, over a store that is given ciphertext alone. */
export const encryptedDriver = (driver: Driver, cipher: Cipher, plaintext: Plaintext): Driver => {
  const { open, openState, openStep, openSteps, seal, sealOrGiveUp, sealStep } = makeSealing(cipher, plaintext)

  /**
   * Steps outlive a reset. One that nobody will ever read would keep the key from every caller: all of them go then, but
   * not while another fails for now alone. They go with a record that has none, and which is forgotten in its turn. It is
   * under the token that was released, which stays refused. Whoever claims the key before that record keeps it. Between the
   * record and its reset, which follows whatever becomes of the caller, nobody claims it, unless another operator frees it
   * there: what is recorded after that may be forgotten, too.
   */
  const dropUndecryptable = (
    identifiers: IdempotencyIdentifiers,
    { _tag: _, steps, ...released }: Released
  ): Effect.Effect<void, IdempotencyStorageError> =>
    Effect.flatMap(
      Effect.partition(steps, (step) => openStep(identifiers, step)),
      ([errors]) => {
        const [error] = errors
        if (error === undefined || !errors.every((each) => each instanceof Undecryptable)) return Effect.void
        const request = { ...released, outcome: unavailable, fingerprint: undefined }
        return Effect.uninterruptible(
          Effect.flatMap(driver.insert([{ identifiers, request }], { allOrNothing: false }), ([reply]) =>
            reply?._tag === "Inserted"
              ? Effect.zipRight(logDropped(identifiers, error), driver.reset(identifiers, { force: false }))
              : Effect.void
          )
        )
      }
    )

  const openClaim = (
    identifiers: IdempotencyIdentifiers,
    token: string,
    reply: ClaimReply
  ): Effect.Effect<ClaimReply> => {
    switch (reply._tag) {
      case "Settled":
        return pipe(
          open(identifiers, reply.record),
          Effect.map((record): ClaimReply => ({ _tag: "Settled", record })),
          Effect.catchAll((error) => Effect.succeed(corrupted(error)))
        )
      case "Claimed":
      case "AlreadyMine":
        if (reply.steps.length === 0) return Effect.succeed(reply)
        return pipe(
          openSteps(identifiers, reply.steps),
          Effect.map((steps): ClaimReply => ({ ...reply, steps })),
          Effect.catchAll((error) =>
            Effect.as(
              // Nobody runs under a claim that is new: others need not wait for it. One that is older may have an owner.
              reply._tag === "Claimed" ? Effect.ignore(driver.release(identifiers, { token })) : Effect.void,
              corrupted(error)
            )
          )
        )
      default:
        return Effect.succeed(reply)
    }
  }

  const opened = (identifiers: ReadonlyArray<IdempotencyIdentifiers>, reading: ReturnType<Driver["read"]>) =>
    Effect.flatMap(reading, (states) => Effect.forEach(identifiers, (ids, index) => openState(ids, states[index])))

  /** An owner that learns of a record learns that there is one, also where it cannot be read. */
  const openOrWithhold = (identifiers: IdempotencyIdentifiers, record: Completed): Effect.Effect<Completed> =>
    Effect.catchAll(open(identifiers, record), () => Effect.succeed({ ...record, outcome: unavailable }))

  const { readCopy } = driver
  return {
    ...driver,
    name: `encrypted+${driver.name}`,
    claim: (identifiers, request) =>
      Effect.flatMap(driver.claim(identifiers, request), (reply) => openClaim(identifiers, request.token, reply)),
    renew: (leases) =>
      Effect.flatMap(driver.renew(leases), (replies) =>
        Effect.forEach(replies, (reply, index) => {
          const identifiers = leases[index]?.identifiers
          return reply._tag === "Lost" && reply.record !== undefined && identifiers !== undefined
            ? Effect.map(openOrWithhold(identifiers, reply.record), (record) => ({ _tag: "Lost" as const, record }))
            : Effect.succeed(reply)
        })
      ),
    complete: (identifiers, request) =>
      pipe(
        sealOrGiveUp(identifiers, request.outcome, request.token),
        Effect.flatMap((outcome) =>
          Effect.map(driver.complete(identifiers, { ...request, outcome }), (reply) =>
            reply._tag === "Done" && outcome._tag !== request.outcome._tag ? { ...reply, outcome } : reply
          )
        ),
        Effect.flatMap((reply) =>
          reply._tag === "Superseded" && reply.record !== undefined
            ? pipe(
                open(identifiers, reply.record),
                Effect.map((record) => ({ _tag: "Superseded" as const, record })),
                Effect.catchAll((error) => Effect.succeed(corrupted(error)))
              )
            : Effect.succeed(reply)
        )
      ),
    saveStep: (identifiers, request) =>
      pipe(
        sealStep(identifiers, request),
        Effect.mapError(notSealed(identifiers, "saveStep")),
        Effect.flatMap((encoded) => driver.saveStep(identifiers, { ...request, encoded }))
      ),
    resolve: (identifiers, request) =>
      pipe(
        seal(identifiers, request.outcome, request.token),
        Effect.mapError(notSealed(identifiers, "resolve")),
        Effect.flatMap((outcome) => driver.resolve(identifiers, { ...request, outcome }))
      ),
    reset: (identifiers, request) =>
      Effect.tap(driver.reset(identifiers, request), (reply) =>
        reply._tag === "Reset"
          ? pipe(
              readStored(driver, [identifiers]),
              Effect.flatMap(([state]) =>
                state?._tag === "Released" ? dropUndecryptable(identifiers, state) : Effect.void
              ),
              // What was asked for has begun.
              Effect.mapError(
                ({ cause, operation, reason }) =>
                  new IdempotencyStorageError({ operation, method: "reset", reason, applied: "unknown", cause })
              )
            )
          : Effect.void
      ),
    read: (identifiers) => opened(identifiers, driver.read(identifiers)),
    readStored: (identifiers) => opened(identifiers, readStored(driver, identifiers)),
    readCopy:
      readCopy === undefined
        ? undefined
        : (identifiers) =>
            pipe(
              readCopy(identifiers),
              Effect.flatMap((copy) => openState(identifiers, copy)),
              Effect.map((state) => (state?._tag === "Completed" ? state : undefined))
            ),
    insert: (records, options) =>
      pipe(
        Effect.forEach(records, ({ identifiers, request }) =>
          Effect.map(seal(identifiers, request.outcome, request.token), (outcome) => ({
            identifiers,
            request: { ...request, outcome }
          }))
        ),
        Effect.mapError(notSealed(records[0]?.identifiers, "insert")),
        Effect.flatMap((sealed) => driver.insert(sealed, options))
      )
  }
}

/** The same for what shares a transaction with its record. Its token is the store's own: the attempt has a number. */
export const encryptedTransactions = (
  transactions: Context.Tag.Service<IdempotencyTransactions>,
  cipher: Cipher,
  plaintext: Plaintext
): Context.Tag.Service<IdempotencyTransactions> => {
  const { open, sealOrGiveUp } = makeSealing(cipher, plaintext)
  return {
    ...transactions,
    run: <A, E, R>(
      request: IdempotencyTransactions.Request,
      body: (attempt: number) => Effect.Effect<IdempotencyTransactions.Ran<A>, E, R>
    ): Effect.Effect<IdempotencyTransactions.Result<A>, E | IdempotencyTransactions.Failure, R> => {
      const { identifiers } = request
      const sealed = (attempt: number) =>
        Effect.flatMap(body(attempt), ({ outcome, value }) =>
          Effect.map(sealOrGiveUp(identifiers, outcome, attempt), (encrypted) => ({ value, outcome: encrypted }))
        )
      return Effect.flatMap(
        transactions.run(request, sealed),
        (result): Effect.Effect<IdempotencyTransactions.Result<A>, IdempotencyTransactions.Failure> =>
          result._tag === "Executed"
            ? Effect.succeed(result)
            : pipe(
                open(identifiers, result.record),
                Effect.mapBoth({
                  onFailure: (error) => resultUnavailable(identifiers, corrupted(error).cause),
                  onSuccess: (record) => ({ _tag: "Recorded" as const, record })
                })
              )
      )
    }
  }
}
