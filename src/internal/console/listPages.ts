/** The keys in flight, those of unknown outcome, and the search. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { IdempotencyRepository } from "../../IdempotencyRepository.js"
import { counted, duration } from "./format.js"
import { type Html, html } from "./html.js"
import { respond } from "./layout.js"
import { cannotList, lookupForm } from "./lookup.js"
import { Refusal } from "./refusal.js"
import { href, identity, paramOf, type Visit } from "./site.js"
import { badge, isListedState, kindOf, lease, stateNames } from "./states.js"
import { type Column, code, table } from "./table.js"
import { rowKey, type Walked, type Wanted, walk } from "./walk.js"

type Entry = IdempotencyRepository.Entry

/** A list waits so long for its page to fill; a store without an index may have to look through all of its keys. */
const mostMillis = 2_000

const keyColumn = (visit: Visit): Column<Entry> => ({
  name: "Key",
  cell: ({ identifiers }) =>
    html`<a class="key" href="${href(visit, "/key", identity(identifiers))}">${code(identifiers.idempotencyKey)}</a>`
})

const operationColumn = (visit: Visit): Column<Entry> => ({
  name: "Operation",
  cell: ({ identifiers: { operation } }) =>
    html`<a class="quiet" href="${href(visit, "/keys", { operation })}">${code(operation)}</a>`
})

const scopeColumn: Column<Entry> = {
  name: "Scope",
  cell: ({ identifiers: { scope } }) => (scope === undefined ? html`<span class="muted">none</span>` : code(scope))
}

const attemptColumn: Column<Entry> = {
  name: "Attempt",
  isNumber: true,
  cell: ({ state }) => (state._tag === "Corrupted" ? "–" : String(state.attempt))
}

const stateColumn = (now: number): Column<Entry> => ({ name: "State", cell: ({ state }) => badge(state, now) })

const ageColumn = (now: number): Column<Entry> => ({
  name: "Age",
  cell: ({ state }) => (state._tag === "Corrupted" ? "–" : duration(now - state.createdAt))
})

const leaseColumn = (now: number): Column<Entry> => ({
  name: "Lease",
  cell: ({ state }) => (state._tag === "Processing" ? lease(state.leaseUntil, now) : "–")
})

const guaranteeColumn: Column<Entry> = {
  name: "Guarantee",
  cell: ({ state }) => (state._tag === "Unknown" || state._tag === "Processing" ? state.guarantee : "–")
}

const whyColumn: Column<Entry> = {
  name: "Why",
  cell: ({ state }) => (state._tag !== "Unknown" ? "–" : state.reason === "held" ? "held by its owner" : "owner lapsed")
}

const expiryColumn = (now: number): Column<Entry> => ({
  name: "Expires",
  cell: ({ state }) =>
    state._tag === "Corrupted" ? "–" : state.expiresAt > now ? `in ${duration(state.expiresAt - now)}` : "now"
})

interface List {
  readonly name: string
  readonly path: string
  readonly caption: string
  readonly wanted: Wanted
  readonly columns: (now: number) => ReadonlyArray<Column<Entry>>
  readonly everyMillis: number
  readonly intro?: Html
  readonly fixed?: Html
  /** Where there are none. */
  readonly none: string
  readonly order?: (now: number) => (a: Entry, b: Entry) => number
}

const summary = ({ none }: List, { cursor, entries, now }: Walked): string => {
  if (entries.length === 0) return cursor === undefined ? none : "None among the keys that were looked through so far."
  const lapsed = entries.filter(({ state }) => kindOf(state, now) === "lapsed").length
  const keys = counted(entries.length, "key")
  return `${keys}${cursor === undefined ? "" : " on this page, and maybe more"}${lapsed === 0 ? "" : `; ${counted(lapsed, "lapsed", "lapsed")}`}.`
}

const pager = (visit: Visit, { path }: List, cursor: string | undefined, isEmpty: boolean): Html => {
  const query = Object.fromEntries(visit.params)
  return html`<nav class="pager" aria-label="Pages">${visit.params.has("cursor") && html`<a class="button" href="${href(visit, path, { ...query, cursor: undefined })}">First page</a>`}${
    cursor !== undefined &&
    html`<a class="button" href="${href(visit, path, { ...query, cursor })}">${isEmpty ? "Look further" : "Next page"}</a>`
  }</nav>`
}

