/**
 * The console in a real browser, over real stores. `SCREENSHOTS=<directory>` keeps a picture of each page, at the width of
 * a phone and of a desk.
 */
import { mkdirSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { Browser, BrowserContextOptions, Page } from "playwright-core"
import { Idempotency } from "../../src/Idempotency.js"
import { IdempotencyDomainService } from "../../src/IdempotencyDomainService.js"
import { IdempotencyMetrics } from "../../src/IdempotencyMetrics.js"
import { IdempotencyRepository } from "../../src/IdempotencyRepository.js"
import { RedisIdempotencyRepository } from "../../src/redis.js"
import { SqlIdempotencyRepository } from "../../src/sql.js"
import { withIdempotency } from "../../src/withIdempotency.js"
import { launchChromium } from "../support/chromium.js"
import { Postgres, pgClient } from "../support/databases.js"
import { StandaloneRedis } from "../support/redisServers.js"
import { directoryFor } from "../support/servers.js"
import {
  claim,
  completed,
  empty,
  hold,
  ids,
  listen,
  onManualClock,
  type Repository,
  release,
  seeded
} from "./fixture.js"

class Chromium extends Context.Tag("test/Chromium")<Chromium, Browser>() {
  static readonly layer: Layer.Layer<Chromium> = Layer.scoped(Chromium, launchChromium)
}

/** A page of its own. What the browser complains of is a defect of the test. */
const open = (options: BrowserContextOptions = {}): Effect.Effect<Page, never, Chromium | Scope.Scope> =>
  Effect.gen(function* () {
    const browser = yield* Chromium
    const context = yield* Effect.acquireRelease(
      Effect.promise(() => browser.newContext({ viewport: { width: 1280, height: 800 }, ...options })),
      (opened) => Effect.promise(() => opened.close())
    )
    const complaints: Array<string> = []
    yield* Effect.addFinalizer(() => Effect.sync(() => expect(complaints).toEqual([])))
    return yield* Effect.promise(async () => {
      const page = await context.newPage()
      page.setDefaultTimeout(15_000)
      page.on("pageerror", (error) => complaints.push(error.message))
      page.on("dialog", (dialog) => {
        complaints.push(dialog.message())
        void dialog.dismiss()
      })
      page.on("console", (message) => {
        // A page of status 404 or 503 is a failure to nobody but the browser.
        if (message.type() === "error" && !message.text().includes("the server responded with a status")) {
          complaints.push(message.text())
        }
      })
      return page
    })
  })

const textOf = (page: Page): Promise<string> => page.locator("main").innerText()

const redis = Layer.unwrapEffect(
  Effect.map(StandaloneRedis, ({ url }) => RedisIdempotencyRepository.layerClient({ url }))
).pipe(Layer.provide(StandaloneRedis.layer), Layer.orDie)

const postgres = SqlIdempotencyRepository.layer.pipe(
  Layer.provide(Layer.effectDiscard(SqlIdempotencyRepository.migration)),
  Layer.provide(pgClient),
  Layer.provide(Postgres.layer),
  Layer.orDie
)

const engineOver = (repository: Repository) =>
  Idempotency.layer.pipe(
    Layer.provide([
      Layer.succeed(IdempotencyRepository, repository),
      IdempotencyDomainService.layer,
      IdempotencyMetrics.layer
    ])
  )

describe.each([
  ["Redis", redis, true],
  ["Postgres", postgres, false]
] as const)("over %s", (_, store, javaScriptEnabled) => {
  layer(Layer.merge(store, Chromium.layer), { excludeTestServices: true, timeout: "2 minutes" })((it) => {
    it.scoped(`a stuck key is found and freed (${javaScriptEnabled ? "with" : "without"} JavaScript)`, () =>
      Effect.gen(function* () {
        const repository = yield* IdempotencyRepository
        for (let index = 0; index < 30; index++)
          yield* completed(repository, ids("invoice.send", `order-${index}`), index)
        // Its process is gone, and nobody will renew or release it.
        yield* claim(repository, ids("payment.charge", "order-1042", "tenant-7"), { lease: 600_000 })
        const url = yield* listen(repository, { readOnly: false })
        const page = yield* open({ javaScriptEnabled })
        const call = withIdempotency(Effect.succeed("ran"), "payment.charge", "order-1042", {
          scope: "tenant-7",
          inFlight: "fail"
        })
        yield* Effect.promise(async () => {
          await page.goto(url)
          expect(await textOf(page)).toContain("Nothing needs attention.")
          await page.locator(".counts").getByRole("link", { name: "In flight 1" }).click()
          const row = page.getByRole("row", { name: "order-1042" })
          expect(await row.innerText()).toMatch(/In flight[\s\S]*payment\.charge[\s\S]*tenant-7[\s\S]*9 min \d+ s left/)
          await row.getByRole("link", { name: "order-1042" }).click()
          await page.getByRole("link", { name: "Reset…" }).click()
          await page.getByRole("button", { name: "Reset this key" }).click()
          expect(await page.getByRole("alert").innerText()).toContain("an owner is running this key")
          await page.getByRole("checkbox").check()
          await page.getByRole("button", { name: "Reset this key" }).click()
          await page.waitForURL(/done=reset/)
          expect(await page.getByRole("alert").innerText()).toContain("The key was reset")
          expect(await textOf(page)).toContain("Nobody owns it")
        })
        expect(yield* Effect.provide(call, engineOver(repository))).toBe("ran")
      })
    )

    it.scoped("an unknown outcome is resolved, and calls get what was written", () =>
      Effect.gen(function* () {
        const repository = yield* IdempotencyRepository
        yield* hold(repository, ids("payout.transfer", "payout-311"))
        const url = yield* listen(repository, { readOnly: false })
        const page = yield* open({ javaScriptEnabled, viewport: { width: 390, height: 844 } })
        yield* Effect.promise(async () => {
          await page.goto(`${url}/unknown`)
          await page.getByRole("link", { name: "payout-311" }).click()
          await page.getByRole("link", { name: "Resolve…" }).click()
          await page.getByLabel("It succeeded").check()
          await page.getByLabel("Result or error, as JSON").fill('{ "paid": tru')
          await page.getByRole("button", { name: "Continue" }).click()
          expect(await page.getByRole("alert").innerText()).toContain("not JSON")
          await page.getByLabel("Result or error, as JSON").fill('{ "paid": true }')
          await page.getByRole("button", { name: "Continue" }).click()
          expect(await textOf(page)).toContain('"paid": true')
          await page.getByRole("button", { name: "Resolve this key" }).click()
          await page.waitForURL(/done=resolved/)
          expect(await textOf(page)).not.toContain("paid")
          await page.getByRole("button", { name: "Show the result" }).click()
          expect(await textOf(page)).toContain('"paid": true')
        })
        const call = withIdempotency(Effect.succeed({ paid: false }), "payout.transfer", "payout-311")
        expect(yield* Effect.provide(call, engineOver(repository))).toEqual({ paid: true })
      })
    )
  })
})

const desk = { width: 1280, height: 800 }
const phone = { width: 390, height: 844 }

layer(Chromium.layer, { excludeTestServices: true, timeout: "2 minutes" })("over memory", (it) => {
  it.scoped("a list follows the store: rows come and go, and focus and selection stay", () =>
    onManualClock(
      Effect.gen(function* () {
        const repository = yield* empty
        for (const key of ["a", "b", "c"]) yield* claim(repository, ids("op", key))
        const url = yield* listen(repository)
        const page = yield* open()
        yield* Effect.promise(async () => {
          await page.goto(`${url}/in-flight`)
          await page.getByRole("link", { name: "b", exact: true }).focus()
          await page.evaluate("getSelection().selectAllChildren(document.querySelectorAll('tbody tr')[2].firstChild)")
        })
        yield* release(repository, ids("op", "a"))
        yield* claim(repository, ids("op", "d"))
        yield* Effect.promise(async () => {
          await page.getByText("3 keys.").waitFor()
          await page.getByRole("link", { name: "d", exact: true }).waitFor()
          expect(await page.getByRole("link", { name: "a", exact: true }).count()).toBe(0)
          expect(await page.evaluate("document.activeElement.textContent")).toBe("b")
          expect(await page.evaluate("String(getSelection()).trim()")).toBe("c")
        })
        yield* release(repository, ids("op", "b"))
        yield* Effect.promise(async () => {
          await page.getByRole("link", { name: "b", exact: true }).waitFor({ state: "detached" })
          // Not at the top of the page, from where a reader would begin anew.
          expect(await page.evaluate("document.activeElement.id")).toBe("live")
        })
      })
    )
  )

  it.scoped("updates pause on demand, and while nobody looks; a store that fails leaves what was seen", () =>
    onManualClock(
      Effect.gen(function* () {
        const repository = yield* seeded
        let fails = false
        const url = yield* listen({
          ...repository,
          list: (request) => (fails ? Effect.die("no store") : repository.list(request))
        })
        const page = yield* open()
        yield* Effect.promise(async () => {
          let asked = 0
          page.on("request", (request) => {
            if (request.url().includes("/in-flight")) asked++
          })
          await page.goto(`${url}/in-flight`)
          await page.getByRole("button", { name: "Pause updates" }).click()
          await page.waitForTimeout(4_000)
          expect(asked).toBe(1)
          await page.getByRole("button", { name: "Resume updates" }).click()
          await page.waitForTimeout(1_000)
          expect(asked).toBe(2)
          await page.evaluate(
            "Object.defineProperty(document, 'hidden', { get: () => true, configurable: true }); document.dispatchEvent(new Event('visibilitychange'))"
          )
          await page.waitForTimeout(4_000)
          expect(asked).toBe(2)
          fails = true
          await page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
          await page.getByRole("status").getByText("Not up to date").waitFor()
          expect(await page.getByRole("row").count()).toBe(7)
          fails = false
          await page.getByText("Not up to date").waitFor({ state: "detached" })
        })
      })
    )
  )

  it.scoped("texts of the store are texts", () =>
    onManualClock(
      Effect.gen(function* () {
        const repository = yield* empty
        const script = "<script>alert(1)</script><img src=x onerror=alert(1)>"
        const of = ids("op<b>", `"><svg onload=alert(1)>'${script}\u202e`, "</code><a href=javascript;alert(1)>")
        yield* completed(repository, of, { script, end: "</pre></textarea>" })
        const url = yield* listen(repository, { readOnly: false, title: script })
        const page = yield* open({ viewport: phone })
        yield* Effect.promise(async () => {
          for (const path of ["/", "/keys", "/unknown"]) await page.goto(`${url}${path}`)
          await page.goto(`${url}/keys`)
          await page.getByRole("rowheader").getByRole("link").click()
          await page.getByRole("button", { name: "Show the result" }).click()
          expect(await page.locator("h1 code").innerText()).toBe(`${of.idempotencyKey.slice(0, -1)}\\u{202e}`)
          expect(await page.locator("pre").innerText()).toContain(script)
          expect(await page.locator("main script, main img, main svg[onload]").count()).toBe(0)
          expect(await page.evaluate("document.documentElement.scrollWidth")).toBe(phone.width)
        })
      })
    )
  )

  it.scoped(
    "every page fits a phone and a desk, has one heading, and shows where the focus is",
    () =>
      onManualClock(
        Effect.gen(function* () {
          const url = yield* listen(yield* seeded, { readOnly: false })
          const kept = process.env["SCREENSHOTS"]
          const directory = kept === undefined ? yield* directoryFor("screenshots") : kept
          mkdirSync(directory, { recursive: true })
          const query = (operation: string, key: string) => `?operation=${operation}&key=${key}&scope=tenant-7`
          const pages = {
            overview: "/",
            "in-flight": "/in-flight",
            unknown: "/unknown",
            keys: "/keys?operation=payment.charge",
            key: `/key${query("payout.transfer", "payout-311")}`,
            result: `/key${query("payment.charge", "order-1041")}&result=show`,
            reset: `/reset${query("payment.charge", "order-1057")}`,
            resolve: `/resolve${query("payout.transfer", "payout-311")}`,
            missing: `/key${query("payment.charge", "order-1")}`
          }
          for (const [viewport, colorScheme] of [
            [phone, "light"],
            [phone, "dark"],
            [desk, "light"],
            [desk, "dark"],
            [{ width: 820, height: 1100 }, "light"]
          ] as const) {
            const page = yield* open({ viewport, colorScheme })
            yield* Effect.promise(async () => {
              for (const [name, path] of Object.entries(pages)) {
                const at = `${name} at ${viewport.width}`
                await page.goto(`${url}${path}`)
                expect(await page.getByRole("heading", { level: 1 }).count(), at).toBe(1)
                expect(await page.evaluate("document.documentElement.scrollWidth"), at).toBe(viewport.width)
                expect(await page.evaluate("[...document.images].every((image) => image.naturalWidth > 0)"), at).toBe(
                  true
                )
                await page.screenshot({
                  path: join(directory, `${name}-${viewport.width}-${colorScheme}.png`),
                  fullPage: true
                })
                await page.keyboard.press("Tab")
                await page.keyboard.press("Tab")
                expect(await page.evaluate("getComputedStyle(document.activeElement).outlineStyle"), at).toBe("solid")
              }
            })
          }
        })
      ),
    90_000
  )
})
