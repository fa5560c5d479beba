/**
 * The peers are packages of `bench/` alone, which need not be installed: they are loaded when they are there, and their
 * types are declared here, as far as they are used, so that this is checked without them.
 */
import { existsSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"

const modules = fileURLToPath(new URL("../node_modules/", import.meta.url))

const names = [
  "@aws-lambda-powertools/idempotency",
  "@redis/client",
  "@node-idempotency/core",
  "@node-idempotency/storage-adapter-redis",
  "express-idempotency",
  "express-idempotency-redis-adapter"
] as const

export const chart = "echarts"

type Name = (typeof names)[number] | typeof chart

export const isInstalled = (name: Name): boolean => existsSync(`${modules}${name}/package.json`)

export const peersAreInstalled = (): boolean => names.every(isInstalled)

export const howToInstall = "npm ci --prefix bench"

/** The versions that were compared with. */
export const versions = (): Readonly<Record<string, string>> =>
  Object.fromEntries(
    names.filter(isInstalled).map((name) => {
      const { version }: { readonly version: string } = JSON.parse(
        readFileSync(`${modules}${name}/package.json`, "utf8")
      )
      return [name, version]
    })
  )

/** A module whose type is the caller's word: it is not there to be asked when this is compiled. */
export const load = <Module>(specifier: string): Promise<Module> => import(specifier)