const listPage = (visit: Visit, list: List) =>
  Effect.gen(function* () {
    const repository = yield* IdempotencyRepository
    const { name, path } = list
    const cursor = visit.params.get("cursor") ?? undefined
    const bounds = { keys: visit.site.pageSize, millis: mostMillis }
    const walked = yield* walk(repository, { ...list.wanted, cursor }, bounds)
    if (Either.isLeft(walked)) {
      // Nothing but the cursor comes from the request unchecked: without one, it is the store that cannot.
      if (cursor === undefined) {
        return respond(visit, { name, heading: name, body: cannotList(visit, walked.left.issues) })
      }
      return yield* new Refusal({
        status: 400,
        heading: "There is no such page",
        explanation: html`<p>The list cannot go on from here: the link is of another store, or incomplete. <a href="${href(visit, path)}">Begin at the first page</a>.</p>`
      })
    }
    const { entries, now } = walked.right
    const rows = list.order === undefined ? entries : [...entries].sort(list.order(now))
    const body = html`${list.intro}
<p class="summary" aria-live="polite" aria-atomic="true">${summary(list, walked.right)}</p>
${
  rows.length > 0 &&
  html`<div class="card flush">${table({
    caption: list.caption,
    columns: list.columns(now),
    rows,
    key: ({ identifiers }) => rowKey(identifiers)
  })}</div>`
}
${pager(visit, list, walked.right.cursor, entries.length === 0)}`
    const { everyMillis, fixed } = list
    return respond(visit, {
      name,
      heading: name,
      body,
      live: { everyMillis },
      ...(fixed === undefined ? {} : { fixed })
    })
  })

/** Those without an owner first, then the oldest. */
const byUrgency =
  (now: number) =>
  (a: Entry, b: Entry): number =>
    Number(kindOf(b.state, now) === "lapsed") - Number(kindOf(a.state, now) === "lapsed") || byAge(a, b)

const createdAt = ({ state }: Entry): number => (state._tag === "Corrupted" ? 0 : state.createdAt)
const byAge = (a: Entry, b: Entry): number => createdAt(a) - createdAt(b)

export const inFlightPage = (visit: Visit) =>
  listPage(visit, {
    name: "In flight",
    path: "/in-flight",
    caption: "Keys in flight",
    wanted: { state: "Processing" },
    everyMillis: 3_000,
    none: "No key is in flight.",
    order: byUrgency,
    columns: (now) => [
      keyColumn(visit),
      stateColumn(now),
      operationColumn(visit),
      scopeColumn,
      attemptColumn,
      ageColumn(now),
      leaseColumn(now)
    ]
  })

export const unknownPage = (visit: Visit) =>
  listPage(visit, {
    name: "Unknown outcomes",
    path: "/unknown",
    caption: "Keys of unknown outcome",
    wanted: { state: "Unknown" },
    everyMillis: 5_000,
    none: "No outcome is unknown.",
    order: () => byAge,
    intro: html`<p class="intro">Runs that may have happened, and are not repeated. An at-most-once key whose owner lapsed is still among those <a href="${href(visit, "/in-flight")}">in flight</a>, marked as lapsed, until it is called again.</p>`,
    columns: (now) => [
      keyColumn(visit),
      whyColumn,
      operationColumn(visit),
      scopeColumn,
      attemptColumn,
      ageColumn(now),
      guaranteeColumn,
      expiryColumn(now)
    ]
  })

const searchForm = (visit: Visit, wanted: Wanted): Html =>
  html`<section class="card"><form class="search" method="get" action="${href(visit, "/keys")}" role="search">
<div class="field"><label for="operation">Operation</label><input id="operation" name="operation" maxlength="100" autocomplete="off" autocapitalize="off" spellcheck="false" value="${wanted.operation ?? ""}"><span class="hint">Exactly</span></div>
<div class="field"><label for="prefix">Key begins with</label><input id="prefix" name="prefix" maxlength="255" autocomplete="off" autocapitalize="off" spellcheck="false" value="${wanted.keyPrefix ?? ""}"></div>
<div class="field"><label for="state">State</label><select id="state" name="state"><option value="">Any</option>${Object.entries(
    stateNames
  ).map(
    ([state, name]) => html`<option value="${state}"${state === wanted.state && html` selected`}>${name}</option>`
  )}</select></div>
<div class="field"><button class="button primary" type="submit">Search</button></div>
</form>
<details><summary>Open one key by its whole identity</summary>${lookupForm(visit)}</details></section>`

export const keysPage = (visit: Visit) => {
  const state = paramOf(visit.params, "state")
  if (state !== undefined && !isListedState(state)) {
    return new Refusal({
      status: 400,
      heading: "There is no such state",
      explanation: html`<p>A key is in one of these states: ${Object.keys(stateNames).join(", ")}.</p>`
    })
  }
  const wanted = {
    operation: paramOf(visit.params, "operation"),
    keyPrefix: paramOf(visit.params, "prefix"),
    state
  }
  return listPage(visit, {
    name: "Keys",
    path: "/keys",
    caption: "Keys found",
    wanted,
    everyMillis: 10_000,
    none: "No key was found.",
    fixed: searchForm(visit, wanted),
    columns: (now) => [
      keyColumn(visit),
      stateColumn(now),
      operationColumn(visit),
      scopeColumn,
      attemptColumn,
      ageColumn(now),
      expiryColumn(now)
    ]
  })
}
