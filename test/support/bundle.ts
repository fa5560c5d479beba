/** Scripts of worker processes, each as a single file with all that it imports, which starts in a third of the time. */
import { execFile } from "node:child_process"
import { createRequire } from "node:module"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { directoryFor } from "./servers.js"

const run = promisify(execFile)

/** Packages that are no ES modules ask for others by `require`. */
const banner = `import { createRequire } from "node:module"; const require = createRequire(import.meta.url)`

/** The path of the bundle, which is removed with the scope. */
export const bundled = (script: URL): Effect.Effect<string, never, Scope.Scope> =>
  Effect.gen(function* () {
    const outfile = join(yield* directoryFor("bundle"), "bundle.mjs")
    const esbuild = createRequire(createRequire(import.meta.url).resolve("tsx")).resolve("esbuild/bin/esbuild")
    const options = ["--bundle", "--platform=node", "--format=esm", "--external:pg-native", "--log-level=warning"]
    const args = [fileURLToPath(script), ...options, `--banner:js=${banner}`, `--outfile=${outfile}`]
    yield* Effect.promise(() => run(esbuild, args))
    return outfile
  })
