/**
 * A headless Chromium for tests, which ends with the scope; its profile is new and empty each time.
 *
 * The binary is `CHROMIUM`, else `chromium` on the `PATH`; on Debian and Ubuntu, as root, it is installed once; else
 * starting it is a defect that names the three ways to get one.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type Browser, chromium } from "playwright-core"
import { installOnce, isExecutable, onPath } from "./servers.js"

const findBinary = (): string => {
  const named = process.env["CHROMIUM"]
  if (named !== undefined && named !== "") {
    if (isExecutable(named)) return named
    throw new Error(`CHROMIUM is not an executable file: ${named}`)
  }
  const found = installOnce("chromium", () => onPath("chromium") ?? onPath("chromium-browser"))
  if (found !== undefined) return found
  throw new Error(
    "These tests need Chromium: put chromium on the PATH, name the binary in CHROMIUM, or run them as root on Debian or Ubuntu"
  )
}

const args = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync"
]

/** Opened without a path of its own, the browser makes a new profile, and removes it at its end. */
export const launchChromium: Effect.Effect<Browser, never, Scope.Scope> = Effect.acquireRelease(
  Effect.promise(async () => chromium.launch({ executablePath: findBinary(), args, handleSIGINT: false })),
  (browser) => Effect.promise(() => browser.close())
)
