/** Where the console is mounted, and how it is set up. */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { IdempotencyConsole } from "../../src/console.js"
import { get, seeded, serve, test } from "./fixture.js"

describe("where it is mounted", () => {
  const hrefs = (text: string) => [...text.matchAll(/(?:href|src|action)="([^"#]+)"/g)].map(([, path = ""]) => path)

  for (const [name, options, mountedAt, path, base] of [
    ["by a router", {}, "/admin/keys", "/admin/keys/keys", "/admin/keys"],
    [
      "by a router, with the path given as well",
      { basePath: "/admin/keys/" },
      "/admin/keys",
      "/admin/keys/keys",
      "/admin/keys"
    ],
    [
      "by a router, where a proxy has cut off the front",
      { basePath: "/ops/admin" },
      "/admin",
      "/admin/keys",
      "/ops/admin"
    ],
    ["at its whole path", { basePath: "/ops" }, undefined, "/ops/keys", "/ops"],
    ["at its whole path, like one of its pages", { basePath: "/keys" }, undefined, "/keys/keys", "/keys"],
    ["at the root", {}, undefined, "/keys/", ""]
  ] as const) {
    test(
      `every link leads back to it: ${name}`,
      Effect.gen(function* () {
        const handler = yield* serve(yield* seeded, options, mountedAt)
        for (const at of [path, path.slice(0, path.lastIndexOf("/keys")) || "/"]) {
          const { status, text } = yield* get(handler, at)
          expect([at, status]).toEqual([at, 200])
          expect(hrefs(text).length).toBeGreaterThan(10)
          for (const href of hrefs(text)) expect(`${href}/`.startsWith(`${base}/`), href).toBe(true)
        }
        expect((yield* get(handler, path)).text).toContain("<h1>Keys</h1>")
      })
    )
  }

  test(
    "links lead to no other host",
    Effect.gen(function* () {
      const handler = yield* serve(yield* seeded)
      const { text } = yield* get(handler, "//elsewhere.example//")
      for (const href of hrefs(text)) expect(href).not.toMatch(/^(\/\/|\\|http)/)
    })
  )
})

describe("options", () => {
  it("that cannot be are refused, all at once", () => {
    expect(() => IdempotencyConsole.app({ pageSize: 0, maxCounted: 1.5, basePath: "//x" })).toThrow(
      /pageSize.*maxCounted.*basePath/
    )
    expect(() => IdempotencyConsole.app({ pageSize: 500, maxCounted: 1, basePath: "/" })).not.toThrow()
  })
})
