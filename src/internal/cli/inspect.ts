import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { named, overviewDocument, stateDocument, stateRows } from "./describe.js"
import { fromLibrary, innermost, notFound } from "./failure.js"
import { identifiersOf, json, keyArguments, nowOf, openStore, print, printJson, storeOptions } from "./options.js"
import { aligned, printable } from "./text.js"

const showResult = Options.boolean("show-result").pipe(
  Options.withDescription("Print the result and those of steps, which may be anybody's data")
)

export const inspect = Command.make(
  "inspect",
  { ...keyArguments, ...storeOptions, json, showResult },
  ({ json, showResult, ...options }) =>
    Effect.gen(function* () {
      const identifiers = yield* identifiersOf(options)
      const repository = yield* openStore(options)
      const found = yield* repository.inspect(identifiers).pipe(
        Effect.map(Option.getOrUndefined),
        // What cannot be read is there all the same.
        Effect.catchTag("IdempotencyResultUnavailableError", ({ cause }) =>
          Effect.succeed({ _tag: "Corrupted" as const, cause: innermost(cause) })
        ),
        Effect.mapError(fromLibrary)
      )
      if (found === undefined) return yield* Effect.fail(absent(named(identifiers)))
      if (found._tag === "Corrupted") {
        return yield* json
          ? printJson(overviewDocument(identifiers, found, 0))
          : print(`${named(identifiers)}: corrupted, ${printable(found.cause)}`)
      }
      const now = yield* nowOf(repository)
      yield* json
        ? printJson(stateDocument(identifiers, found, now, showResult))
        : print(...aligned(stateRows(identifiers, found, now, showResult)).lines)
    })
).pipe(Command.withDescription("Tell what is stored for a key. Changes nothing"))

/** Where a key may be, if it is not where it was looked for. */
export const absent = (name: string) =>
  notFound(`Nothing is stored for ${name}: it never ran, or has expired, or is of another scope.`)
