/** What the store holds, counted over as much of it as is asked for. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { IdempotencyRepository } from "../../IdempotencyRepository.js"
import { counted, duration, number } from "./format.js"
import { type Html, html } from "./html.js"
import { notice, respond } from "./layout.js"
import { cannotList } from "./lookup.js"
import { href, type Visit } from "./site.js"
import { icon, type Kind, kindNames, kindOf } from "./states.js"
import { code, table } from "./table.js"
import { type Walked, walk } from "./walk.js"

const kinds = ["running", "lapsed", "unknown", "completed", "released", "corrupted"] as const

type Counts = Readonly<Record<Kind, number>>

const countKinds = (found: ReadonlyArray<Kind>): Counts => {
  const counts = { running: 0, lapsed: 0, unknown: 0, completed: 0, released: 0, corrupted: 0 }
  for (const kind of found) counts[kind]++
  return counts
}

const operationsShown = 100

interface Row {
  readonly operation: string
  readonly counts: Counts
  readonly total: number
}

const byOperation = ({ entries, now }: Walked): ReadonlyArray<Row> => {
  const found = new Map<string, Array<Kind>>()
  for (const { identifiers, state } of entries) {
    const kind = kindOf(state, now)
    const of = found.get(identifiers.operation)
    if (of === undefined) found.set(identifiers.operation, [kind])
    else of.push(kind)
  }
  return [...found]
    .map(([operation, of]): Row => ({ operation, counts: countKinds(of), total: of.length }))
    .sort((a, b) => b.total - a.total || (a.operation < b.operation ? -1 : 1))
}

const pages: Readonly<Record<Kind, readonly [path: string, state?: string]>> = {
  running: ["/in-flight"],
  lapsed: ["/in-flight"],
  unknown: ["/unknown"],
  completed: ["/keys", "Completed"],
  released: ["/keys", "Released"],
  corrupted: ["/keys", "Corrupted"]
}

const linkOf = (visit: Visit, kind: Kind): string => {
  const [path, state] = pages[kind]
  return href(visit, path, { state })
}

const troubles = [
  ["lapsed", "owner lapsed", "owners lapsed", "They stopped answering before their calls had ended."],
  ["unknown", "outcome unknown", "outcomes unknown", "A run may have happened, and is not repeated until you say so."],
  ["corrupted", "record unreadable", "records unreadable", "Calls with these keys fail until they are reset or expire."]
] as const

const attention = (visit: Visit, counts: Counts): Html => {
  const found = troubles.filter(([kind]) => counts[kind] > 0)
  if (found.length === 0) {
    return html`<p class="calm">${icon("completed")}Nothing needs attention.</p>`
  }
  return html`<ul class="troubles">${found.map(
    ([kind, one, many, text]) =>
      html`<li data-key="${kind}"><a class="trouble ${kind}" href="${linkOf(visit, kind)}">${icon(kind)}<span><strong>${counted(counts[kind], one, many)}</strong> <span class="why">${text}</span></span></a></li>`
  )}</ul>`
}

const cards = (visit: Visit, counts: Counts): Html =>
  html`<ul class="counts">${kinds.map(
    (kind) =>
      html`<li><a class="count ${kind}" href="${linkOf(visit, kind)}"><span class="name">${icon(kind)}${kindNames[kind]}</span><span class="value">${number(counts[kind])}</span></a></li>`
  )}</ul>`

const operations = (visit: Visit, rows: ReadonlyArray<Row>): Html => {
  const shown = rows.slice(0, operationsShown)
  return html`${table({
    caption: "Keys by operation and state",
    rows: shown,
    key: ({ operation }) => operation,
    columns: [
      {
        name: "Operation",
        cell: ({ operation }) => html`<a href="${href(visit, "/keys", { operation })}">${code(operation)}</a>`
      },
      ...kinds.map((kind) => ({
        name: kindNames[kind],
        isNumber: true,
        isZero: ({ counts }: Row) => counts[kind] === 0,
        cell: ({ counts }: Row) => (counts[kind] === 0 ? html`<span class="muted">0</span>` : number(counts[kind]))
      })),
      { name: "All", isNumber: true, cell: ({ total }) => html`<strong>${number(total)}</strong>` }
    ]
  })}${shown.length < rows.length && html`<p class="muted">And ${counted(rows.length - shown.length, "more operation")}.</p>`}`
}

const mostMillis = 5_000

const cutOff = ({ site }: Visit, count: number): Html =>
  notice(
    "info",
    html`<p>Counted over the first ${number(count)} keys only${count < site.maxCounted && ` (as many as came within ${duration(mostMillis)})`}: the store holds more, and what it holds of each state may be more, too.</p>`
  )

export const overviewPage = (visit: Visit) =>
  Effect.gen(function* () {
    const repository = yield* IdempotencyRepository
    const walked = yield* walk(repository, {}, { keys: visit.site.maxCounted, millis: mostMillis })
    const page = { name: "Overview", heading: "Overview" }
    if (Either.isLeft(walked)) return respond(visit, { ...page, body: cannotList(visit, walked.left.issues) })
    const { cursor, entries, now } = walked.right
    const counts = countKinds(entries.map(({ state }) => kindOf(state, now)))
    const rows = byOperation(walked.right)
    const body = html`${cursor !== undefined && cutOff(visit, entries.length)}
<div aria-live="polite">${attention(visit, counts)}</div>
<section><h2>By state</h2>${cards(visit, counts)}</section>
<section><h2>By operation</h2>${
      rows.length === 0
        ? html`<p class="empty">No keys are stored.</p>`
        : html`<div class="card flush">${operations(visit, rows)}</div>`
    }</section>`
    return respond(visit, { ...page, body, live: { everyMillis: 10_000 } })
  })
