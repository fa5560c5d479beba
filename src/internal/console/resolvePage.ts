/** Records what is known to have happened, once that is written down, shown again, and confirmed. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type { IdempotencyIdentifiers } from "../../IdempotencyIdentifiers.js"
import { IdempotencyRepository } from "../../IdempotencyRepository.js"
import type { Json } from "../../Jsonable.js"
import { loggedChange } from "./actionLog.js"
import { changedNotice, doneAt, formOf, isSeen, seenField } from "./actions.js"
import { tokenFor } from "./csrf.js"
import { duration } from "./format.js"
import { type Html, html, visible } from "./html.js"
import { identityFacts, isResolvable, type Look, look, lookFacts } from "./keyPage.js"
import { notice, respond } from "./layout.js"
import { identifiersIn, identityFields } from "./lookup.js"
import { Refusal } from "./refusal.js"
import { href, identity, type Visit } from "./site.js"
import { facts } from "./table.js"

const outcomes = {
  Success: ["It succeeded", "Calls get the JSON below as their result. Nothing there: a success without a value."],
  Failure: [
    "It failed, and stays failed",
    "Calls fail with the JSON below. Only for failures that this operation records."
  ],
  Unavailable: [
    "It ran, and its result is not known",
    "Calls are told that it ran, and that its result cannot be given."
  ]
} as const

type OutcomeName = keyof typeof outcomes

const isOutcomeName = (text: string | null): text is OutcomeName => text !== null && Object.hasOwn(outcomes, text)

interface Filled {
  readonly outcome: string | null
  readonly json: string
}

const parseJson = (text: string): Either.Either<Json, string> =>
  Either.try({ try: (): Json => JSON.parse(text), catch: () => "What is written below is not JSON." })

/** What the form says, or why it says nothing. */
const resolutionOf = ({ json, outcome }: Filled): Either.Either<IdempotencyRepository.Resolution, string> => {
  if (!isOutcomeName(outcome)) return Either.left("Choose what happened.")
  if (outcome === "Unavailable") return Either.right({ _tag: "Unavailable" })
  if (outcome === "Success") {
    return json.trim() === ""
      ? Either.right({ _tag: "Success", result: undefined })
      : Either.map(parseJson(json), (result) => ({ _tag: "Success", result }))
  }
  if (json.trim() === "") return Either.left("A failure needs its error, as JSON.")
  return Either.map(parseJson(json), (error) => ({ _tag: "Failure", error }))
}

const choice = (name: string, { outcome }: Filled): Html => {
  const [label, hint] = outcomes[name as OutcomeName]
  return html`<div class="choice"><input type="radio" id="outcome-${name}" name="outcome" value="${name}" required${name === outcome && html` checked`}><label for="outcome-${name}"><strong>${label}</strong> <span class="hint">${hint}</span></label></div>`
}

const title = { name: "Resolve", heading: "Resolve this key" }

interface Problem {
  readonly status: 400 | 409
  readonly notice: Html
}

const invalid = (text: string): Problem => ({ status: 400, notice: notice("error", text) })
const changed: Problem = { status: 409, notice: changedNotice }

const form = (
  visit: Visit,
  identifiers: IdempotencyIdentifiers,
  looked: Look,
  filled: Filled,
  { notice, status }: Partial<Problem> = {}
) =>
  Effect.map(tokenFor(visit), (token) => {
    const body = html`${notice}
<section class="card narrow">${lookFacts(visit, identifiers, looked)}
<form method="post" action="${href(visit, "/resolve")}">${token.field}${seenField(looked.seen)}${identityFields(identifiers)}
<fieldset><legend>What happened?</legend>${Object.keys(outcomes).map((name) => choice(name, filled))}</fieldset>
<div class="field wide"><label for="json">Result or error, as JSON</label><textarea id="json" name="json" rows="8" autocomplete="off" autocapitalize="off" spellcheck="false" aria-describedby="json-hint">
${filled.json}</textarea><span class="hint" id="json-hint">As the operation records it: in the encoded form of its schema, if it has one.</span></div>
<p class="buttons"><button class="button primary" type="submit">Continue</button><a class="button" href="${href(visit, "/key", identity(identifiers))}">Cancel</a></p></form></section>`
    return token.cookie(respond(visit, { ...title, body, status: status ?? 200 }))
  })

