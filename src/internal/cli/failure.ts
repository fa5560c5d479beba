/** What ends a command before its purpose is reached: a sentence for people, a name for programs, an exit code. */
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Predicate from "effect/Predicate"
import type {
  IdempotencyInFlightError,
  IdempotencyResultUnavailableError,
  IdempotencyStorageError,
  IdempotencyValidationError
} from "../../IdempotencyError.js"

/** The exit codes of the command. */
export const exitCodes = { done: 0, failed: 1, usage: 2, notFound: 3, interrupted: 130 } as const

export class CliFailure extends Data.TaggedError("CliFailure")<{
  /** For programs: the error's tag, or one of the command's own. */
  readonly code: string
  readonly message: string
  readonly exitCode: number
}> {}

export const failed = (code: string, message: string): CliFailure =>
  new CliFailure({ code, message, exitCode: exitCodes.failed })

export const usage = (message: string): CliFailure =>
  new CliFailure({ code: "Usage", message, exitCode: exitCodes.usage })

export const notFound = (message: string): CliFailure =>
  new CliFailure({ code: "NotFound", message, exitCode: exitCodes.notFound })

const messageOf = (error: unknown): string | undefined =>
  Predicate.hasProperty(error, "message") && typeof error.message === "string" && error.message !== ""
    ? error.message
    : undefined

/** What lies beneath it all: the words of the server, of its client, or of the system. */
export const innermost = (error: unknown): string => {
  let [inner, message] = [error, messageOf(error)]
  for (let depth = 0; depth < 10; depth++) {
    if (inner instanceof AggregateError && inner.errors.length > 0) inner = inner.errors[0]
    else if (Predicate.hasProperty(inner, "lastNodeError") && inner.lastNodeError instanceof Error) {
      inner = inner.lastNodeError
    } else if (Predicate.hasProperty(inner, "cause") && inner.cause !== undefined) inner = inner.cause
    else break
    message = messageOf(inner) ?? message
  }
  // It becomes part of a sentence.
  return (message ?? String(error)).replace(/\.$/, "")
}

const storageSentences = {
  Unavailable: "The store cannot be reached, or broke off",
  Timeout: "The store did not answer in time",
  Rejected: "The store refused",
  Misconfigured: "The store is not set up for this"
} as const

type LibraryError =
  | IdempotencyInFlightError
  | IdempotencyResultUnavailableError
  | IdempotencyStorageError
  | IdempotencyValidationError

/** An error of the library, in the words of this command. */
export const fromLibrary = (error: LibraryError): CliFailure => {
  switch (error._tag) {
    case "IdempotencyValidationError":
      return new CliFailure({
        code: error._tag,
        message: `Invalid input: ${error.issues.join("; ")}.`,
        exitCode: exitCodes.usage
      })
    case "IdempotencyInFlightError":
      return failed(
        error._tag,
        `An owner is running it: its lease lasts ${Duration.format(error.retryAfter)} more, and may be renewed. Nothing was changed.`
      )
    case "IdempotencyResultUnavailableError":
      return failed(error._tag, `What is stored cannot be read: ${innermost(error.cause)}.`)
    case "IdempotencyStorageError": {
      const why = error.cause === undefined ? "" : `: ${innermost(error.cause)}`
      const applied = error.applied === "no" ? "Nothing was changed." : "It may have taken effect."
      return failed(error._tag, `${storageSentences[error.reason]}${why}. ${applied}`)
    }
  }
}
