import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import { duration, instant } from "../../src/internal/console/format.js"
import { Html, html, visible } from "../../src/internal/console/html.js"
import { styles } from "../../src/internal/console/styles.js"
import { skeletonOf, unescape, wordsOf } from "./fixture.js"

const hostile = FastCheck.oneof(
  FastCheck.string({ unit: "binary" }),
  FastCheck.stringMatching(/^[<>"'&;/= a-z\\`-]{0,20}$/),
  FastCheck.constantFrom("</code><script>alert(1)</script>", '" onload="alert(1)', "&lt;", "<!--", "]]>", "`$")
)

describe("html", () => {
  it.prop("lets nothing out of its place, and loses nothing", { a: hostile, b: hostile }, ({ a, b }) => {
    const { markup } = html`<p title="${a}">${b}</p>`
    expect(skeletonOf(markup)).toEqual(['<p title="">', "</p>"])
    const [, title = "?", text = "?"] = /^<p title="([^"<>']*)">([^"<>']*)<\/p>$/.exec(markup) ?? []
    expect([unescape(title), unescape(text)]).toEqual([a, b])
  })

  it("takes markup from itself alone", () => {
    const { markup } = html`${html`<b>${"<i>"}</b>`}${[1, "&", undefined, false, [html`<br>`]]}`
    expect(markup).toBe("<b>&lt;i&gt;</b>1&amp;<br>")
    expect(html`${JSON.parse('{"markup":"<script>"}')}`.markup).not.toContain("<script>")
    expect(new Html("<p>").markup).toBe("<p>")
  })

  it("shows what cannot be seen, and what turns its neighbours around", () => {
    expect(wordsOf(visible("a\u202eb\u200bc\u0000\ud800\u2028").markup)).toBe(
      "a \\u{202e} b \\u{200b} c \\u{0} \\u{d800} \\u{2028}"
    )
    expect(visible("é 漢\n\t😀").markup).toBe("é 漢\n\t😀")
  })

  it.prop("keeps every visible text as it is", { text: FastCheck.stringMatching(/^[ -~éß漢]*$/) }, ({ text }) => {
    expect(unescape(visible(text).markup)).toBe(text)
  })
})

describe("amounts of time and instants", () => {
  it("are short", () => {
    const millis = [0, 999, 1000, 65_400, 3_600_000, 3_661_000, 90_000_000, -5000, Number.NaN]
    expect(millis.map(duration)).toEqual([
      "under 1 s",
      "under 1 s",
      "1 s",
      "1 min 5 s",
      "1 h",
      "1 h 1 min",
      "1 d 1 h",
      "5 s",
      "unknown"
    ])
    expect(wordsOf(instant(Date.UTC(2026, 6, 3, 2, 40, 7, 9)).markup)).toBe("2026-07-03 02:40:07 UTC")
    expect(wordsOf(instant(Number.POSITIVE_INFINITY).markup)).toBe("not an instant")
  })
})

describe("colours", () => {
  const themes = styles
    .split("@media (prefers-color-scheme: dark)")
    .map(
      (theme) =>
        new Map([...theme.matchAll(/--([\w-]+): (#[0-9a-f]{6});/g)].map(([, name = "", value = ""]) => [name, value]))
    )

  const channel = (hex: string): number => {
    const part = Number.parseInt(hex, 16) / 255
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4
  }
  const luminance = (colour: string): number =>
    0.2126 * channel(colour.slice(1, 3)) + 0.7152 * channel(colour.slice(3, 5)) + 0.0722 * channel(colour.slice(5, 7))
  const contrast = (a: string, b: string): number => {
    const [low = 0, high = 0] = [luminance(a), luminance(b)].sort((x, y) => x - y)
    return (high + 0.05) / (low + 0.05)
  }

  const grounds = ["ground", "surface", "sunken"]
  const kinds = ["running", "lapsed", "unknown", "completed", "released", "corrupted"]
  const pairs = [
    ...["text", "muted", "accent"].flatMap((text) => grounds.map((ground) => [text, ground] as const)),
    ...kinds.flatMap((kind) => [[kind, `${kind}-ground`] as const, ["text", `${kind}-ground`] as const]),
    ["danger", "surface"],
    ["danger", "sunken"],
    ["on-accent", "accent"],
    ["on-danger", "danger"]
  ] as const

  for (const [index, name] of ["light", "dark"].entries()) {
    it(`of text are readable on their grounds (${name})`, () => {
      const theme = themes[index]
      for (const [text, ground] of pairs) {
        const ratio = contrast(theme?.get(text) ?? "#000000", theme?.get(ground) ?? "#000000")
        expect([text, ground, ratio >= 4.5 ? "readable" : ratio]).toEqual([text, ground, "readable"])
      }
      for (const ground of grounds) {
        expect(
          contrast(theme?.get("edge") ?? "", theme?.get(ground) ?? ""),
          `edge on ${ground}`
        ).toBeGreaterThanOrEqual(3)
      }
    })
  }
})