const review = (
  visit: Visit,
  identifiers: IdempotencyIdentifiers,
  { seen }: Look,
  filled: Filled,
  resolution: IdempotencyRepository.Resolution
) =>
  Effect.map(tokenFor(visit), (token) => {
    const value =
      resolution._tag === "Success" ? resolution.result : resolution._tag === "Failure" ? resolution.error : undefined
    const body = html`<section class="card narrow">${facts([
      ...identityFacts(visit, identifiers),
      ["What happened", outcomes[resolution._tag][0]]
    ])}
${value !== undefined && html`<pre class="result" tabindex="0" aria-label="What will be recorded"><code>${visible(JSON.stringify(value, null, 2))}</code></pre>`}
<p>This is recorded under the key, and given to every call with it until it expires. Once recorded it does not change: only a reset removes it.</p>
<form method="post" action="${href(visit, "/resolve")}">${token.field}${seenField(seen)}${identityFields(identifiers)}
<input type="hidden" name="outcome" value="${resolution._tag}"><input type="hidden" name="json" value="${filled.json}"><input type="hidden" name="confirmed" value="yes">
<p class="buttons"><button class="button primary" type="submit">Resolve this key</button><a class="button" href="${href(visit, "/resolve", identity(identifiers))}">Change it</a></p></form></section>`
    return token.cookie(respond(visit, { name: "Resolve", heading: "Resolve it like this?", body }))
  })

const notUnknown = (visit: Visit, identifiers: IdempotencyIdentifiers, why?: string) =>
  new Refusal({
    status: 409,
    heading: "Nothing was resolved",
    explanation: html`<p>${why ?? "The outcome of this key is not unknown, or is no longer."}</p><p><a class="button" href="${href(visit, "/key", identity(identifiers))}">See the key</a></p>`
  })

const owned = (visit: Visit, identifiers: IdempotencyIdentifiers, millis: number) =>
  notUnknown(visit, identifiers, `An owner is running this key, and its lease has ${duration(millis)} to go.`)

/** What is stored, if it can be resolved. */
const lookUnknown = (visit: Visit, identifiers: IdempotencyIdentifiers) =>
  Effect.flatMap(look(identifiers), (looked): Effect.Effect<Look, Refusal> => {
    const { now, state } = looked
    if (state._tag === "Processing" && now < state.leaseUntil) return owned(visit, identifiers, state.leaseUntil - now)
    return isResolvable(state, now) ? Effect.succeed(looked) : notUnknown(visit, identifiers)
  })

export const resolveForm = (visit: Visit) =>
  Effect.gen(function* () {
    const identifiers = yield* identifiersIn(visit.params)
    const looked = yield* lookUnknown(visit, identifiers)
    return yield* form(visit, identifiers, looked, { outcome: null, json: "" })
  })

export const resolveAction = (visit: Visit) =>
  Effect.gen(function* () {
    const fields = yield* formOf(visit)
    const identifiers = yield* identifiersIn(fields)
    const filled = { outcome: fields.get("outcome"), json: fields.get("json") ?? "" }
    const looked = yield* lookUnknown(visit, identifiers)
    // What was chosen is about what was seen.
    if (!isSeen(fields, looked)) return yield* form(visit, identifiers, looked, { ...filled, outcome: null }, changed)
    const resolution = resolutionOf(filled)
    if (Either.isLeft(resolution)) return yield* form(visit, identifiers, looked, filled, invalid(resolution.left))
    if (fields.get("confirmed") !== "yes") return yield* review(visit, identifiers, looked, filled, resolution.right)
    const repository = yield* IdempotencyRepository
    const reply = yield* Effect.either(
      loggedChange(
        "An operator resolved an idempotency key",
        identifiers,
        { outcome: resolution.right._tag },
        repository.resolve(identifiers, resolution.right)
      )
    )
    if (Either.isLeft(reply)) {
      switch (reply.left._tag) {
        case "IdempotencyInFlightError":
          return yield* owned(visit, identifiers, Duration.toMillis(reply.left.retryAfter))
        case "IdempotencyValidationError": {
          const problem = invalid(`Nothing was recorded: ${reply.left.issues.join("; ")}.`)
          return yield* form(visit, identifiers, looked, filled, problem)
        }
        default:
          return yield* Effect.fail(reply.left)
      }
    }
    if (!reply.right) return yield* notUnknown(visit, identifiers)
    return doneAt(visit, identifiers, "resolved")
  })
