/** The files of the pages. Their names hold a hash of what is in them, so that browsers keep them. */
import { sha256 } from "../hash.js"
import { script } from "./script.js"
import { styles } from "./styles.js"

export interface Asset {
  readonly contentType: string
  readonly body: string
}

const icon = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="8" fill="#3550d4"/><path d="M9 17.5 14 22 23.5 10.5" fill="none" stroke="#fff" stroke-width="3.5" stroke-linecap="round" stroke-linejoin="round"/></svg>`

const files = {
  "console.css": { contentType: "text/css; charset=utf-8", body: styles },
  "console.js": { contentType: "text/javascript; charset=utf-8", body: script },
  "icon.svg": { contentType: "image/svg+xml", body: icon }
} satisfies Record<string, Asset>

const paths = Object.fromEntries(
  Object.entries(files).map(([name, { body }]) => [name, `/assets/${sha256(body).slice(0, 10)}-${name}`])
)

export const assetPath = (name: keyof typeof files): string => paths[name] ?? ""

export const assets: ReadonlyMap<string, Asset> = new Map(
  Object.entries(files).map(([name, asset]) => [paths[name] ?? "", asset])
)
