/** What the pages show, over a store in memory. */
import { describe, expect } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as FastCheck from "effect/FastCheck"
import { IdempotencyStorageError } from "../../src/IdempotencyError.js"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import {
  claim,
  completed,
  empty,
  get,
  ids,
  type Repository,
  seeded,
  serve,
  skeletonOf,
  Time,
  test,
  wordsOf
} from "./fixture.js"

/** The rows of a page's table, cell by cell. */
const rowsOf = (markup: string): ReadonlyArray<ReadonlyArray<string>> =>
  [...markup.matchAll(/<tr role="row" data-key[\s\S]*?<\/tr>/g)].map(([row]) =>
    [...row.matchAll(/<t[hd][\s\S]*?<\/t[hd]>/g)].map(([cell]) => wordsOf(cell))
  )

const linkTo = (markup: string, words: string): string => {
  const [, href = ""] = new RegExp(`<a[^>]*href="([^"]*)"[^>]*>${words}</a>`).exec(markup) ?? []
  return href.replaceAll("&amp;", "&")
}

const failing = (reason: IdempotencyStorageError["reason"]) =>
  Effect.fail(new IdempotencyStorageError({ operation: "", method: "list", reason, applied: "no" }))

describe("the pages", () => {
  test(
    "count what there is by state and operation",
    Effect.gen(function* () {
      const handler = yield* serve(yield* seeded)
      const { status, text } = yield* get(handler, "/")
      expect(status).toBe(200)
      expect(wordsOf(text)).toContain("In flight 4 Lapsed 2 Unknown 2 Completed 25 Released 2 Unreadable 0")
      expect(wordsOf(text)).toContain("2 owners lapsed")
      expect(wordsOf(text)).toContain("2 outcomes unknown")
      expect(rowsOf(text)).toEqual([
        ["payment.charge", "3", "0", "0", "15", "0", "0", "18"],
        ["invoice.send", "0", "0", "0", "9", "1", "0", "10"],
        ["payout.transfer", "0", "1", "2", "0", "0", "0", "3"],
        ["report.build", "1", "0", "0", "1", "0", "0", "2"],
        ["shipment.book", "0", "1", "0", "0", "1", "0", "2"]
      ])
      expect(wordsOf(text)).not.toContain("Counted over")
    })
  )

  test(
    "say where the count stopped, and that nothing is amiss",
    Effect.gen(function* () {
      const repository = yield* empty
      for (let index = 0; index < 7; index++) yield* completed(repository, ids("a", `k-${index}`), 1)
      const cut = yield* get(yield* serve(repository, { maxCounted: 5 }), "/")
      expect(wordsOf(cut.text)).toContain("Counted over the first 5 keys only")
      const whole = yield* get(yield* serve(repository, { maxCounted: 7 }), "/")
      expect(wordsOf(whole.text)).toContain("Nothing needs attention.")
      expect(rowsOf(whole.text)).toEqual([["a", "0", "0", "0", "7", "0", "0", "7"]])
      expect(wordsOf((yield* get(yield* serve(yield* empty), "/")).text)).toContain("No keys are stored.")
    })
  )

  test(
    "list the keys in flight with age, attempt and lease, those without an owner first",
    Effect.gen(function* () {
      const { text } = yield* get(yield* serve(yield* seeded), "/in-flight")
      expect(rowsOf(text)).toEqual([
        [
          "payout-312",
          "Lapsed, outcome unknown",
          "payout.transfer",
          "tenant-7",
          "1",
          "3 min 11 s",
          "lapsed 2 min 41 s ago"
        ],
        ["order-1044", "Lapsed", "shipment.book", "tenant-7", "1", "1 min 1 s", "lapsed 46 s ago"],
        ["order-1056", "In flight", "payment.charge", "tenant-7", "1", "13 s", "17 s left"],
        ["order-1057", "In flight", "payment.charge", "tenant-7", "1", "9 s", "21 s left"],
        ["order-1058", "In flight", "payment.charge", "tenant-7", "1", "5 s", "25 s left"],
        ["2026-07", "In flight", "report.build", "none", "1", "1 s", "1 min 59 s left"]
      ])
      expect(wordsOf(text)).toContain("6 keys; 2 lapsed.")
    })
  )

  test(
    "list the unknown outcomes",
    Effect.gen(function* () {
      const { text } = yield* get(yield* serve(yield* seeded), "/unknown")
      expect(rowsOf(text).map(([key, why, operation]) => [key, why, operation])).toEqual([
        ["payout-310", "held by its owner", "payout.transfer"],
        ["payout-311", "held by its owner", "payout.transfer"]
      ])
    })
  )

  test(
    "search by operation, prefix and state",
    Effect.gen(function* () {
      const handler = yield* serve(yield* seeded)
      const keys = (query: string) =>
        Effect.map(get(handler, `/keys?${query}`), ({ text }) => rowsOf(text).map(([key]) => key))
      expect(yield* keys("operation=report.build")).toEqual(["2026-06", "2026-07"])
      expect(yield* keys("operation=report.build&state=Completed")).toEqual(["2026-06"])
      expect(yield* keys("prefix=order-105&state=Processing")).toEqual(["order-1056", "order-1057", "order-1058"])
      expect(yield* keys("operation=report")).toEqual([])
      const { text } = yield* get(handler, "/keys?operation=a%22b&prefix=%3Cp%3E&state=Unknown")
      expect(text).toContain('value="a&quot;b"')
      expect(text).toContain('value="&lt;p&gt;"')
      expect(text).toContain('<option value="Unknown" selected>')
      expect(wordsOf(text)).toContain("No key was found.")
    })
  )

  test(
    "go on by cursor, to the end and back to the first",
    Effect.gen(function* () {
      const handler = yield* serve(yield* seeded, { pageSize: 10 })
      const seen: Array<string> = []
      let path = "/keys?operation=payment.charge"
      let pages = 0
      for (; path !== ""; pages++) {
        const { text } = yield* get(handler, path)
        seen.push(...rowsOf(text).map(([key = ""]) => key))
        if (pages > 0) expect(linkTo(text, "First page")).toBe("/keys?operation=payment.charge")
        path = linkTo(text, "Next page")
      }
      expect([pages, seen.length, new Set(seen).size]).toEqual([2, 18, 18])
    })
  )

  test(
    "fill a page from short and empty ones, within bounds",
    Effect.gen(function* () {
      const repository = yield* seeded
      let calls = 0
      // As a store without an index does: most of what it looks through is not asked for.
      const sparse: Repository = {
        ...repository,
        list: (request) =>
          Effect.map(repository.list({ ...request, limit: 1, state: undefined }), (page) => {
            calls++
            return { ...page, entries: page.entries.filter(({ state }) => state._tag === request?.state) }
          })
      }
      const { text } = yield* get(yield* serve(sparse, { pageSize: 3 }), "/in-flight")
      expect([rowsOf(text).length, calls > 3]).toEqual([3, true])
      expect(linkTo(text, "Next page")).toContain("/in-flight?cursor=")
      const advance = yield* Time
      const endless: Repository = {
        ...repository,
        list: () => Effect.as(advance(100), { entries: [], cursor: "more", now: 0 })
      }
      const none = yield* get(yield* serve(endless), "/unknown")
      expect(wordsOf(none.text)).toContain("None among the keys that were looked through so far.")
      expect(linkTo(none.text, "Look further")).toBe("/unknown?cursor=more")
    })
  )

  test(
    "show a key, and its result only when asked",
    Effect.gen(function* () {
      const handler = yield* serve(yield* seeded)
      const path = "/key?operation=payment.charge&key=order-1041&scope=tenant-7"
      const hidden = yield* get(handler, path)
      expect(wordsOf(hidden.text)).toContain("Recorded 2026-07-03 02:40:00 UTC 22 min 49 s ago")
      expect(wordsOf(hidden.text)).toContain("Fingerprint 4vKq0cZt1mYw8rEo2uXa7sLd5nBj3hGf6iPk9yTeRQs")
      expect(hidden.text).not.toContain("ch_order-1041")
      expect(hidden.text).toContain('id="live"')
      const shown = yield* get(handler, `${path}&result=show`)
      expect(shown.text).toContain(
        "{\n  &quot;chargeId&quot;: &quot;ch_order-1041&quot;,\n  &quot;amount&quot;: 4200\n}"
      )
      expect(shown.text).not.toContain('id="live"')
      for (const [query, words] of [
        ["operation=shipment.book&key=order-1044&scope=tenant-7", "reserve carrier print label"],
        ["operation=payout.transfer&key=payout-311&scope=tenant-7", "Guarantee at-most-once"],
        ["operation=report.build&key=2026-06", "Completed, result lost"],
        ["operation=invoice.send&key=order-1050", "Nobody owns it"],
        ["operation=payment.charge&key=order-1055&scope=tenant-7&result=show", "CardDeclined"]
      ]) {
        const page = yield* get(handler, `/key?${query}`)
        expect([page.status, wordsOf(page.text)]).toEqual([200, expect.stringContaining(words ?? "?")])
        expect(page.text).not.toContain("of the step")
      }
    })
  )

  test(
    "show what cannot be read as such, without a result that is not JSON being taken for one",
    Effect.gen(function* () {
      const { driver } = yield* seeded
      const repository = yield* IdempotencyRepository.make({
        ...driver,
        read: (all) => Effect.succeed(all.map(() => ({ _tag: "Corrupted", cause: "<b>no state" })))
      })
      const broken = yield* get(yield* serve(repository), "/key?operation=a&key=b&result=show")
      expect([broken.status, wordsOf(broken.text)]).toEqual([200, expect.stringContaining("Cause <b>no state")])
      expect(broken.text).not.toContain("<b>no")
      const handler = yield* serve(
        yield* IdempotencyRepository.make({
          ...driver,
          read: () =>
            Effect.succeed([
              {
                _tag: "Completed",
                token: "t",
                attempt: 1,
                fingerprint: undefined,
                createdAt: Number.NaN,
                expiresAt: Number.POSITIVE_INFINITY,
                outcome: { _tag: "Success", encoded: `${"<".repeat(100_000)}end` }
              }
            ])
        })
      )
      const long = yield* get(handler, "/key?operation=a&key=b&result=show")
      expect(wordsOf(long.text)).toContain("The first 100,000 of 100,003 characters.")
      expect([long.status, long.text.includes("&lt;end")]).toEqual([200, false])
    })
  )
})

