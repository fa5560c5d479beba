/** HTML that escapes all it is given: markup comes from `html` alone. */

/** Markup. A class, so that no value from outside can pretend to be some. */
export class Html {
  constructor(readonly markup: string) {}
}

/** What can stand in a template: text is escaped, lists are joined, `undefined` and `false` are nothing. */
export type Part = string | number | Html | undefined | false | ReadonlyArray<Part>

const entities: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;"
}

export const escape = (text: string): string => text.replace(/[&<>"']/g, (character) => entities[character] ?? "")

const markupOf = (part: Part): string => {
  if (part === undefined || part === false) return ""
  if (part instanceof Html) return part.markup
  return Array.isArray(part) ? part.map(markupOf).join("") : escape(String(part))
}

/** Markup with parts between tags, and in the values of attributes that stand in double quotes; nowhere else. */
export const html = (strings: TemplateStringsArray, ...parts: ReadonlyArray<Part>): Html =>
  new Html(strings.map((text, index) => text + markupOf(parts[index])).join(""))

/** Line breaks and tabs aside, what cannot be seen, or changes how its neighbours are seen. */
const invisible = /(?![\n\t])([\p{Default_Ignorable_Code_Point}\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}])/u

const codePoint = (character: string): string => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`

/** Text from the store, where nothing hides: no direction is turned around, and no two keys look the same. */
export const visible = (text: string): Html =>
  html`${text
    .split(invisible)
    .map((part, index) => (index % 2 === 0 ? part : html`<span class="invisible">${codePoint(part)}</span>`))}`
