/** Lets a key run again, once that is confirmed. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { IdempotencyIdentifiers } from "../../IdempotencyIdentifiers.js"
import { IdempotencyRepository } from "../../IdempotencyRepository.js"
import type { Corrupted, State } from "../protocol.js"
import { loggedChange } from "./actionLog.js"
import { changedNotice, doneAt, formOf, isSeen, seenField } from "./actions.js"
import { tokenFor } from "./csrf.js"
import { duration } from "./format.js"
import { type Html, html } from "./html.js"
import { type Look, look, lookFacts, shownOf } from "./keyPage.js"
import { notice, respond } from "./layout.js"
import { identifiersIn, identityFields } from "./lookup.js"
import { Refusal } from "./refusal.js"
import { href, identity, type Visit } from "./site.js"
import { kindOf } from "./states.js"

const consequence = (state: State | Corrupted): string => {
  switch (state._tag) {
    case "Completed":
      return "What is recorded is forgotten. The next call with this key runs the effect again, which has run before."
    case "Corrupted":
      return "What is stored is removed, unread, but for steps that may be decrypted later: those are kept. The next call with this key runs the effect again, whether it ran before or not."
    case "Released":
      return "The key is free already: this changes nothing."
    default:
      return "The next call with this key runs the effect again. If the last run did happen, or did in part, it happens once more: reset it only if that is harmless, or if you know that it did not happen."
  }
}

const forceField = html`<p class="check"><input type="checkbox" id="force" name="force" value="yes"><label for="force">Reset it although an owner may be running. The owner loses the key and is interrupted at its next renewal; what it has done so far stays done, and both runs may happen.</label></p>`

const isRunning = ({ now, state }: Look): boolean => kindOf(shownOf(state), now) === "running"

const confirmation = (
  visit: Visit,
  identifiers: IdempotencyIdentifiers,
  looked: Look,
  { mayForce = isRunning(looked), problem }: { readonly mayForce?: boolean; readonly problem?: Html } = {}
) =>
  Effect.map(tokenFor(visit), (token) => {
    const back = href(visit, "/key", identity(identifiers))
    const body = html`${problem}
<section class="card narrow">${lookFacts(visit, identifiers, looked)}
<p>${consequence(looked.state)}</p>
<form method="post" action="${href(visit, "/reset")}">${token.field}${seenField(looked.seen)}${identityFields(identifiers)}
${mayForce && forceField}
<p class="buttons"><button class="button danger filled" type="submit">Reset this key</button><a class="button" href="${back}">Cancel</a></p></form></section>`
    const status = problem === undefined ? 200 : 409
    return token.cookie(respond(visit, { name: "Reset", heading: "Reset this key?", body, status }))
  })

export const resetForm = (visit: Visit) =>
  Effect.gen(function* () {
    const identifiers = yield* identifiersIn(visit.params)
    return yield* confirmation(visit, identifiers, yield* look(identifiers))
  })

const gone = new Refusal({
  status: 404,
  heading: "Nothing was there to reset",
  explanation: html`<p>The key has expired, or was removed, in the meantime. The next call with it runs.</p>`
})

export const resetAction = (visit: Visit) =>
  Effect.gen(function* () {
    const form = yield* formOf(visit)
    const identifiers = yield* identifiersIn(form)
    const force = form.get("force") === "yes"
    const looked = yield* look(identifiers, gone)
    if (!isSeen(form, looked)) return yield* confirmation(visit, identifiers, looked, { problem: changedNotice })
    const repository = yield* IdempotencyRepository
    const reply = yield* Effect.either(
      loggedChange(
        "An operator reset an idempotency key",
        identifiers,
        { forced: force },
        repository.reset(identifiers, { force })
      )
    )
    if (reply._tag === "Left") {
      if (reply.left._tag === "IdempotencyStorageError") return yield* Effect.fail(reply.left)
      const left = duration(Duration.toMillis(reply.left.retryAfter))
      return yield* confirmation(visit, identifiers, yield* look(identifiers, gone), {
        mayForce: true,
        problem: notice("error", `Nothing was done: an owner is running this key, and its lease has ${left} to go.`)
      })
    }
    if (!reply.right) return yield* gone
    return doneAt(visit, identifiers, "reset")
  })
