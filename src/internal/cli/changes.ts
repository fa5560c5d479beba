/** The commands that change what is stored: each asks before it does. */
import * as Command from "@effect/cli/Command"
import * as HelpDoc from "@effect/cli/HelpDoc"
import * as Options from "@effect/cli/Options"
import * as Prompt from "@effect/cli/Prompt"
import * as ValidationError from "@effect/cli/ValidationError"
import * as Terminal from "@effect/platform/Terminal"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import type { IdempotencyIdentifiers } from "../../IdempotencyIdentifiers.js"
import type { IdempotencyRepository } from "../../IdempotencyRepository.js"
import type { Json } from "../../Jsonable.js"
import { seenOf } from "../seen.js"
import { decodeJson } from "../storedRecord.js"
import { identity, named, summary } from "./describe.js"
import { type CliFailure, failed, fromLibrary } from "./failure.js"
import { absent } from "./inspect.js"
import {
  identifiersOf,
  json,
  keyArguments,
  nowOf,
  openStore,
  print,
  printJson,
  type Repository,
  storeOptions,
  yes
} from "./options.js"

const unchanged = failed("Declined", "Nothing was changed.")

interface Stored {
  /** For a sentence. */
  readonly said: string
  /** To be known again. */
  readonly seen: string
}

/** What is stored for the key. */
const stored = (repository: Repository, identifiers: IdempotencyIdentifiers): Effect.Effect<Stored, CliFailure> =>
  Effect.gen(function* () {
    const found = yield* repository.inspect(identifiers)
    if (Option.isNone(found)) return yield* Effect.fail(absent(named(identifiers)))
    const now = yield* nowOf(repository)
    return { said: summary(found.value, now), seen: seenOf(found.value, now) }
  }).pipe(
    Effect.catchTags({
      IdempotencyResultUnavailableError: () =>
        Effect.succeed({ said: "corrupted", seen: seenOf({ _tag: "Corrupted" }, 0) }),
      IdempotencyStorageError: (error) => Effect.fail(fromLibrary(error))
    })
  )

/** Goes on only with the word of somebody, and only if what is stored is still what the question was about. */
const confirmed = (
  repository: Repository,
  identifiers: IdempotencyIdentifiers,
  question: string,
  { json, yes }: { readonly json: boolean; readonly yes: boolean }
): Effect.Effect<void, CliFailure, Prompt.Prompt.Environment> =>
  yes
    ? Effect.void
    : Effect.gen(function* () {
        const terminal = yield* Terminal.Terminal
        if (json || !(yield* terminal.isTTY)) {
          return yield* Effect.fail(
            failed("NotConfirmed", "Nobody can be asked here: give --yes. Nothing was changed.")
          )
        }
        const name = named(identifiers)
        const { said, seen } = yield* stored(repository, identifiers)
        const message = `${name} is ${said}. ${question}`
        const agreed = yield* Effect.catchAll(Prompt.run(Prompt.confirm({ message })), () => Effect.succeed(false))
        if (!agreed) return yield* Effect.fail(unchanged)
        const after = yield* stored(repository, identifiers)
        if (after.seen !== seen) {
          const text = `What is stored has changed since you were asked: ${name} is ${after.said} by now. Nothing was done.`
          yield* Effect.fail(failed("Changed", text))
        }
      })

const force = Options.boolean("force").pipe(
  Options.withDescription("Even while an owner is running: it is interrupted at its next renewal")
)

export const reset = Command.make(
  "reset",
  { ...keyArguments, force, yes, ...storeOptions, json },
  ({ force, json, yes, ...options }) =>
    Effect.gen(function* () {
      const identifiers = yield* identifiersOf(options)
      const repository = yield* openStore(options)
      const name = named(identifiers)
      yield* confirmed(repository, identifiers, "Let it run again?", { json, yes })
      const was = yield* Effect.mapError(repository.reset(identifiers, { force }), (error) =>
        error._tag === "IdempotencyInFlightError"
          ? failed(error._tag, `${fromLibrary(error).message} --force takes it away from its owner.`)
          : fromLibrary(error)
      )
      if (!was) return yield* Effect.fail(absent(name))
      yield* json ? printJson({ ...identity(identifiers), reset: true }) : print(`${name} may run again.`)
    })
).pipe(Command.withDescription("Let a key run again"))

type Resolution = IdempotencyRepository.Resolution

const invalid = (message: string): ValidationError.ValidationError => ValidationError.invalidValue(HelpDoc.p(message))

/** The value is not repeated: it is somebody's data. */
const jsonOf = (option: string, text: string): Either.Either<Json | undefined, ValidationError.ValidationError> =>
  Either.try({ try: () => decodeJson(text), catch: () => invalid(`The value of ${option} is not JSON`) })

const resolution: Options.Options<Resolution> = Options.all({
  success: Options.text("success").pipe(
    Options.optional,
    Options.withPseudoName("json"),
    Options.withDescription("It succeeded with this result, in its encoded form; an empty text for none")
  ),
  failure: Options.text("failure").pipe(
    Options.optional,
    Options.withPseudoName("json"),
    Options.withDescription("It failed with this recorded failure, in its encoded form")
  ),
  unavailable: Options.boolean("unavailable").pipe(
    Options.withDescription("It ran, and nobody knows with which result: it is not run again")
  )
}).pipe(
  Options.mapEffect(({ failure, success, unavailable }) => {
    const given = [Option.isSome(success), Option.isSome(failure), unavailable].filter(Boolean).length
    if (given !== 1) return Effect.fail(invalid("Say what happened: one of --success, --failure and --unavailable"))
    if (Option.isSome(success)) {
      return Effect.map(jsonOf("--success", success.value), (result): Resolution => ({ _tag: "Success", result }))
    }
    if (Option.isNone(failure)) return Effect.succeed<Resolution>({ _tag: "Unavailable" })
    return Effect.flatMap(jsonOf("--failure", failure.value), (error) =>
      error === undefined
        ? Effect.fail(invalid("The value of --failure is empty"))
        : Effect.succeed<Resolution>({ _tag: "Failure", error })
    )
  })
)

export const resolve = Command.make(
  "resolve",
  { ...keyArguments, resolution, yes, ...storeOptions, json },
  ({ json, resolution, yes, ...options }) =>
    Effect.gen(function* () {
      const identifiers = yield* identifiersOf(options)
      const repository = yield* openStore(options)
      const name = named(identifiers)
      const outcome = resolution._tag.toLowerCase()
      yield* confirmed(repository, identifiers, `Record that it ended with ${outcome}?`, { json, yes })
      const was = yield* Effect.mapError(repository.resolve(identifiers, resolution), fromLibrary)
      if (!was) {
        const { said } = yield* stored(repository, identifiers)
        return yield* Effect.fail(
          failed(
            "NotUnknown",
            `${name} is ${said}: only what is unknown, or whose owner lapsed, can be resolved. Nothing was changed.`
          )
        )
      }
      yield* json
        ? printJson({ ...identity(identifiers), resolved: outcome })
        : print(`${name} is recorded as ${outcome}.`)
    })
).pipe(Command.withDescription("Record what is known to have happened under a key whose outcome is unknown"))
