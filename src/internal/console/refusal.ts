/** What a page cannot do, as the page that says so. */
import * as Data from "effect/Data"
import type { Html } from "./html.js"

export class Refusal extends Data.TaggedError("Refusal")<{
  readonly status: 400 | 403 | 404 | 405 | 409 | 413
  readonly heading: string
  readonly explanation: Html
  readonly allow?: string
}> {}
