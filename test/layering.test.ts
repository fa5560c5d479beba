/** The rows of the architecture: who may import whom, and what each subpath loads. */
import { readdirSync, readFileSync } from "node:fs"
import { dirname, join, relative } from "node:path"
import { fileURLToPath } from "node:url"
import { describe, expect, it } from "@effect/vitest"
import ts from "typescript"

const root = fileURLToPath(new URL("../src", import.meta.url))

interface Import {
  readonly from: string
  readonly typeOnly: boolean
}

const importsOf = (file: string): ReadonlyArray<Import> => {
  const source = ts.createSourceFile(file, readFileSync(join(root, file), "utf8"), ts.ScriptTarget.ES2022, true)
  const imports: Array<Import> = []
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node) && ts.isStringLiteral(node.moduleSpecifier)) {
      imports.push({ from: node.moduleSpecifier.text, typeOnly: node.importClause?.isTypeOnly === true })
    } else if (
      ts.isExportDeclaration(node) &&
      node.moduleSpecifier !== undefined &&
      ts.isStringLiteral(node.moduleSpecifier)
    ) {
      imports.push({ from: node.moduleSpecifier.text, typeOnly: node.isTypeOnly })
    } else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      const [specifier] = node.arguments
      imports.push({
        from: specifier !== undefined && ts.isStringLiteral(specifier) ? specifier.text : "?",
        typeOnly: false
      })
    }
    ts.forEachChild(node, visit)
  }
  visit(source)
  return imports
}

const files = readdirSync(root, { recursive: true, encoding: "utf8" })
  .map((path) => path.replaceAll("\\", "/"))
  .filter((path) => path.endsWith(".ts"))
  .sort()

const imports = new Map(files.map((file) => [file, importsOf(file)]))

const isOurs = (from: string): boolean => from.startsWith(".")
const target = (file: string, from: string): string =>
  relative(root, join(root, dirname(file), from))
    .replaceAll("\\", "/")
    .replace(/\.js$/, ".ts")

type Row =
  | "1"
  | "2"
  | "3"
  | "4 memory"
  | "4 redis"
  | "4 sql"
  | "4 tiered"
  | "5 transaction"
  | "5 http"
  | "5 console"
  | "5 consumer"
  | "6"
  | "all"

/** Each module's row; the first pattern that fits counts. `all`: the barrels and the all-in-one layers. */
const rows: ReadonlyArray<readonly [RegExp, Row]> = [
  [/^(index|redis|sql|http|console|consumer|testing)\.ts$/, "all"],
  [/^(redis\/|sql\/)?layer[A-Z]\w*\.ts$/, "all"],
  // The command: it picks a store by its URL.
  [/^(internal\/)?cli\/\w+\.ts$/, "all"],
  [/^(IdempotencyKey|IdempotencyIdentifiers|IdempotencyRecord|IdempotencyError|Jsonable)\.ts$/, "1"],
  [/^internal\/(hash|identifiers|pythonJson)\.ts$/, "1"],
  [/^(IdempotencyDomainService|IdempotencyMetrics|IdempotencyRepository|IdempotencyTransactions)\.ts$/, "2"],
  [/^(ResultCipher|internal\/(cipher|encryptedDriver))\.ts$/, "2"],
  [
    /^internal\/(call|chain|eager|listing|policyAndMetrics|polling|protocol|repository|seen|storedKey|storedRecord|tokens|tracing|transition|unfailing|wakeUps)\.ts$/,
    "2"
  ],
  [/^internal\/(localCache|options|settledCopies|sleep)\.ts$/, "2"],
  [/^(Idempotency|IdempotencyOutcome|IdempotentExecution|withIdempotency|withIdempotentStep)\.ts$/, "3"],
  [
    /^internal\/(engine\/\w+|codecs|current\w+|grafting|ownFiber|execute|executeTransaction|execution|plan|results|step)\.ts$/,
    "3"
  ],
  [/^(MemoryIdempotencyRepository|internal\/memoryDriver)\.ts$/, "4 memory"],
  [/^sql\/withIdempotentTransaction\.ts$/, "5 transaction"],
  [/^(internal\/)?redis\/\w+\.ts$/, "4 redis"],
  [/^(internal\/)?sql\/\w+\.ts$/, "4 sql"],
  [/^(TieredIdempotencyRepository|internal\/tiered\w*)\.ts$/, "4 tiered"],
  [/^(internal\/)?http\/\w+\.ts$/, "5 http"],
  [/^(internal\/)?console\/\w+\.ts$/, "5 console"],
  [/^(internal\/)?consumer\/\w+\.ts$/, "5 consumer"],
  [/^(internal\/)?testing\/\w+\.ts$/, "6"]
]

