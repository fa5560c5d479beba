import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { longestPage } from "../listing.js"
import type { Entry, Page } from "../protocol.js"
import { storedKey } from "../storedKey.js"
import { overviewDocument, stateNames, tableHead, tableRow } from "./describe.js"
import { fromLibrary, usage } from "./failure.js"
import { json, openStore, print, printJson, storeOptions } from "./options.js"
import { aligned, printable } from "./text.js"

const defaultLimit = 100

const filters = {
  operation: Options.text("operation").pipe(Options.optional, Options.withDescription("Only those of this operation")),
  state: Options.choiceWithValue("state", Object.entries(stateNames)).pipe(
    Options.optional,
    Options.withDescription("Only those in this state; a lapsed owner is still processing")
  ),
  keyPrefix: Options.text("key-prefix").pipe(
    Options.optional,
    Options.withDescription("Only those whose key begins with this")
  )
}

const extent = {
  limit: Options.integer("limit").pipe(
    Options.optional,
    Options.withDescription(`Stop after the page on which so many are reached; ${defaultLimit} by default`)
  ),
  all: Options.boolean("all").pipe(Options.withDescription("Go on to the end")),
  cursor: Options.text("cursor").pipe(Options.optional, Options.withDescription("Go on where another list has stopped"))
}

/** Prints pages as they come: a table whose columns never shrink, or lines of JSON. */
const makePrinter = (asJson: boolean) => {
  let widths: ReadonlyArray<number> = []
  return (entries: ReadonlyArray<Entry>, now: number): Effect.Effect<void> => {
    if (asJson) {
      return Effect.forEach(entries, ({ identifiers, state }) => printJson(overviewDocument(identifiers, state, now)), {
        discard: true
      })
    }
    if (entries.length === 0) return Effect.void
    const rows = entries.map((entry) => tableRow(entry, now))
    const table = aligned(widths.length === 0 ? [tableHead, ...rows] : rows, widths)
    widths = table.widths
    return print(...table.lines)
  }
}

const ending = (asJson: boolean, count: number, cursor: string | undefined): Effect.Effect<void> => {
  if (asJson) return cursor === undefined ? Effect.void : printJson({ cursor })
  if (cursor === undefined) return count === 0 ? print("No keys.") : Effect.void
  return print("", `There may be more: --cursor ${shellWord(printable(cursor))}`)
}

/** As one word of a command line. */
const shellWord = (text: string): string => (/^[\w.:/=+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`)

export const list = Command.make(
  "list",
  { ...filters, ...extent, ...storeOptions, json },
  ({ all, cursor: from, json, keyPrefix, limit, operation, state, ...store }) =>
    Effect.gen(function* () {
      if (all && Option.isSome(limit)) return yield* Effect.fail(usage("Give --limit or --all, not both."))
      const most = all ? Number.POSITIVE_INFINITY : Option.getOrElse(limit, () => defaultLimit)
      if (most < 1) return yield* Effect.fail(usage("--limit has to be 1 or more."))
      const repository = yield* openStore(store)
      const print = makePrinter(json)
      // A page may repeat what an earlier one held.
      const seen = new Set<string>()
      const isNew = ({ identifiers }: Entry): boolean => {
        const key = storedKey(identifiers)
        return !seen.has(key) && seen.add(key).has(key)
      }
      let cursor = Option.getOrUndefined(from)
      do {
        const page: Page = yield* Effect.mapError(
          repository.list({
            operation: Option.getOrUndefined(operation),
            state: Option.getOrUndefined(state),
            keyPrefix: Option.getOrUndefined(keyPrefix),
            limit: Math.min(most - seen.size, longestPage),
            cursor
          }),
          fromLibrary
        )
        // A page is printed as a whole, even beyond the limit: the cursor is that of its end.
        yield* print(page.entries.filter(isNew), page.now)
        cursor = page.cursor
      } while (cursor !== undefined && seen.size < most)
      yield* ending(json, seen.size, cursor)
    })
).pipe(Command.withDescription("List keys, claims included and results left out"))