describe("what is not there, or does not answer", () => {
  test(
    "has a page that says so",
    Effect.gen(function* () {
      const handler = yield* serve(yield* seeded)
      for (const [path, status, words] of [
        ["/key?operation=a&key=b", 404, "Nothing is stored"],
        ["/nowhere", 404, "There is no such page"],
        ["/reset?operation=a&key=b", 404, "There is no such page"],
        ["/key", 400, "the operation is empty"],
        ["/key?operation=a&key=b%3Ac", 400, "the key holds a colon"],
        ["/keys?state=Nonsense", 400, "There is no such state"],
        ["/keys?cursor=nonsense%00", 400, "Begin at the first page"]
      ] as const) {
        const page = yield* get(handler, path)
        expect([path, page.status, wordsOf(page.text)]).toEqual([path, status, expect.stringContaining(words)])
      }
    })
  )

  test(
    "is a store that fails: status 503, in plain words",
    Effect.gen(function* () {
      const repository = yield* seeded
      for (const [reason, words] of [
        ["Unavailable", "cannot be reached"],
        ["Timeout", "did not answer in time"],
        ["Misconfigured", "set up wrongly"]
      ] as const) {
        const broken = { ...repository, list: () => failing(reason), inspect: () => failing(reason) }
        const handler = yield* serve(broken)
        for (const path of ["/", "/in-flight", "/unknown", "/keys", "/key?operation=a&key=b"]) {
          const page = yield* get(handler, path)
          expect([path, page.status, wordsOf(page.text)]).toEqual([path, 503, expect.stringContaining(words)])
          expect(page.headers.get("retry-after")).toBe("5")
          // What is live in a browser is left as it was.
          expect(page.text).not.toContain('id="live"')
        }
      }
    })
  )

  test(
    "is a store that cannot list: keys are found by their identity",
    Effect.gen(function* () {
      const { driver } = yield* seeded
      const handler = yield* serve(yield* IdempotencyRepository.make({ ...driver, list: undefined }))
      for (const path of ["/", "/in-flight", "/unknown", "/keys"]) {
        const page = yield* get(handler, path)
        expect([page.status, wordsOf(page.text)]).toEqual([
          200,
          expect.stringContaining("the memory store cannot list its keys")
        ])
        expect(page.text).toContain('action="/key"')
      }
      const page = yield* get(handler, "/key?operation=report.build&key=2026-07&scope=")
      expect([page.status, wordsOf(page.text)]).toEqual([200, expect.stringContaining("An owner runs it")])
    })
  )
})