const rowOf = (file: string): Row | undefined => rows.find(([pattern]) => pattern.test(file))?.[1]

const mayImport = (from: Row, to: Row): boolean => {
  if (from === "all" || from === to) return true
  switch (from[0]) {
    case "1":
      return false
    case "2":
      return to === "1"
    case "3":
    case "4":
      return to === "1" || to === "2"
    default:
      return to === "1" || to === "2" || to === "3"
  }
}

/** The packages that importing a module loads, by way of everything it imports. */
const loads = (entry: string): ReadonlyArray<string> => {
  const seen = new Set<string>()
  const packages = new Set<string>()
  const follow = (file: string): void => {
    if (seen.has(file)) return
    seen.add(file)
    for (const { from, typeOnly } of imports.get(file) ?? []) {
      if (typeOnly) continue
      if (isOurs(from)) follow(target(file, from))
      else packages.add(from.startsWith("node:") ? "node" : (/^(@[^/]+\/)?[^/]+/.exec(from)?.[0] ?? from))
    }
  }
  follow(entry)
  return Array.from(packages).sort()
}

describe("the architecture", () => {
  it("has a row for every module: a new one is to be added to the list above", () => {
    expect(files.filter((file) => rowOf(file) === undefined)).toEqual([])
  })

  it("lets a module import from its own row or from rows above it", () => {
    const wrong = Array.from(imports).flatMap(([file, all]) =>
      all
        .filter(({ from }) => isOurs(from))
        .map(({ from }) => target(file, from))
        .filter((to) => {
          const [here, there] = [rowOf(file), rowOf(to)]
          return here !== undefined && there !== undefined && !mayImport(here, there)
        })
        .map((to) => `${file} imports ${to}`)
    )
    expect(wrong).toEqual([])
  })

  it("imports only what exists, with its extension", () => {
    const missing = Array.from(imports).flatMap(([file, all]) =>
      all
        .filter(({ from }) => isOurs(from) && !(from.endsWith(".js") && imports.has(target(file, from))))
        .map(({ from }) => `${file} imports ${from}`)
    )
    expect(missing).toEqual([])
  })

  it("imports Effect module by module, and never its own barrels", () => {
    const barrels = ["index.ts", "redis.ts", "sql.ts", "http.ts", "console.ts", "consumer.ts", "testing.ts"]
    const wrong = Array.from(imports).flatMap(([file, all]) =>
      all
        .filter(({ from }) => from === "effect" || (isOurs(from) && barrels.includes(target(file, from))))
        .map(({ from }) => `${file} imports ${from}`)
    )
    expect(wrong).toEqual([])
  })

  it("has barrels that hold nothing else", () => {
    for (const barrel of ["index.ts", "redis.ts", "sql.ts", "http.ts", "console.ts", "consumer.ts", "testing.ts"]) {
      if (!imports.has(barrel)) continue
      const source = ts.createSourceFile(barrel, readFileSync(join(root, barrel), "utf8"), ts.ScriptTarget.ES2022)
      expect(source.statements.every(ts.isExportDeclaration), barrel).toBe(true)
    }
  })
})

describe("what importing loads", () => {
  const always = ["canonicalize", "effect", "node"]

  it("the root: no optional peer", () => {
    expect(loads("index.ts")).toEqual(always)
  })

  for (const [barrel, peers] of [
    ["redis.ts", ["ioredis"]],
    ["sql.ts", ["@effect/sql"]],
    ["http.ts", ["@effect/platform", "structured-headers"]],
    ["console.ts", ["@effect/platform"]],
    ["consumer.ts", []],
    ["testing.ts", ["@effect/vitest", "vitest"]]
  ] as const) {
    it(`${barrel}: its own peers alone`, () => {
      const allowed: ReadonlyArray<string> = [...always, ...peers]
      expect(loads(barrel).filter((name) => !allowed.includes(name))).toEqual([])
    })
  }
})
