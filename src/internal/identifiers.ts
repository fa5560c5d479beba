import * as Array from "effect/Array"
import * as Predicate from "effect/Predicate"

export const maxKeyLength = 255
export const maxOperationLength = 100

/** `:` separates the parts of a stored key; controls and lone surrogates do not survive every store. */
const forbidden = /[:\p{Cc}\p{Surrogate}]/u

const whatIsForbidden = (text: string): string =>
  text.includes(":") ? "a colon" : /\p{Cc}/u.test(text) ? "a control character" : "a lone surrogate"

/** Why a trimmed identifier is refused, or `undefined` if it is fine. The identifier itself is not repeated. */
export const identifierIssue = (what: string, trimmed: string, maxLength: number): string | undefined => {
  if (trimmed.length === 0) return `the ${what} is empty`
  if (trimmed.length > maxLength) return `the ${what} has ${trimmed.length} characters, more than ${maxLength}`
  return forbidden.test(trimmed) ? `the ${what} holds ${whatIsForbidden(trimmed)}` : undefined
}

export const operationIssue = (trimmed: string): string | undefined =>
  identifierIssue("operation", trimmed, maxOperationLength)
export const keyIssue = (trimmed: string): string | undefined => identifierIssue("key", trimmed, maxKeyLength)
export const scopeIssue = (trimmed: string): string | undefined => identifierIssue("scope", trimmed, maxKeyLength)

/** What is wrong with trimmed identifiers, all at once. */
export const identifiersIssues = (operation: string, key: string, scope: string | undefined): Array<string> =>
  Array.filter(
    [operationIssue(operation), keyIssue(key), scope === undefined ? undefined : scopeIssue(scope)],
    Predicate.isNotUndefined
  )