describe("every response", () => {
  const paths = ["/", "/in-flight", "/unknown", "/keys", "/key?operation=report.build&key=2026-07", "/key", "/nowhere"]

  test(
    "has the headers, and no page has anything inline",
    Effect.gen(function* () {
      const handler = yield* serve(yield* seeded)
      for (const path of paths) {
        const { headers, text } = yield* get(handler, path)
        expect(headers.get("content-security-policy")).toBe(
          "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
        expect(headers.get("x-content-type-options")).toBe("nosniff")
        expect(headers.get("referrer-policy")).toBe("same-origin")
        expect(headers.get("cache-control")).toBe("no-store")
        expect(headers.get("content-type")).toBe("text/html; charset=utf-8")
        expect(text).not.toMatch(/ style="| on\w+="|<script>|<style|javascript:/)
        expect(text).toMatch(/<html lang="en">[\s\S]*<header[\s\S]*<nav [\s\S]*<main [\s\S]*<h1>[\s\S]*<footer/)
        for (const [, id = ""] of text.matchAll(/<label for="([^"]*)"/g)) expect(text).toContain(`id="${id}"`)
        const fields = [...text.matchAll(/<(?:input|select|textarea) (?!type="hidden")id="([^"]*)"/g)]
        for (const [, id = ""] of fields) expect(text).toContain(`<label for="${id}"`)
      }
    })
  )

  test(
    "finds its files, which are kept, as their names change with them",
    Effect.gen(function* () {
      const handler = yield* serve(yield* seeded, {}, "/admin/keys")
      const { text } = yield* get(handler, "/admin/keys")
      const files = [...text.matchAll(/(?:src|href)="([^"]*\/assets\/[^"]*)"/g)].map(([, path = ""]) => path)
      expect(new Set(files).size).toBe(3)
      for (const file of files) {
        const { headers, status } = yield* get(handler, file)
        expect([status, headers.get("cache-control")]).toEqual([200, "private, max-age=31536000, immutable"])
        expect(headers.get("x-content-type-options")).toBe("nosniff")
      }
    })
  )
})

describe("texts of the store", () => {
  const hostile = FastCheck.oneof(
    FastCheck.string({ unit: "binary", minLength: 1, maxLength: 30 }),
    FastCheck.stringMatching(/^[<>"'&;/= a-z]{1,30}$/)
  )
  const part = hostile.map((text) => text.replace(/[:\p{Cc}\p{Surrogate}]/gu, "").trim()).map((text) => text || "<x>")

  test(
    "change no page",
    Effect.gen(function* () {
      const pages = (operation: string, key: string, scope: string, result: string) =>
        Effect.scoped(
          Effect.gen(function* () {
            const repository = yield* empty
            const of = ids(operation, key, scope)
            yield* completed(repository, of, { result })
            yield* claim(repository, ids(operation, `${key}2`, scope))
            const handler = yield* serve(repository, { title: operation })
            const query = new URLSearchParams({ operation, key, scope, result: "show", prefix: key }).toString()
            return yield* Effect.forEach(["/", "/in-flight", `/keys?${query}`, `/key?${query}`], (path) =>
              Effect.map(get(handler, path), ({ text }) =>
                skeletonOf(text.replace(/<span class="invisible">[^<]*<\/span>/g, ""))
              )
            )
          })
        )
      const plain = yield* pages("a", "b", "c", "d")
      expect(plain.every((tags) => tags.length > 30)).toBe(true)
      const samples = FastCheck.sample(FastCheck.tuple(part, part, part, hostile), 40)
      for (const sample of samples) expect([sample, yield* pages(...sample)]).toEqual([sample, plain])
    })
  )
})
