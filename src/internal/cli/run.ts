import { stripVTControlCharacters } from "node:util"
import type * as CliApp from "@effect/cli/CliApp"
import * as CliConfig from "@effect/cli/CliConfig"
import * as Command from "@effect/cli/Command"
import * as HelpDoc from "@effect/cli/HelpDoc"
import * as ValidationError from "@effect/cli/ValidationError"
import * as Terminal from "@effect/platform/Terminal"
import * as Cause from "effect/Cause"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import { reset, resolve } from "./changes.js"
import { CliFailure, exitCodes, failed, innermost, usage } from "./failure.js"
import { inspect } from "./inspect.js"
import { list } from "./list.js"
import { storeVariable } from "./options.js"
import { passwordsIn, withoutPasswords } from "./secrets.js"
import type { Stores } from "./stores.js"
import { jsonLine, printable } from "./text.js"

const name = "effect-idempotency"

const command = Command.make(name).pipe(
  Command.withDescription("Find, tell, free and settle the keys of effect-idempotency, in Redis or in a SQL database"),
  Command.withSubcommands([inspect, list, reset, resolve])
)

const settings = CliConfig.layer({ isCaseSensitive: true, autoCorrectLimit: 1, showBuiltIns: false })

const failureOf = (cause: Cause.Cause<CliFailure | ValidationError.ValidationError>): CliFailure => {
  const error = Cause.squash(cause)
  if (error instanceof CliFailure) return error
  return ValidationError.isValidationError(error)
    ? usage(stripVTControlCharacters(HelpDoc.toAnsiText(error.error)).trim())
    : failed("Defect", Cause.pretty(cause))
}

const asksForJson = (args: ReadonlyArray<string>): boolean => {
  const end = args.indexOf("--")
  return (end === -1 ? args : args.slice(0, end)).includes("--json")
}

/**
 * Runs the command with what a process is given, its first two words included; its exit code. What went wrong is told on
 * standard error, without the password of any URL.
 */
export const run = (
  args: ReadonlyArray<string>,
  version: string
): Effect.Effect<number, never, CliApp.CliApp.Environment | Stores> =>
  Effect.gen(function* () {
    const console = yield* Effect.console
    const fromEnvironment = yield* Effect.orElseSucceed(Config.option(Config.string(storeVariable)), () =>
      Option.none<string>()
    )
    const { isTTY } = yield* Terminal.Terminal
    const isShown = yield* isTTY
    const passwords = passwordsIn([...args, ...Option.toArray(fromEnvironment)])
    const asJson = asksForJson(args)
    const tell = (document: Readonly<Record<string, string>>, text: string): string =>
      withoutPasswords(asJson ? jsonLine(document) : text.split("\n").map(printable).join("\n"), passwords)

    // Standard output is for what was asked for alone.
    const logger = Logger.make(({ cause, message }) => {
      const said = [...(Array.isArray(message) ? message : [message])].map(describe).join(" ")
      const why = Cause.isEmpty(cause) ? "" : ` ${Cause.pretty(cause)}`
      console.unsafe.error(tell({ warning: said + why }, `warning: ${said}${why}`))
    })
    const complain = (failure: CliFailure) =>
      console.error(tell({ error: failure.code, message: failure.message }, `${name}: ${failure.message}`))

    return yield* Command.run(command, { name, version, executable: name })(args).pipe(
      Effect.scoped,
      // What is wrong with the words of the command is printed below, like everything else that is wrong.
      Effect.withConsole({
        ...console,
        error: () => Effect.void,
        // Help is in colours.
        log: (...lines) =>
          console.log(...(isShown ? lines : lines.map((line) => stripVTControlCharacters(String(line)))))
      }),
      Effect.as<number>(exitCodes.done),
      Effect.catchAllCause((cause) =>
        Cause.isInterruptedOnly(cause)
          ? Effect.interrupt
          : Effect.suspend(() => {
              const failure = failureOf(cause)
              return Effect.as(complain(failure), failure.exitCode)
            })
      ),
      Effect.provide(settings),
      Effect.provide(Logger.replace(Logger.defaultLogger, logger))
    )
  })

const describe = (part: unknown): string => (part instanceof Error ? innermost(part) : String(part))
