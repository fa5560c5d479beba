#!/usr/bin/env node
/** The command `effect-idempotency`. What it is made of is the user's to install. */
import { readFileSync } from "node:fs"
import { install } from "../internal/cli/packages.js"

const packages = ["@effect/cli", "@effect/platform-node", "@effect/platform"]

const version = (): string => JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")).version

const isMissing = (error: unknown): error is Error =>
  error instanceof Error && "code" in error && error.code === "ERR_MODULE_NOT_FOUND"

try {
  const { main } = await import("../internal/cli/main.js")
  main(version())
} catch (error) {
  if (!isMissing(error)) throw error
  const message = `This command needs packages that are not installed: ${install(packages)}. (${error.message.split("\n")[0]})`
  console.error(
    process.argv.includes("--json")
      ? JSON.stringify({ error: "MissingPackage", message })
      : `effect-idempotency: ${message}`
  )
  process.exitCode = 1
}
